"""A master in a simulated world: the real core, and a ledger, a planner and a connection that are not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pibot_mesh.errors import ErrorCode, StoreError
from pibot_mesh.master import events as m
from pibot_mesh.master.books import KEEP_UP_S
from pibot_mesh.master.core import MasterCore
from pibot_mesh.master.pool import MASTER, Pool
from pibot_mesh.protocol.messages import (
    Control,
    Limits,
    NodeCard,
    Plan,
    Reply,
    Request,
    State,
    Usage,
    WireError,
)
from pibot_mesh.protocol.topics import DELTAS, MASTER_READS, Address, Kind
from pibot_mesh.testing.simulation.client import Client
from pibot_mesh.testing.simulation.ledger import SimulatedLedger
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.network import Broker, Message
from pibot_mesh.testing.simulation.own_work import OwnRun
from pibot_mesh.testing.simulation.process import Process
from pibot_mesh.testing.simulation.tools import OWN_SPECS

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.promises import Promises

REQUEST_TIMEOUT_S: Final = 60.0
ASK_WITHIN_S: Final = 20.0
BUDGET: Final = Limits(50, 100, 200_000)


class MasterProcess(Process[m.MasterInput, m.MasterEffect]):
    """One master, from one start to the next. *plans* are what its planner makes of a request's text."""

    core: MasterCore
    make_core: type[MasterCore] = MasterCore

    def __init__(
        self,
        nature: Nature,
        broker: Broker,
        name: str,
        promises: Promises,
        *,
        ledger: SimulatedLedger,
        plans: Mapping[str, Plan | m.Refusal],
        open_requests: int,
    ) -> None:
        super().__init__(nature, broker, name)
        self.promises = promises
        self.ledger = ledger
        self.open_requests = open_requests
        self.own_runs: dict[str, OwnRun] = {}
        self.pool = Pool()
        self.boot = ""
        self._plans = plans

    def make(self) -> Sequence[m.MasterEffect]:
        self.boot = f"{self.name}-{self.life}"
        self.own_runs = {}
        self.pool = Pool()
        try:
            remembered = self.ledger.keep_up(self.boot)
        except StoreError:
            self.later(0.0, self.die)  # it cannot start without its ledger, and is started again
            remembered = []
        self.core = self.make_core(
            boot=self.boot,
            own_card=NodeCard(MASTER, self.boot, "1", tools=OWN_SPECS, agent=True),
            answer=lambda _, results: " ".join(result.state for result in results),
            may_reply_to=lambda _: True,
            request_timeout_s=REQUEST_TIMEOUT_S,
            open_requests=self.open_requests,
            jitter=random.Random(self.nature.chance.getrandbits(32)),
            budget=BUDGET,
            ask_within_s=ASK_WITHIN_S,
            model="m",
            is_shared=self.ledger.is_shared,
            pool=self.pool,
            remembered=remembered,
            wall=self.wall,
        )
        client_id = self.boot if self.ledger.is_shared else MASTER
        status = Address(Kind.MASTER_STATUS)
        self.client = Client(self.nature, self.broker, self, client_id, listen=MASTER_READS, will=status)
        if self.ledger.is_shared:
            self.later(KEEP_UP_S, self._keep_up)
        self.promises.master_starts(self, remembered)
        return self.core.start(self.mono)

    def die(self, *, is_plug: bool = False) -> None:
        """As any process; the database sees a killed one at once, and one without power when its lease is over."""
        if self.is_up and not is_plug:
            self.ledger.leave(self.boot)
        super().die(is_plug=is_plug)

    def forget_unsynced(self) -> None:
        """Records are synced."""

    # In

    def connected(self) -> None:
        self.post(m.Connected(), is_own=True)

    def disconnected(self) -> None:
        self.post(m.Disconnected(), is_own=True)

    def received(self, message: Message) -> None:
        address = message.address

        def then() -> None:
            self.client.ack(message)

        match address.kind:
            case Kind.REQUEST if self.ledger.is_shared:
                self.later(self.nature.between(0.001, 0.02), self._look_up, message, then)
            case Kind.REQUEST:
                self._let_in(message, then, self.ledger.find)
            case Kind.REQUEST_CONTROL:
                self.post(m.RequestControlled(address.id, message.content, message.is_retained), then)
            case Kind.LLM_REQUEST:
                self._ask_model(address.node, message.content[0])
                then()
            case _:
                self.post(_read(message), then)

    def _ask_model(self, node: str, task: str) -> None:
        """As the model gateway does: for an open task, within its budget, and counted when the answer is there."""
        left = self.core.tokens_left(node, task)
        if left is not None and left > 0:
            used = m.ModelUsed(node, task, Usage(200, 0, 40))
            self.later(self.nature.between(0.05, 2.0), self._post_own, used)

    def _look_up(self, message: Message, then: Callable[[], None]) -> None:
        self._let_in(message, then, self.ledger.find)

    def _let_in(self, message: Message, then: Callable[[], None], find: Callable[[str], m.Record | None]) -> None:
        """As `pibot_mesh.master.door.Door` does."""
        content = message.content
        is_plain = not isinstance(content, Request)
        request = Request(f"p{self.nature.chance.getrandbits(32)}", content) if is_plain else content
        if is_plain and not self.ledger.is_leader(self.boot):
            then()
            return
        known = self._held(request.id)
        why = None if known is not None else self.stuck
        try:
            known = known or find(request.id)
        except StoreError as error:
            why = error
        if known is None and why is not None:
            self._not_storable(request, is_plain, why)
            then()
            return
        origin = m.Origin(is_plain, delivery=message.mid if is_plain else None)
        self.post(m.RequestArrived(request, origin, message.is_retained, message.is_copy, known), then)

    def _held(self, request_id: str) -> m.Record | None:
        """A reply counts where no other master can keep it out of the ledger."""
        record = self.core.held(request_id)
        return None if record is not None and record.reply is not None and self.ledger.is_shared else record

    def _not_storable(self, request: Request, is_plain: bool, why: StoreError) -> None:
        if self.ledger.is_shared and not is_plain:
            return
        error = WireError(ErrorCode.STORAGE, f"nothing can be accepted now: {why}", retryable=True)
        self._send_reply(
            m.SendReply(Reply(request.id, State.REJECTED, error.message, error=error), m.Origin(), None, False)
        )

    def decide(self, event: m.MasterInput, at: float) -> Sequence[m.MasterEffect]:
        before = self.promises.before_master(self, event)
        effects = super().decide(event, at)
        self.promises.after_master(self, event, effects, before)
        return effects

    def decide_due(self) -> Sequence[m.MasterEffect]:
        effects = super().decide_due()
        self.promises.master_decides(self, effects)
        return effects

    # The ledger

    def _keep_up(self) -> None:
        self.later(KEEP_UP_S, self._keep_up)
        try:
            records = self.ledger.keep_up(self.boot)
        except StoreError:
            return
        if records:
            self.promises.taken_over(self, records)
            lost = m.Lost(frozenset(record.request.id for record in records), is_back=True)
            self.post(lost, is_own=True, is_first=True)
            self.post(m.TakenOver(tuple(records)), is_own=True)

    def is_stored(self, effects: Sequence[m.MasterEffect]) -> bool:
        return any(
            isinstance(effect, (m.Save, m.CountUsage))
            or (isinstance(effect, m.SendEvent) and effect.event.type not in DELTAS)
            for effect in effects
        )

    def write(self, effects: Sequence[m.MasterEffect]) -> Sequence[m.MasterEffect]:
        """As `pibot_mesh.master.books.Books.write` does."""
        if not self.is_stored(effects):
            return effects
        if self.disk.is_broken and not self.ledger.is_shared:
            raise StoreError("the disk is full")
        lost = self.ledger.write(self.boot, effects)
        for effect in effects:
            if isinstance(effect, m.Save):
                self._note_stored(effect.record, effect.record.request.id in lost)
        if not lost:
            return effects
        self.nature.tally["request lost to another master"] += len(lost)
        self.promises.lost(self, lost)
        self.post(m.Lost(lost), is_own=True, is_first=True)
        return [
            effect for effect in effects if not isinstance(effect, m.SendForget) and m.request_of(effect) not in lost
        ]

    def _note_stored(self, record: m.Record, is_lost: bool) -> None:
        self.nature.note(self.name, "cannot store" if is_lost else "stores", record.request.id, record)
        if not is_lost:
            self.promises.stored(record)

    # Out

    def perform(self, effect: m.MasterEffect) -> None:
        self.promises.master_performs(self, effect)
        match effect:
            case m.SendTask(node, task):
                self.nature.note(self.name, f"sends task to {node}", task.id, task)
                self.client.publish(Kind.NODE_TASK, task, node=node, expiry_s=task.ttl_s, keep=False)
            case m.SendTaskControl(node, task_id, control) if node != MASTER:
                self.nature.note(self.name, f"{control.action} to {node}", task_id, f"e{control.epoch}")
                self.client.publish(Kind.TASK_CONTROL, control, node=node, id=task_id)
            case m.SendForget(node, tasks):
                for task_id in tasks:
                    self.nature.note(self.name, f"forget to {node}", task_id)
                self.client.publish(Kind.NODE_CONTROL, Control("forget", tasks=tasks), node=node, keep=False)
            case m.SendEvent(event):
                self.nature.note(self.name, "says", event.run, event)
                is_delta = event.type in DELTAS
                self.client.publish(Kind.REQUEST_EVENT, event, id=event.run, is_delta=is_delta)
            case m.SendReply():
                self._send_reply(effect)
            case m.Announce():
                self.client.publish(Kind.MASTER_STATUS, True)
            case _:
                self._do_here(effect)

    def _do_here(self, effect: m.MasterEffect) -> None:
        nature = self.nature
        match effect:
            case m.MakePlan(request):
                self.later(nature.between(0.001, 0.5), self._planned, request)
            case m.WriteAnswer(request):
                if nature.happens(0.9):
                    written = m.AnswerWritten(request.id, "all is well", Usage(40, 0, 10))
                    self.later(nature.between(0.01, 3.0), self._post_own, written)
            case m.RunHere(task):
                run = self.own_runs[task.id] = OwnRun(self, task)
                self.later(0.0, run.begin)
            case m.SendTaskControl(_, task_id, control) if task_id in self.own_runs:
                self.own_runs[task_id].control(control)
            case m.TellDelegate(key, result):
                run_id = key.rsplit(".", 1)[0]
                if run_id in self.own_runs:
                    self.own_runs[run_id].told(key, result)
            case m.AskLedger():
                self.later(nature.between(0.001, 0.05), self._ask, effect)

    def _planned(self, request: Request) -> None:
        self.post(m.Planned(request.id, self._plans[request.text], Usage(30, 0, 5)), is_own=True)

    def _ask(self, question: m.AskLedger) -> None:
        try:
            known = self.ledger.find(question.request)
        except StoreError:
            return
        if known is None or known.reply is not None:
            self.post(m.NobodyWaits(question.node, question.task), is_own=True)

    def _post_own(self, event: m.MasterInput) -> None:
        self.post(event, is_own=True)

    def _send_reply(self, effect: m.SendReply) -> None:
        reply = effect.reply
        self.nature.note(self.name, "replies", reply.id, reply)
        self.promises.replied(effect)
        delivered = (lambda: self._post_own(m.ReplyDelivered(reply.id))) if effect.is_final else None
        self.client.publish(Kind.REQUEST_REPLY, reply, id=reply.id, keep=False, delivered=delivered)


def _read(message: Message) -> m.MasterInput:
    node, content = message.address.node, message.content
    match message.address.kind:
        case Kind.NODE_STATUS:
            return m.NodeSeen(node, content)
        case Kind.NODE_HEALTH:
            return m.HealthSeen(node, content, message.is_retained)
        case Kind.NODE_CARD:
            return m.CardSeen(node, content)
        case Kind.TASK_EVENT:
            return m.TaskEventSeen(node, message.address.id, content)
        case Kind.TASK_RESULT:
            return m.TaskResultSeen(node, content)
        case Kind.MASTER_STATUS:
            return m.OwnStatusSeen(content)
    raise AssertionError(f"a master does not listen to {message.address.kind}")
