"""The entities of a node's outputs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.master.home_assistant import templates
from pibot_mesh.master.home_assistant.device_classes import classed
from pibot_mesh.master.home_assistant.parts import Entity
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec

_PLATFORMS: Final[Mapping[str, str]] = {
    "switch": "switch",
    "relay": "switch",
    "output": "switch",
    "buzzer": "switch",
    "light": "light",
    "lamp": "light",
    "led": "light",
    "rgb_led": "light",
    "fan": "fan",
    "motor": "number",
    "pwm": "number",
    "servo": "number",
}


def output(spec: DeviceSpec, name: str, state: str, command: str) -> Entity:
    """The entity of an output, whose topics are *state* and *command*."""
    key = f"out_{spec.id}"
    platform = _platform(spec)
    match platform:
        case "light":
            fields = _color_light(state, command) if spec.color else _light(state, command)
        case "fan":
            fields = _fan(state, command)
        case "number":
            fields = _number(state, command)
        case _:
            fields = {"stat_t": state, "cmd_t": command}
    found = classed(key, platform, spec.device_class, unit="%" if platform == "number" else "")
    return Entity(key, platform, name, {**found.fields, **fields}, spec.id, spec.id, found.flaws)


def _platform(spec: DeviceSpec) -> str:
    """By what it can be told, where that says otherwise than its kind, or the kind is of a later version."""
    if spec.color:
        return "light"
    platform = _PLATFORMS.get(spec.kind, "number")
    return platform if spec.dimmable else "switch"


def _light(state: str, command: str) -> dict[str, JSON]:
    return {
        "stat_t": state,
        "stat_val_tpl": templates.IS_ON,
        "cmd_t": command,
        "bri_stat_t": state,
        "bri_val_tpl": templates.BRIGHTNESS,
        "bri_cmd_t": command,
        "bri_scl": 100,
        # One message, with the last brightness, instead of ON and then a number.
        "on_cmd_type": "brightness",
    }


def _color_light(state: str, command: str) -> dict[str, JSON]:
    return {
        "stat_t": state,
        "stat_val_tpl": templates.HAS_COLOR,
        "cmd_t": command,
        "rgb_stat_t": state,
        "rgb_val_tpl": templates.COLOR,
        "rgb_cmd_t": command,
        "rgb_cmd_tpl": templates.COLOR_SET,
        "on_cmd_type": "brightness",
    }


def _fan(state: str, command: str) -> dict[str, JSON]:
    return {
        "stat_t": state,
        "stat_val_tpl": templates.IS_ON,
        "cmd_t": command,
        "cmd_tpl": templates.AT_LAST_SPEED,
        "pct_stat_t": state,
        "pct_val_tpl": templates.SPEED,
        "pct_cmd_t": command,
    }


def _number(state: str, command: str) -> dict[str, JSON]:
    return {
        "stat_t": state,
        "val_tpl": templates.LEVEL,
        "cmd_t": command,
        "unit_of_meas": "%",
        "mode": "slider",
    }
