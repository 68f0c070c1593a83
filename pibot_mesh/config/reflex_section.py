"""Where a node's file says what it does by itself: when something holds, what is set then, and what otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.config.source import KeyPath, Problem, Value

_TESTS: Final = ("above", "below", "state", "event")
_STATES: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("on", "open", "pressed"), True),
    **dict.fromkeys(("off", "closed", "released"), False),
}
"""Words for the two states of an input: a contact is on when open, a button when pressed."""


def reflex_settings(draft: Draft) -> tuple[ReflexSettings, ...]:
    """The reflexes, in the order of the file. One that cannot be is noted and left out."""
    section = cast(Mapping[str, Mapping[str, Value]], draft.get(("reflexes",), {}))
    found: list[ReflexSettings] = []
    for id_, values in section.items():
        at: KeyPath = ("reflexes", id_)
        if draft.is_refused(at):
            continue
        if problem := _device_problem(at, cast(Mapping[str, Value], values["when"])):
            draft.refuse(problem)
            continue
        reflex = _reflex(id_, values)
        problems = shape_problems(reflex)
        for problem in problems:
            draft.refuse(problem)
        if not problems:
            found.append(reflex)
    return tuple(found)


def shape_problems(reflex: ReflexSettings) -> list[Problem]:
    """What is wrong with *reflex* whatever the devices are, at paths below ``reflexes``. Empty where nothing is."""
    when, at = reflex.when, ("reflexes", reflex.id)
    told = [name for name in _TESTS if getattr(when, name) is not None]
    problems: list[Problem] = []

    def wrong(key: str, text: str) -> None:
        problems.append(Problem((*at, *key.split(".")), text))

    if len(told) != 1:
        wrong("when", f"one of {', '.join(_TESTS)} is expected, not {' and '.join(told) or 'none'}")
    if when.hysteresis < 0:
        wrong("when.hysteresis", f"a number from 0 is expected, not {when.hysteresis:g}")
    if told in (["state"], ["event"]) and when.hysteresis:
        wrong("when.hysteresis", "is for above and below only: leave it out")
    if told in (["state"], ["event"]) and when.measure:
        wrong("when.measure", "is for above and below only: leave it out")
    if told == ["event"] and when.for_s:
        wrong("when.for_s", "an event is over at once: leave it out, or use a state")
    if told == ["event"] and reflex.otherwise:
        wrong("else", "an event is over at once: say with for_s under then how long, or use a state")
    if not reflex.then:
        wrong("then", "says nothing to do: name an output and its value")
    return problems


def _device_problem(at: KeyPath, when: Mapping[str, Value]) -> Problem | None:
    named = [key for key in ("sensor", "input") if key in when]
    if len(named) == 1:
        return None
    text = (
        "says two devices: name either a sensor or an input" if named else "says no device: name a sensor or an input"
    )
    return Problem((*at, "when"), text)


def _reflex(id_: str, values: Mapping[str, Value]) -> ReflexSettings:
    return ReflexSettings(
        id_,
        _condition(cast(Mapping[str, Value], values["when"])),
        _actions(values["then"]),
        _actions(values.get("else", {})),
        bool(values.get("on", True)),
    )


def _condition(when: Mapping[str, Value]) -> Condition:
    state = when.get("state")
    return Condition(
        device=str(when.get("sensor") or when.get("input")),
        measure=str(when.get("measure", "")),
        above=_number(when.get("above")),
        below=_number(when.get("below")),
        state=_STATES[state.lower()] if isinstance(state, str) else cast(bool | None, state),
        event=cast(str | None, when.get("event")),
        hysteresis=_number(when.get("hysteresis")) or 0.0,
        for_s=_number(when.get("for_s")) or 0.0,
    )


def _actions(values: Value) -> tuple[Action, ...]:
    return tuple(_action(device, value) for device, value in cast(dict[str, Value], values).items())


def _action(device: str, value: Value) -> Action:
    for_s = None
    if isinstance(value, dict):
        for_s = _number(value.get("for_s"))
        value = value["value"]
    if isinstance(value, str):
        return Action(device, value.lower(), for_s)
    return Action(device, value if isinstance(value, bool) else float(cast(float, value)), for_s)


def _number(value: Value) -> float | None:
    return None if value is None else float(cast(float, value))
