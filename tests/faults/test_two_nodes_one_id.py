"""Two processes are given one node's id: the one that was there first works on, the other is refused in words."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.client import Client
from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.master.service import Master
from pibot_mesh.protocol.messages import Reply, State
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.faults.test_crash_points import Doomed

REFUSED_WITHIN_S = 30.0
FEWEST = 5
"""Requests that are made while the second comes and goes, at least."""


@needs_mosquitto
@pytest.mark.parametrize("options", [[], ["use_username_as_clientid true"]], ids=["by client id", "by username"])
async def test_the_second_is_refused_and_the_first_works_on(options: list[str], tmp_path: Path) -> None:
    """From another machine (another state folder). Requests meanwhile are each done once, and by the first."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Mosquitto(options) as broker:
        async with AsyncExitStack() as stack:
            as_master, as_asker = (replace(broker.settings, username=name) for name in ("master", "asker"))
            settings = MasterSettings(root, as_master, tmp_path / "master", request_timeout_s=60)
            master = await stack.enter_async_context(Master(settings))
            client = await stack.enter_async_context(Client(as_asker, root=root))
            first = Doomed("n1", broker, tmp_path / "first", root, "")
            stack.callback(first.kill)
            await until(lambda: "n1" in master.pool.online(), "the node is online")
            boot = master.pool.online()["n1"].boot

            other = second(broker, tmp_path / "second", root)
            stack.callback(other.kill)
            replies: list[Reply] = []
            hearing = asyncio.create_task(words_of(other))
            while not hearing.done() or len(replies) < FEWEST:
                value = "off" if len(replies) % 2 else "on"
                replies.append(await client.ask(f"turn {value} the fan on n1", timeout_s=60))
            said = await hearing
            await until(lambda: shows(master, boot), "the first shows itself")

    assert f"node n1: another process has this id, and was here before this one (its boot is {boot})" in said
    assert "give each node an id of its own" in said
    assert [reply.text for reply in replies if reply.state is not State.COMPLETED] == []
    assert sorted(done_by(tmp_path / "first")) == sorted(f"{reply.id}-s1" for reply in replies), "each once"
    assert done_by(tmp_path / "second") == []


@needs_mosquitto
async def test_a_second_on_the_same_machine_is_refused_before_it_touches_anything(tmp_path: Path) -> None:
    """It would have the same journal: a service runs, and somebody starts the node by hand."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Mosquitto() as broker:
        async with Recorder(broker.settings, "watcher", f"{root}/node/n1/card") as watcher, AsyncExitStack() as stack:
            first = Doomed("n1", broker, tmp_path, root, "")
            stack.callback(first.kill)
            await until(lambda: watcher.received, "the node is online")
            shown = len(watcher.received)

            other = second(broker, tmp_path, root)
            stack.callback(other.kill)
            said = await words_of(other)
            await watcher.settle()

            assert f"node-n1.lock: node n1 runs already, as process {first.pid}" in said
            assert len(watcher.received) == shown


def shows(master: Master, boot: str) -> bool:
    """Whether the node is online, and is the process *boot*."""
    card = master.pool.online().get("n1")
    return card is not None and card.boot == boot


def second(broker: Mosquitto, state_dir: Path, root: str) -> subprocess.Popen[str]:
    """Another process with the first one's id."""
    command = [sys.executable, "-m", "tests.faults.doomed", "n1", str(broker.port), str(state_dir), root, ""]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


async def words_of(process: subprocess.Popen[str]) -> str:
    """What a process says that ends by itself, with an error."""
    await until(lambda: process.poll() is not None, "it is refused", timeout_s=REFUSED_WITHIN_S)
    assert process.returncode == 1
    assert process.stderr is not None
    return process.stderr.read()


def done_by(state_dir: Path) -> list[str]:
    """The tasks that set the fan, as the record outside the mesh tells."""
    return [line.split()[0] for line in (state_dir / "effects.log").read_text().splitlines()]
