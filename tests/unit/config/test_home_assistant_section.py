"""Whether the mesh shows itself in Home Assistant, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.loader import load_master
from pibot_mesh.config.settings import HomeAssistantSettings
from pibot_mesh.errors import ConfigError


def settings(folder: Path, text: str) -> HomeAssistantSettings:
    """What a master's file with this text says."""
    path = folder / "c.yaml"
    path.write_text(text, "utf-8")
    return load_master(path, {}).home_assistant


def test_by_default_the_mesh_shows_itself_where_home_assistant_looks(tmp_path: Path) -> None:
    """Nothing need be written for it."""
    assert settings(tmp_path, "root: pibot") == HomeAssistantSettings(discovery=True, prefix="homeassistant")


def test_it_can_be_hidden_and_moved(tmp_path: Path) -> None:
    """Each for itself."""
    assert not settings(tmp_path, "home_assistant: {discovery: false}").discovery
    assert settings(tmp_path, "home_assistant: {prefix: house/ha}") == HomeAssistantSettings(True, "house/ha")


@pytest.mark.parametrize("prefix", ["homeassistant/#", "+", "", "/homeassistant", "homeassistant/", "$SYS", "a//b"])
def test_a_prefix_that_is_no_plain_topic_is_refused(tmp_path: Path, prefix: str) -> None:
    """With what is expected, and where it stands."""
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, f"home_assistant:\n  prefix: '{prefix}'\n")

    [problem] = caught.value.problems
    assert "c.yaml:2: home_assistant.prefix" in problem
    assert "plain topic levels such as homeassistant" in problem


def test_a_slip_in_a_key_is_named(tmp_path: Path) -> None:
    """With what was meant."""
    with pytest.raises(ConfigError, match="discovery"):
        settings(tmp_path, "home_assistant: {discover: false}")
