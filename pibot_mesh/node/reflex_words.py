"""A reflex in words, for its card and for the cause of what it sets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.outputs import value_words
from pibot_mesh.node.reflex_check import measure_of
from pibot_mesh.protocol.messages import MAX_WORDS, DeviceSpec
from pibot_mesh.skills.devices import seconds_words

"""Characters that a card and a cause can hold."""


def reflex_words(reflex: ReflexSettings, devices: Mapping[str, DeviceSpec]) -> str:
    """``when climate temperature is above 28 °C for 1 minute: fan on; else fan off``; at most `MAX_WORDS` characters.

    *devices* has those that *reflex* names.
    """
    text = f"when {_condition(reflex.when, devices[reflex.when.device])}: {_actions(reflex.then, devices)}"
    if reflex.otherwise:
        text += f"; else {_actions(reflex.otherwise, devices)}"
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"


def _condition(when: Condition, spec: DeviceSpec) -> str:
    name = spec.name or spec.id
    if when.event is not None:
        return f"{name} sends {when.event}"
    lasting = f" for {seconds_words(when.for_s)}" if when.for_s else ""
    if when.state is not None:
        return f"{name} is {_state(when.state, spec)}{lasting}"
    measure = measure_of(when, spec)
    unit = spec.measures[measure].unit if measure else spec.unit
    limit, side, step = (when.above, "above", -1) if when.above is not None else (when.below, "below", 1)
    assert limit is not None, "checked before"
    until = f" (until it is {_number(limit + step * when.hysteresis, unit)})" if when.hysteresis else ""
    return f"{' '.join(filter(None, (name, measure)))} is {side} {_number(limit, unit)}{until}{lasting}"


def _state(is_on: bool, spec: DeviceSpec) -> str:
    kind = KINDS.get(spec.kind)
    if kind is None or kind.words is None:
        return "on" if is_on else "off"
    return kind.words.on if is_on else kind.words.off


def _actions(actions: Sequence[Action], devices: Mapping[str, DeviceSpec]) -> str:
    return ", ".join(_action(action, devices[action.device]) for action in actions)


def _action(action: Action, spec: DeviceSpec) -> str:
    value = action.value if isinstance(action.value, str) else value_words(action.value)
    lasting = f" for {seconds_words(action.for_s)}" if action.for_s is not None else ""
    return f"{spec.name or spec.id} {value}{lasting}"


def _number(value: float, unit: str) -> str:
    return f"{value:.6g} {unit}".rstrip()
