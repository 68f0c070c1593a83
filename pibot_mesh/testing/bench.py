"""A whole mesh in memory: one master core, some node cores, a broker that loses, doubles and delays, and a clock.

Everything follows from one seed. `Bench` performs effects as the services do (first store, then say), can end a process
between any two of them and start it again from what it had stored, and checks the promises of docs/protocol.md at every
step: a promise that is broken raises AssertionError with the seed in its text.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master import events as m
from pibot_mesh.master.core import MasterCore
from pibot_mesh.node import events as n
from pibot_mesh.node.core import NodeCore
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import (
    Capacity,
    Control,
    NodeCard,
    Output,
    Plan,
    Reply,
    Request,
    State,
    Task,
    WireError,
)
from pibot_mesh.testing.promises import Promises
from pibot_mesh.testing.world import NONE, SPECS, USUAL, Faults, MasterProcess, NodeProcess, Process

HEALTH_S: Final = 10.0
"""How often a node says how it is."""


class Bench:
    """A mesh in memory. `ask` and `cancel` what is wanted, `run` the clock, then `settle` and look at
    `promises`."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: Sequence[str] = ("n1", "n2", "n3"),
        faults: Faults = USUAL,
        capacity: Capacity = Capacity(2, 3),
        open_requests: int = 50,
        request_timeout_s: float = 60.0,
    ) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)
        self.faults = faults
        self.promises = Promises(seed, lambda: self.now)
        self._capacity = capacity
        self._open_requests = open_requests
        self._request_timeout_s = request_timeout_s
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._in_order: dict[str, float] = {}
        self._presence: dict[str, bool] = {}
        self._cards: dict[str, NodeCard] = {}
        self._is_stopped = False
        self.master = MasterProcess()
        self.nodes = {name: NodeProcess(name) for name in nodes}
        self._start_master()
        for node in self.nodes.values():
            self._start_node(node)
        self._each_second()

    # What a test does

    def ask(self, request: Request, plan: Plan | m.Refusal, *, times: int = 1) -> None:
        """A person asks, *times* times with the same id, and goes on asking while there is no reply."""
        self.promises.plans[request.id] = plan
        for _ in range(times):
            self._ask_until_answered(request)

    def cancel(self, request_id: str) -> None:
        """A person cancels a request."""
        self._to_master(m.RequestControlled(request_id, Control("cancel", reason="changed my mind")))

    def stop(self, is_stopped: bool) -> None:
        """A person pulls the emergency stop, or releases it."""
        self._is_stopped = is_stopped
        for node in self.nodes.values():
            self._to_node_in_order(node, n.StopSeen(is_stopped))

    def run(self, seconds: float) -> None:
        """Let *seconds* go by."""
        end = self.now + seconds
        while (at := self._next_at()) <= end:
            self.now = max(self.now, at)
            if self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            else:
                self._tick()
        self.now = end

    def settle(self, seconds: float = 200.0) -> None:
        """No more faults; let every request come to its end, and check that it did."""
        self.faults = NONE
        self.run(seconds)
        self.promises.check_ledger(self.master.ledger)
        self.promises.check(self.master.core.open_requests == 0, "a request is still open")

    # The clock

    def _at(self, at: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (at, self._count, action))

    def _next_at(self) -> float:
        times = [self._agenda[0][0]] if self._agenda else []
        for process in (self.master, *self.nodes.values()):
            if process.is_up and (wake_at := process.core.wake_at()) is not None:
                times.append(wake_at)
        return min(times)

    def _tick(self) -> None:
        for process in (self.master, *self.nodes.values()):
            if not process.is_up or (wake_at := process.core.wake_at()) is None or wake_at > self.now:
                continue
            if isinstance(process, MasterProcess):
                self._perform_master(process.core.tick(self.now))
            elif isinstance(process, NodeProcess):
                self._perform_node(process, process.core.tick(self.now))

    def _each_second(self) -> None:
        for process in (self.master, *self.nodes.values()):
            if process.is_connected and self.chance.random() < self.faults.cut:
                self._cut(process)
        if round(self.now) % HEALTH_S == 0:
            for node in self.nodes.values():
                if node.is_connected:
                    self._to_master(m.HealthSeen(node.name, {}))
        self._at(self.now + 1.0, self._each_second)

    # Lives and connections

    def _start_master(self) -> None:
        master = self.master
        master.life += 1
        master.is_up = True
        master.core = MasterCore(
            boot=f"master-{master.life}",
            own_card=NodeCard("master", "boot", "1"),
            answer=lambda _, results: " ".join(result.state for result in results),
            may_reply_to=lambda _: True,
            request_timeout_s=self._request_timeout_s,
            open_requests=self._open_requests,
            jitter=self.chance,
            remembered=[record for record in master.ledger.values() if not record.is_sent],
        )
        self._perform_master(master.core.start(self.now))
        self._connect_soon(master)

    def _start_node(self, node: NodeProcess) -> None:
        node.life += 1
        node.is_up = True
        remembered = n.Remembered(tuple(node.entries.values()), dict(node.forgotten), node.is_stopped)
        node.core = NodeCore(
            boot=f"{node.name}-{node.life}",
            tools=node.tools,
            capacity=self._capacity,
            jitter=self.chance,
            remembered=remembered,
        )
        self._perform_node(node, node.core.start())
        self._connect_soon(node)

    def _connect_soon(self, process: Process) -> None:
        life = process.life
        self._at(self.now + self.chance.uniform(0.05, 2), lambda: self._connect(process, life))

    def _connect(self, process: Process, life: int) -> None:
        if process.life != life or process.is_connected or not process.is_up:
            return
        process.is_connected = True
        process.session += 1
        if isinstance(process, NodeProcess):
            self._node_handles(process, n.Connected())
            self._to_node_in_order(process, n.StopSeen(self._is_stopped))
            self._to_node_in_order(process, n.MasterSeen(self._presence.get("master", False)))
            return
        self._master_handles(m.Connected())
        for name in self.nodes:
            if name in self._presence:
                self._to_master_in_order(m.NodeSeen(name, self._presence[name]))
            if name in self._cards:
                self._to_master_in_order(m.CardSeen(name, self._cards[name]))

    def _cut(self, process: Process) -> None:
        """The connection breaks; the broker says so soon, or not at all, or when the process is there again."""
        if not process.is_connected:
            return
        process.is_connected = False
        process.session += 1
        if self.chance.random() >= self.faults.mute:
            self._at(self.now + self.chance.uniform(0.01, 3), lambda: self._publish_presence(process, False))
        if process.is_up:
            if isinstance(process, NodeProcess):
                self._node_handles(process, n.Disconnected())
            else:
                self._master_handles(m.Disconnected())
            self._connect_soon(process)

    def _die(self, process: Process) -> None:
        process.is_up = False
        process.life += 1
        self._cut(process)
        again = self.chance.uniform(0.1, 20)
        if isinstance(process, NodeProcess):
            node = process
            self._at(self.now + again, lambda: self._start_node(node))
        else:
            self._at(self.now + again, self._start_master)

    # The broker

    def _publish_presence(self, process: Process, is_online: bool) -> None:
        self._presence[process.name] = is_online
        if isinstance(process, NodeProcess):
            self._to_master_in_order(m.NodeSeen(process.name, is_online))
            self._to_node_in_order(process, n.OwnStatusSeen(is_online))
            return
        self._to_master_in_order(m.OwnStatusSeen(is_online))
        for node in self.nodes.values():
            self._to_node_in_order(node, n.MasterSeen(is_online))

    def _deliver(self, deliver: Callable[[], None]) -> None:
        """Once, twice or never; at once or late."""
        if self.chance.random() < self.faults.loss:
            return
        for _ in range(2 if self.chance.random() < self.faults.twice else 1):
            is_late = self.chance.random() < self.faults.late
            self._at(self.now + self.chance.uniform(0.001, 5 if is_late else 0.02), deliver)

    def _deliver_in_order(self, name: str, deliver: Callable[[], None]) -> None:
        """What is retained is never lost: it comes again with each connection."""
        at = max(self._in_order.get(name, 0.0), self.now + 0.005)
        self._in_order[name] = at
        self._at(at, deliver)

    def _to_master(self, event: m.MasterInput) -> None:
        self._deliver(lambda: self._if_connected(self.master, lambda: self._master_handles(event)))

    def _to_master_in_order(self, event: m.MasterInput) -> None:
        self._deliver_in_order("master", lambda: self._if_connected(self.master, lambda: self._master_handles(event)))

    def _to_node(self, node: NodeProcess, event: n.NodeInput) -> None:
        self._deliver(lambda: self._if_connected(node, lambda: self._node_handles(node, event)))

    def _to_node_in_order(self, node: NodeProcess, event: n.NodeInput) -> None:
        self._deliver_in_order(node.name, lambda: self._if_connected(node, lambda: self._node_handles(node, event)))

    def _if_connected(self, process: Process, deliver: Callable[[], None]) -> None:
        if process.is_connected:
            deliver()

    # Processes

    def _master_handles(self, event: m.MasterInput) -> None:
        self._perform_master(self.master.core.handle(event, self.now))

    def _node_handles(self, node: NodeProcess, event: n.NodeInput) -> None:
        if isinstance(event, n.TaskArrived):
            node.delivered[event.task.id] = self.now
        self._perform_node(node, node.core.handle(event, self.now))
        self.promises.check(node.core.running <= self._capacity.running, "a node runs more than it may")
        self.promises.check(node.core.queued <= self._capacity.queued, "a node queues more than it may")

    def _dies_at(self, effects: Sequence[object]) -> int:
        """Before which effect the process dies: -1 is before anything was stored; past the last one is never."""
        if self.chance.random() < self.faults.crash:
            return self.chance.randint(-1, len(effects) - 1)
        return len(effects)

    def _perform_master(self, effects: Sequence[m.MasterEffect]) -> None:
        dies_at = self._dies_at(effects)
        if dies_at >= 0:
            self.master.ledger |= {
                effect.record.request.id: effect.record for effect in effects if isinstance(effect, m.Save)
            }
        for effect in effects[: max(0, dies_at)]:
            self._perform_one_master(effect)
        self.promises.check(self.master.core.open_requests <= self._open_requests, "too many requests are open")
        if dies_at < len(effects):
            self._die(self.master)

    def _perform_one_master(self, effect: m.MasterEffect) -> None:
        master = self.master
        match effect:
            case m.MakePlan(request):
                self.promises.check(request.id in master.ledger, f"{request.id} was planned before it was stored")
                life = master.life
                self._at(self.now + self.chance.uniform(0.001, 0.5), lambda: self._planned(request.id, life))
            case m.SendTask(node, task) if master.is_connected:
                steps = master.ledger[task.request].steps
                is_stored = any((step.task, step.attempt) == (task.id, task.attempt) for step in steps)
                self.promises.check(is_stored, f"{task.id} was sent before it was stored")
                self._to_node(self.nodes[node], n.TaskArrived(decode(Task, encode(task))))
            case m.SendTaskControl(node, task_id, control) if master.is_connected:
                self._to_node(self.nodes[node], n.TaskControlled(task_id, control))
            case m.SendForget(node, tasks) if master.is_connected:
                self._to_node(self.nodes[node], n.NodeControlled(Control("forget", tasks=tasks)))
            case m.SendEvent(event):
                encode(event)
            case m.SendReply(reply):
                self._say_reply(effect, reply)
            case m.Announce() if master.is_connected:
                self._publish_presence(master, True)

    def _planned(self, request_id: str, life: int) -> None:
        if self.master.life == life:
            self._master_handles(m.Planned(request_id, self.promises.plans[request_id]))

    def _say_reply(self, effect: m.SendReply, reply: Reply) -> None:
        encode(reply)
        if not self.master.is_connected:
            return
        if reply.error is not None and reply.error.code == ErrorCode.OVERLOADED:
            return
        self.promises.note_reply(reply, self.master.ledger.get(reply.id))
        if effect.is_final:
            session = self.master.session
            self._at(self.now + self.chance.uniform(0.001, 0.3), lambda: self._delivered(reply.id, session))

    def _delivered(self, request_id: str, session: int) -> None:
        if self.master.session == session:
            self._master_handles(m.ReplyDelivered(request_id))

    def _perform_node(self, node: NodeProcess, effects: Sequence[n.NodeEffect]) -> None:
        dies_at = self._dies_at(effects)
        if dies_at >= 0:
            self._store(node, effects)
        for effect in effects[: max(0, dies_at)]:
            self._perform_one_node(node, effect)
        if dies_at < len(effects):
            self._die(node)

    def _store(self, node: NodeProcess, effects: Sequence[n.NodeEffect]) -> None:
        for effect in effects:
            match effect:
                case n.Save(entry):
                    node.entries[entry.task.id] = entry
                case n.Forgotten(attempts):
                    node.forgotten |= attempts
                    for task in attempts:
                        del node.entries[task]
                case n.SaveStop(is_stopped):
                    node.is_stopped = is_stopped

    def _perform_one_node(self, node: NodeProcess, effect: n.NodeEffect) -> None:
        match effect:
            case n.StartTool(task):
                self.promises.note_start(node, task)
                life = node.life
                takes = 9.0 if self.chance.random() < self.faults.slow else self.chance.choice([0.01, 0.1, 1, 7])
                self._at(self.now + takes, lambda: self._tool_ends(node, task, life))
            case n.EndTool(task) if self.chance.random() < 0.5:
                life = node.life
                error = WireError(ErrorCode.CANCELED, "the tool was ended")
                canceled = n.ToolEnded(task.id, State.CANCELED, error=error)
                self._at(self.now + 0.01, lambda: self._tool_ends(node, task, life, canceled))
            case n.SendEvent(task_id, event) if node.is_connected:
                self._to_master(m.TaskEventSeen(node.name, task_id, event))
            case n.SendResult(result) if node.is_connected:
                entry = node.entries.get(result.id)
                is_stored = entry is not None and entry.result == result
                self.promises.check(is_stored, f"the result of {result.id} was said before it was stored")
                self._to_master(m.TaskResultSeen(node.name, result))
            case n.Announce() if node.is_connected:
                self._cards[node.name] = NodeCard(
                    node.name, f"{node.name}-{node.life}", "1", tools=SPECS, capacity=self._capacity
                )
                self._to_master_in_order(m.CardSeen(node.name, self._cards[node.name]))
                self._publish_presence(node, True)

    def _tool_ends(self, node: NodeProcess, task: Task, life: int, ended: n.ToolEnded | None = None) -> None:
        if node.life == life:
            done = n.ToolEnded(task.id, State.COMPLETED, Output("done", {"n": task.args["n"]}))
            self._node_handles(node, ended or done)

    # People

    def _ask_until_answered(self, request: Request) -> None:
        if self.promises.replies[request.id]:
            return
        self._deliver(lambda: self._if_connected(self.master, lambda: self._request_arrives(request)))
        self._at(self.now + self.chance.uniform(1, 20), lambda: self._ask_until_answered(request))

    def _request_arrives(self, request: Request) -> None:
        self._master_handles(m.RequestArrived(request, known=self.master.ledger.get(request.id)))
