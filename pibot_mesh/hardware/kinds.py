"""The kinds of devices that a node knows: the white list. Pure: no pins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.config.source import Problem
from pibot_mesh.hardware.device_check import device_problems
from pibot_mesh.hardware.input_kinds import INPUT_KINDS
from pibot_mesh.hardware.kind import Kind
from pibot_mesh.hardware.output_kinds import OUTPUT_KINDS
from pibot_mesh.hardware.sensor_kinds import SENSOR_KINDS, measures_of, sensor_problems
from pibot_mesh.hardware.thresholds import OPTION, THRESHOLDS_SCHEMA, threshold_events, threshold_problems
from pibot_mesh.protocol.messages import DeviceSpec

_SENSORS = [replace(kind, options={**kind.options, OPTION: THRESHOLDS_SCHEMA}) for kind in SENSOR_KINDS]

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (*OUTPUT_KINDS, *INPUT_KINDS, *_SENSORS)}
"""Every kind by name. Those without a driver can only be simulated."""


def option(device: DeviceSettings, key: str) -> object:
    """An option of *device* as set, or its kind's default."""
    return KINDS[device.kind].option(device, key)


def spec(device: DeviceSettings) -> DeviceSpec:
    """*device* as the node's card shows it. Its kind must be known."""
    kind = KINDS[device.kind]
    is_sensor = kind.direction == "sensor"
    return DeviceSpec(
        id=device.id,
        direction=kind.direction,
        kind=device.kind,
        name=device.name or device.id.replace("-", " ").replace("_", " "),
        room=device.room,
        dimmable=kind.is_dimmable,
        measures=measures_of(device) if is_sensor else {},
        color=kind.has_color,
        label=device.label,
        unit=str(option(device, "unit")) if "unit" in kind.options and not is_sensor else kind.unit,
        device_class=device.device_class,
        events=_events(device, kind),
    )


def check(devices: Sequence[DeviceSettings], *, simulate: bool) -> list[Problem]:
    """What is wrong with *devices* beyond the file's schema, at paths below ``devices``. Empty where nothing is."""
    sensors = [device for device in devices if device.kind in KINDS and KINDS[device.kind].direction == "sensor"]
    problems = [*device_problems(devices, KINDS, simulate=simulate), *sensor_problems(sensors)]
    for device in sensors:
        problems += threshold_problems(device, tuple(measures_of(device)))
    return problems


def _events(device: DeviceSettings, kind: Kind) -> tuple[str, ...]:
    words = (kind.words.on_event, kind.words.off_event) if kind.words is not None else ()
    return (*words, *kind.events, *threshold_events(device))
