"""What is printed cannot harm the terminal, and what programs read stays readable."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.cli.screen import clean, log_in_words, say, say_json


def test_escape_sequences_of_others_are_written_out() -> None:
    """A payload cannot clear the screen or set the title."""
    assert clean("\x1b[2Jhello\x07\r") == "\\x1b[2Jhello\\x07\\r"
    assert clean("two\nlines\tand 21 °C 厨房") == "two\nlines\tand 21 °C 厨房"
    assert clean("\x9b31m\u202e") == "\\x9b31m\\u202e"


@given(st.text())
def test_nothing_that_moves_the_cursor_is_left(text: str) -> None:
    """Whatever comes, only tab and line feed of the control characters go out."""
    assert not {character for character in clean(text) if ord(character) < 32} - {"\t", "\n"}


@given(value=st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_json_comes_back_as_it_was(value: object) -> None:
    """One line, decodable, without raw control characters."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as output:
        say_json(value)

    [line] = output.getvalue().split("\n")[:-1]
    assert json.loads(line) == value
    assert clean(line) == line


def test_colours_are_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets plain words."""
    say("done", tone="good", bold=True)

    assert capsys.readouterr().out == "done\n"


def test_the_log_is_in_words_and_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Level and text; a second call changes the level and adds nothing."""
    root = logging.getLogger("pibot_mesh")
    handlers, propagate = list(root.handlers), root.propagate
    try:
        log_in_words(logging.WARNING)
        log_in_words(logging.ERROR)
        logging.getLogger("pibot_mesh.some.part").warning("quiet")
        logging.getLogger("pibot_mesh.some.part").error("it %s", "broke")
    finally:
        root.handlers, root.propagate = handlers, propagate

    assert capsys.readouterr().err == "error: it broke\n"


def test_the_same_line_of_many_parts_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A master and three nodes lose the same broker at the same time."""
    root = logging.getLogger("pibot_mesh")
    handlers, propagate = list(root.handlers), root.propagate
    try:
        log_in_words(logging.WARNING)
        for _ in range(4):
            logging.getLogger("pibot_mesh.part").warning("the broker is gone")
        logging.getLogger("pibot_mesh.part").warning("the broker is back")
    finally:
        root.handlers, root.propagate = handlers, propagate

    assert capsys.readouterr().err.splitlines() == ["warning: the broker is gone", "warning: the broker is back"]


def test_a_terminal_breaks_lines_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under their indentation, and nothing is lost."""
    import io

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    text = "  ✓ s1 on worker-1: up 104 minutes, load 0.71, 23749 of 24105 MB memory free"

    say(text)
    say("短い")

    lines = screen.getvalue().splitlines()
    assert all(len(line) < 40 for line in lines)
    assert all(line.startswith("  ") for line in lines[:-1])
    assert " ".join(line.strip() for line in lines[:-1]) == text.strip()
