"""The reference of all kinds of devices, written from their table. Pure: Markdown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pibot_mesh.config.reference import keys_table
from pibot_mesh.hardware.kind import Kind, Schema, options_schema
from pibot_mesh.hardware.kinds import KINDS

Direction = Literal["out", "in", "sensor"]

EXAMPLES: Final[Mapping[str, str]] = {
    "switch": "fan: {kind: switch, pin: 17, room: kitchen}",
    "relay": "heater: {kind: relay, pin: 5, active_high: false, max_on_s: 3600, min_off_s: 60}",
    "output": "enable: {kind: output, pin: 6}",
    "buzzer": "bell: {kind: buzzer, pin: 16, frequency_hz: 2000, max_on_s: 10}",
    "light": "ceiling: {kind: light, pin: 18, room: hall, on_lost: keep}",
    "lamp": "desk: {kind: lamp, pin: 19, initial: 30}",
    "led": "pilot: {kind: led, pin: 20, name: pilot light}",
    "fan": "vent: {kind: fan, pin: 12, frequency_hz: 1000}",
    "motor": "pump: {kind: motor, pin: 13, max_on_s: 120}",
    "pwm": "valve: {kind: pwm, pin: 21}",
    "rgb_led": "strip: {kind: rgb_led, pins: {red: 17, green: 27, blue: 22}, initial: '#201000'}",
    "servo": "flap: {kind: servo, pin: 12, min_pulse_ms: 0.6, max_pulse_ms: 2.4, initial: 0, safe: 0}",
    "button": "doorbell: {kind: button, pin: 22, hold_s: 2}",
    "motion": "motion: {kind: motion, pin: 23, room: hall}",
    "contact": "door: {kind: contact, pin: 24, name: front door, device_class: door}",
    "input": "float: {kind: input, pin: 25, pull: none, active_high: false}",
    "counter": "water: {kind: counter, pin: 26, per_pulse: 0.5, unit: l}",
    "encoder": "dial: {kind: encoder, pins: {a: 19, b: 13}}",
    "distance": "tank: {kind: distance, pins: {trigger: 20, echo: 21}}",
    "ds18b20": "boiler: {kind: ds18b20, interval_s: 60}",
    "dht22": "cellar: {kind: dht22, pin: 27}",
    "mcp3xxx": "soil: {kind: mcp3xxx, channel: 2, measure: moisture, unit: '%', scale: -40, offset: 120}",
    "ads1115": "tank: {kind: ads1115, channel: 0, measure: level, unit: cm, scale: 50}",
    "climate": "climate: {kind: climate, room: kitchen, thresholds: [{measure: temperature, above: 28, name: hot}]}",
}
"""An entry of a file below ``devices:`` for each kind that needs more than to be named."""

_HEADINGS: Final[Mapping[Direction, str]] = {"out": "Outputs", "in": "Inputs", "sensor": "Sensors"}


def example(kind: Kind) -> str:
    """An entry of a node's file for a device of *kind*."""
    return EXAMPLES.get(kind.name, f"{kind.name}: {{kind: {kind.name}}}")


def kinds_reference(direction: Direction) -> str:
    """A heading, what the kinds of one direction are, and the tables of their keys; those of all of them once."""
    kinds = [kind for kind in KINDS.values() if kind.direction == direction]
    parts = [f"## {_HEADINGS[direction]}", _overview(kinds)]
    common = _common_options(kinds)
    if common:
        parts.append(f"All of them have these keys, and those of their kind, below.\n\n{_table(common)}")
    groups: dict[str, list[Kind]] = {}
    for kind in kinds:
        schema = options_schema(kind)["properties"]
        assert isinstance(schema, Mapping)
        groups.setdefault(_table({key: schema[key] for key in schema if key not in common}), []).append(kind)
    parts += [_group(group, table) for table, group in groups.items()]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _overview(kinds: Sequence[Kind]) -> str:
    lines = ["| kind | what it is | pins |", "|---|---|---|"]
    for kind in kinds:
        says = kind.says if kind.has_driver else f"{kind.says} *Needs `simulate: true`.*"
        lines.append(f"| `{kind.name}` | {says} | {_wiring(kind)} |")
    return "\n".join(lines)


def _wiring(kind: Kind) -> str:
    buses = {"": "none", "i2c": "the I2C bus (GPIO 2, 3)", "spi": "the SPI bus (GPIO 7 to 11)", "w1": "1-Wire (GPIO 4)"}
    if kind.pin_roles:
        return f"`pins`: {', '.join(kind.pin_roles)}"
    return "`pin`" if kind.needs_pin else buses[kind.bus]


def _common_options(kinds: Sequence[Kind]) -> Mapping[str, Schema]:
    first, *others = (kind.options for kind in kinds)
    return {key: schema for key, schema in first.items() if all(options.get(key) == schema for options in others)}


def _group(kinds: Sequence[Kind], table: str) -> str:
    names = ", ".join(f"`{kind.name}`" for kind in kinds)
    examples = "\n".join(f"  {example(kind)}" for kind in kinds)
    return f"### {names}\n\n```yaml\ndevices:\n{examples}\n```\n\n{table}"


def _table(options: Mapping[str, Schema]) -> str:
    return keys_table({"properties": options}) if options else ""
