"""Where a file says whether the mesh shows itself in Home Assistant."""

from __future__ import annotations

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import HomeAssistantSettings


def home_assistant_settings(draft: Draft) -> HomeAssistantSettings:
    """Whether the mesh shows itself in Home Assistant, and below which topic that looks for devices."""
    usual = HomeAssistantSettings()
    return HomeAssistantSettings(
        bool(draft.get(("home_assistant", "discovery"), usual.discovery)),
        draft.text(("home_assistant", "prefix"), usual.prefix),
    )
