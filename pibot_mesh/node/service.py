"""The node as a service: wires core, journal, board, tools and MQTT. Decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import chain
from types import TracebackType
from typing import Self

from pibot_mesh.actor import Actor
from pibot_mesh.agent.skills import SkillLoader
from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.errors import BrokerError, ErrorCode, MeshError, ProtocolError, StoreError, ToolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, OutputChanged
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.node.agent import NodeAgent
from pibot_mesh.node.core import STOPPED, NodeCore
from pibot_mesh.node.cut_off import settle_all
from pibot_mesh.node.events import (
    Announce,
    AnswerApproval,
    Connected,
    Disconnected,
    EndTool,
    HoldOutputs,
    LetCall,
    MasterSeen,
    NodeControlled,
    NodeEffect,
    NodeInput,
    Note,
    OutputNoted,
    OutputOrdered,
    OwnStatusSeen,
    ReloadSkills,
    Remembered,
    Save,
    SendEvent,
    SendResult,
    SetOutput,
    StartTool,
    SteerRun,
    StopSeen,
    TaskArrived,
    TaskControlled,
    TaskMalformed,
    ToolEnded,
)
from pibot_mesh.node.executor import TaskExecutor
from pibot_mesh.node.gate import Gate
from pibot_mesh.node.journal import Journal, needs_sync
from pibot_mesh.node.master_watch import MasterWatch
from pibot_mesh.node.reflex_runner import ReflexRunner, silences_of
from pibot_mesh.node.reflex_store import ReflexStore
from pibot_mesh.node.showing import Showing
from pibot_mesh.node.skills import NodeSkills
from pibot_mesh.node.start_reason import read_machine_boot, start_reason
from pibot_mesh.protocol.codec import decode, encode, to_dict
from pibot_mesh.protocol.messages import (
    Capacity,
    Cause,
    Control,
    Event,
    LLMChunk,
    LLMRequest,
    NodeCard,
    OutputValue,
    State,
    Task,
    WireError,
    decode_health,
    decode_output_set,
    decode_presence,
    decode_stop,
    decode_switch,
    refuse_retained,
)
from pibot_mesh.protocol.topics import DELTAS, Address, Kind, Topics
from pibot_mesh.skills.devices import seconds_words
from pibot_mesh.skills.shipped import shipped_skills, skill_folders_of
from pibot_mesh.skills.system import CpuMeter, read_health
from pibot_mesh.skills.timer_book import Finished
from pibot_mesh.skills.timers import Timers
from pibot_mesh.storage import Alone

_log = logging.getLogger(__name__)
_FAILED = (State.FAILED, State.CANCELED, State.UNKNOWN)


class Node(AbstractAsyncContextManager["Node"]):
    """One node of the mesh. ``async with Node(settings):`` runs it until the block ends.

    *tools* are added to those that its devices and skills bring. On entering, outputs are at their initial values, the
    skills are loaded and the connection is being made; on leaving, outputs are safe and the mesh knows that the node is
    offline. Raises ConfigError for devices and settings of skills that cannot be, or are too much for a card, and
    StoreError where the journal cannot be opened or written; nothing is left open then. A broken skill is left out.
    """

    def __init__(self, settings: NodeSettings, *, tools: Iterable[Tool] = ()) -> None:
        self.settings = settings
        self.id = settings.id
        self.boot = uuid.uuid4().hex[:12]
        self.board = Board(
            settings.devices,
            simulate=settings.simulate,
            on_change=self._changed,
            levels=settings.state_dir / f"pins-{self.id}",
            safety=settings.safety,
        )
        self._cpu = CpuMeter()
        self._timers = Timers(settings.state_dir.expanduser() / f"timers-{self.id}.json", self._timer_finished)
        self._reflexes = ReflexRunner(
            self.board,
            settings.reflexes,
            ReflexStore(settings.state_dir / f"reflexes-{self.id}.json"),
            changed=self._reflexes_changed,
            state=self._reflex_switched,
            silent_after_s=silences_of(settings.devices),
            too_much=lambda reflex: self._showing.too_much(self.tools.specs(), reflex),
        )
        shipped = shipped_skills(settings, self.board, self._timers, self._cpu, self._reflexes)
        self.tools = ToolRegistry([*chain(*shipped.values()), *tools])
        self._agent = NodeAgent(settings, self.tools, self.board.specs, self._ask_master)
        self._executor = TaskExecutor(self.tools, self._tool_ended, told=self._post, agent=self._agent)
        self._link = Link(
            settings.broker,
            Topics(settings.root),
            client_id=settings.id,
            listen=[
                (Kind.NODE_TASK, settings.id),
                (Kind.TASK_CONTROL, settings.id),
                (Kind.NODE_CONTROL, settings.id),
                (Kind.OUTPUT_SET, settings.id),
                (Kind.REFLEX_SET, settings.id),
                (Kind.LLM_CHUNK, settings.id),
                (Kind.NODE_STATUS, settings.id),
                (Kind.NODE_CARD, settings.id),
                (Kind.MASTER_STATUS, ""),
                (Kind.MASTER_HEALTH, ""),
                (Kind.STOP, ""),
            ],
            presence=Address(Kind.NODE_STATUS, node=settings.id),
            receive=self._receive,
            connected=self._connected,
            disconnected=self._disconnected,
        )
        self._showing = Showing(
            settings,
            self.boot,
            self.board,
            self.tools,
            shown=self._agent.shown,
            reflexes=self._reflexes,
            link=self._link,
        )
        self._skills = NodeSkills(
            SkillLoader(skill_folders_of(settings), self.tools, fits=self._showing.too_much),
            self._showing.tools_changed,
            node=self.id,
        )
        self._master = MasterWatch()
        self._leaving: asyncio.Task[None] | None = None
        self._is_stop_seen = False
        self._health: asyncio.Task[None] | None = None

    # Life

    async def __aenter__(self) -> Self:
        self._given_way: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
        folder = self.settings.state_dir
        self._alone = Alone(folder / f"node-{self.id}.lock", f"node {self.id}")
        try:
            self._journal = Journal(folder / f"node-{self.id}.sqlite")
        except BaseException:
            self._alone.close()
            raise
        try:
            remembered = self._journal.read()
            self._showing.remember(self._journal.outputs())
            self._core = self._new_core(remembered)
            self._gate = self._new_gate(self._begin())
        except BaseException:
            self._journal.close()
            self._alone.close()
            raise
        self._actor: Actor[NodeInput, NodeEffect] = Actor(self._core, store=self._store, perform=self._perform)
        try:
            if self._core.is_stopped:
                self._hold(True)  # before any output has its initial value
            await self.board.start()
            self._reflexes.start()
            await self._skills.start()
            effects = self._core.start(settle_all(remembered.entries, self.tools))
            await self._store(effects)
            for effect in effects:
                self._perform(effect)
            self._actor.start()
            if "timers" in self.settings.skills.shipped:
                await self._timers.start()
            await self._link.start()
        except BaseException as error:
            await self._leave(error)
            raise
        self._health = asyncio.get_running_loop().create_task(self._publish_health(), name=f"health of {self.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave(error)

    def _begin(self) -> frozenset[str]:
        """Find out why this process starts, and have the journal know of it. The ids of the processes before it."""
        machine_boot = read_machine_boot()
        self._showing.start_reason = start_reason(self._journal.last_process(), machine_boot)
        _log.info("%s: why it starts: %s", self.id, self._showing.start_reason or "not known")
        return self._journal.begin(self.boot, machine_boot)

    async def _leave(self, why: BaseException | None) -> None:
        """Outputs safe first; then what runs is ended, and said; ``offline`` last. Each, whatever the others do."""
        async with AsyncExitStack() as stack:
            stack.callback(self._alone.close)
            stack.callback(self._journal.close)
            stack.push(lambda _, error, __: self._end_in_journal(why or error))
            stack.push_async_callback(self._leave_broker)
            stack.push_async_callback(self._actor.stop)
            stack.push_async_callback(self._agent.stop)
            stack.push_async_callback(self._executor.stop)
            stack.push_async_callback(self._timers.stop)
            stack.push_async_callback(self._skills.stop)
            stack.push_async_callback(self._reflexes.written)
            stack.push_async_callback(self.board.stop)
            stack.push_async_callback(self._reflexes.stop)
            self._gate.close()
            if self._health is not None:
                self._health.cancel()

    def _end_in_journal(self, why: BaseException | None) -> None:
        """A journal that cannot be written holds nothing up: then the next start takes this end for a crash."""
        if isinstance(why, Exception) and not isinstance(why, MeshError):
            return  # a bug
        try:
            self._journal.end()
        except StoreError as error:
            _log.warning("%s: this end will be taken for a crash: %s", self.id, error)

    async def _leave_broker(self) -> None:
        if self._leaving is None:
            await self._link.stop()
        else:
            await self._leaving  # another has the id: it is not offline

    async def wait_connected(self, timeout_s: float = 10.0) -> None:
        """Raises BrokerError where the broker cannot be reached within *timeout_s*."""
        await self._link.wait_connected(timeout_s)

    async def wait_given_way(self) -> None:
        """Wait for ever, or until another node turns out to have this one's id: then raises BrokerError, in words.

        The node has left the mesh then, without a word, and its outputs are as they were.
        """
        raise await asyncio.shield(self._given_way)

    def _new_gate(self, earlier: frozenset[str]) -> Gate:
        return Gate(
            self.id,
            self.boot,
            earlier,
            enter=lambda: self._post(Connected()),
            let_in=self._post,
            leave=self._link.ack,
            show=self._announce,
            give_way=self._give_way,
        )

    def _give_way(self, why: BrokerError) -> None:
        if self._given_way.done():
            return
        _log.error("%s", why)
        self._given_way.set_result(why)
        self._post(Disconnected())
        self._leaving = asyncio.get_running_loop().create_task(self._link.stop(is_said=False))

    def _new_core(self, remembered: Remembered) -> NodeCore:
        return NodeCore(
            boot=self.boot,
            tools=self.tools,
            capacity=Capacity(self.settings.running, self.settings.queued),
            jitter=random.Random(),
            has_agent=True,
            remembered=remembered,
            wall=time.time,
        )

    @property
    def refused(self) -> int:
        """How many messages were refused since the start."""
        return self._link.rejections.total

    @property
    def backlog(self) -> int:
        """How many events wait to be worked off."""
        return self._actor.backlog

    # In: MQTT messages to events

    def _post(self, event: NodeInput, message: Message | None = None) -> None:
        """Hand *event* to the core. *message* is acknowledged once what the core made of it is stored."""
        then = None if message is None else lambda: self._link.ack(message)
        is_always_taken = message is None or isinstance(event, StopSeen)
        if not self._actor.post(event, then, is_own=is_always_taken):
            self._link.rejections.add(message.topic if message else "-", "too much waits to be worked off")

    def _receive(self, address: Address, message: Message) -> None:
        if address.kind is Kind.LLM_CHUNK:
            self._agent.received(address.id, decode(LLMChunk, message.payload))
            self._link.ack(message)
            return
        if address.kind in (Kind.NODE_CARD, Kind.NODE_STATUS) and not message.payload:
            self._gate.forgotten()
            self._link.ack(message)
            return
        if address.kind is Kind.NODE_CARD:
            self._gate.card_seen(decode(NodeCard, message.payload))
            self._link.ack(message)
            return
        if address.kind is Kind.MASTER_HEALTH:
            self._master.health(decode_health(message.payload), message.retain, time.monotonic())
            self._look_for_master()
            self._link.ack(message)
            return
        if address.kind is Kind.REFLEX_SET:
            self._switch_reflex(address.id, message)
            return
        event = self._read(address, message)
        if isinstance(event, OwnStatusSeen) and not event.is_online and message.retain and self._link.protocol == "5":
            self._gate.stood_offline()  # without a delay, the will of whom we threw out says the same
        if isinstance(event, MasterSeen):
            self._agent.master_seen(event.is_online)
            self._master.status(event.is_online, message.retain, time.monotonic())
            self._look_for_master()
        if self._gate.withholds(event, message):
            return
        if self._actor.stuck is not None and isinstance(event, OutputOrdered) and self._turns_off(event):
            # Off is always allowed: it does not wait for a full disk. It is done again in its turn, after what waits.
            self._set_output(event.device, event.order.value, event.order.for_s, event.order.id)
        if self._actor.stuck is not None and isinstance(event, TaskArrived):
            self._refuse_unstored(event.task, self._actor.stuck)
            self._link.ack(message)
            return
        self._post(event, message)

    def _look_for_master(self) -> None:
        self.board.reach(self._master.is_there(time.monotonic()), "no master")

    def _turns_off(self, event: OutputOrdered) -> bool:
        return not event.is_retained and event.order.value in (False, 0.0, "#000000")

    def _tool_ended(self, event: ToolEnded) -> None:
        """What a failed task was the last to set is made safe at once: that does not wait for a full or slow disk."""
        if event.state in _FAILED:
            self.board.task_failed(event.task, f"its task {event.state}")
        self._post(event)

    def _switch_reflex(self, reflex: str, message: Message) -> None:
        refuse_retained("reflex", message.retain)
        try:
            self._reflexes.switch(reflex, decode_switch(message.payload))
        except ToolError as error:
            raise ProtocolError("reflex", [str(error)]) from None
        self._link.ack(message)

    def _read(self, address: Address, message: Message) -> NodeInput:
        payload = message.payload
        match address.kind:
            case Kind.NODE_TASK:
                return self._read_task(message)
            case Kind.TASK_CONTROL:
                return TaskControlled(address.id, decode(Control, payload), message.retain)
            case Kind.NODE_CONTROL:
                return NodeControlled(decode(Control, payload), message.retain)
            case Kind.OUTPUT_SET:
                return OutputOrdered(address.device, decode_output_set(payload), message.retain)
            case Kind.NODE_STATUS:
                return OwnStatusSeen(decode_presence(payload))
            case Kind.MASTER_STATUS:
                return MasterSeen(decode_presence(payload))
            case Kind.STOP:
                return self._read_stop(payload)
        raise ProtocolError("topic", ["a node does not read it"])

    def _read_task(self, message: Message) -> TaskArrived | TaskMalformed:
        try:
            task = decode(Task, message.payload)
        except ProtocolError as error:
            self._link.rejections.add(message.topic, error)
            return TaskMalformed(error)
        return TaskArrived(task, message.retain)

    def _read_stop(self, payload: bytes) -> StopSeen:
        is_stopped = self._is_stop_seen = decode_stop(payload)
        if is_stopped and not self._core.is_stopped:
            self._hold(True)  # at once: an emergency stop does not wait for a full or slow disk
            for task in self._core.acting():
                self._executor.end(task, STOPPED.message)
        return StopSeen(is_stopped)

    def _connected(self) -> None:
        self._gate.connected()

    def _disconnected(self, reason: str) -> None:
        _log.info("%s: the broker is gone: %s", self.id, reason)
        self._gate.disconnected()
        self._agent.master_seen(False)
        self._master.gone()
        self.board.reach(False, "no broker")
        self._post(Disconnected())

    # Out: effects to the world

    async def _store(self, effects: Sequence[NodeEffect]) -> Sequence[NodeEffect]:
        """Write to the journal; where it must reach the disk, in a thread, so that the loop goes on meanwhile."""
        if needs_sync(effects):
            await asyncio.to_thread(self._journal.write, effects)
        else:
            self._journal.write(effects)
        return effects

    def _perform(self, effect: NodeEffect) -> None:
        match effect:
            case StartTool(task) if self._is_stop_seen and self._core.acts(task.id):
                self._post(ToolEnded(task.id, State.REJECTED, error=STOPPED))  # it was stored when the stop came
            case LetCall(task_id) if self._is_stop_seen and self._core.acts(task_id):
                pass  # it is being ended
            case StartTool(task, by):
                self._executor.start(task, by)
            case EndTool(task, reason):
                self._executor.end(task, reason)
            case LetCall() | SteerRun() | AnswerApproval():
                self._executor.pass_on(effect)
            case SendEvent() | SendResult() | Announce():
                self._say(effect)
            case ReloadSkills():
                self._skills.reload()
            case HoldOutputs(is_held):
                self._hold(is_held or self._is_stop_seen)  # a stop may have come while a release was being stored
                self._send_health()
            case SetOutput(device, order):
                self._set_output(device, order.value, order.for_s, order.id)
            case Save(entry) if entry.result is not None and entry.result.state in _FAILED:
                self.board.task_failed(entry.task.id, f"its task {entry.result.state}")
            case Note(text, level):
                _log.log(logging.getLevelName(level.upper()), "%s: %s", self.id, text)

    def _say(self, effect: SendEvent | SendResult | Announce) -> None:
        match effect:
            case SendEvent(task_id, event):
                is_delta = event.type in DELTAS
                self._link.send(Kind.TASK_EVENT, encode(event), node=self.id, id=task_id, is_delta=is_delta)
            case SendResult(result):
                self._link.send(Kind.TASK_RESULT, encode(result), node=self.id, id=result.id, keep=False)
            case Announce():
                self._announce()

    def _ask_master(self, request: LLMRequest) -> None:
        self._link.send(Kind.LLM_REQUEST, encode(request), node=self.id, id=request.id, keep=False)

    def _refuse_unstored(self, task: Task, why: StoreError) -> None:
        error = WireError(ErrorCode.STORAGE, str(why), retryable=True)
        data = {"attempt": task.attempt, "error": to_dict(error)}
        event = Event(task.id, "task_rejected", self.boot, self._showing.next_seq(), time.time(), data)
        self._link.send(Kind.TASK_EVENT, encode(event), node=self.id, id=task.id)

    def _hold(self, is_held: bool) -> None:
        self.board.hold(is_held, Cause("stop", reason="emergency stop"))

    def _set_output(self, device: str, value: OutputValue, for_s: float | None, order_id: str | None) -> None:
        try:
            time_words = None if for_s is None else f"for {seconds_words(for_s)}"
            self.board.set(device, value, cause=Cause("person", id=order_id, reason=time_words), for_s=for_s)
        except ToolError as error:
            self._link.rejections.add(self._link.topics.topic(Kind.OUTPUT_SET, node=self.id, device=device), error)

    # What the node shows of itself

    def card(self) -> NodeCard:
        """What the node is and can do."""
        return self._showing.card()

    def _reflexes_changed(self) -> None:
        if self._link.is_connected:
            self._showing.send_card()

    def _reflex_switched(self, reflex: str, is_on: bool | None) -> None:
        if self._link.is_connected or is_on is None:
            self._showing.send_reflex(reflex, is_on)

    def _timer_finished(self, timer: Finished) -> None:
        late = f", {seconds_words(round(timer.late_s))} ago" if timer.late_s >= 1 else ""
        _log.info("%s: the timer %s has ended%s: %s", self.id, timer.name, late, timer.text)
        data = {"name": timer.name, "text": timer.text, "for_s": timer.length_s, "late_s": round(timer.late_s, 3)}
        self._showing.send_event("timer_finished", "timer", data)

    def _announce(self) -> None:
        """Card, health and every state, then ``online`` last (promise 5)."""
        self._showing.send_card()
        self._send_health()
        self._showing.send_states()
        self._link.send_presence(True)

    def _changed(self, change: Change) -> None:
        said = self._showing.changed(change)
        self._reflexes.hear(said)
        if isinstance(said, OutputChanged):
            self._actor.post(OutputNoted(said.device, said.value, said.cause))

    async def _publish_health(self) -> None:
        while True:
            await asyncio.sleep(self.settings.health_interval_s)
            try:
                self._look_for_master()
                self._send_health()
            except Exception:  # noqa: BLE001 - the top of a service loop: three missing ones make the node offline
                _log.exception("a bug: %s could not say how it is", self.id)

    def _send_health(self) -> None:
        percent = self._cpu.percent()
        numbers = {
            **read_health(),
            **({} if percent is None else {"cpu_percent": percent}),
            "running": float(self._core.running),
            "queued": float(self._core.queued),
            "stopped": float(self._core.is_stopped),
            "rejected_messages": float(self._link.rejections.total),
            "broken_skills": float(self._skills.loader.broken),
            "silent_sensors": float(len(self.board.silent())),
        }
        self._showing.send_health(numbers)
