"""The reflexes of one node: what is to be set when something is measured or happens. Pure: no clock, no pins.

*now* is seconds on any monotonic clock. What a method returns is to be set, in that order; each act then goes to
`Reflexes.obeyed` or `Reflexes.refused`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pibot_mesh.config.settings import ReflexSettings
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent, OutputChanged, SensorRead
from pibot_mesh.node.reflex_check import measure_of
from pibot_mesh.node.reflex_rule import Act, Rule
from pibot_mesh.node.reflex_words import reflex_words
from pibot_mesh.protocol.messages import DeviceSpec, OutputValue, ReflexSpec

SILENT_AFTER_S: Final = 300.0
"""Seconds without a reading after which a condition on a sensor has ended, where nothing else is said."""


@dataclass(slots=True)
class _Entry:
    """A reflex; without a *rule* it is off."""

    reflex: ReflexSettings
    words: str
    is_learned: bool
    rule: Rule | None = None


class Reflexes:
    """The reflexes of a node with the devices *specs*.

    A sensor is silent after its number of seconds in *silent_after_s*, or after `SILENT_AFTER_S`. What was heard of a
    device before a reflex on it came, or was switched on, counts for that reflex.
    """

    def __init__(self, specs: Sequence[DeviceSpec], silent_after_s: Mapping[str, float] = MappingProxyType({})) -> None:
        self._devices = {spec.id: spec for spec in specs}
        self._silent_after_s = silent_after_s
        self._entries: dict[str, _Entry] = {}
        self._latest: dict[str, tuple[InputChanged | SensorRead, float]] = {}
        self._setters: dict[str, str] = {}
        """The reflex that was the last to set an output, but for the emergency stop. Others were set by no reflex."""

    def add(self, reflex: ReflexSettings, now: float, *, is_learned: bool = False) -> list[Act]:
        """Take *reflex* in, on or off as it says. It must be new and have passed `check_reflexes`."""
        assert reflex.id not in self._entries, reflex.id
        self._entries[reflex.id] = _Entry(reflex, reflex_words(reflex, self._devices), is_learned)
        return self.switch(reflex.id, reflex.is_on, now)

    def remove(self, id_: str) -> None:
        """Forget the reflex *id_*; nothing is set. Raises KeyError where there is none."""
        del self._entries[id_]

    def switch(self, id_: str, is_on: bool, now: float) -> list[Act]:
        """Switch a reflex. One that is switched off forgets how it stood and sets nothing. KeyError for one unknown."""
        entry = self._entries[id_]
        if not is_on:
            entry.rule = None
        elif entry.rule is None:
            silent_after_s = self._silence_of(entry.reflex)
            entry.rule = Rule(entry.reflex, entry.words, silent_after_s=silent_after_s, now=now)
            return self._recall(entry, entry.rule, now)
        return []

    def hear(self, change: Change, now: float) -> list[Act]:
        """What *change* is answered with."""
        match change:
            case OutputChanged(device, _, cause):
                if cause.by != "stop":
                    self._setters.pop(device, None)
                elif (setter := self._entries.get(self._setters.get(device, ""))) is not None and setter.rule:
                    setter.rule.overruled(device, now)
                return []
            case InputEvent(device, event_type):
                return [act for _, rule in self._on(device) for act in rule.happened(event_type)]
            case _:
                self._latest[change.device] = (change, now)
                return [act for entry, rule in self._on(change.device) for act in self._told(entry, rule, change, now)]

    def tick(self, now: float) -> list[Act]:
        """What is due by *now*."""
        return [act for _, rule in self._on() for act in rule.tick(now)]

    def wake_at(self) -> float | None:
        """When `tick` has something to do, or None."""
        times = (rule.wake_at() for _, rule in self._on())
        return min((at for at in times if at is not None), default=None)

    def refused(self, act: Act, now: float) -> bool:
        """*act* was refused: it comes again every `TRY_AGAIN_S` seconds while it is wanted. Whether that is news."""
        entry = self._entries.get(act.reflex)
        return entry is not None and entry.rule is not None and entry.rule.refused(act.device, now)

    def obeyed(self, act: Act) -> None:
        """*act* was done, and its `OutputChanged` was heard before."""
        self._setters[act.device] = act.reflex
        entry = self._entries.get(act.reflex)
        if entry is not None and entry.rule is not None:
            entry.rule.obeyed(act.device)

    def specs(self) -> tuple[ReflexSpec, ...]:
        """The reflexes as the node's card shows them."""
        return tuple(ReflexSpec(id_, entry.words, entry.is_learned) for id_, entry in self._entries.items())

    def states(self) -> Mapping[str, bool]:
        """Which of them are on."""
        return {id_: entry.rule is not None for id_, entry in self._entries.items()}

    def _on(self, device: str | None = None) -> Iterator[tuple[_Entry, Rule]]:
        """Those that are on; with *device*, those about it."""
        for entry in self._entries.values():
            if entry.rule is not None and device in (None, entry.reflex.when.device):
                yield entry, entry.rule

    def _told(self, entry: _Entry, rule: Rule, change: InputChanged | SensorRead, now: float) -> list[Act]:
        when = entry.reflex.when
        value: OutputValue | None
        if isinstance(change, InputChanged):
            value = change.value
        else:
            value = change.values.get(measure_of(when, self._devices[when.device]))
        return [] if value is None else rule.hear(value, now)

    def _recall(self, entry: _Entry, rule: Rule, now: float) -> list[Act]:
        """Tell a new rule what was heard last, where that still counts."""
        change, at = self._latest.get(entry.reflex.when.device, (None, 0.0))
        silent_after_s = self._silence_of(entry.reflex)
        if change is None or (silent_after_s is not None and at + silent_after_s <= now):
            return []
        return self._told(entry, rule, change, now)

    def _silence_of(self, reflex: ReflexSettings) -> float | None:
        """How long the sensor of *reflex* may say nothing; None where it need not: at inputs there is no time."""
        when = reflex.when
        if when.event is not None or self._devices[when.device].direction != "sensor":
            return None
        return self._silent_after_s.get(when.device, SILENT_AFTER_S)
