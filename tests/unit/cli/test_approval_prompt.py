"""Yes or no on a real terminal: who is asked what, and what becomes of the answer."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pibot_mesh.cli.approval_prompt import can_ask_here, read_word
from tests.integration.programs import Terminal, environment

SCRIPT = """
import asyncio, sys
from pathlib import Path
from pibot_mesh.cli.approval_prompt import ApprovalPrompt, can_ask_here
from pibot_mesh.protocol.messages import Event

def event(kind, call, tool):
    return Event("r1", kind, "b", 0, 0.0, {"call": call, "tool": tool, "node": "attic", "args": {"n": 1}})

async def main(folder):
    assert can_ask_here()
    prompt = ApprovalPrompt(lambda order: print("ordered", order.action, order.call), lambda: print("interrupted"))
    print("ready")
    seen = 0
    while not (folder / "end").exists():
        for path in sorted(folder.glob("*.event"))[seen:]:
            seen += 1
            prompt.see(event(*path.read_text().split()))
        await asyncio.sleep(0.01)
    await prompt.close()
    print("ended")

asyncio.run(main(Path(sys.argv[1])))
"""

See = Callable[[str, str, str], None]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A program on a terminal, which asks what the events in a folder say."""
    with Terminal([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment(tmp_path)) as terminal:
        terminal.wait_for("ready")
        yield terminal


@pytest.fixture
def see(tmp_path: Path) -> See:
    """Gives the program an event: its type, the call and the tool."""
    number = 0

    def put(kind: str, call: str, tool: str) -> None:
        nonlocal number
        number += 1
        (tmp_path / "new").write_text(f"{kind} {call} {tool}")
        (tmp_path / "new").rename(tmp_path / f"{number}.event")

    return put


def test_one_question_at_a_time(terminal: Terminal, see: See) -> None:
    """A word that is neither is asked again; what is approved stands in the prompt itself; no word is no."""
    see("approval_required", "c1", "door_open")
    terminal.wait_for(r"door_open\(.*\): approve\? \[y/N\]")
    see("approval_required", "c2", "fan_on")
    terminal.type("perhaps\r")
    terminal.wait_for(r"y or n\?")
    terminal.type("Yes\r")
    terminal.wait_for("ordered approve c1")
    terminal.wait_for(r"attic wants to call fan_on\(n=1\): approve\? \[y/N\]")
    terminal.type("\r")
    terminal.wait_for("ordered deny c2")


def test_somebody_else_may_be_faster(terminal: Terminal, see: See, tmp_path: Path) -> None:
    """Then the question goes, and the next one comes; at the end of the request all go."""
    see("approval_required", "c1", "door_open")
    terminal.wait_for(r"door_open\(.*\): approve\? \[y/N\]")
    see("approval_answered", "c1", "door_open")
    see("approval_required", "c2", "fan_on")
    terminal.wait_for(r"fan_on\(.*\): approve\? \[y/N\]")
    (tmp_path / "end").touch()
    terminal.wait_for("ended")

    assert terminal.wait() == 0
    assert "ordered" not in terminal.text


def test_what_was_typed_before_is_no_answer(terminal: Terminal, see: See) -> None:
    """Nobody approves what they have not seen."""
    terminal.type("y\n")
    terminal.wait_for("y")
    see("approval_required", "c1", "door_open")
    terminal.wait_for(r"door_open\(.*\): approve\? \[y/N\]")
    terminal.type("n\r")
    terminal.wait_for("ordered deny c1")


@pytest.mark.parametrize(("key", "says"), [("\x03", "interrupted"), ("\x04", None)], ids=["Ctrl-C", "Ctrl-D"])
def test_leaving_a_question_answers_nothing(
    key: str, says: str | None, terminal: Terminal, see: See, tmp_path: Path
) -> None:
    """Ctrl-C is for the request; after Ctrl-D the question waits for its end, or for somebody else."""
    see("approval_required", "c1", "door_open")
    terminal.wait_for(r"door_open\(.*\): approve\? \[y/N\]")
    terminal.type(key)
    if says:
        terminal.wait_for(says)
    else:
        see("approval_required", "c2", "fan_on")
        terminal.wait_for(r"fan_on\(.*\): approve\? \[y/N\]")
    (tmp_path / "end").touch()
    terminal.wait_for("ended")

    assert "ordered" not in terminal.text


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ("y", True),
        (" YES ", True),
        ("n", False),
        ("No", False),
        ("", False),
        ("yess", None),
        ("ok", None),
        ("是", None),
    ],
)
def test_only_yes_is_yes(typed: str, word: bool | None) -> None:
    """What is neither yes nor no is nothing."""
    assert read_word(typed) is word


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where there is no input at all."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y"))
    assert not can_ask_here()
    monkeypatch.setattr(sys, "stdin", None)
    assert not can_ask_here()
