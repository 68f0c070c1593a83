"""What is wrong with reflexes on the devices of one node. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pibot_mesh.config.reflex_section import shape_problems
from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.config.source import KeyPath, Problem, suggestion
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.output_values import OutputRule
from pibot_mesh.hardware.outputs import MAX_FOR_S, MIN_FOR_S
from pibot_mesh.protocol.messages import DeviceSpec


def check_reflexes(reflexes: Iterable[ReflexSettings], specs: Sequence[DeviceSpec]) -> list[Problem]:
    """What is wrong with *reflexes* on a node with the devices *specs*, at paths below ``reflexes``.

    Empty where nothing is. Two that set the same output are allowed: what changed last counts.
    """
    problems: list[Problem] = []
    for reflex in reflexes:
        at: KeyPath = ("reflexes", reflex.id)
        shape = shape_problems(reflex)
        problems += shape or _condition_problems((*at, "when"), reflex.when, specs)
        for key, actions in (("then", reflex.then), ("else", reflex.otherwise)):
            for action in actions:
                problems += _action_problems((*at, key, action.device), action, specs)
    return problems


def check_times(reflexes: Iterable[ReflexSettings], rules: Mapping[str, OutputRule]) -> Iterator[Problem]:
    """What is set for a time must not be what it goes back to: the board would refuse it whenever the reflex acts."""
    for reflex in reflexes:
        for key, actions in (("then", reflex.then), ("else", reflex.otherwise)):
            for action in actions:
                if action.for_s is not None and action.device in rules and _is_safe(action, rules[action.device]):
                    text = f"{action.device} goes back to this by itself ('safe'): leave out the time"
                    yield Problem(("reflexes", reflex.id, key, action.device, "for_s"), text)


def _is_safe(action: Action, rule: OutputRule) -> bool:
    try:
        return rule.fit(action.value) == rule.safe
    except ToolError:  # a value that does not fit: `check_reflexes` says that
        return False


def measure_of(when: Condition, spec: DeviceSpec) -> str:
    """The quantity that *when* is about: the one that is named, or else the only one of *spec*; empty for an input."""
    return when.measure or next(iter(spec.measures), "")


def gives_numbers(spec: DeviceSpec) -> bool:
    """Whether a sensor or input is about numbers; else it is on or off."""
    kind = KINDS.get(spec.kind)
    return spec.direction == "sensor" or bool(spec.unit) or (kind is not None and kind.words is None)


def _condition_problems(at: KeyPath, when: Condition, specs: Sequence[DeviceSpec]) -> list[Problem]:
    there = {spec.id: spec for spec in specs if spec.direction != "out"}
    spec = there.get(when.device)
    if spec is None:
        return [Problem(at, _unknown(when.device, "sensor or input", tuple(there)))]
    if when.event is not None:
        return list(_event_problems((*at, "event"), when.event, spec))
    is_number = gives_numbers(spec)
    if when.state is not None:
        text = f"{spec.id} gives numbers and has no state: use above or below"
        return [Problem((*at, "state"), text)] if is_number else []
    if not is_number:
        key = "above" if when.above is not None else "below"
        return [Problem((*at, key), f"{spec.id} is on or off and gives no number: use state or event")]
    return list(_measure_problems((*at, "measure"), when.measure, spec))


def _event_problems(at: KeyPath, event: str, spec: DeviceSpec) -> Iterator[Problem]:
    if event not in spec.events:
        there = f"it has: {', '.join(spec.events)}" if spec.events else "it sends none"
        yield Problem(at, f"{spec.id} sends no event {event!r}{suggestion(event, spec.events)}; {there}")


def _measure_problems(at: KeyPath, measure: str, spec: DeviceSpec) -> Iterator[Problem]:
    there = ", ".join(spec.measures) or "no quantities by name"
    if measure and measure not in spec.measures:
        near = suggestion(measure, tuple(spec.measures))
        yield Problem(at, f"{spec.id} does not measure {measure!r}{near}; it has: {there}")
    elif not measure and len(spec.measures) > 1:
        yield Problem(at, f"is missing: {spec.id} has {there}; say which is meant")


def _action_problems(at: KeyPath, action: Action, specs: Sequence[DeviceSpec]) -> Iterator[Problem]:
    outputs = {spec.id: spec for spec in specs if spec.direction == "out"}
    spec = outputs.get(action.device)
    if spec is None:
        yield Problem(at, _unknown(action.device, "output", tuple(outputs)))
        return
    if isinstance(action.value, str):
        if not spec.color:
            yield Problem(at, f"{spec.id} has no color: use on, off{' or a level' if spec.dimmable else ''}")
    elif not isinstance(action.value, bool):
        if not spec.dimmable:
            yield Problem(at, f"{spec.id} can only be on or off, not {action.value:g} %")
        elif not 0 <= action.value <= 100:
            yield Problem(at, f"{spec.id} takes 0 to 100 percent, not {action.value:g}")
    if action.for_s is not None and not (math.isfinite(action.for_s) and MIN_FOR_S <= action.for_s <= MAX_FOR_S):
        text = f"a time is {MIN_FOR_S:g} to {MAX_FOR_S:.0f} seconds, not {action.for_s:g}"
        yield Problem((*at, "for_s"), text)


def _unknown(device: str, what: str, known: tuple[str, ...]) -> str:
    there = f"there are: {', '.join(known)}" if known else f"this node has no {what}"
    return f"there is no {what} {device!r}{suggestion(device, known)}; {there}"
