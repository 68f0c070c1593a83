"""What is wrong with a node's file beyond its schema, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.loader import load_node
from pibot_mesh.errors import ConfigError
from pibot_mesh.node.check import check_node

DEVICES = """
node: {id: n1, simulate: true}
devices:
  air: {kind: climate}
  fan: {kind: relay, pin: 17}
  heater: {kind: relay, pin: 27}
"""


def _problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "node.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_node(path, {}, check=check_node)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_devices_interlocks_and_reflexes_are_told_together(tmp_path: Path) -> None:
    """With their lines, before a pin is touched."""
    more = """
safety: {interlocks: [[fan, hetaer]]}
reflexes:
  cool: {when: {sensor: air, above: 28}, then: {fna: on}}
"""
    problems = _problems(tmp_path, DEVICES + more)

    assert [problem.split(": ")[1] for problem in problems] == [
        "safety.interlocks[0]",
        "reflexes.cool.when.measure",
        "reflexes.cool.then.fna",
    ]
    assert "did you mean 'heater'?" in problems[0]


def test_what_would_follow_from_a_wrong_device_is_not_told_too(tmp_path: Path) -> None:
    """Neither of reflexes on it, nor of interlocks with one that the schema has refused."""
    wrong_kind = DEVICES.replace("kind: climate", "kind: climat")
    reflex = "reflexes: {cool: {when: {sensor: air, measure: temperature, above: 28}, then: {fan: on}}}\n"
    refused = DEVICES.replace("pin: 27", "pin: 99")

    assert len(_problems(tmp_path, wrong_kind + reflex)) == 1
    assert len(_problems(tmp_path, refused + "safety: {interlocks: [[fan, heater]]}\n")) == 1


def test_a_right_file_gives_the_settings(tmp_path: Path) -> None:
    """With all of them."""
    path = tmp_path / "node.yaml"
    more = "safety: {lost_after_s: 60, interlocks: [[fan, heater]]}\nreflexes: {cool: {when: {sensor: air, measure: humidity, below: 9}, then: {fan: on}}}\n"  # noqa: E501
    path.write_text(DEVICES + more, encoding="utf-8")

    node = load_node(path, {}, check=check_node)

    assert (node.safety.lost_after_s, node.safety.interlocks) == (60, (("fan", "heater"),))
    assert [reflex.id for reflex in node.reflexes] == ["cool"]


def test_a_time_at_whose_end_nothing_changes_is_told(tmp_path: Path) -> None:
    """It would be refused whenever the reflex acts. What does not fit at all is told once."""
    damp = "{when: {sensor: air, measure: humidity, above: 90}, then: "
    off, on = (f"{damp}{{fan: {{value: {value}, for_s: 5}}, heater: off}}}}" for value in ("off", "on"))
    [problem] = _problems(tmp_path, f"{DEVICES}reflexes:\n  a: {off}\n  b: {on}\n")
    assert "reflexes.a.then.fan.for_s: fan goes back to this by itself" in problem

    wrong = f"{damp}{{fan: {{value: 40, for_s: 5}}, nobody: {{value: on, for_s: 5}}}}}}"
    assert len(_problems(tmp_path, f"{DEVICES}reflexes:\n  a: {wrong}\n")) == 2
