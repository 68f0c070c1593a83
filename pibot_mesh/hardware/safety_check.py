"""What is wrong with the safety of a node's outputs, each and all together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from pibot_mesh.config.settings import DeviceSettings, SafetySettings
from pibot_mesh.config.source import KeyPath, Problem, suggestion
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.safety_rules import check_output, is_on_by


def check_safety(devices: Sequence[DeviceSettings], safety: SafetySettings) -> list[Problem]:
    """What contradicts itself in the safety of *devices*, at paths below ``devices`` and ``safety``.

    What `pibot_mesh.hardware.kinds.check` says, such as that a kind is not known, is not said again.
    """
    by_id = {device.id: device for device in devices}
    problems: list[Problem] = []
    for device in devices:
        kind = KINDS.get(device.kind)
        if kind is not None and kind.direction == "out":
            problems += check_output(device, kind)
    for index, group in enumerate(safety.interlocks):
        at = ("safety", "interlocks", index)
        problems += [Problem(at, text) for name in group if (text := _unfit(name, by_id))]
        problems += _both_on([by_id[name] for name in group if name in by_id], at)
    return problems


def _unfit(name: str, by_id: Mapping[str, DeviceSettings]) -> str:
    """Why the device *name* cannot be in an interlock, or nothing."""
    device = by_id.get(name)
    if device is None:
        return f"there is no device {name!r}{suggestion(name, tuple(by_id))}: name outputs that stand under devices"
    kind = KINDS.get(device.kind)
    if kind is None:
        return ""
    if kind.direction != "out":
        return f"{name} is no output, but a device of kind {kind.name}: take it out"
    if kind.is_position:
        return f"{name} is a {kind.name}, which is neither on nor off: take it out"
    return ""


def _both_on(group: Sequence[DeviceSettings], at: KeyPath) -> list[Problem]:
    """Outputs that would be on together by themselves; each pair is said for the first reason alone."""
    for key in ("initial", "safe", "on_lost"):
        on = [device.id for device in group if is_on_by(device, key)]
        if len(on) > 1:
            return [
                Problem(at, f"{one} and {other} would both be on by their {key!r}, and must never be: change one")
                for one, other in pairwise(on)
            ]
    return []
