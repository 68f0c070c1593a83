"""What an output can be told for its safety, and which of it contradicts itself. Pure; `outputs` keeps to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Problem
from pibot_mesh.hardware.kind import Kind, Schema

_WEEK_S: Final = 7 * 24 * 3600


def _limit(kind: str, low: float, high: float, expects: str, description: str) -> Schema:
    """The schema of a limit that does not hold by default."""
    return {
        "type": [kind, "null"],
        "minimum": low,
        "maximum": high,
        "x-expects": f"{expects} from {low} to {high}",
        "default": None,
        "description": description,
    }


SAFETY_OPTIONS: Final[Mapping[str, Schema]] = {
    "on_lost": {
        "type": ["boolean", "number", "string"],
        "minimum": 0,
        "maximum": 100,
        "pattern": "^(off|keep|#[0-9A-Fa-f]{6})$(?!\\n)",
        "x-expects": "off, keep, or a value as for safe",
        "default": "off",
        "description": "What it does without broker or master. off: it goes to its safe value; keep: nothing.",
    },
    "lost_after_s": _limit(
        "number", 5, 86_400, "seconds", "How long they must be gone for that; by default safety.lost_after_s."
    ),
    "max_on_s": _limit("number", 0.1, _WEEK_S, "seconds", "The longest time that it is on at a stretch."),
    "min_off_s": _limit(
        "number", 0.1, _WEEK_S, "seconds", "How long it rests before it can be turned on again; after a start too."
    ),
    "max_per_minute": _limit("integer", 1, 6000, "a whole number", "How often it may change in any 60 seconds."),
    "on_failure": {
        "enum": ["safe", "keep"],
        "default": "safe",
        "description": "What it does when the task that set it fails. safe: it goes to its safe value.",
    },
}
"""The JSON Schemas of the options that every kind of output has, besides ``safe`` and ``initial``."""


_CONTRADICTIONS: Final = (
    ("max_on_s", ("safe", "on_lost"), "stays on"),
    ("min_off_s", ("initial", "safe", "on_lost"), "goes on by itself, without a rest"),
)
"""A limit, the settings that must not be on with it, and what they would do."""


def lost_value(device: DeviceSettings) -> object:
    """What *device* goes to without broker or master, as configured; None where it is left as it is."""
    value = device.options.get("on_lost", "off")
    if value == "keep":
        return None
    if value == "off" or value is False:  # YAML reads a plain off as False
        return device.options.get("safe", False)
    return value


def is_on_by(device: DeviceSettings, key: str) -> bool:
    """Whether *device* is on at its ``initial``, ``safe`` or ``on_lost`` value."""
    value = lost_value(device) if key == "on_lost" else device.options.get(key)
    return bool(value) and value != "#000000"


def check_output(device: DeviceSettings, kind: Kind) -> list[Problem]:
    """What contradicts itself in the options of an output of *kind*, at paths below ``devices``.

    What the schemas refuse is not said again.
    """
    at = ("devices", device.id)
    problems = [Problem((*at, "on_lost"), text) for text in _misfits(device.options.get("on_lost"), kind)]
    for limit, settings, by in _CONTRADICTIONS:
        if device.options.get(limit) is None:
            continue
        if kind.is_position:
            problems.append(Problem((*at, limit), f"a {kind.name} is neither on nor off: leave it out"))
            continue
        on = next((key for key in settings if is_on_by(device, key)), None)
        if on is not None:
            problems.append(Problem((*at, limit), f"contradicts {on}, by which it {by}: leave out one of the two"))
    return problems


def _misfits(on_lost: object, kind: Kind) -> list[str]:
    """Why *on_lost* is no value for an output of *kind*."""
    if isinstance(on_lost, str):
        is_unfit = on_lost.startswith("#") and not kind.has_color
        return [f"a {kind.name} has no color: use off, keep or on"] if is_unfit else []
    is_level = isinstance(on_lost, (int, float)) and not isinstance(on_lost, bool)
    is_unfit = is_level and not (kind.is_dimmable or kind.has_color)
    return [f"a {kind.name} can only be on or off, not {on_lost:g} %: use off, keep or on"] if is_unfit else []
