"""What a node's file says of the safety of all its outputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.loader import load_node, load_schema
from pibot_mesh.config.safety_section import safety_settings
from pibot_mesh.config.settings import SafetySettings
from pibot_mesh.config.source import read_yaml
from pibot_mesh.node.check import check_node

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "safety.md"


def read(folder: Path, text: str) -> tuple[SafetySettings, list[str]]:
    """The settings of a node's file, and what is wrong with it."""
    path = folder / "node.yaml"
    path.write_text(text, "utf-8")
    draft = Draft(read_yaml(path), {})
    draft.check(load_schema("node"))
    settings = safety_settings(draft)
    return settings, [problem.replace(f"{folder}/", "") for _, problem in draft.problems]


def test_a_node_waits_two_minutes_for_its_master_by_default(tmp_path: Path) -> None:
    """And locks no outputs against each other."""
    assert read(tmp_path, "") == (SafetySettings(lost_after_s=120, interlocks=()), [])


def test_both_can_be_set(tmp_path: Path) -> None:
    """In the file's order."""
    text = "safety:\n  lost_after_s: 30\n  interlocks:\n    - [heater, fan]\n    - [a, b, c]\n"
    assert read(tmp_path, text) == (SafetySettings(30, (("heater", "fan"), ("a", "b", "c"))), [])


@pytest.mark.parametrize(
    ("safety", "says"),
    [
        ("lost_after_s: 4", "lost_after_s: a number from 5 to 86400 is expected, not 4"),
        ("lost_after_s: 1e6", "lost_after_s: a number from 5 to 86400 is expected, not 1000000.0"),
        ("interlocks: heater", "interlocks: lists of outputs such as [[heater, fan]] is expected, not 'heater'"),
        ("interlocks: [heater]", "interlocks[0]: a list of 2 to 16 outputs is expected, not 'heater'"),
        ("interlocks: [[heater, heater]]", "interlocks[0]: an entry stands twice: remove one"),
        ("interlocks: [[heater, Fan]]", "interlocks[0][1]: the id of an output is expected, not 'Fan'"),
        ("interlock: []", "interlock: unknown key (did you mean 'interlocks'?)"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(tmp_path: Path, safety: str, says: str) -> None:
    """And left out of the settings."""
    settings, problems = read(tmp_path, f"safety:\n  {safety}\n")
    assert problems == [f"node.yaml:2: safety.{says}"]
    assert settings == SafetySettings()


def test_an_interlock_of_one_output_is_refused(tmp_path: Path) -> None:
    """It would forbid nothing; the others stay."""
    settings, problems = read(tmp_path, "safety:\n  interlocks: [[heater], [fan, lamp]]\n")
    assert len(problems) == 1
    assert settings.interlocks == (("fan", "lamp"),)


def test_the_example_of_the_guide_is_right(tmp_path: Path) -> None:
    """As a reader will copy it."""
    [example] = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "node.yaml"
    path.write_text(example, "utf-8")
    settings = load_node(path, {}, check=check_node)
    assert len(settings.devices) == 5
    assert settings.safety.interlocks == (("heater", "compressor"),)
