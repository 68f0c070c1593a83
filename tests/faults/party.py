"""One process of the mesh, for tests that harm it: ``python -m tests.faults.party master|NODE PORT STATE_DIR ROOT``.

Where the broker is a cluster, PORT is several, with commas between. A fifth argument is an `Ailment` as JSON.

A node writes each setting of an output, whoever ordered it and also where nobody did, before it is made, as a line to
``effects.log`` in its state directory, and ``start`` when it starts: a record outside the mesh, which survives the kill
and cannot be talked away.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pibot_mesh import storage
from pibot_mesh.config.settings import BrokerSettings, MasterSettings, NodeSettings
from pibot_mesh.hardware.board import Board, default_simulated_devices
from pibot_mesh.hardware.outputs import Write
from pibot_mesh.mqtt import link
from pibot_mesh.mqtt.client import MqttClient

READ_ONLY = "read-only"
"""A file of this name in the state directory: nothing can be written to the party's database as long as it is there."""


@dataclass(frozen=True, slots=True)
class Ailment:
    """What is not as usual with a party.

    *will_delay_s* and *keepalive_s* are shortened so that an absence is noticed while a test waits; a sensor takes
    *sensor_s*; *disk*, a folder, is where the state is instead.
    """

    keepalive_s: int = 5
    will_delay_s: int = 10
    session_s: int = 60
    sensor_s: float = 0.0
    open_requests: int = 500
    disk: str | None = None


async def run(party: str, ports: list[int], state_dir: Path, root: str, ailment: Ailment) -> None:
    """The party, until it is killed."""
    others = tuple(("127.0.0.1", port) for port in ports[1:])
    broker = BrokerSettings(port=ports[0], keepalive_s=ailment.keepalive_s, others=others)
    _ail(ailment, state_dir)
    if party == "master":
        await _run_master(broker, state_dir, root, ailment)
    await _run_node(party, broker, state_dir, root, ailment)


async def _run_master(broker: BrokerSettings, state_dir: Path, root: str, ailment: Ailment) -> None:
    from pibot_mesh.master.service import Master

    settings = MasterSettings(
        root,
        broker,
        Path(ailment.disk or state_dir),
        request_timeout_s=40,
        health_interval_s=2,
        open_requests=ailment.open_requests,
    )
    async with Master(settings):
        await asyncio.Event().wait()


async def _run_node(party: str, broker: BrokerSettings, state_dir: Path, root: str, ailment: Ailment) -> None:
    from pibot_mesh.node import service

    log = os.open(state_dir / "effects.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(log, b"start\n")

    class RecordingBoard(Board):
        def _write(self, write: Write) -> None:
            os.write(log, f"{write.cause.by} {write.cause.id} {write.device} {write.value}\n".encode())
            super()._write(write)

        async def read(self, device: str) -> dict[str, float]:
            await asyncio.sleep(ailment.sensor_s)
            return await super().read(device)

    service.__dict__["Board"] = RecordingBoard  # the recorder takes the board's place in this process
    settings = NodeSettings(
        party,
        root,
        broker,
        Path(ailment.disk or state_dir),
        devices=default_simulated_devices(),
        simulate=True,
        health_interval_s=2,
    )
    async with service.Node(settings):
        await asyncio.Event().wait()


def _ail(ailment: Ailment, state_dir: Path) -> None:
    """In this process: a will is earlier than usual, and a database can be made read-only from outside."""
    link.__dict__["_WILL_DELAY_S"] = ailment.will_delay_s

    def short_lived(*arguments: object, **named: object) -> MqttClient:
        return MqttClient(*arguments, session_expiry_s=ailment.session_s, **named)  # type: ignore[arg-type]

    link.__dict__["MqttClient"] = short_lived
    usual = storage.Database.transaction

    @contextlib.contextmanager
    def transaction(self: storage.Database, *, durable: bool) -> Iterator[sqlite3.Connection]:
        self._connection.execute(f"PRAGMA query_only={'ON' if (state_dir / READ_ONLY).exists() else 'OFF'}")
        with usual(self, durable=durable) as connection:
            yield connection

    storage.Database.transaction = transaction  # type: ignore[method-assign]


if __name__ == "__main__":
    [_, name, at, folder, topics_root, *rest] = sys.argv
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    how = Ailment(**json.loads(rest[0])) if rest else Ailment()
    asyncio.run(run(name, [int(port) for port in at.split(",")], Path(folder), topics_root, how))
