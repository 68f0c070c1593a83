"""Masters, nodes and ledgers that each break one promise: the simulation must see every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pibot_mesh.errors import StoreError
from pibot_mesh.master import events as m
from pibot_mesh.master.core import MasterCore
from pibot_mesh.master.open_request import OpenRequest
from pibot_mesh.master.task_making import TaskMaking
from pibot_mesh.node import events as n
from pibot_mesh.node.core import NodeCore
from pibot_mesh.protocol.messages import Control, Result, State, Step, StepResult, Task, WireError
from pibot_mesh.testing.simulation.ledger import SharedLedger
from pibot_mesh.testing.simulation.master import MasterProcess
from pibot_mesh.testing.simulation.node import MemoryJournal, NodeProcess
from pibot_mesh.testing.simulation.world import Parts


@dataclass(frozen=True)
class Mutation:
    """One broken part, and how many masters it takes to notice."""

    parts: Parts
    masters: int = 1


def _node(name: str, core: type[NodeCore] = NodeCore, journal: type[MemoryJournal] = MemoryJournal) -> Parts:
    return Parts(node=type(name, (NodeProcess,), {"make_core": core, "make_journal": journal}))


def _master(name: str, core: type[MasterCore]) -> Parts:
    return Parts(master=type(name, (MasterProcess,), {"make_core": core}))


# Nodes


class DoesACopyAgain(NodeCore):
    """A task whose result is known is run again where a copy of it comes."""

    def _task_arrived(self, task: Task, is_retained: bool, now: float) -> list[n.NodeEffect]:
        if task.id in self._entries and task.id not in self._runs:
            del self._entries[task.id]
        return super()._task_arrived(task, is_retained, now)


class ForgetsWhatItForgot(NodeCore):
    """Nothing is known of a task once its result is taken."""

    def _task_arrived(self, task: Task, is_retained: bool, now: float) -> list[n.NodeEffect]:
        self._forgotten.clear()
        return super()._task_arrived(task, is_retained, now)


class ObeysOlderAttempts(NodeCore):
    """A task of an older attempt is taken for one of a new attempt."""

    def _task_arrived(self, task: Task, is_retained: bool, now: float) -> list[n.NodeEffect]:
        entry = self._entries.get(task.id)
        latest = entry.task.attempt if entry is not None else self._forgotten.get(task.id, 0)
        if task.attempt < latest:
            task = replace(task, attempt=latest + 1)
        return super()._task_arrived(task, is_retained, now)


class IgnoresTheEpoch(NodeCore):
    """Orders of a master that lost the request are obeyed."""

    def _task_arrived(self, task: Task, is_retained: bool, now: float) -> list[n.NodeEffect]:
        return super()._task_arrived(replace(task, epoch=0), is_retained, now)


class IgnoresTheTimeToLive(NodeCore):
    """A task is begun however old it is."""

    def _task_arrived(self, task: Task, is_retained: bool, now: float) -> list[n.NodeEffect]:
        return super()._task_arrived(replace(task, ttl_s=600_000.0), is_retained, now)


class IgnoresTheStop(NodeCore):
    """The emergency stop is stored, and nothing else comes of it."""

    def _tool_refusal(self, task: Task) -> WireError | None:
        held, self._is_stopped = self._is_stopped, False
        refusal = super()._tool_refusal(task)
        self._is_stopped = held
        return refusal


class QueuesForEver(NodeCore):
    """However much waits, more is taken."""

    def _refusal(self, task: Task) -> WireError | None:
        return self._tool_refusal(task)


class LetsCallsUnwritten(NodeCore):
    """An agent's call is let begin, and is not written down."""

    def _call_begun(self, begun: n.CallBegun, now: float) -> list[n.NodeEffect]:
        return [effect for effect in super()._call_begun(begun, now) if not isinstance(effect, n.Save)]


class SaysInterruptedIsCanceled(NodeCore):
    """After a restart a task that was under way is said to be cancelled, as if nothing had been done."""

    def _cut_off(self, entry: n.Entry, settled: Any) -> list[n.NodeEffect]:
        return self._end(entry, State.CANCELED, now=0.0, calls=())


class WritesNoBeginning(MemoryJournal):
    """The journal does not say that a task runs."""

    def write_one(self, effect: n.NodeEffect) -> None:
        if not (isinstance(effect, n.Save) and effect.entry.phase == "running"):
            super().write_one(effect)


