"""The promises of docs/protocol.md, checked from outside while a mesh runs on the bench."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from pibot_mesh.master.events import Record, Refusal
from pibot_mesh.protocol.messages import Plan, Reply, State, StepResult, Task
from pibot_mesh.testing.world import NodeProcess


class Promises:
    """What was said and done. Each method raises AssertionError, with seed and time, where a promise is broken."""

    def __init__(self, seed: int, now: Callable[[], float]) -> None:
        self.plans: dict[str, Plan | Refusal] = {}
        """What was to be done, by request."""
        self.replies: dict[str, list[Reply]] = defaultdict(list)
        """Every reply that the broker was given, by request."""
        self.starts: Counter[tuple[str, int]] = Counter()
        """How often the tool of each task was started, by task and attempt."""
        self._seed = seed
        self._now = now

    def check(self, is_kept: bool, promise: str) -> None:
        """Whether it is kept."""
        assert is_kept, f"seed {self._seed}, at {self._now():.2f} s: {promise}"

    def note_reply(self, reply: Reply, record: Record | None) -> None:
        """A reply is said: the ledger has it (*record*), and there was no other."""
        self.check(record is not None and record.reply == reply, f"the reply to {reply.id} was said before it stood")
        self.replies[reply.id].append(reply)
        self.check(all(old == reply for old in self.replies[reply.id]), f"{reply.id} has two different replies")

    def note_start(self, node: NodeProcess, task: Task) -> None:
        """A tool is started: for the first time, in time, stored before, and not while the emergency stop holds."""
        self.starts[task.id, task.attempt] += 1
        self.check(self.starts[task.id, task.attempt] == 1, f"attempt {task.attempt} of {task.id} ran twice")
        if task.retry == "never":
            ran = sum(count for (name, _), count in self.starts.items() if name == task.id)
            self.check(ran == 1, f"{task.id}, which may run once, ran {ran} times")
        age = self._now() - node.delivered[task.id]
        self.check(age < task.ttl_s, f"{task.id} was started {age:.2f} s after it came")
        entry = node.entries.get(task.id)
        self.check(entry is not None and entry.phase == "running", f"{task.id} was started before it was stored")
        is_stopped = node.is_stopped and node.tools[task.tool or ""].spec.effect == "actuate"
        self.check(not is_stopped, f"{task.id} was started while the emergency stop held")

    def check_ledger(self, ledger: Mapping[str, Record]) -> None:
        """All is over: every request that was accepted has its reply, and the reply is true."""
        for request_id, record in ledger.items():
            self.check(record.reply is not None, f"{request_id} was accepted and has no reply")
            self.check(bool(self.replies[request_id]), f"the reply to {request_id} was never said")
            self.check(record.is_sent, f"the reply to {request_id} was never taken by the broker")
            for step in record.steps:
                self._check_truth(step)

    def _check_truth(self, step: StepResult) -> None:
        if step.task is None:
            return
        is_started = any(name == step.task for name, _ in self.starts)
        if step.state is State.COMPLETED:
            self.check(is_started, f"{step.task} is said to be completed and was never started")
        if is_started and self._is_never(step.task):
            is_admitted = step.state in (State.COMPLETED, State.UNKNOWN) or bool(step.tool_calls)
            self.check(is_admitted, f"{step.task} was started and is said to be {step.state}")

    def _is_never(self, task: str) -> bool:
        request, step_id = task.rsplit("-", 1)
        plan = self.plans[request]
        return isinstance(plan, Plan) and any(step.id == step_id and step.tool == "press" for step in plan.steps)
