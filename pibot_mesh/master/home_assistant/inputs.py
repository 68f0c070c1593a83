"""The entities of what a node reads: inputs, sensors, and the events of both. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Final

from pibot_mesh.master.home_assistant import templates
from pibot_mesh.master.home_assistant.device_classes import classed, measured
from pibot_mesh.master.home_assistant.naming import readable
from pibot_mesh.master.home_assistant.parts import Entity, joined
from pibot_mesh.master.home_assistant.rules import class_flaw
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, Measure

_USUAL_CLASSES: Final[Mapping[str, str]] = {"motion": "motion", "contact": "opening", "distance": "distance"}
_NUMBERS: Final = frozenset(("counter", "encoder", "distance"))
_STATE_EVENTS: Final = frozenset(("motion", "motion_ended", "opened", "closed", "turned_on", "turned_off"))
"""Events that say no more than ON and OFF."""
_RING: Final = "ring"
"""The event that a doorbell must have in Home Assistant, or it warns."""
_PRESSED: Final = "pressed"
_DIGITS: Final[Mapping[str, int]] = {
    "°C": 1,
    "°F": 1,
    "K": 1,
    "%": 0,
    "hPa": 0,
    "lx": 0,
    "cm": 1,
    "mm": 0,
    "V": 2,
    "A": 2,
    "MiB": 0,
    "s": 0,
    "dBm": 0,
    "steps": 0,
}
"""Digits after the point with which a number of each unit is shown. All of it stays in the state."""


def digits(unit: str) -> int:
    """Digits after the point that say something in this unit."""
    return _DIGITS.get(unit, 2)


def read(spec: DeviceSpec, name: str, topic: str) -> Entity:
    """The entity of an input: a number where it has a unit, else on or off."""
    key = f"in_{spec.id}"
    if spec.unit or spec.kind in _NUMBERS:
        return _number(key, spec, name, topic)
    is_event_class = is_shown_by_event(spec)
    given = None if is_event_class else spec.device_class
    found = classed(key, "binary_sensor", given, usual=_USUAL_CLASSES.get(spec.kind))
    return Entity(key, "binary_sensor", name, {**found.fields, "stat_t": topic}, spec.id, spec.id, found.flaws)


def _number(key: str, spec: DeviceSpec, name: str, topic: str) -> Entity:
    is_meter = spec.kind == "counter"
    usual = None if class_flaw("sensor", _USUAL_CLASSES.get(spec.kind), spec.unit) else _USUAL_CLASSES.get(spec.kind)
    found = measured(key, spec.device_class, unit=spec.unit, usual=usual, is_meter=is_meter)
    fields: dict[str, JSON] = {**found.fields, "stat_t": topic, "val_tpl": templates.NUMBER}
    if not is_meter:
        fields["sug_dsp_prc"] = digits(spec.unit)
    return Entity(key, "sensor", name, fields, spec.id, spec.id, found.flaws)


def sensed(spec: DeviceSpec, name: str, topic: str, *, is_only_sensor: bool) -> Iterator[Entity]:
    """An entity for each measure of a sensor. The sensor's own *name* stands before where the node has several."""
    for measure, what in spec.measures.items():
        yield _measure(spec, measure, what, topic, _measure_name(name, measure, is_only_sensor=is_only_sensor))


def _measure(spec: DeviceSpec, measure: str, what: Measure, topic: str, name: str) -> Entity:
    own = _identifier(measure)
    key = f"sensor_{joined(spec.id, own)}"
    found = measured(key, what.device_class, unit=what.unit)
    fields = {
        **found.fields,
        "stat_t": topic,
        "val_tpl": templates.picked(measure),
        "sug_dsp_prc": digits(what.unit),
    }
    return Entity(key, "sensor", name, fields, spec.id, f"{spec.id}_{own}", found.flaws)


def _measure_name(sensor: str, measure: str, *, is_only_sensor: bool) -> str:
    words = readable(measure) or "Value"
    if is_only_sensor:
        return words
    return sensor if sensor.lower().endswith(words.lower()) else f"{sensor} {words.lower()}"


def _identifier(measure: str) -> str:
    """*measure* as a part of an id: as it is, or where it is of no form that we know, so that it is like no other."""
    if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", measure):
        return measure
    letters = re.sub(r"[^a-z0-9]+", "-", measure.lower()).strip("-")[:32]
    return f"m-{letters}-{sha256(measure.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def happening(spec: DeviceSpec, name: str, topic: str) -> Entity | None:
    """The entity of a device's events; None where they say no more than its state does."""
    types = list(dict.fromkeys(spec.events))
    if _STATE_EVENTS.issuperset(types):
        return None
    key = f"event_{spec.id}"
    usual = "button" if spec.kind == "button" else None
    given = spec.device_class if is_shown_by_event(spec) else None
    found = classed(key, "event", given, usual=usual)
    renamed = {_PRESSED: _RING} if found.fields.get("dev_cla") == "doorbell" and _RING not in types else {}
    shown: list[JSON] = [renamed.get(event, event) for event in types]
    if renamed and _RING not in shown:
        shown.append(_RING)
    fields: dict[str, JSON] = {
        **found.fields,
        "evt_typ": shown,
        "stat_t": topic,
        "val_tpl": templates.event(spec.id, types, renamed=renamed),
    }
    return Entity(key, "event", f"{name} event", fields, spec.id, spec.id, found.flaws)


def is_shown_by_event(spec: DeviceSpec) -> bool:
    """Whether the class of an input is one of its events, such as a doorbell's, and not of its state."""
    given = spec.device_class
    if given is None or spec.direction != "in" or _STATE_EVENTS.issuperset(spec.events):
        return False
    return class_flaw("event", given) is None and class_flaw("binary_sensor", given) is not None
