"""A whole mesh in one process: a master and simulated nodes, for ``pibot up``."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pibot_mesh.cli.options import Connection
from pibot_mesh.config.settings import MasterSettings, NodeSettings
from pibot_mesh.hardware.board import default_simulated_devices
from pibot_mesh.master.service import Master
from pibot_mesh.node.service import Node

ROOMS: Final = ("kitchen", "balcony", "garage", "bedroom", "bathroom", "attic", "hall", "cellar")
"""The rooms of the first nodes; those after them have none."""


class LocalMesh(AbstractAsyncContextManager["LocalMesh"]):
    """A master and the nodes ``worker-1`` to ``worker-N``, with their state in one folder.

    Of *settings*, the master's, all counts but broker, root and state folder. The nodes ask its model. On leaving, all
    end side by side: outputs safe first, then goodbye to the broker. Raises StoreError and ConfigError as they do.
    """

    def __init__(self, mesh: Connection, nodes: int, state_dir: Path, settings: MasterSettings) -> None:
        self._mesh = mesh
        self.master = Master(replace(settings, root=mesh.root, broker=mesh.broker, state_dir=state_dir))
        self.nodes = tuple(self._node(number, state_dir) for number in range(1, nodes + 1))
        self._running: list[Master | Node] = []

    def _node(self, number: int, state_dir: Path) -> Node:
        room = ROOMS[number - 1] if number <= len(ROOMS) else ""
        devices = tuple(replace(device, room=room) for device in default_simulated_devices())
        return Node(
            NodeSettings(
                f"worker-{number}", self._mesh.root, self._mesh.broker, state_dir, devices=devices, simulate=True
            )
        )

    async def __aenter__(self) -> Self:
        try:
            await self.master.__aenter__()
            self._running.append(self.master)
            for node in self.nodes:
                await node.__aenter__()
                self._running.append(node)
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def wait_online(self, timeout_s: float) -> None:
        """Wait until the master sees every node. Raises BrokerError, with who is missing, where it takes longer."""
        await self.master.wait_online(*(node.id for node in self.nodes), timeout_s=timeout_s)

    async def _stop(self) -> None:
        running, self._running = self._running, []
        await asyncio.gather(*(part.__aexit__(None, None, None) for part in running), return_exceptions=True)
