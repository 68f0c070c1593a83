"""The rules for a node's outputs. Pure: no pins, no clock; every decision about what may be set, and when, is here.

What a method returns is to be written to the pins, in that order. What the pin then reads goes to `Outputs.confirm`; a
pin that could not be set, to `Outputs.doubt`. Times are seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from pibot_mesh.config.source import suggestion
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.changes import OutputChanged
from pibot_mesh.hardware.output_values import OutputRule, is_near, misuse
from pibot_mesh.protocol.messages import Cause, OutputValue
from pibot_mesh.timers import Timers

MIN_FOR_S: Final = 0.001
MAX_FOR_S: Final = 7 * 24 * 3600.0
"""The shortest and the longest time that an output can be set for, in seconds."""
AGAIN_S: Final = 1.0
"""Seconds after which an output that could not be made safe is tried again."""
_MINUTE_S: Final = 60.0

_Due: TypeAlias = Literal["for_s", "max_on_s", "lost", "again"]


@dataclass(frozen=True, slots=True)
class Write:
    """Set the pin of *device* to *value*; with *for_s*, for so many seconds."""

    device: str
    value: OutputValue
    cause: Cause
    for_s: float | None = None


class Outputs:
    """The outputs of one node: what they are, who set them, when they go back, and whether they may be set at all.

    Of the outputs of each of *interlocks*, one at most is on at a time. The rules and interlocks are as `check_output`
    and `check_safety` leave them: none contradicts another.
    """

    def __init__(self, rules: Iterable[OutputRule], interlocks: Sequence[Sequence[str]] = ()) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._rivals = {device: _rivals_of(device, interlocks) for device in self._rules}
        self._is_held = False
        self._lost: str | None = "no master"
        """Why nobody is reached; None while somebody is."""
        self._forget()

    def _forget(self) -> None:
        self._states: dict[str, tuple[OutputValue, Cause]] = {}
        self._looked_after: set[str] = set()
        """The outputs that a rule was the last to set, which still looks after them."""
        self._on: set[str] = set()
        """The outputs that are on, or may be since their pin could not be set."""
        self._timers: Timers[tuple[str, _Due]] = Timers()
        self._retries: dict[str, Write] = {}
        self._rests: dict[str, float] = {}
        """Until when an output that went off must stay so."""
        self._changes = {
            rule.id: deque[float](maxlen=rule.max_per_minute) for rule in self._rules.values() if rule.max_per_minute
        }

    @property
    def is_held(self) -> bool:
        """Whether the emergency stop holds."""
        return self._is_held

    @property
    def states(self) -> Mapping[str, tuple[OutputValue, Cause]]:
        """The confirmed value of every output, and what set it last. Empty before the start."""
        return dict(self._states)

    def rule(self, device: str) -> OutputRule:
        """The rule of an output. Raises ToolError for a name that is none."""
        rule = self._rules.get(device)
        if rule is None:
            raise unknown_device(device, "output", tuple(self._rules))
        return rule

    # --- Orders ---

    def begin(self, now: float) -> list[Write]:
        """At the start: every output to its initial value, or to its safe one where the emergency stop holds.

        How long each was off before, nobody knows: it rests from now on. Nor is anybody reached yet.
        """
        self._forget()
        self._rests = {rule.id: now + rule.min_off_s for rule in self._rules.values() if rule.min_off_s}
        if self._lost is not None:
            self._count_lost(self._rules, now)
        if self._is_held:
            return self.make_safe(Cause(by="stop", reason="the emergency stop holds"))
        return self._off_first(Write(rule.id, rule.initial, Cause(by="start")) for rule in self._rules.values())

    def set(
        self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None, now: float
    ) -> list[Write]:
        """Set an output; with *for_s*, for so many seconds, then it goes to its safe value. Forgets an earlier time.

        Raises ToolError for a device that is no output, a value or time out of range, brightness for a switch, a time
        that would change nothing at its end; with the code ``stopped`` while the emergency stop holds; with ``unsafe``
        for what an interlock, its rest or the number of its changes forbids. Off and safe it can be at any time.
        """
        rule = self.rule(device)
        wanted = rule.fit(value)
        if for_s is not None:
            _check_time(rule, wanted, for_s)
        if self._is_held:
            raise ToolError(
                f"{rule.name} was not changed: the emergency stop holds until someone releases it",
                code=ErrorCode.STOPPED,
            )
        if rule.is_on(wanted):
            self.check_interlocks(device, wanted)
            self._check_may_go_on(rule, now)
        if wanted not in (rule.off, rule.safe):
            self._check_changes(rule, wanted, now)
        if self._lost is not None and cause.by != "rule" and (device, "lost") not in self._timers:
            self._count_lost([device], now)
        return [Write(device, wanted, cause, for_s)]

    def hold(self, is_held: bool, cause: Cause) -> list[Write]:
        """The emergency stop, or its end. Outputs are safe, and `set` refuses, while it holds. Its end sets nothing."""
        self._is_held = is_held
        return self.make_safe(cause) if is_held else []

    def make_safe(self, cause: Cause) -> list[Write]:
        """Every output to its safe value, whatever it had before; none goes back to another any more."""
        for device in self._rules:
            self._forget_times(device)
        return self._off_first(Write(rule.id, rule.safe, cause) for rule in self._rules.values())

    def task_failed(self, task_id: str, cause: Cause) -> list[Write]:
        """The outputs that the task *task_id* was the last to set go to their safe value, but for those to be kept."""
        left = [
            Write(device, self._rules[device].safe, replace(cause, request=last.request))
            for device, (value, last) in self._states.items()
            if last.by == "task" and last.id == task_id and value != self._rules[device].safe
        ]
        return self._off_first(write for write in left if not self._rules[write.device].is_kept_on_failure)

    def reach(self, is_reached: bool, reason: str, now: float) -> None:
        """Broker and master are reached, or not, for a *reason* such as ``no master``.

        Each output then has its time until it goes to its ``on_lost`` value. Hearing again that nobody is reached does
        not prolong it, nor change the reason.
        """
        if is_reached:
            self._lost = None
            for device in self._rules:
                self._timers.cancel((device, "lost"))
        elif self._lost is None:
            self._lost = reason
            self._count_lost(self._rules, now)

    def let_go(self, rule_id: str, now: float) -> None:
        """The reflex *rule_id* is off or gone: what it was the last to set is nobody's, and has its time from now."""
        left = [device for device in self._looked_after if self._states[device][1].id == rule_id]
        self._looked_after.difference_update(left)
        if self._lost is not None:
            self._count_lost([device for device in left if (device, "lost") not in self._timers], now)

    def giving_way(self, write: Write) -> list[Write]:
        """What must go off before *write*, which nobody ordered, can turn its output on."""
        rule = self._rules[write.device]
        return [
            Write(rival.id, rival.off, Cause(by="safety", reason=f"{rule.name} goes on, and {_never(rule, rival)}"))
            for rival in self._rivals_on(rule, write.value)
        ]

    def check_interlocks(self, device: str, value: OutputValue) -> None:
        """Raises ToolError (code ``unsafe``) where *value* would turn an output on beside another of its interlocks."""
        rule = self._rules[device]
        rivals = self._rivals_on(rule, value)
        if rivals:
            raise _unsafe(rule, f"{rivals[0].name} is on, and {_never(rule, rivals[0])}")

    def _rivals_on(self, rule: OutputRule, value: OutputValue) -> list[OutputRule]:
        """What is on that must not be while *rule*'s output is at *value*."""
        if not rule.is_on(value):
            return []
        return [self._rules[rival] for rival in self._rivals[rule.id] if rival in self._on]

    def _check_may_go_on(self, rule: OutputRule, now: float) -> None:
        retry = self._retries.get(rule.id)
        if retry is not None and not rule.is_on(retry.value):
            raise _unsafe(rule, "it could not be turned off, and that is tried until it is", retryable=True)
        left_s = self._rests.get(rule.id, now) - now
        if left_s > 0:
            raise _unsafe(rule, f"it can be turned on again in {math.ceil(left_s)} s", retryable=True)

    def _check_changes(self, rule: OutputRule, wanted: OutputValue, now: float) -> None:
        changes = self._changes.get(rule.id)
        if changes is None or len(changes) < (changes.maxlen or 0) or self._is_at(rule, wanted):
            return
        left_s = changes[0] + _MINUTE_S - now
        if left_s > 0:
            often = f"it may change {rule.max_per_minute} times a minute, and can again in {math.ceil(left_s)} s"
            raise _unsafe(rule, often, what="changed", retryable=True)

    def _is_at(self, rule: OutputRule, value: OutputValue) -> bool:
        """Whether *value* is none but that which the output has."""
        state = self._states.get(rule.id)
        return state is not None and is_near(state[0], value) and rule.is_on(state[0]) == rule.is_on(value)

    def _off_first(self, writes: Iterable[Write]) -> list[Write]:
        return sorted(writes, key=lambda write: self._rules[write.device].is_on(write.value))

    # --- Time ---

    def wake_at(self) -> float | None:
        """When `expire` has something to do, or None."""
        return self._timers.next_at()

    def expire(self, now: float) -> Iterator[Write]:
        """What is due by *now*, in the order of the times: carry out each before the next is asked for."""
        for device, due in self._timers.pop_due(now):
            rule = self._rules[device]
            match due:
                case "for_s":
                    yield Write(device, rule.safe, Cause(by="timer", reason="its time is over"))
                case "max_on_s":
                    reason = f"it was on for {rule.max_on_s:g} s, as long as it may be"
                    yield Write(device, rule.off, Cause(by="safety", reason=reason))
                case "lost":
                    yield from self._lose(rule)
                case _:
                    yield self._retries.pop(device)

    def again(self, write: Write, now: float) -> None:
        """*write* could not be carried out, and must be: `expire` returns it again in a second."""
        self._retries[write.device] = write
        self._timers.set((write.device, "again"), now + AGAIN_S)

    def _forget_times(self, device: str) -> None:
        """Nothing that was planned for the output by an earlier write happens any more."""
        self._timers.cancel((device, "for_s"))
        self._timers.cancel((device, "again"))
        self._retries.pop(device, None)

    def _count_lost(self, devices: Iterable[str], now: float) -> None:
        for rule in map(self.rule, devices):
            if rule.on_lost is not None:
                self._timers.set((rule.id, "lost"), now + rule.lost_after_s)

    def _lose(self, rule: OutputRule) -> list[Write]:
        """An output goes to its ``on_lost`` value; not one that a rule looks after, which needs nobody else."""
        value, _ = self._states[rule.id]
        if self._is_held or rule.id in self._looked_after or rule.on_lost is None or value == rule.on_lost:
            return []
        reason = f"{self._lost} for {rule.lost_after_s:g} s"
        return [Write(rule.id, rule.on_lost, Cause(by="safety", reason=reason))]

    # --- What the pins say ---

    def confirm(self, write: Write, reads: OutputValue, now: float) -> OutputChanged:
        """The pin of *write* now reads *reads*: that is the output's state.

        Where that is what was written, an earlier time of the output is over, and the write's own begins.
        """
        rule, is_done = self._rules[write.device], is_near(reads, write.value)
        if rule.id in self._states and not self._is_at(rule, reads) and rule.id in self._changes:
            self._changes[rule.id].append(now)
        self._states[rule.id] = (reads, write.cause)
        (self._looked_after.add if write.cause.by == "rule" else self._looked_after.discard)(rule.id)
        if rule.is_on(write.value if is_done else reads):
            self._goes_on(rule, now)
        else:
            self._goes_off(rule, now)
        if is_done:
            self._forget_times(rule.id)
        elif not rule.is_on(write.value) and rule.id in self._on:
            self.again(write, now)
        self._count_time(write, now)
        return OutputChanged(rule.id, reads, write.cause)

    def doubt(self, write: Write, now: float) -> None:
        """The pin of *write* could not be set; nobody knows what it is at. What was to go on is made safe in a second,
        and what was to go off is tried again.

        An earlier time of the output goes on running.
        """
        rule = self._rules[write.device]
        if rule.is_on(write.value) and rule.id not in self._on:
            self._goes_on(rule, now)
            self.again(Write(rule.id, rule.safe, Cause(by="safety", reason="nobody knows whether it is on")), now)
        elif not rule.is_on(write.value) and rule.id in self._on:
            self._count_rest(rule, now)
            self.again(write, now)
        self._count_time(write, now)

    def _count_time(self, write: Write, now: float) -> None:
        """The write's own time runs; of two, the one that ends first."""
        if write.for_s is not None:
            earlier = self._timers.at((write.device, "for_s"))
            at = now + write.for_s
            self._timers.set((write.device, "for_s"), at if earlier is None else min(at, earlier))

    def _goes_on(self, rule: OutputRule, now: float) -> None:
        self._on.add(rule.id)
        if rule.max_on_s is not None and (rule.id, "max_on_s") not in self._timers:
            self._timers.set((rule.id, "max_on_s"), now + rule.max_on_s)

    def _goes_off(self, rule: OutputRule, now: float) -> None:
        self._timers.cancel((rule.id, "max_on_s"))
        self._count_rest(rule, now)
        self._on.discard(rule.id)

    def _count_rest(self, rule: OutputRule, now: float) -> None:
        if rule.id in self._on and rule.min_off_s is not None:
            self._rests[rule.id] = now + rule.min_off_s


