"""A process of the mesh that kills itself at one point.

``python -m tests.faults.doomed PARTY PORT STATE_DIR ROOT POINT``: PARTY is ``master`` or a node's id. The points of a
node are those of the task that sets its fan, whose request is named ``fan``; those of a master are of its first
request. An empty POINT is never reached. The fan's task waits for another one, ``read``, so that it is queued first.
Each setting of the fan that was made stands as a line in ``effects.log``, a record outside the mesh.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pibot_mesh.config.settings import BrokerSettings, MasterSettings, NodeSettings
from pibot_mesh.hardware.board import Board, default_simulated_devices
from pibot_mesh.master.events import Record
from pibot_mesh.mqtt.link import Link
from pibot_mesh.node import service as node_service
from pibot_mesh.node.events import Forgotten, NodeEffect, Save
from pibot_mesh.node.journal import Journal
from pibot_mesh.protocol.messages import Cause, OutputValue
from pibot_mesh.protocol.topics import Kind

WAITS_S = 0.4
"""How long the task takes that the fan's waits for."""

_point = ""


def reach(point: str) -> None:
    """The process is at *point*: if it is the one where it has to die, it dies here and now."""
    if point == _point:
        os.kill(os.getpid(), signal.SIGKILL)


class DoomedBoard(Board):
    """Writes down each setting that a task made."""

    log: int

    def set(self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None) -> OutputValue:
        reach("before the effect")
        reads = super().set(device, value, cause=cause, for_s=for_s)
        os.write(self.log, f"{cause.id} {device} {value}\n".encode())
        reach("after the effect")
        return reads

    async def read(self, device: str) -> dict[str, float]:
        await asyncio.sleep(WAITS_S)
        return await super().read(device)


class DoomedJournal(Journal):
    """A journal whose writes are points."""

    def write(self, effects: Sequence[NodeEffect]) -> None:
        stored = [what for effect in effects if (what := _of_the_fan(effect))]
        for what in stored:
            reach(f"before {what} is stored")
        super().write(effects)
        for what in stored:
            reach(f"after {what} is stored")


class DoomedLink(Link):
    """A connection on which what is sent is a point: before it is, and when the broker has it."""

    def send(self, kind: Kind, payload: bytes, **rest: Any) -> None:
        what = _sent(kind, rest.get("id", ""))
        if what is not None:
            reach(f"before {what} is sent")
            rest["delivered"] = _then(f"after {what} is sent", rest.get("delivered"))
        super().send(kind, payload, **rest)


def _of_the_fan(effect: NodeEffect) -> str:
    match effect:
        case Save(entry) if entry.task.request == "fan":
            return entry.phase
        case Forgotten(attempts) if any(task.startswith("fan") for task in attempts):
            return "forgotten"
    return ""


def _progress(record: Record) -> str:
    if record.is_sent:
        return "that the reply is sent"
    if record.reply is not None:
        return "the reply"
    return "the plan" if record.steps else "the request"


def _sent(kind: Kind, name: str) -> str | None:
    if kind is Kind.TASK_RESULT and not name.startswith("fan"):
        return None
    return {Kind.TASK_RESULT: "the result", Kind.NODE_TASK: "the task", Kind.REQUEST_REPLY: "the reply"}.get(kind)


def _then(point: str, delivered: Callable[[], None] | None) -> Callable[[], None]:
    def then() -> None:
        reach(point)
        if delivered is not None:
            delivered()

    return then


def node(name: str, broker: BrokerSettings, state_dir: Path, root: str) -> node_service.Node:
    """A node with one fan to set, that does one thing at a time."""
    state_dir.mkdir(parents=True, exist_ok=True)
    DoomedBoard.log = os.open(state_dir / "effects.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    devices = default_simulated_devices()
    settings = NodeSettings(name, root, broker, state_dir, devices=devices, simulate=True, running=1)
    return node_service.Node(settings)


async def _run_node(name: str, broker: BrokerSettings, state_dir: Path, root: str) -> None:
    places = {"Board": DoomedBoard, "Journal": DoomedJournal, "Link": DoomedLink}
    node_service.__dict__.update(places)  # they take the places of the real ones in this process
    async with node(name, broker, state_dir, root) as one:
        await one.wait_given_way()


async def _run_master(broker: BrokerSettings, state_dir: Path, root: str) -> None:
    from pibot_mesh.master import service
    from pibot_mesh.master.events import MasterEffect, Save as SaveRecord
    from pibot_mesh.master.ledger import Ledger

    class DoomedLedger(Ledger):
        """A ledger whose writes are points, by what they bring of a request that was not there before."""

        stored: ClassVar[set[str]] = set()

        def write(self, effects: Sequence[MasterEffect]) -> frozenset[str]:
            records = [effect.record for effect in effects if isinstance(effect, SaveRecord)]
            new = [what for what in map(_progress, records) if what not in self.stored]
            for what in new:
                reach(f"before {what} is stored")
            lost = super().write(effects)
            self.stored.update(new)
            for what in new:
                reach(f"after {what} is stored")
            return lost

    service.__dict__.update({"Ledger": DoomedLedger, "Link": DoomedLink})
    async with service.Master(MasterSettings(root, broker, state_dir, request_timeout_s=40)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    [_, party, port, folder, mesh_root, _point] = sys.argv
    _broker = BrokerSettings(port=int(port), username=party, keepalive_s=5)
    _folder = Path(folder)
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(
        _run_master(_broker, _folder, mesh_root) if party == "master" else _run_node(party, _broker, _folder, mesh_root)
    )
