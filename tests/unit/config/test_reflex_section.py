"""The reflexes in a node's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.loader import load_schema
from pibot_mesh.config.reflex_section import reflex_settings, shape_problems
from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.config.source import format_path, read_yaml
from pibot_mesh.errors import ConfigError

VALUES = 'on, off, 0 to 100, a color such as "#ff8800" in quotes, or {value: on, for_s: 10}'


def reflexes(folder: Path, text: str) -> tuple[ReflexSettings, ...]:
    """What a node's file with *text* under ``reflexes`` says. Raises ConfigError."""
    path = folder / "n.yaml"
    path.write_text("reflexes:\n" + "".join(f"  {line}\n" for line in text.strip().splitlines()), "utf-8")
    draft = Draft(read_yaml(path), {})
    draft.check(load_schema("node"))
    found = reflex_settings(draft)
    draft.finish()
    return found


def problems(folder: Path, text: str) -> list[str]:
    """All that is wrong, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        reflexes(folder, text)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_measure_holds_an_output(tmp_path: Path) -> None:
    """With all that can be said of it."""
    text = """
cool:
  when: {sensor: climate, measure: temperature, above: 28, hysteresis: 1, for_s: 60}
  then: {fan: on}
  else: {fan: off}
"""
    when = Condition("climate", "temperature", above=28, hysteresis=1, for_s=60)

    assert reflexes(tmp_path, text) == (ReflexSettings("cool", when, (Action("fan", True),), (Action("fan", False),)),)


def test_an_event_sets_several_outputs(tmp_path: Path) -> None:
    """For a time, to a level, to a color; a reflex may be off at first."""
    text = """
bell:
  when: {input: button, event: pressed}
  then:
    chime: {value: on, for_s: 0.5}
    lamp: 40
    strip: "#FF8800"
  on: false
"""
    then = (Action("chime", True, 0.5), Action("lamp", 40.0), Action("strip", "#ff8800"))

    [bell] = reflexes(tmp_path, text)

    assert bell == ReflexSettings("bell", Condition("button", event="pressed"), then, is_on=False)
    assert type(bell.then[1].value) is float


@pytest.mark.parametrize(
    ("word", "is_on"),
    [
        ("on", True),
        ('"ON"', True),
        ("open", True),
        ("pressed", True),
        ("true", True),
        ("OFF", False),
        ('"Off"', False),
        ("closed", False),
        ("released", False),
    ],
)
def test_a_state_is_said_in_a_word(tmp_path: Path, word: str, is_on: bool) -> None:
    """As a switch says it, or as a contact or a button does."""
    [night] = reflexes(tmp_path, f"night:\n  when: {{input: door, state: {word}}}\n  then: {{lamp: 40}}")

    assert night.when == Condition("door", state=is_on)


def test_there_need_be_none(tmp_path: Path) -> None:
    """An empty section is no reflex."""
    assert reflexes(tmp_path, "") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "when: {measure: temperature, above: 1}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when: says no device: name a sensor or an input",
        ),
        (
            "when: {sensor: a, input: b, above: 1}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when: says two devices: name either a sensor or an input",
        ),
        (
            "when: {sensor: a, above: 1, below: 2}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when: one of above, below, state, event is expected, not above and below",
        ),
        (
            "when: {input: a, state: ajar}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when.state: on, off, open, closed, pressed or released is expected, not 'ajar'",
        ),
        (
            "when: {sensor: a, above: 1, hysteresis: -1}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when.hysteresis: a number from 0 is expected, not -1",
        ),
        (
            "when: {sensor: a, above: 1}\n  then: {strip: #ff8800}\n  }",
            f"n.yaml:4: reflexes.r.then.strip: {VALUES} is expected, not nothing",
        ),
        (
            "when: {sensor: a, above: 1}\n  then: {fan: {value: 101}}",
            "n.yaml:4: reflexes.r.then.fan.value: a number from 0 to 100 is expected, not 101",
        ),
        (
            "when: {input: a, state: on, hysteresis: 1}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when.hysteresis: is for above and below only: leave it out",
        ),
        (
            "when: {input: a, event: pressed, measure: b}\n  then: {fan: on}",
            "n.yaml:3: reflexes.r.when.measure: is for above and below only: leave it out",
        ),
        (
            "when: {sensor: a, above: 1}\n  then: {fan: toggle}",
            f"n.yaml:4: reflexes.r.then.fan: {VALUES} is expected, not 'toggle'",
        ),
        (
            "when: {sensor: a, above: 1}",
            "n.yaml:2: reflexes.r.then: is missing: add 'then: ...' (outputs and their values, such as {fan: on})",
        ),
        (
            "when: {sensor: a, above: 1}\n  then: {}",
            "n.yaml:4: reflexes.r.then: outputs and their values, such as {fan: on} is expected, not a section",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    """And with what is to be written instead."""
    assert problems(tmp_path, f"r:\n  {text}") == [says]


def test_a_rule_that_comes_otherwise_is_looked_at_as_well() -> None:
    """What a file's schema refuses, a model may say."""
    reflex = ReflexSettings("r", Condition("a", above=1, hysteresis=-1), ())

    assert [format_path(problem.path) for problem in shape_problems(reflex)] == [
        "reflexes.r.when.hysteresis",
        "reflexes.r.then",
    ]


def test_all_is_said_at_once(tmp_path: Path) -> None:
    """What is wrong in one does not hide another."""
    text = """
one:
  when: {input: a, event: pressed, for_s: 1}
  then: {fan: on}
  else: {fan: off}
Two:
  when: {input: a, state: on}
  then: {fan: on}
three:
  when: above 28
  then: {fan: on}
"""
    assert problems(tmp_path, text) == [
        "n.yaml:3: reflexes.one.when.for_s: an event is over at once: leave it out, or use a state",
        "n.yaml:5: reflexes.one.else: an event is over at once: say with for_s under then how long, or use a state",
        "n.yaml:6: reflexes.Two: the name must be 1 to 32 small letters, digits, '_' or '-', not '_' or '-' first",
        "n.yaml:10: reflexes.three.when: a condition such as {input: door, state: open} is expected, not 'above 28'",
    ]
