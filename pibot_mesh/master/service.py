"""The master as a service: wires core, ledger, planner and MQTT. Decides nothing itself."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from pibot_mesh import __version__
from pibot_mesh.actor import Actor
from pibot_mesh.agent.builtin.files import file_tools
from pibot_mesh.agent.model import Model
from pibot_mesh.agent.providers import is_configured
from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.errors import BrokerError, ErrorCode, NoMaster, ProtocolError, StoreError
from pibot_mesh.master.books import Books
from pibot_mesh.master.core import MasterCore
from pibot_mesh.master.delegation import Delegation
from pibot_mesh.master.door import Door
from pibot_mesh.master.events import (
    Announce,
    AnswerWritten,
    AskLedger,
    CardSeen,
    Connected,
    CountUsage,
    Disconnected,
    HealthSeen,
    Lost,
    MakePlan,
    MasterEffect,
    MasterInput,
    ModelUsed,
    NodeSeen,
    Note,
    Origin,
    OwnStatusSeen,
    Planned,
    Record,
    Refusal,
    ReplyDelivered,
    RequestArrived,
    RequestControlled,
    RunHere,
    SendEvent,
    SendForget,
    SendReply,
    SendTask,
    SendTaskControl,
    TaskEventSeen,
    TaskResultSeen,
    TellDelegate,
    WriteAnswer,
)
from pibot_mesh.master.gateway import Gateway
from pibot_mesh.master.home_assistant.runner import HomeAssistantRunner, discovery_of, naming_of, topics_of
from pibot_mesh.master.ledger import Ledger, day_of
from pibot_mesh.master.log_topic import LogTopic
from pibot_mesh.master.own_work import OwnWork
from pibot_mesh.master.planner import OfflinePlanner, Planner, Planning, Situation, Words
from pibot_mesh.master.planning.cards import mesh_text
from pibot_mesh.master.planning.soul import load_soul, workspace_of
from pibot_mesh.master.planning.task_planner import AutoPlanner, TaskPlanner
from pibot_mesh.master.pool import MASTER, Pool
from pibot_mesh.master.refusals import Refusals
from pibot_mesh.master.routine_runner import RoutineRunner, routines_of
from pibot_mesh.master.showing import Showing
from pibot_mesh.master.store import Store
from pibot_mesh.master.tools import mesh_tools
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import (
    Control,
    Event,
    Limits,
    LLMChunk,
    LLMRequest,
    MasterControl,
    NodeCard,
    NodeEvent,
    Reply,
    Request,
    Result,
    State,
    WireError,
    decode_health,
    decode_presence,
    decode_stop,
    refuse_retained,
)
from pibot_mesh.protocol.topics import DELTAS, MASTER_READS, Address, Kind, Topics
from pibot_mesh.skills.system import CpuMeter, system_tools
from pibot_mesh.storage import Alone

_log = logging.getLogger(__name__)
_RECALLED: Final = 10
"""Requests among which the last answer is looked for at the start."""
M = TypeVar("M")


class Master(AbstractAsyncContextManager["Master"]):
    """The master of the mesh. ``async with Master(settings) as master:`` runs it until the block ends.

    *tools* are added to the master's own; *model* takes the place of the one that the settings name, and *planner* of
    the offline engine and the planner with the model. Raises ConfigError for sentences or a soul that cannot be read,
    and StoreError where the ledger cannot be opened.
    """

    def __init__(
        self,
        settings: MasterSettings,
        *,
        tools: Iterable[Tool] = (),
        planner: Planner | None = None,
        model: Model | None = None,
    ) -> None:
        self.settings = settings
        self.boot = uuid.uuid4().hex[:12]
        self.pool = Pool()
        self._model = model or _model_of(settings)
        self._soul = load_soul(settings)
        self._planner = planner or self._new_planner()
        self._delegation = Delegation(self._post, self._held)
        self.tools = ToolRegistry([*self._own_tools(), *tools])
        self._work = OwnWork(
            self.tools,
            self._model,
            prompt=lambda: f"{self._soul}\n\n# The mesh now\n{mesh_text(self._situation())}",
            post=self._post,
            boot=self.boot,
            context_tokens=settings.model.context_tokens,
        )
        self._topics = Topics(settings.root)
        self._link = Link(
            settings.broker,
            self._topics,
            client_id="master" if settings.ledger is None else f"master-{self.boot}",
            listen=[
                *MASTER_READS,
                (Kind.MASTER_CONTROL, ""),
                (Kind.STOP, ""),
                *(((Kind.ROUTINE_SET, ""),) if settings.schedules or settings.triggers else ()),
                *(((Kind.NODE_EVENT, "+"),) if settings.triggers else ()),
            ],
            presence=Address(Kind.MASTER_STATUS),
            receive=self._receive,
            connected=self._connected,
            disconnected=self._disconnected,
            also=topics_of(naming_of(settings)),
            receive_other=self._receive_other,
        )
        self._background: set[asyncio.Task[None]] = set()
        self._refusals = Refusals()
        self._askers: dict[str, tuple[asyncio.Future[Reply], Callable[[Event], None] | None]] = {}
        self._log_handler = LogTopic(self._link)
        self._is_running = False
        self._is_leaving = False

    def _new_planner(self) -> Planner:
        settings = self.settings
        llm = None
        if self._model is not None:
            llm = TaskPlanner(self._model, soul=self._soul, context_tokens=settings.model.context_tokens)
        return AutoPlanner(OfflinePlanner(settings.sentences), llm)

    def _own_tools(self) -> list[Tool]:
        tools = [
            *mesh_tools(self.pool, self._planner.examples),
            *file_tools(workspace_of(self.settings)),
            *system_tools(CpuMeter()),
        ]
        return tools if self._model is None else [*tools, self._delegation.tool]

    def _held(self, task: str) -> AbstractContextManager[None]:
        return self._work.held(task)

    def _own_card(self) -> NodeCard:
        is_agent = self._model is not None
        return NodeCard(MASTER, self.boot, __version__, tools=self.tools.specs(), agent=is_agent)

    def _situation(self) -> Situation:
        load = {
            node: len(member.open_tasks) / member.card.capacity.running
            for node, member in self.pool.members.items()
            if member.card is not None
        }
        return Situation(self.pool.online(), self._own_card(), self.pool.offline(), load)

    # Life

    async def __aenter__(self) -> Self:
        self._alone = ExitStack()
        try:
            self._ledger = self._open_ledger()
        except BaseException:
            self._alone.close()
            raise
        self._books = Books(self._ledger, self.settings.history, self._post_from_books)
        self._door = Door(self._books, self)
        self._routines = RoutineRunner(
            routines_of(self.settings), self._books, make=self._post, say=self._say_routine, boot=self.boot
        )
        self._home_assistant = HomeAssistantRunner(
            discovery_of(self.settings, __version__),
            is_leader=lambda: self._books.is_leader,
            publish=lambda topic, payload, delivered: self._link.publish(
                topic, payload, retain=True, delivered=delivered
            ),
        )
        try:
            self._core = self._new_core()
        except BaseException:
            self._ledger.close()
            self._alone.close()
            raise
        used = self._ledger.used_on(day_of(time.time()))
        self._gateway = self._new_gateway(used)
        self._showing = self._new_showing(sum(used.values()))
        self._showing.recall(self._ledger.recent(_RECALLED))
        self._actor: Actor[MasterInput, MasterEffect] = Actor(
            self._core, store=self._books.write, perform=self._perform
        )
        self._log_handler.begin()
        try:
            effects = self._core.start(time.monotonic())
            for effect in await self._books.write(effects):
                self._perform(effect)
            self._actor.start()
            self._home_assistant.routines(self._routines.states)
            self._home_assistant.start()
            await self._routines.start()
            await self._link.start()
            self._spawn(self._showing.run())
            self._spawn(self._books.prune())
            if self._books.is_shared:
                self._spawn(self._books.keep_up())
                self._spawn(self._door.run())
        except BaseException:
            await self._leave()
            raise
        self._is_running = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        """End what runs, say what is stored, ``offline`` last. Each step, whatever the others do."""
        self._is_running = False
        async with AsyncExitStack() as stack:
            stack.callback(self._leave_askers)
            stack.callback(self._alone.close)
            stack.push_async_callback(self._books.close)
            stack.callback(self._planner.close)
            stack.push_async_callback(self._link.stop)
            stack.push_async_callback(self._actor.stop)
            stack.push_async_callback(self._gateway.stop)
            stack.push_async_callback(self._work.stop)
            stack.push_async_callback(self._routines.stop)
            stack.push_async_callback(self._home_assistant.stop)
            self._showing.stop()
            self._log_handler.end()
            self._is_leaving = True
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)

    def _leave_askers(self) -> None:
        for request_id, (future, _) in self._askers.items():
            if not future.done():
                future.set_exception(NoMaster(f"the master was stopped before it replied to request {request_id}"))

    def _open_ledger(self) -> Store:
        if self.settings.ledger is None:
            return self._own_ledger(self.settings.state_dir)
        from pibot_mesh.master.postgres import PostgresLedger

        return PostgresLedger(self.settings.ledger, root=self.settings.root, boot=self.boot)

    def _own_ledger(self, folder: Path) -> Ledger:
        """Of one master at a time: two would answer the same requests."""
        alone = Alone(folder / "master.lock", "the master")
        self._alone.callback(alone.close)
        return Ledger(folder / "master.sqlite")

    def _new_core(self) -> MasterCore:
        settings = self.settings
        return MasterCore(
            boot=self.boot,
            own_card=self._own_card(),
            answer=self._planner.answer,
            may_reply_to=self._topics.is_reply_topic,
            request_timeout_s=settings.request_timeout_s,
            open_requests=settings.open_requests,
            jitter=random.Random(),
            budget=Limits(settings.budget.turns, settings.budget.tool_calls, settings.budget.tokens),
            ask=settings.approval.ask,
            ask_within_s=settings.approval.within_s,
            model=getattr(self._model, "model", "") or settings.model.model,
            pool=self.pool,
            is_shared=self._ledger.is_shared,
            remembered=self._ledger.keep_up(),
            wall=time.time,
        )

    def _new_showing(self, tokens_today: int) -> Showing:
        return Showing(
            self._core,
            self._link,
            boot=self.boot,
            engines=("offline",) if self._model is None else ("offline", "llm"),
            interval_s=self.settings.health_interval_s,
            is_leader=lambda: self._books.is_leader,
            tokens_today=tokens_today,
        )

    def _new_gateway(self, used: Mapping[str, int]) -> Gateway:
        return Gateway(
            self._model,
            self.settings.gateway,
            budget=self._core.tokens_left,
            send=self._send_chunk,
            used=lambda node, task, usage: self._post(ModelUsed(node, task, usage)),
            today=lambda: day_of(time.time()),
            used_today=used,
        )

    async def wait_connected(self, timeout_s: float = 10.0) -> None:
        """Raises BrokerError where the broker cannot be reached within *timeout_s*."""
        await self._link.wait_connected(timeout_s)

    async def wait_online(self, *nodes: str, timeout_s: float = 10.0) -> None:
        """Wait until *nodes* can be given tasks. Raises BrokerError, with who is missing, after *timeout_s*."""
        deadline = time.monotonic() + timeout_s
        await self.wait_connected(timeout_s)
        while missing := sorted(set(nodes) - set(self.pool.online())):
            if time.monotonic() > deadline:
                raise BrokerError(f"not online within {timeout_s:g} s: {', '.join(missing)}")
            await asyncio.sleep(0.02)

    # Asking from inside the same program

    async def ask(
        self,
        text: str,
        *,
        node: str | None = None,
        plan_only: bool = False,
        timeout_s: float | None = None,
        session: str | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Reply:
        """Do what *text* says, and return the reply, whatever its state. *on_event* sees the request's events.

        *session* names the conversation that it goes on.

        Raises ProtocolError where *text* is empty or over 8,000 characters, and NoMaster where the master does not run,
        or stops before it has replied; what it had accepted it then goes on with after its next start. So it does where
        another master that shares the ledger has taken the request over.
        """
        if not self._is_running:
            raise NoMaster("this master does not run")
        request = Request(
            uuid.uuid4().hex,
            text,
            node=node,
            mode="plan_only" if plan_only else "auto",
            timeout_s=timeout_s,
            session=session,
        )
        encode(request)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._askers[request.id] = (future, on_event)
        try:
            if self._actor.stuck is not None:
                why = WireError(ErrorCode.STORAGE, f"nothing can be accepted now: {self._actor.stuck}", retryable=True)
                self.refuse(request, Origin(), why)
            elif not self._actor.post(RequestArrived(request)):
                why = WireError(ErrorCode.OVERLOADED, "too much waits already: ask again later", retryable=True)
                self.refuse(request, Origin(), why)
            return await future
        finally:
            self._askers.pop(request.id, None)

    def cancel(self, request_id: str, reason: str = "") -> None:
        """Cancel a request. Its reply still comes, and says what had been done."""
        self.control(request_id, Control("cancel", reason=reason))

    def control(self, request_id: str, control: Control) -> None:
        """Steer a request, or approve or deny a call of it, as on the topic ``request/{id}/control``."""
        self._post(RequestControlled(request_id, control))

    @property
    def refused(self) -> int:
        """How many messages were refused since the start."""
        return self._link.rejections.total

    @property
    def backlog(self) -> int:
        """How many events wait to be worked off."""
        return self._actor.backlog

    # In: MQTT messages to events

    def _post(self, event: MasterInput, message: Message | None = None) -> None:
        """Hand *event* to the core. *message* is acknowledged once what the core made of it is stored."""
        then = None if message is None else lambda: self._link.ack(message)
        if not self._actor.post(event, then, is_own=message is None):
            self._link.rejections.add(message.topic if message else "-", "too much waits to be worked off")

    def _post_from_books(self, event: MasterInput, is_first: bool) -> None:
        self._actor.post(event, is_own=True, is_first=is_first)
        for request_id in event.requests if isinstance(event, Lost) and not event.is_back else ():
            future, _ = self._askers.get(request_id, (None, None))
            if future is not None and not future.done():
                future.set_exception(
                    NoMaster(f"request {request_id} went to another master, which replies on its topic")
                )

    def _receive(self, address: Address, message: Message) -> None:
        if address.kind in (Kind.REQUEST, Kind.REQUEST_CONTROL):
            self._door.take(address, message)
            return
        if address.kind is Kind.MASTER_CONTROL:
            self._take_order(message)
            return
        event = self._read(address, message)
        if event is not None:
            self._post(event, message)

    def _receive_other(self, message: Message) -> None:
        self._link.ack(message)
        self._home_assistant.hear(message.topic, message.payload, is_retained=message.retain)

    def _take_order(self, message: Message) -> None:
        """An order whose topic cannot name the request is as good as one on the request's own topic."""
        order = decode(MasterControl, message.payload)
        control = Control(order.action, reason=order.reason, call=order.call, by=order.by)
        self._door.take(Address(Kind.REQUEST_CONTROL, id=order.request), replace(message, payload=encode(control)))

    def _read(self, address: Address, message: Message) -> MasterInput | None:
        """The event that *message* is, or None where it has been answered already."""
        payload = message.payload
        match address.kind:
            case Kind.NODE_STATUS | Kind.NODE_HEALTH if not payload:
                self._link.ack(message)  # cleared, as the card is: the node is to be forgotten
                return None
            case Kind.NODE_STATUS:
                return self._read_status(address.node, payload)
            case Kind.LLM_REQUEST:
                self._read_llm_request(address, message)
                return None
            case Kind.NODE_HEALTH:
                return HealthSeen(address.node, decode_health(payload), message.retain)
            case Kind.NODE_CARD:
                return CardSeen(address.node, self._read_card(address.node, payload))
            case Kind.TASK_EVENT:
                return TaskEventSeen(address.node, address.id, _named(decode(Event, payload), "run", address.id))
            case Kind.TASK_RESULT:
                return TaskResultSeen(address.node, _named(decode(Result, payload), "id", address.id))
            case Kind.MASTER_STATUS:
                return OwnStatusSeen(decode_presence(payload))
            case Kind.STOP:
                self._showing.stopped(bool(payload) and decode_stop(payload))
                self._link.ack(message)
                return None
            case Kind.NODE_EVENT | Kind.ROUTINE_SET:
                self._read_for_routines(address, message)
                return None
        raise ProtocolError("topic", ["the master does not read it"])

    def _read_for_routines(self, address: Address, message: Message) -> None:
        if address.kind is Kind.ROUTINE_SET:
            self._routines.hear_set(address.id, message.payload, is_retained=message.retain)
        else:
            event = decode(NodeEvent, message.payload)
            self._routines.hear_event(address.node, event, is_retained=message.retain)
        self._link.ack(message)

    def _read_status(self, node: str, payload: bytes) -> NodeSeen:
        is_online = decode_presence(payload)
        if is_online:
            self._showing.say_health_soon()
        else:
            self._gateway.node_gone(node)
        return NodeSeen(node, is_online)

    def _read_llm_request(self, address: Address, message: Message) -> None:
        """For the gateway, which keeps nothing over a restart: the node asks again."""
        refuse_retained("LLMRequest", message.retain)
        request = _named(decode(LLMRequest, message.payload), "id", address.id)
        is_elsewhere = self._books.is_shared and self._core.tokens_left(address.node, request.task) is None
        if not is_elsewhere or request.cancel:
            self._gateway.ask(address.node, request)
        self._link.ack(message)

    def _read_card(self, node: str, payload: bytes) -> NodeCard | None:
        """The card of *node*; None where it was taken away."""
        try:
            card = _named(decode(NodeCard, payload), "node", node) if payload else None
            if node == MASTER:
                raise ProtocolError("NodeCard", [f"node: {MASTER!r} is the master's own name"])
        except ProtocolError:
            self._home_assistant.unreadable_card(node)
            raise
        self._home_assistant.card(node, card)
        return card

    # The house behind the door

    @property
    def stuck(self) -> StoreError | None:
        """Why nothing can be stored at the moment, or None."""
        return self._actor.stuck

    def held(self, request_id: str) -> Record | None:
        """The record of a request that this master holds in memory; of others its ledger may know."""
        return self._core.held(request_id)

    def admit(self, event: MasterInput, message: Message) -> None:
        """Hand *event* to the core; *message* is acknowledged when what comes of it is stored."""
        self._post(event, message)

    def refuse(self, request: Request, origin: Origin, error: WireError) -> None:
        """Reply to *request* that nothing will come of it."""
        reply = self._refusals.of(request.id, time.monotonic())
        if reply is None:
            reply = Reply(request.id, State.REJECTED, error.message, error=error)
            self._refusals.note(reply, time.monotonic())
        self._send_reply(SendReply(reply, origin, None, False))

    def was_refused(self, request_id: str) -> bool:
        """Whether the request was refused a moment ago, because it could not be stored: then it is not taken now."""
        return self._refusals.of(request_id, time.monotonic()) is not None

    def dismiss(self, message: Message) -> None:
        """Acknowledge *message*: nothing more comes of it."""
        self._link.ack(message)

    def reject(self, message: Message, why: ProtocolError) -> None:
        """Count *message* among those that were refused, and log it."""
        self._link.rejections.add(message.topic, why)

    def _connected(self) -> None:
        self._home_assistant.connected()
        self._routines.connected()
        self._post(Connected())

    def _say_routine(self, name: str, payload: bytes, delivered: Callable[[], None]) -> None:
        self._link.send(Kind.ROUTINE, payload, id=name, delivered=delivered)

    def _disconnected(self, reason: str) -> None:
        _log.info("the broker is gone: %s", reason)
        self._home_assistant.disconnected()
        self._routines.disconnected()
        self._post(Disconnected())

    # Out: effects to the world

    def _perform(self, effect: MasterEffect) -> None:
        match effect:
            case SendTask(node, task):
                self._link.send(Kind.NODE_TASK, encode(task), node=node, expiry_s=task.ttl_s, keep=False)
            case SendTaskControl(node, task_id, control) if node != MASTER:
                self._link.send(Kind.TASK_CONTROL, encode(control), node=node, id=task_id)
            case SendForget(node, tasks):
                forget = Control("forget", tasks=tasks)
                self._link.send(Kind.NODE_CONTROL, encode(forget), node=node, keep=False)
            case SendEvent(event):
                self._send_event(event)
            case SendReply():
                self._send_reply(effect)
            case Announce():
                self._showing.announce()
            case Note(text, level):
                _log.log(logging.getLevelName(level.upper()), "%s", text)
            case _:
                self._do_here(effect)

    def _do_here(self, effect: MasterEffect) -> None:
        """What the master does itself. In its last moments nothing is begun: the ledger has it, for the next start."""
        match effect:
            case MakePlan(request):
                self._spawn(self._make_plan(request))
            case WriteAnswer():
                self._spawn(self._write_answer(effect))
            case RunHere(task) if not self._is_leaving:
                self._work.start(task)
            case SendTaskControl(_, task_id, control):
                self._work.control(task_id, control)
            case TellDelegate(key, ended):
                self._delegation.told(key, ended)
            case CountUsage():
                self._showing.count(effect)
            case AskLedger():
                self._spawn(self._books.ask(effect))

    async def _make_plan(self, request: Request) -> None:
        try:
            situation = self._situation()
            if request.session is not None:
                conversation = await self._books.conversation(request.session)
                situation = replace(situation, conversation=conversation)
            planning = await self._planner.plan(request, situation)
        except StoreError as error:
            planning = Planning(Refusal(WireError(ErrorCode.STORAGE, str(error), retryable=True)))
        except Exception:  # noqa: BLE001 - a bug in the planner must still give the one reply
            _log.exception("a bug: request %s could not be planned", request.id)
            bug = WireError(ErrorCode.INTERNAL, "the planner met a bug; the master's log says more")
            planning = Planning(Refusal(bug))
        self._post(Planned(request.id, planning.outcome, planning.usage))

    async def _write_answer(self, effect: WriteAnswer) -> None:
        request, plan, results = effect.request, effect.plan, effect.results
        try:
            words = await self._planner.write(request, plan, results)
        except Exception:  # noqa: BLE001 - a bug in the planner must still give the one reply
            _log.exception("a bug: the answer to request %s could not be written", request.id)
            words = Words(self._planner.answer(plan, results))
        self._post(AnswerWritten(request.id, words.text, words.usage))

    def _send_chunk(self, node: str, chunk: LLMChunk) -> None:
        self._link.send(Kind.LLM_CHUNK, encode(chunk), node=node, id=chunk.id, keep=False)

    def _send_event(self, event: Event) -> None:
        self._link.send(Kind.REQUEST_EVENT, encode(event), id=event.run, is_delta=event.type in DELTAS)
        self._showing.hear(event)
        _, on_event = self._askers.get(event.run, (None, None))
        if on_event is not None:
            on_event(event)

    def _send_reply(self, effect: SendReply) -> None:
        """The reply on its own topic, last; before it the plain text on ``reply``, and wherever its asker wants it."""
        reply, origin = effect.reply, effect.origin
        payload, text = encode(reply), reply.text.encode()
        self._link.send(Kind.REPLY, text, keep=False)
        if effect.reply_to is not None and self._topics.is_reply_topic(effect.reply_to):
            self._link.publish(effect.reply_to, payload, keep=False)
        if origin.topic is not None and self._topics.is_reply_topic(origin.topic):
            correlation = base64.b64decode(origin.correlation) if origin.correlation else None
            self._link.publish(origin.topic, text if origin.is_plain else payload, correlation=correlation, keep=False)
        delivered = (lambda: self._post(ReplyDelivered(reply.id))) if effect.is_final else None
        is_owed = effect.is_final  # a refusal makes room for tasks and replies: who asks again gets it again
        self._link.send(
            Kind.REQUEST_REPLY, payload, id=reply.id, keep=False, delivered=delivered, droppable=not is_owed
        )
        self._showing.replied(reply)
        future, _ = self._askers.get(reply.id, (None, None))
        if future is not None and not future.done():
            future.set_result(reply)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._is_leaving:  # it is in the ledger, for the next start
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _model_of(settings: MasterSettings) -> Model | None:
    """The model that *settings* name, or None where they name none that could be asked."""
    if not is_configured(settings.model):
        return None
    from pibot_mesh.agent.client import LLMClient

    return LLMClient(settings.model)


def _named(message: M, field: str, expected: str) -> M:
    """*message*, whose *field* must agree with the topic it came on. Raises ProtocolError."""
    found = getattr(message, field)
    if found != expected:
        raise ProtocolError(
            type(message).__name__, [f"{field}: {found!r} does not agree with its topic ({expected!r})"]
        )
    return message