def unknown_device(device: str, what: str, known: Sequence[str]) -> ToolError:
    """The error for a device that is no *what* (output, input, sensor)."""
    there = f"there are: {', '.join(known)}" if known else f"this node has no {what}s"
    return misuse(f"there is no {what} {device!r}{suggestion(device, tuple(known))}; {there}")


def value_words(value: OutputValue) -> str:
    """``on``, ``off``, ``40 %`` or ``#ff8800``; 0 percent is off."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value == 0:
        return "on" if value else "off"
    return f"{value:.4g} %"


def _check_time(rule: OutputRule, wanted: OutputValue, for_s: float) -> None:
    if not (math.isfinite(for_s) and MIN_FOR_S <= for_s <= MAX_FOR_S):
        raise misuse(f"{rule.name}: a time is {MIN_FOR_S:g} to {MAX_FOR_S:.0f} seconds, not {for_s:g}")
    if wanted == rule.safe:
        state = value_words(rule.safe)
        raise misuse(f"{rule.name} cannot be {state} for a time: {state} is what it goes back to; leave out the time")


def _rivals_of(device: str, interlocks: Sequence[Sequence[str]]) -> tuple[str, ...]:
    others = (other for group in interlocks if device in group for other in group if other != device)
    return tuple(dict.fromkeys(others))


def _never(one: OutputRule, other: OutputRule) -> str:
    return f"{one.name} and {other.name} must never be on together"


def _unsafe(rule: OutputRule, why: str, *, what: str = "turned on", retryable: bool = False) -> ToolError:
    return ToolError(f"{rule.name} was not {what}: {why}", code=ErrorCode.UNSAFE, retryable=retryable)