class WritesNoEnd(MemoryJournal):
    """The journal does not say how a task ended."""

    def write_one(self, effect: n.NodeEffect) -> None:
        if not (isinstance(effect, n.Save) and effect.entry.phase == "ended"):
            super().write_one(effect)


class WritesNothingForgotten(MemoryJournal):
    """After a restart nothing is known of the tasks whose results were taken."""

    def read(self) -> n.Remembered:
        return replace(super().read(), forgotten={})


class ActsBeforeItWrites(NodeProcess):
    """Effects first, then the journal."""

    def write(self, effects: Sequence[n.NodeEffect]) -> Sequence[n.NodeEffect]:
        for effect in effects:
            self.perform(effect)
        super().write(effects)
        return ()


# Masters


class TakesEachCopyForNew(MasterCore):
    """A request whose id is known is done again."""

    def _find(self, event: m.RequestArrived, now: float) -> m.Record | None:
        return None


class TakesOldResults(MasterCore):
    """The attempt of a result is not looked at."""

    def _result_seen(self, node: str, result: Result, now: float) -> list[m.MasterEffect]:
        found = self._open_step(node, result.id)
        if found is not None:
            result = replace(result, attempt=found[1].attempt)
        return super()._result_seen(node, result, now)


class TakesResultsOfOthers(MasterCore):
    """Whichever node says how a task ended is believed."""

    def _open_step(self, node: str, task: str) -> tuple[OpenRequest, StepResult] | None:
        if task not in self._tasks:
            return None
        opened = self._by_task(task)
        return opened, self._step_of(opened, task)

    def _result_seen(self, node: str, result: Result, now: float) -> list[m.MasterEffect]:
        found = self._open_step(node, result.id)
        if found is not None and found[1].node != node:
            result = replace(result, attempt=found[1].attempt)
        return super()._result_seen(node, result, now)


class HasForgottenWhatItDidNotStore(MasterCore):
    """The node is told to forget a result that the ledger does not have yet."""

    def _result_seen(self, node: str, result: Result, now: float) -> list[m.MasterEffect]:
        effects = super()._result_seen(node, result, now)
        kept = [effect for effect in effects if not isinstance(effect, m.Save)]
        return [m.SendForget(node, (result.id,)), *kept] if node != "master" else effects


class _RepeatsAll(TaskMaking):
    def task(self, opened: OpenRequest, current: StepResult) -> Task:
        return replace(super().task(opened, current), retry="safe")


class RepeatsWhatMayRunOnce(MasterCore):
    """What may run once is tried again after an interruption."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**{**parts, "remembered": ()})
        making = self._making
        self._making = _RepeatsAll(self.pool, parts["own_card"], (), making.ask_within_s)
        for record in parts.get("remembered", ()):
            self._hold(record, 0.0)


class _AsksNobody(TaskMaking):
    def must_ask(self, node: str, step: Step) -> bool:
        return False


class AsksNobody(MasterCore):
    """A call that needs a person's word is sent without it."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**{**parts, "remembered": ()})
        self._making = _AsksNobody(self.pool, parts["own_card"], (), self._making.ask_within_s)
        for record in parts.get("remembered", ()):
            self._hold(record, 0.0)


class AnswersAgainAfterARestart(MasterCore):
    """A reply that was stored, and perhaps said, is made again after a restart."""

    def _hold(self, record: m.Record, now: float) -> None:
        super()._hold(replace(record, reply=None), now)


class SendsUnstored(MasterCore):
    """Tasks go out before the ledger has them."""

    def _stored(self, opened: OpenRequest, effects: list[m.MasterEffect]) -> list[m.MasterEffect]:
        if any(isinstance(effect, m.SendTask) for effect in effects):
            return effects
        return super()._stored(opened, effects)


class SendsUnderANewId(MasterCore):
    """A task that is sent again has another id."""

    def _send(self, opened: OpenRequest, task: str, now: float) -> list[m.MasterEffect]:
        tries = opened.tries.get(task, 0)
        again = f"-again{tries}" if tries else ""
        return [
            m.SendTask(effect.node, replace(effect.task, id=f"{task}{again}"))
            if isinstance(effect, m.SendTask)
            else effect
            for effect in super()._send(opened, task, now)
        ]


class SaysLostIsFailed(MasterCore):
    """Of what was sent, and may have been done, it is said that it failed."""

    def _lost(self, opened: OpenRequest, current: StepResult, error: WireError) -> StepResult:
        return replace(current, state=State.FAILED, error=error)


