"""One process of the mesh, for tests that kill it: ``python -m tests.faults.party master|NODE PORT STATE_DIR ROOT``.

A node writes each setting of an output, before it is made, as a line to ``effects.log`` in its state directory: a
record outside the mesh, which survives the kill and cannot be talked away.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pibot_mesh.config.settings import BrokerSettings, MasterSettings, NodeSettings
from pibot_mesh.hardware.board import Board, default_simulated_devices
from pibot_mesh.protocol.messages import Cause, OutputValue


async def run(party: str, port: int, state_dir: Path, root: str) -> None:
    broker = BrokerSettings(port=port, keepalive_s=5)
    if party == "master":
        from pibot_mesh.master.service import Master

        async with Master(MasterSettings(root, broker, state_dir, request_timeout_s=40, health_interval_s=2)):
            await asyncio.Event().wait()
    from pibot_mesh.node import service

    log = os.open(state_dir / "effects.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    class RecordingBoard(Board):
        def set(self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None) -> OutputValue:
            os.write(log, f"{cause.by} {cause.id} {device} {value}\n".encode())
            return super().set(device, value, cause=cause, for_s=for_s)

    service.__dict__["Board"] = RecordingBoard  # the recorder takes the board's place in this process
    settings = NodeSettings(
        party,
        root,
        broker,
        state_dir,
        devices=default_simulated_devices(),
        simulate=True,
        health_interval_s=2,
    )
    async with service.Node(settings):
        await asyncio.Event().wait()


if __name__ == "__main__":
    [_, party, port, state_dir, root] = sys.argv
    asyncio.run(run(party, int(port), Path(state_dir), root))
