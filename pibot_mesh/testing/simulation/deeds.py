"""What is done in a simulated world: once where it may be done once, with approval, and told as it was."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pibot_mesh.master import events as m
from pibot_mesh.master.plans import task_id
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.messages import Reply, State, StepResult, Task
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.tools import BY_NAME

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.ledger import SimulatedLedger
    from pibot_mesh.testing.simulation.process import Process

_ADMITTED: Final = frozenset({State.COMPLETED, State.UNKNOWN})


class BrokenPromise(AssertionError):
    """A promise was broken. *subject* is the request or task that it was broken for, *promise* what is not true."""

    def __init__(self, promise: str, subject: str, now: float) -> None:
        super().__init__(f"at {now:.3f} s: {subject}: {promise}" if subject else f"at {now:.3f} s: {promise}")
        self.promise = promise
        self.subject = subject
        self.now = now


@dataclass(frozen=True, slots=True)
class _Start:
    """A run of a task: by whom, and which attempt it was when it began."""

    machine: str
    attempt: int
    may_repeat: bool
    is_read: bool
    """Whether it can change nothing."""


class Deeds:
    """Whatever tools and agents did. Each method raises BrokenPromise where that may not be."""

    def __init__(self, nature: Nature, ledger: SimulatedLedger) -> None:
        self.replies: dict[str, Reply] = {}
        """The one reply of each request."""
        self.runs: Counter[str] = Counter()
        """How often the run of each task has begun."""
        self.accepted: dict[str, float] = {}
        """When each request was said to be accepted."""
        self.approved: set[str] = set()
        """The calls that a person has said yes to."""
        self.nature = nature
        self.ledger = ledger
        self._starts: dict[str, list[_Start]] = defaultdict(list)
        self._effects: Counter[tuple[str, str, int, str]] = Counter()
        self._did: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._by_request: dict[str, dict[str, None]] = defaultdict(dict)
        self._scrapped: set[str] = set()
        self._came: dict[str, float] = {}
        self._granted: set[str] = set()

    def check(self, is_kept: bool, promise: str, subject: str = "") -> None:
        """Whether it is kept."""
        if not is_kept:
            raise BrokenPromise(promise, subject, self.nature.now)

    def started(self, process: Process[Any, Any], task: Task, looked_at: float = 0.0) -> None:  # noqa: ARG002
        """A tool or an agent begins with *task*: once, where it may run once, and once in each attempt."""
        machine = getattr(process, "machine", MASTER)
        self.nature.note(process.name, "RUNS", task.id, task)
        self.runs[task.id] += 1
        self._by_request[task.request][task.id] = None
        starts, may_repeat = self._starts[task.id], _may_repeat(task)
        same = [one for one in starts if one.machine == machine]
        if not may_repeat:
            self.check(not same, f"it may run once, and ran twice on {machine}", task.id)
        if machine != MASTER:
            is_new = all(one.attempt != task.attempt for one in same)
            self.check(is_new, f"attempt {task.attempt} ran twice", task.id)
        starts.append(_Start(machine, task.attempt, may_repeat, _is_read(task)))

    def granted(self, task: Task, call: str) -> None:
        """An agent is told that a person has approved this call of *task*."""
        self.check(call in self.approved, f"the call {call} is granted, and nobody has approved it", task.id)
        self._granted.add(call)

    def is_granted(self, call: str) -> bool:
        """Whether an agent was told so."""
        return call in self._granted

    def took_effect(self, process: Process[Any, Any], task: Task, tool: str, call: str = "") -> None:
        """Something has happened in the world: once."""
        machine = getattr(process, "machine", MASTER)
        self.nature.note(process.name, "EFFECT", task.id, tool)
        key = (machine, task.id, task.attempt, call)
        self._effects[key] += 1
        if BY_NAME[tool].effect == "read":
            return
        self.check(self._effects[key] == 1, f"{tool} took effect twice in attempt {task.attempt}", task.id)
        self._did[task.id].append((machine, tool))
        reply = self.replies.get(task.request)
        record = self.ledger.records.get(task.request)
        if reply is None or record is None or _may_repeat(task):
            return
        for step in record.steps:
            if task_id(task.request, step.step) == task.id:
                self._check_step(task.id, step)

    def has_effect(self, machine: str, task: Task) -> bool:
        """Whether this attempt of *task* has taken effect on *machine*."""
        return self._effects[machine, task.id, task.attempt, ""] > 0

    def swapped(self, machine: str, by: str) -> None:
        """What a machine did, and told nobody, is not known any more; and the new one knows no older task."""
        self._scrapped.add(machine)
        self._came[by] = self.nature.now

    def plug_pulled(self, machine: str) -> None:
        """What only reads is not synced before it begins, and may be done again."""
        for starts in self._starts.values():
            for index, one in enumerate(starts):
                if one.is_read and one.machine == machine:
                    starts[index] = replace(one, machine="")

    def check_truth(self, record: m.Record) -> None:
        """What the reply says of each step is what happened."""
        if record.request.mode == "plan_only":
            self.check(not self._by_request[record.request.id], "only its plan was to be shown", record.request.id)
        for step in record.steps:
            self._check_step(task_id(record.request.id, step.step), step)

    def _check_step(self, task: str, step: StepResult) -> None:
        starts = self._starts.get(task, [])
        if step.state is State.COMPLETED:
            self.check(bool(starts), "it is said to be completed and was never started", task)
        did = Counter(tool for machine, tool in self._did.get(task, ()) if self._must_be_known(machine, task))
        if not did or starts[-1].may_repeat:
            return
        is_admitted = step.state in _ADMITTED or not did - Counter(call.name for call in step.tool_calls)
        self.check(is_admitted, f"it did {', '.join(did)} and is said to be {step.state}", task)

    def _must_be_known(self, machine: str, task: str) -> bool:
        accepted_at = self.accepted.get(task.rsplit("-", 1)[0], 0.0)
        return machine not in self._scrapped and self._came.get(machine, 0.0) <= accepted_at


def _tools_of(task: Task) -> Sequence[str]:
    """The tools that *task* may use, by what the mesh can do, not by what its sender says of them."""
    return (task.tools or list(BY_NAME)) if task.kind == "agent" else [task.tool or ""]


def _may_repeat(task: Task) -> bool:
    return all(BY_NAME[tool].safe_to_retry for tool in _tools_of(task))


def _is_read(task: Task) -> bool:
    return all(BY_NAME[tool].effect == "read" for tool in _tools_of(task))