class SaysBeforeItWrites(MasterProcess):
    """Effects first, then the ledger."""

    def write(self, effects: Sequence[m.MasterEffect]) -> Sequence[m.MasterEffect]:
        for effect in effects:
            self.perform(effect)
        super().write(effects)
        return ()


class LosesWhatItCannotWrite(MasterProcess):
    """While the ledger cannot be written it goes on without."""

    def write(self, effects: Sequence[m.MasterEffect]) -> Sequence[m.MasterEffect]:
        try:
            return super().write(effects)
        except StoreError:
            return effects


class KeepsCanceledTasks(MasterCore):
    """A request that is cancelled, and whose nodes do not answer, stays open for ever."""

    def _close_canceled(self, opened: OpenRequest, now: float) -> list[m.MasterEffect]:
        self._timers.cancel(("request", opened.record.request.id))
        return []

    def _tell(self, opened: OpenRequest, step: StepResult, control: Control) -> m.SendTaskControl:
        return replace(super()._tell(opened, step, control), task="lost")


class AnswersFromMemory(MasterProcess):
    """A copy of a request gets the reply that the core holds, though another master's may stand in the ledger."""

    def _held(self, request_id: str) -> m.Record | None:
        return self.core.held(request_id)


# Ledgers


class RaisesNoEpoch(SharedLedger):
    """Who takes a request over has it with the epoch of the one before."""

    def raised(self, epoch: int) -> int:
        return epoch


class LetsAllWrite(SharedLedger):
    """A master that has lost a request may write it all the same."""

    def is_owner(self, owner: str, epoch: int, boot: str, written: int) -> bool:
        return True


MUTATIONS: Final[dict[str, Mutation]] = {
    "a node does a copy again": Mutation(_node("A", DoesACopyAgain)),
    "a node forgets what it forgot": Mutation(_node("B", ForgetsWhatItForgot)),
    "a node forgets that at a restart": Mutation(_node("C", journal=WritesNothingForgotten)),
    "a node obeys older attempts": Mutation(_node("D", ObeysOlderAttempts)),
    "a node ignores the epoch": Mutation(_node("E", IgnoresTheEpoch), masters=2),
    "a node ignores the time to live": Mutation(_node("F", IgnoresTheTimeToLive)),
    "a node ignores the emergency stop": Mutation(_node("G", IgnoresTheStop)),
    "a node queues for ever": Mutation(_node("H", QueuesForEver)),
    "a node lets calls begin unwritten": Mutation(_node("I", LetsCallsUnwritten)),
    "a node calls interrupted canceled": Mutation(_node("J", SaysInterruptedIsCanceled)),
    "a journal without beginnings": Mutation(_node("K", journal=WritesNoBeginning)),
    "a journal without ends": Mutation(_node("L", journal=WritesNoEnd)),
    "a node acts before it writes": Mutation(Parts(node=ActsBeforeItWrites)),
    "a master takes each copy for new": Mutation(_master("N", TakesEachCopyForNew)),
    "a master takes results of older attempts": Mutation(_master("O", TakesOldResults)),
    "a master takes results of other nodes": Mutation(_master("P", TakesResultsOfOthers)),
    "a master has forgotten what it did not store": Mutation(_master("Q", HasForgottenWhatItDidNotStore)),
    "a master repeats what may run once": Mutation(_master("R", RepeatsWhatMayRunOnce)),
    "a master asks nobody": Mutation(_master("S", AsksNobody)),
    "a master answers again after a restart": Mutation(_master("T", AnswersAgainAfterARestart)),
    "a master sends what it did not store": Mutation(_master("U", SendsUnstored)),
    "a master sends again under a new id": Mutation(_master("V", SendsUnderANewId)),
    "a master calls lost failed": Mutation(_master("W", SaysLostIsFailed)),
    "a master speaks before it writes": Mutation(Parts(master=SaysBeforeItWrites)),
    "a master goes on without its ledger": Mutation(Parts(master=LosesWhatItCannotWrite)),
    "a master keeps cancelled requests": Mutation(_master("Z", KeepsCanceledTasks)),
    "a master answers from memory": Mutation(Parts(master=AnswersFromMemory), masters=2),
    "a ledger raises no epoch": Mutation(Parts(shared_ledger=RaisesNoEpoch), masters=2),
    "a ledger lets all write": Mutation(Parts(shared_ledger=LetsAllWrite), masters=2),
}
