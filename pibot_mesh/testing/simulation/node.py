"""A node in a simulated world: the real core, and a journal, tools and a connection that are not."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pibot_mesh.agent.settled import Settled
from pibot_mesh.errors import ErrorCode, StoreError
from pibot_mesh.node import events as n
from pibot_mesh.node.core import MAX_FORGOTTEN, NodeCore
from pibot_mesh.node.epochs import MAX_EPOCHS
from pibot_mesh.node.journal import needs_sync
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.protocol.messages import (
    Capacity,
    Event,
    NodeCard,
    Output,
    State,
    Task,
    WireError,
)
from pibot_mesh.protocol.topics import Address, Kind
from pibot_mesh.testing.simulation.client import Client
from pibot_mesh.testing.simulation.disk import Unsynced
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.network import Broker, Message
from pibot_mesh.testing.simulation.process import Process
from pibot_mesh.testing.simulation.runs import AgentRun, CallRun, Run
from pibot_mesh.testing.simulation.tools import BY_NAME, READ_BACK, SPECS, registry

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.promises import Promises

HEALTH_S: Final = 10.0
CAPACITIES: Final = (Capacity(1, 4), Capacity(2, 3))
"""Of even nodes, and of odd ones."""
_HEALTH: Final = {"running": 0.0}
_TOOLS: Final = registry()


class MemoryJournal:
    """What a node remembers; see `pibot_mesh.node.journal`. What was not synced goes when the plug is pulled."""

    def __init__(self) -> None:
        self.entries: dict[str, n.Entry] = {}
        self.forgotten: OrderedDict[str, int] = OrderedDict()
        self.epochs: OrderedDict[str, int] = OrderedDict()
        self.settings: dict[str, bool] = {"stop": False}
        self._unsynced = Unsynced()

    @property
    def is_stopped(self) -> bool:
        """Whether the emergency stop holds."""
        return self.settings["stop"]

    def read(self) -> n.Remembered:
        """All that is remembered."""
        return n.Remembered(
            tuple(self.entries.values()), dict(self.forgotten), self.is_stopped, epochs=dict(self.epochs)
        )

    def write(self, effects: Sequence[n.NodeEffect]) -> None:
        """Store the storable among *effects*."""
        self._unsynced.begin()
        for effect in effects:
            self.write_one(effect)
        if needs_sync(effects):
            self._unsynced.sync()

    def write_one(self, effect: n.NodeEffect) -> None:
        """Store one of them."""
        put = self._unsynced.put
        match effect:
            case n.Save(entry):
                put(self.entries, entry.task.id, entry)
                if entry.task.epoch:
                    epoch = max(entry.task.epoch, self.epochs.get(entry.task.request, 0))
                    put(self.epochs, entry.task.request, epoch)
                    self.epochs.move_to_end(entry.task.request)
            case n.Forgotten(attempts):
                for task, attempt in attempts.items():
                    self._unsynced.remove(self.entries, task)
                    put(self.forgotten, task, attempt)
                while len(self.forgotten) > MAX_FORGOTTEN:
                    self.forgotten.popitem(last=False)
                while len(self.epochs) > MAX_EPOCHS:
                    self.epochs.popitem(last=False)
            case n.SaveStop(is_stopped):
                put(self.settings, "stop", is_stopped)

    def pull_plug(self, nature: Nature) -> None:
        """The machine loses power."""
        self._unsynced.pull_plug(nature)

    def copy(self) -> MemoryJournal:
        """An image of it."""
        image = type(self)()
        image.entries.update(self.entries)
        image.forgotten.update(self.forgotten)
        image.epochs.update(self.epochs)
        return image


class NodeProcess(Process[n.NodeInput, n.NodeEffect]):
    """One node, from one start to the next."""

    core: NodeCore
    make_core: type[NodeCore] = NodeCore
    make_journal: type[MemoryJournal] = MemoryJournal

    def __init__(self, nature: Nature, broker: Broker, name: str, promises: Promises) -> None:
        super().__init__(nature, broker, name)
        self.promises = promises
        self.machine = f"{name}.1"
        """The machine that it is: a node that is swapped keeps its id, and nothing else."""
        is_odd = int(name.lstrip("n")) % 2
        self.labels = () if is_odd else ("even",)
        self.capacity = CAPACITIES[is_odd]
        self.journal = self.make_journal()
        self.runs: dict[str, Run] = {}
        self.is_stop_seen = False

    @property
    def boot(self) -> str:
        """The id of its present life."""
        return f"{self.machine}-{self.life}"

    def make(self) -> Sequence[n.NodeEffect]:
        self.runs = {}
        self.is_stop_seen = self.journal.is_stopped
        remembered = self.journal.read()
        self.core = self.make_core(
            boot=self.boot,
            tools=_TOOLS,
            capacity=self.capacity,
            jitter=random.Random(self.nature.chance.getrandbits(32)),
            has_agent=True,
            remembered=remembered,
            wall=self.wall,
        )
        name, address = self.name, Address(Kind.NODE_STATUS, self.name)
        listen = [
            *((kind, name) for kind in (Kind.NODE_TASK, Kind.TASK_CONTROL, Kind.NODE_CONTROL, Kind.NODE_STATUS)),
            *((kind, "") for kind in (Kind.MASTER_STATUS, Kind.STOP)),
        ]
        self.client = Client(self.nature, self.broker, self, name, listen=listen, will=address)
        self.later(self.nature.between(0.0, HEALTH_S), self._say_health)
        self.promises.node_starts(self)
        return self.core.start(self._settled(remembered.entries))

    def swap(self, journal: MemoryJournal) -> None:
        """Another machine takes the node's place; it remembers *journal*."""
        machine = f"{self.name}.{int(self.machine.rsplit('.', 1)[1]) + 1}"
        self.promises.swapped(self.machine, machine)
        self.machine, self.journal = machine, journal

    def leave(self) -> None:
        """It leaves the mesh for good, and its card is taken away."""
        self.is_gone = True
        if self.is_up:
            self.client.publish(Kind.NODE_STATUS, False, node=self.name)
            self.client.publish(Kind.NODE_CARD, None, node=self.name)
            self.client.leave()
            self.nature.after(0.5, self.die)

    def _settled(self, entries: Sequence[n.Entry]) -> dict[str, Settled]:
        """What can be read back of tasks that a crash cut off."""
        settled = {}
        for entry in entries:
            if entry.phase == "running" and entry.task.tool == READ_BACK:
                is_done = self.promises.has_effect(self.machine, entry.task)
                output = Output("it is set", {"n": entry.task.args["n"]}) if is_done else Output("it is not set")
                settled[entry.task.id] = Settled(output, is_done)
        return settled

    # In

    def connected(self) -> None:
        self.post(n.Connected(), is_own=True)

    def disconnected(self) -> None:
        self.post(n.Disconnected(), is_own=True)

    def received(self, message: Message) -> None:
        event = self._read(message)
        if self.stuck is not None and isinstance(event, n.TaskArrived):
            self._refuse_unstored(event.task, self.stuck)
            self.client.ack(message)
            return
        self.post(event, lambda: self.client.ack(message))

    def _read(self, message: Message) -> n.NodeInput:
        address, content, is_retained = message.address, message.content, message.is_retained
        match address.kind:
            case Kind.NODE_TASK:
                return n.TaskArrived(content, is_retained)
            case Kind.TASK_CONTROL:
                return n.TaskControlled(address.id, content, is_retained)
            case Kind.NODE_CONTROL:
                return n.NodeControlled(content, is_retained)
            case Kind.NODE_STATUS:
                return n.OwnStatusSeen(content)
            case Kind.MASTER_STATUS:
                return n.MasterSeen(content)
            case Kind.STOP:
                self.is_stop_seen = content
                return n.StopSeen(self.is_stop_seen)
        raise AssertionError(f"a node does not listen to {address.kind}")

    def _refuse_unstored(self, task: Task, why: StoreError) -> None:
        error = WireError(ErrorCode.STORAGE, str(why), retryable=True)
        event = Event(task.id, "task_rejected", self.boot, 0, 0.0, {"attempt": task.attempt, "error": to_dict(error)})
        self.client.publish(Kind.TASK_EVENT, event, node=self.name, id=task.id)

    def decide(self, event: n.NodeInput, at: float) -> Sequence[n.NodeEffect]:
        is_past = self.promises.before_node(self, event)
        effects = super().decide(event, at)
        self.promises.after_node(self, event, at, effects, is_past)
        return effects

    def decide_due(self) -> Sequence[n.NodeEffect]:
        effects = super().decide_due()
        self.promises.node_decides(self, self.mono, effects)
        return effects

    # Out

    def is_stored(self, effects: Sequence[n.NodeEffect]) -> bool:
        return any(isinstance(effect, (n.Save, n.Forgotten, n.SaveStop)) for effect in effects)

    def write(self, effects: Sequence[n.NodeEffect]) -> Sequence[n.NodeEffect]:
        if self.is_stored(effects):
            if self.disk.is_broken:
                raise StoreError("the disk is full")
            self.journal.write(effects)
        return effects

    def forget_unsynced(self) -> None:
        self.journal.pull_plug(self.nature)
        self.promises.plug_pulled(self.machine)

    def perform(self, effect: n.NodeEffect) -> None:
        self.promises.node_performs(self, effect)
        match effect:
            case n.StartTool(task, by):
                self._start_run(task, by)
            case n.EndTool(task, reason):
                if task.id in self.runs:
                    self.runs[task.id].end(reason)
            case n.LetCall(task_id) | n.SteerRun(task_id) | n.AnswerApproval(task_id):
                run = self.runs.get(task_id)
                if isinstance(run, AgentRun):
                    _pass_on(run, effect)
            case n.SendEvent(task_id, event):
                self.nature.note(self.name, "tells", task_id, event)
                self.client.publish(Kind.TASK_EVENT, event, node=self.name, id=task_id)
            case n.SendResult(result):
                self.nature.note(self.name, "sends result", result.id, result)
                self.client.publish(Kind.TASK_RESULT, result, node=self.name, id=result.id, keep=False)
            case n.Announce():
                self._announce()

    def _announce(self) -> None:
        card = NodeCard(
            self.name, self.boot, "1", labels=self.labels, tools=SPECS, capacity=self.capacity, agent=True, seq=1
        )
        self.client.publish(Kind.NODE_CARD, card, node=self.name)
        self.client.publish(Kind.NODE_HEALTH, _HEALTH, node=self.name)
        self.client.publish(Kind.NODE_STATUS, True, node=self.name)

    def _say_health(self) -> None:
        self.client.publish(Kind.NODE_HEALTH, _HEALTH, node=self.name)
        self.later(HEALTH_S, self._say_health)

    # What runs

    def _start_run(self, task: Task, by: float) -> None:
        if self.mono >= by:
            error = WireError(ErrorCode.EXPIRED, f"not started within {task.ttl_s:g} s", retryable=True)
            self.post(n.ToolEnded(task.id, State.REJECTED, error=error), is_own=True)
            return
        if self.is_held(task.tool):
            error = WireError(ErrorCode.STOPPED, "the emergency stop holds; a person must clear it")
            self.post(n.ToolEnded(task.id, State.REJECTED, error=error), is_own=True)
            return
        run: Run = AgentRun(self, task) if task.kind == "agent" else CallRun(self, task)
        self.runs[task.id] = run
        self.later(0.0, run.begin)

    def is_held(self, tool: str | None) -> bool:
        """Whether the emergency stop holds *tool*: it does not wait for a slow disk."""
        return self.is_stop_seen and tool is not None and BY_NAME[tool].effect == "actuate"

    def run_ended(self, run: Run, ended: n.ToolEnded) -> None:
        """A run is over. One that was left behind is not heard."""
        if self.runs.get(run.task.id) is run:
            del self.runs[run.task.id]
            self.post(ended, is_own=True)

    def ask_model(self, task: Task) -> None:
        """An agent asks the master's model. What the model says is the run's to know."""
        self.client.publish(Kind.LLM_REQUEST, (task.id,), node=self.name, keep=False)

    def told(self, run: Run, word: n.RunInput) -> None:
        """A run tells something on its way."""
        if self.runs.get(run.task.id) is run:
            self.post(word, is_own=True)


def _pass_on(run: AgentRun, order: n.AgentOrder) -> None:
    match order:
        case n.LetCall(_, call):
            run.let(call)
        case n.SteerRun(_, text):
            run.steer(text)
        case n.AnswerApproval(_, call, is_granted):
            run.answer(call, is_granted)
