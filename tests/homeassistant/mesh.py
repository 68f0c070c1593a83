"""A mesh with every kind of device, as its files in ``house`` say, beside a broker that a Home Assistant speaks to."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from pibot_mesh.config.loader import load_master, load_node
from pibot_mesh.config.settings import MasterSettings, NodeSettings
from pibot_mesh.master.service import Master
from pibot_mesh.node.check import check_node
from pibot_mesh.node.service import Node
from tests.brokers import HOST, Mosquitto, Recorder, until
from tests.integration.programs import environment

FILES: Final = Path(__file__).parent / "house"
STATUS: Final = "homeassistant/status"
_ENDS_WITHIN_S: Final = 20
_HOME_CONNECTS: Final = re.compile(r"New client connected from \S+ as [0-9A-Za-z]{22} ")
"""Its client id is a new one each time."""


class Porch:
    """The node ``porch``: a process of its own, which can be killed. *file* is its own copy, which may be changed."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.file = folder / "porch.yaml"
        self.put_back()
        self._log = folder / "porch.log"
        state, at = str(folder / "porch"), f"{HOST}:{broker.port}"
        module = [sys.executable, "-m", "pibot_mesh", "node", str(self.file)]
        self._command = [*module, "--broker", at, "--state-dir", state]
        self._env = environment(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it comes online in its own time."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL: it says no word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(_ENDS_WITHIN_S)
        self._process = None

    def put_back(self) -> None:
        """Have its file as it was."""
        self.file.write_text((FILES / "porch.yaml").read_text(encoding="utf-8"), encoding="utf-8")

    def take_out(self, device: str) -> None:
        """Remove the line of *device* from its file."""
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
        left = [line for line in lines if not line.startswith(f"  {device}:")]
        assert len(left) == len(lines) - 1
        self.file.write_text("".join(left), encoding="utf-8")


class Mesh:
    """A broker with a store, a master and the nodes ``kitchen`` (in this process) and ``porch``. A context."""

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto()
        self.broker.add("persistence true", "autosave_interval 1", f"persistence_location {self.broker.folder}/")
        self._folder = folder
        self.porch = Porch(folder, self.broker)
        self._master: Master | None = None
        self._kitchen: Node | None = None
        self.watcher: Recorder
        self._parties = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(self.broker)
            self.watcher = await stack.enter_async_context(Recorder(self.broker.settings, "watcher", "#"))
            stack.callback(self.porch.kill)
            stack.push_async_callback(self.stop_master)
            stack.push_async_callback(self.stop_kitchen)
            await self.start_master()
            await self.start_kitchen()
            self.porch.start()
            assert self._master is not None
            await self._master.wait_online("kitchen", "porch")
            self._parties = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parties.aclose()

    @property
    def kitchen(self) -> Node:
        """The node whose pins can be looked at and driven."""
        assert self._kitchen is not None, "the kitchen does not run"
        return self._kitchen

    async def start_master(self) -> None:
        """Start the master, and wait until it is connected."""
        master = Master(self._master_settings())
        self._master = await master.__aenter__()
        await master.wait_connected()

    async def stop_master(self) -> None:
        """End it as SIGTERM does, where it runs."""
        master, self._master = self._master, None
        if master is not None:
            await master.__aexit__(None, None, None)

    async def start_kitchen(self) -> None:
        """Start the node, and wait until it is connected."""
        node = Node(self._kitchen_settings())
        self._kitchen = await node.__aenter__()
        await node.wait_connected()

    async def stop_kitchen(self) -> None:
        """End it as SIGTERM does, where it runs."""
        node, self._kitchen = self._kitchen, None
        if node is not None:
            await node.__aexit__(None, None, None)

    async def is_stored(self) -> None:
        """Wait until the broker has on its disk what was said so far; it writes every second."""
        await self.watcher.settle()
        store = self.broker.folder / "mosquitto.db"
        since = time.time()
        await until(lambda: store.exists() and store.stat().st_mtime > since, "the broker has written")

    async def devices_kept(self) -> set[str]:
        """The parties whose device the broker keeps for a Home Assistant that is yet to come."""
        async with Recorder(self.broker.settings, "newcomer", "homeassistant/device/#") as newcomer:
            await newcomer.settle()
            return {each.topic.split("/")[3] for each in newcomer.received if each.payload}

    def births(self) -> int:
        """How often Home Assistant has said that it is there."""
        return sum(each.topic == STATUS and each.payload == b"online" for each in self.watcher.received)

    async def until_born(self, births: int) -> float:
        """Wait until Home Assistant has said that it is there, oftener than *births* times; returns when it did."""
        await until(lambda: self.births() > births, "Home Assistant is online", timeout_s=120)
        return time.monotonic()

    async def until_home_connects(self, before: str) -> float:
        """Wait until Home Assistant connects to the broker, whose log was *before*; returns when it did."""
        await until(lambda: _HOME_CONNECTS.search(self.broker.log[len(before) :]), "it connects", timeout_s=60)
        return time.monotonic()

    def _master_settings(self) -> MasterSettings:
        settings = load_master(FILES / "master.yaml", {})
        return replace(settings, broker=self.broker.settings, state_dir=self._folder / "master")

    def _kitchen_settings(self) -> NodeSettings:
        settings = load_node(FILES / "kitchen.yaml", {}, check=check_node)
        return replace(settings, broker=self.broker.settings, state_dir=self._folder / "kitchen")
