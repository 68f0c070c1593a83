"""The promises of docs/protocol.md, checked from outside at every step of a simulated world."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pibot_mesh.master import events as m
from pibot_mesh.master.plans import task_id
from pibot_mesh.protocol.messages import Reply, State, StepResult
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.node_promises import NodePromises
from pibot_mesh.testing.simulation.tools import BY_NAME

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.ledger import SimulatedLedger
    from pibot_mesh.testing.simulation.master import MasterProcess


class Promises(NodePromises):
    """All of them: what masters were told, stored and said, and what the mesh owes in the end."""

    def __init__(self, nature: Nature, ledger: SimulatedLedger) -> None:
        super().__init__(nature, ledger)
        self._performs: dict[tuple[str, int], str] = {}
        self._latest: dict[str, dict[str, m.Record]] = defaultdict(dict)
        self._asked: dict[str, list[str]] = defaultdict(list)
        self._stored: set[tuple[str, int]] = set()

    def master_starts(self, master: MasterProcess, remembered: Iterable[m.Record]) -> None:
        """A new process, that knows what the ledger gave it."""
        self._latest[master.name] = {record.request.id: record for record in remembered}

    def taken_over(self, master: MasterProcess, records: Iterable[m.Record]) -> None:
        """*master* goes on with the requests of another."""
        for record in records:
            self.nature.tally["request taken over"] += 1
            self.nature.note(master.name, "takes over", record.request.id, record)

    def before_master(self, master: MasterProcess, event: m.MasterInput) -> StepResult | None:
        """The step that a result is for, as the core has it."""
        if isinstance(event, m.TakenOver):
            self._latest[master.name].update((record.request.id, record) for record in event.records)
        if isinstance(event, m.TaskResultSeen):
            return self._step(master, event.result.request, event.result.id)
        return None

    def after_master(
        self, master: MasterProcess, event: m.MasterInput, effects: Sequence[m.MasterEffect], before: StepResult | None
    ) -> None:
        """What the core decided about *event* agrees with what it knew."""
        self.master_decides(master, effects)
        if not isinstance(event, m.TaskResultSeen) or before is None or before.state.is_terminal:
            return
        result = event.result
        self.nature.note(master.name, f"hears result of {event.node}", result.id, result)
        after = self._step(master, result.request, result.id, before.step)
        is_taken = after != before
        if result.attempt < before.attempt:
            self.check(not is_taken, f"the result of an older attempt ({result.attempt}) was taken", result.id)
        if before.node != event.node:
            self.check(not is_taken, f"a result of {event.node} was taken for one of {before.node}", result.id)

    def master_decides(self, master: MasterProcess, effects: Sequence[m.MasterEffect]) -> None:
        """How far the requests are, as the core has it."""
        latest = self._latest[master.name]
        for effect in effects:
            if isinstance(effect, m.Save):
                latest[effect.record.request.id] = effect.record

    def _step(self, master: MasterProcess, request: str, task: str, step: str = "") -> StepResult | None:
        record = self._latest[master.name].get(request)
        steps = record.steps if record is not None else ()
        return next((one for one in steps if one.task == task or one.step == step), None)

    def master_performs(self, master: MasterProcess, effect: m.MasterEffect) -> None:
        """What *effect* stands on is in the ledger; and no other master does the same."""
        self.check(master.core.open_requests <= self._most_open(master), "more requests are open than may be")
        request = m.request_of(effect)
        record = self.ledger.records.get(request or "")
        if record is not None and self.ledger.is_shared and not isinstance(effect, m.SendReply):
            self._check_epoch(master, record)
        match effect:
            case m.SendEvent(event):
                self.check(record is not None, f"{event.type} was said before it was stored", event.run)
                self.accepted.setdefault(event.run, self.nature.now)
                if event.type == "approval_required" and "task" not in event.data:
                    self._asked[task_id(event.run, event.data["step"])].append(event.data["call"])
            case m.MakePlan(asked):
                self.check(record is not None, "it was planned before it was stored", asked.id)
            case m.SendTask(_, task) | m.RunHere(task):
                is_known = (task.id, task.attempt) in self._stored
                self.check(is_known, "the task was sent before it was stored", task.id)
                if task.tool is not None and BY_NAME[task.tool].approval == "ask":
                    is_approved = not self.approved.isdisjoint(self._asked[task.id])
                    self.check(is_approved, f"{task.tool} was sent, and nobody had approved it", task.id)
            case m.SendForget(node, tasks):
                for task_name in tasks:
                    self._check_forget(node, task_name)

    def stored(self, record: m.Record) -> None:
        """The ledger has *record*, and perhaps a later one that came in the same batch of events."""
        for step in record.steps:
            if step.task is not None:
                self._stored.add((step.task, step.attempt))

    def lost(self, master: MasterProcess, requests: Iterable[str]) -> None:
        """*requests* are another master's."""
        for request_id in requests:
            self._latest[master.name].pop(request_id, None)

    def _most_open(self, master: MasterProcess) -> int:
        """What was taken over comes on top."""
        return master.open_requests if not self.ledger.is_shared else len(self.ledger.records) + 1

    def _check_epoch(self, master: MasterProcess, record: m.Record) -> None:
        request = record.request.id
        held = self._latest[master.name].get(request)
        if held is None:
            return
        other = self._performs.setdefault((request, held.epoch), master.boot)
        self.check(other == master.boot, f"{other} and {master.boot} work on it, both with epoch {held.epoch}", request)

    def _check_forget(self, node: str, task: str) -> None:
        """A result may be forgotten once it is stored, or where nobody waits for one."""
        record = self.ledger.records.get(task.rsplit("-", 1)[0])
        for step in record.steps if record is not None else ():
            if step.task == task and step.node == node:
                self.check(step.state.is_terminal, f"{node} is to forget a result that is not stored", task)

    def replied(self, effect: m.SendReply) -> None:
        """A reply is said: it is stored, true, and the only one."""
        reply, record = effect.reply, self.ledger.records.get(effect.reply.id)
        if not effect.is_final and (record is None or record.reply != reply):
            # Two copies may come at once, the second just when there is room again.
            is_new = reply.id not in self.accepted
            self.check(is_new, f"it was refused ({reply.text}) after it had been accepted", reply.id)
            self.check(reply.state is State.REJECTED, "it is not in the ledger and was not refused", reply.id)
            return
        self.check(record is not None and record.reply == reply, "its reply was said before it stood", reply.id)
        first = self.replies.setdefault(reply.id, reply)
        self.check(first == reply, f"it has two replies: {_words(first)}, and {_words(reply)}", reply.id)
        if first is reply and record is not None:
            self.check_truth(record)

    def check_ended(self, ledger: Mapping[str, m.Record]) -> None:
        """All is over: every request that was accepted has its reply, which was said, and is true."""
        for request_id in self.accepted:
            self.check(request_id in ledger, "it was accepted and is not in the ledger", request_id)
        for request_id, record in ledger.items():
            self.check(record.reply is not None, "it was accepted and has no reply", request_id)
            self.check(request_id in self.replies, "its reply was never said", request_id)
            self.check(record.is_sent, "its reply was never taken by the broker", request_id)
            self.check_truth(record)


def _words(reply: Reply) -> str:
    error = f" ({reply.error.code})" if reply.error is not None else ""
    return f"{reply.state}{error} from {reply.boot}"
