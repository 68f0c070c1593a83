"""The promises of docs/protocol.md that nodes keep, checked from outside at every step of a simulated world."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pibot_mesh.node import events as n
from pibot_mesh.protocol.messages import Result, Task
from pibot_mesh.testing.simulation.deeds import Deeds
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.tools import BY_NAME

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.ledger import SimulatedLedger
    from pibot_mesh.testing.simulation.node import NodeProcess


class NodePromises(Deeds):
    """What nodes were told, stored, said and began. Each method raises BrokenPromise where that may not be."""

    def __init__(self, nature: Nature, ledger: SimulatedLedger) -> None:
        super().__init__(nature, ledger)
        self._arrived: dict[str, dict[str, float]] = defaultdict(dict)
        self._open: dict[str, set[str]] = defaultdict(set)
        self._heard_stop: dict[str, bool] = {}
        self._epochs: dict[str, Counter[str]] = defaultdict(Counter)
        self._attempts: dict[str, Counter[str]] = defaultdict(Counter)
        self._ttl_s: dict[str, float] = {}

    def node_starts(self, node: NodeProcess) -> None:
        """A new process: nothing has arrived, and it obeys whom its journal knows."""
        self._arrived[node.name] = {}
        self._open[node.name] = set()
        self._heard_stop[node.name] = node.journal.is_stopped
        self._epochs[node.name] = Counter(node.journal.epochs)
        self._attempts[node.name] = Counter({name: one.task.attempt for name, one in node.journal.entries.items()})

    def before_node(self, node: NodeProcess, event: n.NodeInput) -> bool:
        """Whether *event* comes too late: from a master, or for an attempt, that is over."""
        match event:
            case n.TaskArrived(task):
                self.nature.note(node.name, "gets task", task.id, task)
                self._ttl_s[task.id] = task.ttl_s
                epochs, attempts = self._epochs[node.name], self._attempts[node.name]
                is_past = 0 < task.epoch < epochs[task.request] or task.attempt < attempts[task.id]
                epochs[task.request] = max(epochs[task.request], task.epoch)
                if is_past:
                    self.nature.tally["stale task refused"] += 1
                return is_past
            case n.ToolEnded():
                self.nature.note(node.name, f"run ended {event.state}", event.task)
        return False

    def after_node(
        self, node: NodeProcess, event: n.NodeInput, at: float, effects: Sequence[n.NodeEffect], is_past: bool
    ) -> None:
        """The queues are bounded, and what came too late has changed nothing. *at* is when *event* came."""
        self._check_stop_is_heard(node, effects)
        if isinstance(event, n.StopSeen):
            self._heard_stop[node.name] = event.is_stopped
        core, card = node.core, node.capacity
        self.check(core.running <= card.running, f"{node.name} runs {core.running} tasks")
        self.check(core.queued <= card.queued, f"{node.name} queues {core.queued} tasks")
        if is_past and isinstance(event, n.TaskArrived):
            is_idle = all(isinstance(effect, n.Note) for effect in effects)
            self.check(is_idle, f"{node.name} obeyed an order that is over", event.task.id)
        self.node_decides(node, at, effects)

    def _check_stop_is_heard(self, node: NodeProcess, effects: Sequence[n.NodeEffect]) -> None:
        if not self._heard_stop[node.name]:
            return
        for effect in effects:
            if isinstance(effect, n.StartTool) and effect.task.tool is not None:
                is_harmless = BY_NAME[effect.task.tool].effect != "actuate"
                self.check(is_harmless, f"{node.name} starts it although it has heard the stop", effect.task.id)

    def node_decides(self, node: NodeProcess, at: float, effects: Sequence[n.NodeEffect]) -> None:
        """How far the tasks are, as the core has it."""
        for effect in effects:
            match effect:
                case n.Save(entry):
                    self.nature.note(node.name, "decides", entry.task.id, effect)
                    self._attempts[node.name][entry.task.id] = entry.task.attempt
                    self._note_arrival(node, entry, at)
                case n.Forgotten(attempts):
                    self.nature.note(node.name, "forgets", next(iter(attempts)), attempts)

    def _note_arrival(self, node: NodeProcess, entry: n.Entry, at: float) -> None:
        """A run may begin a moment after its task has ended: the journal was slow, and told it to end too late."""
        name, is_open = entry.task.id, self._open[node.name]
        if entry.phase == "ended":
            is_open.discard(name)
        elif name not in is_open:
            is_open.add(name)
            self._arrived[node.name][name] = at

    def node_performs(self, node: NodeProcess, effect: n.NodeEffect) -> None:
        """What *effect* stands on is in the journal."""
        entries = node.journal.entries
        match effect:
            case n.StartTool(task):
                entry = entries.get(task.id)
                is_stored = entry is not None and (entry.phase == "running" or entry.task.attempt > task.attempt)
                self.check(is_stored or _has_ended(entry), "it was started before it was stored", task.id)
            case n.LetCall(task_name, _):
                entry = entries.get(task_name)
                is_stored = entry is not None and bool(entry.calls)
                self.check(is_stored or _has_ended(entry), "a call began before it was stored", task_name)
            case n.SendResult(result):
                self.check(_is_stored(node, result), "its result was said before it was stored", result.id)
            case n.SendEvent(task_name, told) if told.type == "task_accepted":
                is_known = task_name in entries or task_name in node.journal.forgotten
                self.check(is_known, "it was accepted before it was stored", task_name)

    def node_runs(self, node: NodeProcess, task: Task, looked_at: float) -> None:
        """A tool or an agent of *node* begins: in time, and not while the emergency stop holds.

        *looked_at* is when the node last looked at its clock: it may have been frozen since.
        """
        self.started(node, task)
        self._check_in_time(node, task, looked_at)
        self._check_stop(node, task.tool, task.id)

    def _check_in_time(self, node: NodeProcess, task: Task, looked_at: float) -> None:
        arrived_at = self._arrived[node.name].get(task.id)
        self.check(arrived_at is not None, "it was started and had not arrived", task.id)
        assert arrived_at is not None
        age_s = looked_at - arrived_at
        self.check(age_s < self._ttl_s[task.id], f"it was started {age_s:.3f} s after it came", task.id)

    def _check_stop(self, node: NodeProcess, tool: str | None, task: str) -> None:
        is_held = node.is_stop_seen and tool is not None and BY_NAME[tool].effect == "actuate"
        self.check(not is_held, f"{tool} was started on {node.name} while the emergency stop held", task)

    def began_call(self, node: NodeProcess, task: Task, call: str, tool: str) -> None:
        """An agent's call begins."""
        self.nature.note(node.name, f"agent calls {tool}", task.id, call)
        self._check_stop(node, tool, task.id)
        if BY_NAME[tool].effect != "read":
            entry = node.journal.entries.get(task.id)
            calls = entry.result.tool_calls if entry and entry.result else entry.calls if entry else ()
            is_stored = any(one.name == tool for one in calls)
            self.check(is_stored, f"{tool} was called before that was stored", task.id)
        if BY_NAME[tool].approval == "ask":
            self.check(self.is_granted(call), f"{tool} was called and nobody had approved it", task.id)


def _has_ended(entry: n.Entry | None) -> bool:
    """In the same batch of events the run may have been ended before it began."""
    return entry is not None and entry.phase == "ended"


def _is_stored(node: NodeProcess, result: Result) -> bool:
    """Whether the journal has it; or what came behind it in the same batch of events."""
    entry = node.journal.entries.get(result.id)
    if entry is None:
        return node.journal.forgotten.get(result.id, 0) >= result.attempt
    return entry.result == result or entry.task.attempt > result.attempt
