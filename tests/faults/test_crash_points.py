"""A node and a master die at each point of a task's way, and start again: one reply, one effect at most, and the truth.

What died between an effect and its record cannot know how it was; it looks, and says what it found.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pibot_mesh.client import Client
from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.master.service import Master
from pibot_mesh.node import service
from pibot_mesh.protocol.messages import Reply, State
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.faults import doomed

DIES_WITHIN_S = 20.0
REPLIES_WITHIN_S = 40.0
FOUND_ON = "after the restart fan was found on, as ordered, and is off now"
FOUND_OFF = "after the restart fan was found off, not on as ordered"


class Doomed:
    """A party in a process of its own, which is to die at *point*, and is started again then."""

    def __init__(self, party: str, broker: Mosquitto, state_dir: Path, root: str, point: str) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self._command = [sys.executable, "-m", "tests.faults.doomed", party, str(broker.port), str(state_dir), root]
        self._log = state_dir / "log.txt"
        self._start(point)

    async def die_and_rise(self) -> None:
        """Wait until it has died at its point, and start it again, with nothing to die of."""
        await until(lambda: self._process.poll() is not None, "it dies", timeout_s=DIES_WITHIN_S)
        assert self._process.returncode == -signal.SIGKILL, self._log.read_text()
        self._start("")

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._process.pid

    def kill(self) -> None:
        """Without a word."""
        self._process.kill()
        self._process.wait()

    def _start(self, point: str) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*self._command, point], stderr=log)


def settings_of_the_fan(state_dir: Path) -> int:
    """How often the fan was set by a task, as the record outside the mesh tells."""
    return len((state_dir / "effects.log").read_text().splitlines())


async def the_one_reply(client: Client, victim: Doomed, watcher: Recorder, *, also_read: bool) -> Reply:
    """The reply to a request that sets the fan, whose way *victim* does not survive at first."""
    asked = [("read", "read the temperature on n1")] if also_read else []
    asked.append(("fan", "turn on the fan on n1"))
    async with asyncio.TaskGroup() as group:
        asking = [
            group.create_task(client.ask(text, request_id=name, timeout_s=REPLIES_WITHIN_S)) for name, text in asked
        ]
        await victim.die_and_rise()
    await watcher.settle()
    said = [message.payload for message in watcher.received if message.topic.endswith("/fan/reply")]
    assert len(set(said)) == 1, "different replies to one request"
    return asking[-1].result()


@needs_mosquitto
@pytest.mark.parametrize(
    ("point", "state", "effects", "says"),
    [
        ("before queued is stored", State.COMPLETED, 1, ""),
        ("after queued is stored", State.COMPLETED, 1, ""),
        ("before running is stored", State.COMPLETED, 1, ""),
        ("after running is stored", State.UNKNOWN, 0, FOUND_OFF),
        ("before the effect", State.UNKNOWN, 0, FOUND_OFF),
        ("after the effect", State.UNKNOWN, 1, FOUND_ON),
        ("before ended is stored", State.UNKNOWN, 1, FOUND_ON),
        ("after ended is stored", State.COMPLETED, 1, ""),
        ("before the result is sent", State.COMPLETED, 1, ""),
        ("after the result is sent", State.COMPLETED, 1, ""),
        ("before forgotten is stored", State.COMPLETED, 1, ""),
        ("after forgotten is stored", State.COMPLETED, 1, ""),
    ],
)
async def test_a_node_that_dies_says_the_truth_when_it_is_back(
    point: str, state: State, effects: int, says: str, tmp_path: Path
) -> None:
    """At most one effect; and where it cannot know, what it found on the pin."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Mosquitto() as broker:
        async with AsyncExitStack() as stack:
            settings = MasterSettings(root, broker.settings, tmp_path / "master", request_timeout_s=REPLIES_WITHIN_S)
            master = await stack.enter_async_context(Master(settings))
            watcher = await stack.enter_async_context(Recorder(broker.settings, "watcher", f"{root}/request/+/reply"))
            client = await stack.enter_async_context(Client(broker.settings, root=root))
            victim = Doomed("n1", broker, tmp_path / "n1", root, point)
            stack.callback(victim.kill)
            await until(lambda: "n1" in master.pool.online(), "the node is online")

            reply = await the_one_reply(client, victim, watcher, also_read=True)

    assert (reply.state, settings_of_the_fan(tmp_path / "n1")) == (state, effects), reply.text
    [step] = reply.results
    assert says in (step.error.message if step.error else "")
    assert step.output.data.get("value") == ("OFF" if says else "ON")


@needs_mosquitto
@pytest.mark.parametrize(
    "point",
    [
        f"{when} {what}"
        for what in (
            "the request is stored",
            "the plan is stored",
            "the task is sent",
            "the reply is stored",
            "the reply is sent",
            "that the reply is sent is stored",
        )
        for when in ("before", "after")
    ],
)
async def test_a_master_that_dies_goes_on_when_it_is_back(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is completed as if nothing had been: one effect, one reply."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(service, "Board", doomed.DoomedBoard)
    with Mosquitto() as broker:
        async with AsyncExitStack() as stack:
            victim = Doomed("master", broker, tmp_path / "master", root, point)
            stack.callback(victim.kill)
            node = await stack.enter_async_context(doomed.node("n1", broker.settings, tmp_path / "n1", root))
            watcher = await stack.enter_async_context(
                Recorder(broker.settings, "watcher", f"{root}/request/+/reply", f"{root}/master/status")
            )
            client = await stack.enter_async_context(Client(broker.settings, root=root, wait_s=10))
            await node.wait_connected()
            await until(lambda: any(m.payload == b"online" for m in watcher.received), "the master is online")

            reply = await the_one_reply(client, victim, watcher, also_read=False)

    assert (reply.state, settings_of_the_fan(tmp_path / "n1")) == (State.COMPLETED, 1), reply.text
