"""YAML files as plain values with lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.source import MAX_BYTES, Problem, Source, format_path, read_yaml
from pibot_mesh.errors import ConfigError


def write(folder: Path, text: str | bytes) -> Path:
    """A file with *text* in it."""
    path = folder / "node.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem_of(path: Path) -> str:
    """The one problem that reading *path* ends with, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    [problem] = caught.value.problems
    return problem.replace(f"{path.parent}/", "")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n", "devices:\n", "\ufeff"])
def test_a_file_or_section_without_content_has_no_values(tmp_path: Path, text: str) -> None:
    """Commenting everything out leaves the defaults."""
    assert read_yaml(write(tmp_path, text)).values == {}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", True),
        ("Off", False),
        ("yes", True),
        ("true", True),
        ("'on'", "on"),
        ("17", 17),
        ("-3", -3),
        ("017", "017"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("0x76", 118),
        ("0x", "0x"),
        ("0xfg", "0xfg"),
        ("1e999", "1e999"),
        (".nan", ".nan"),
        ("1" + "0" * 30, 1e30),
        ("2026-01-01", "2026-01-01"),
        ("kitchen", "kitchen"),
        ("[a, 1, {b: no}]", ["a", 1, {"b": False}]),
    ],
)
def test_plain_words_mean_what_people_expect(tmp_path: Path, written: str, value: object) -> None:
    """Switch words are booleans; octal, base 60 and dates are no traps."""
    assert read_yaml(write(tmp_path, f"key: {written}\n")).values == {"key": value}


def test_keys_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    """A device may be named 'on' or '17'."""
    assert read_yaml(write(tmp_path, "on: 1\n17: 2\n")).values == {"on": 1, "17": 2}


def test_aliases_and_merges_save_typing(tmp_path: Path) -> None:
    """The usual YAML idiom for settings in common; what is written out goes before what is merged."""
    text = "one: &base {kind: switch, room: hall}\ntwo:\n  <<: *base\n  room: attic\nthree:\n  <<: [*base, {x: 1}]\n"
    values = read_yaml(write(tmp_path, text)).values
    assert values["two"] == {"kind": "switch", "room": "attic"}
    assert values["three"] == {"kind": "switch", "room": "hall", "x": 1}


def test_every_value_knows_its_line(tmp_path: Path) -> None:
    """And what stands nowhere has the line of what is around it."""
    source = read_yaml(write(tmp_path, "devices:\n  fan:\n    kind: switch\n    pin: 17\n"))
    assert source.line(("devices", "fan", "pin")) == 4
    assert source.line(("devices", "fan", "name")) == 2
    assert source.line(("broker", "port")) == 1


def test_a_problem_is_shown_with_file_line_and_path() -> None:
    """As a compiler would."""
    at = ("devices", "fan", "pin")
    assert Source("n.yaml", lines={at: 7}).show(Problem(at, "is wrong")) == "n.yaml:7: devices.fan.pin: is wrong"
    assert Source().show(Problem(at, "is wrong")) == "configuration: devices.fan.pin: is wrong"
    assert Source(variables={("root",): "PIBOT_ROOT"}).show(Problem(("root",), "is wrong")) == (
        "PIBOT_ROOT (environment): is wrong"
    )
    assert format_path(("node", "labels", 1)) == "node.labels[1]"


TOO_MANY = "more than 20000 values, aliases counted with what they stand for: make the file smaller"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "node.yaml:3: a: stands twice (first in line 1): remove one"),
        ("a:\n\tb: 1\n", "node.yaml:2: not valid YAML: a tab stands in the indentation: use spaces"),
        (
            "a: b: c\n",
            "node.yaml:1: not valid YAML: a ':' stands where none can be: check the indentation, or quote the text",
        ),
        ("a: 'x\n", "node.yaml:2: not valid YAML: a quote is opened and never closed"),
        ("a: [1, 2\n", "node.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (b"a: 1\nb: \xff\n", "node.yaml:2: not UTF-8: save the file with that encoding"),
        ("a: 1\nb: \x07\n", "node.yaml:2: the character U+0007 cannot stand in YAML"),
        ("- a\n- b\n", "node.yaml:1: 'key: value' lines are expected at the top of the file"),
        ("just words\n", "node.yaml:1: 'key: value' lines are expected at the top of the file"),
        ("a: !secret key\n", "node.yaml:1: a: the tag !secret is not known here: write the value without it"),
        (
            "a: !!python/object:os.system x\n",
            "node.yaml:1: a: the tag !!python/object:os.system is not known here: write the value without it",
        ),
        ("? [a, b]\n: 1\n", "node.yaml:1: line 1: a key must be plain text"),
        ("a:\n  <<: 5\n", "node.yaml:1: a: line 2: '<<' needs an alias of a mapping"),
        ("a: &a [*a]\n", "node.yaml:1: its aliases lead in a circle: write the values out"),
        (LAUGHS, f"node.yaml:1: {TOO_MANY}"),
        (f"a: [{'x,' * 50_000}]", f"node.yaml: {TOO_MANY}"),
        ("a: " + "[" * 5000, "node.yaml: nested too deeply"),
        ("a: 1\n---\nb: 2\n", "node.yaml:2: not valid YAML: but found another document"),
        ("#" * (MAX_BYTES + 1), "node.yaml: larger than 1 MiB, so it is not a configuration file"),
    ],
)
def test_what_is_no_configuration_is_refused_in_words(tmp_path: Path, text: str | bytes, problem: str) -> None:
    """With the line, and what to do."""
    assert problem_of(write(tmp_path, text)) == problem


def test_what_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    """A missing file, a folder, a device."""
    assert problem_of(tmp_path / "none.yaml") == "none.yaml: there is no such file"
    with pytest.raises(ConfigError, match="this is a folder: name the file inside it"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="/dev/null: this is not a regular file"):
        read_yaml("/dev/null")
    with pytest.raises(ConfigError, match="cannot be read: "):
        read_yaml("a\0b")
