"""The commands against a mesh that runs: output, exit codes, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from pibot_mesh.agent.tools import Tool, ToolContext
from pibot_mesh.cli.options import Connection
from pibot_mesh.cli.viewer import viewing
from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, MasterSettings, NodeSettings
from pibot_mesh.master.planner import OfflinePlanner, Planning, Situation, Words
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.client import Message
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import JSON, decode
from pibot_mesh.protocol.messages import (
    Event,
    Output,
    Plan,
    Reply,
    Request,
    State,
    Step,
    StepResult,
    ToolSpec,
)
from pibot_mesh.protocol.topics import Address, Kind
from tests.brokers import HOST, Mosquitto, free_port, needs_mosquitto, until
from tests.integration.programs import PIBOT, Program, Terminal, descendants, environment

pytestmark = needs_mosquitto
FAN = DeviceSettings("fan", "switch", 17, "fan", "attic")
AIR = DeviceSettings("air", "climate", None, "air", "attic")


async def _sleep(_: Mapping[str, JSON], __: ToolContext) -> Output:
    await asyncio.sleep(3600)
    return Output("slept")


class _Planner:
    """The offline engine, which also knows the words "sleep long": a step that only ends when it is cancelled."""

    def __init__(self) -> None:
        self._engine = OfflinePlanner()

    async def plan(self, request: Request, situation: Situation) -> Planning:
        if request.text == "sleep long":
            return Planning(Plan("offline", (Step("s1", node="attic", tool="sleep"),)))
        return await self._engine.plan(request, situation)

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        return self._engine.answer(plan, results)

    async def write(self, _: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        return Words(self.answer(plan, results))

    def examples(self, language: str) -> list[str]:
        return self._engine.examples(language)

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[BrokerSettings]:
    """A master and a node named attic, with a fan and a thermometer, on a Mosquitto of their own."""
    sleep = Tool(ToolSpec("sleep", parameters={"type": "object"}, timeout_s=3600), _sleep)
    with Mosquitto() as broker:
        settings = broker.settings
        master = Master(MasterSettings(broker=settings, state_dir=tmp_path), planner=_Planner())
        node = NodeSettings("attic", broker=settings, state_dir=tmp_path, devices=(FAN, AIR), simulate=True)
        async with master, Node(node, tools=[sleep]):
            await until(lambda: "attic" in master.pool.online(), "the node is online")
            yield settings


async def pibot(tmp_path: Path, *args: str, broker: BrokerSettings | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, beside the mesh that runs in this process."""
    more = {"PIBOT_BROKER": str(broker)} if broker is not None else {}

    def run() -> subprocess.CompletedProcess[str]:
        env = environment(tmp_path, **more)
        return subprocess.run([*PIBOT, *args], env=env, capture_output=True, text=True, check=False, timeout=30)

    return await asyncio.to_thread(run)


# ask


async def test_an_answer_is_on_standard_output_alone(mesh: BrokerSettings, tmp_path: Path) -> None:
    """In a pipe: plain lines of progress on standard error, the answer on standard output, and 0."""
    done = await pibot(tmp_path, "ask", "turn", "on", "the", "fan", "on", "attic", broker=mesh)

    assert done.returncode == 0
    assert done.stdout == "attic: the fan is on.\n"
    assert "✓ s1 on attic: fan is on" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


async def test_json_is_the_reply_and_nothing_else(mesh: BrokerSettings, tmp_path: Path) -> None:
    """``--json`` prints what docs/protocol.md calls a Reply; ``--node`` pins the request."""
    done = await pibot(tmp_path, "ask", "--json", "--node", "attic", "read the temperature", broker=mesh)

    reply = decode(Reply, done.stdout.encode())
    assert (done.returncode, done.stderr) == (0, "")
    assert reply.state is State.COMPLETED
    assert [result.node for result in reply.results] == ["attic"]


async def test_a_plan_is_shown_and_not_run(mesh: BrokerSettings, tmp_path: Path) -> None:
    """``--plan-only`` leaves the fan as it is."""
    done = await pibot(tmp_path, "ask", "--plan-only", "turn on the fan on attic", broker=mesh)
    after = await pibot(tmp_path, "ask", "is the fan on attic on", broker=mesh)

    assert done.returncode == 0
    assert done.stdout.startswith("s1: attic: output_set")
    assert "off" in after.stdout


@pytest.mark.parametrize("args", [["gibberish here"], ["--node", "cellar", "turn on the fan"], ["--json", "gibberish"]])
async def test_what_is_refused_ends_with_2(mesh: BrokerSettings, tmp_path: Path, args: list[str]) -> None:
    """The reason is the answer, in words or as JSON."""
    done = await pibot(tmp_path, "ask", *args, broker=mesh)

    assert done.returncode == 2
    if args[0] == "--json":
        assert decode(Reply, done.stdout.encode()).state is State.REJECTED
    else:
        assert done.stdout.strip()


async def test_requests_of_one_session_are_a_conversation(mesh: BrokerSettings, tmp_path: Path) -> None:
    """``--session`` goes on from the requests of that name, and of no other."""
    first = await pibot(tmp_path, "ask", "--session", "kitchen-1", "turn on the fan on attic", broker=mesh)
    other = await pibot(tmp_path, "ask", "--session", "hall", "and now off again", broker=mesh)
    second = await pibot(tmp_path, "ask", "--session", "kitchen-1", "and now off again", broker=mesh)
    question = await pibot(tmp_path, "ask", "--session", "kitchen-1", "and the temperature there?", broker=mesh)

    assert first.stdout == "attic: the fan is on.\n"
    assert (other.returncode, "no device was named" in other.stdout) == (2, True)
    assert second.stdout == "attic: the fan is off.\n"
    assert question.stdout.startswith("attic: the temperature is ")


async def test_a_text_that_is_too_long_ends_with_2(mesh: BrokerSettings, tmp_path: Path) -> None:
    """It is not even sent."""
    done = await pibot(tmp_path, "ask", "x" * 8001, broker=mesh)

    assert done.returncode == 2
    assert "8000" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", [["ask", "hi"], ["ask", "--json", "hi"], ["status"], ["watch"], ["cancel", "r1"]])
async def test_without_a_broker_there_is_one_line_and_3(tmp_path: Path, command: list[str]) -> None:
    """Within 5 seconds; it says that there is no broker."""
    nobody = BrokerSettings(HOST, free_port())
    started = time.monotonic()
    done = await pibot(tmp_path, *command, broker=nobody)

    assert time.monotonic() - started < 5
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert f"{nobody}: connection refused" in line


async def test_a_broker_that_does_not_answer_is_no_master(tmp_path: Path) -> None:
    """Something accepts the connection and says nothing."""
    with socket.create_server((HOST, 0)) as silent:
        nobody = BrokerSettings(HOST, silent.getsockname()[1])
        started = time.monotonic()
        done = await pibot(tmp_path, "ask", "hi", broker=nobody)

    assert time.monotonic() - started < 5
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "no connection" in line


@pytest.mark.parametrize("command", [["ask", "hi"], ["status"], ["cancel", "r1"]])
async def test_without_a_master_there_is_one_line_and_3(tmp_path: Path, command: list[str]) -> None:
    """The broker is there; the line says who is not, and what to do."""
    with Mosquitto() as broker:
        started = time.monotonic()
        done = await pibot(tmp_path, *command, broker=broker.settings)

    assert time.monotonic() - started < 5
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert "no master is online" in line
    assert "pibot master" in line


async def test_ctrl_c_cancels_the_request_and_shows_its_reply(mesh: BrokerSettings, tmp_path: Path) -> None:
    """130, and not a word of Python."""
    with _start(tmp_path, mesh, "ask", "sleep", "long") as asking:
        await asyncio.to_thread(asking.wait_for, "→ s1 to attic")
        asking.send(signal.SIGINT)
        assert await asyncio.to_thread(asking.wait) == 130

    assert "cancelling" in asking.err
    assert "Traceback" not in asking.err
    assert asking.out.strip()


async def test_progress_is_live_on_a_terminal(mesh: BrokerSettings, tmp_path: Path) -> None:
    """What is being done is said in a line that moves, and the answer stays."""
    args = [*PIBOT, "ask", "sleep", "long", "--broker", str(mesh)]
    with Terminal(args, env=environment(tmp_path)) as terminal:
        await asyncio.to_thread(terminal.wait_for, "s1: attic: sleep")
        await asyncio.to_thread(terminal.wait_for, "attic works on s1")
        terminal.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(terminal.wait_for, "cancelling")
        assert await asyncio.to_thread(terminal.wait) == 130
        assert "Traceback" not in terminal.text


async def test_ctrl_c_with_json_still_gives_the_reply(mesh: BrokerSettings, tmp_path: Path) -> None:
    """A program that reads it learns what had been done."""
    begun = asyncio.Event()

    def heard(_: Address, message: Message) -> None:
        if decode(Event, message.payload).type == "task_submitted":
            begun.set()

    async with viewing(Connection(mesh, "pibot"), [Kind.REQUEST_EVENT], heard):
        with _start(tmp_path, mesh, "ask", "--json", "sleep", "long") as asking:
            await asyncio.wait_for(begun.wait(), 10)
            asking.send(signal.SIGINT)
            assert await asyncio.to_thread(asking.wait) == 130

    assert decode(Reply, asking.out.encode()).state is State.CANCELED
    assert asking.err == ""


def _start(home: Path, broker: BrokerSettings, *args: str) -> Program:
    return Program([*PIBOT, *args], env=environment(home, PIBOT_BROKER=str(broker)))


# cancel


async def test_cancel_ends_a_request_and_shows_its_reply(mesh: BrokerSettings, tmp_path: Path) -> None:
    """0 where it was cancelled; whoever asked gets the reply too."""
    async with Client(mesh) as client:
        begun = asyncio.Event()
        asking = asyncio.ensure_future(client.ask("sleep long", request_id="long-1", on_event=lambda _: begun.set()))
        await asyncio.wait_for(begun.wait(), 10)
        done = await pibot(tmp_path, "cancel", "long-1", broker=mesh)
        reply = await asyncio.wait_for(asking, 10)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == reply.text + "\n"
    assert reply.state is State.CANCELED


async def test_cancelling_what_is_not_open_says_so(mesh: BrokerSettings, tmp_path: Path) -> None:
    """2, in one line."""
    done = await pibot(tmp_path, "cancel", "never-was", broker=mesh)

    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "never-was is not open" in line


# status


async def test_status_shows_nodes_devices_and_values(mesh: BrokerSettings, tmp_path: Path) -> None:
    """As a table, which a pipe gets without folded lines."""
    done = await pibot(tmp_path, "status", broker=mesh)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"master online at {mesh}, root pibot")
    assert [line for line in done.stdout.splitlines() if "attic" in line and "online" in line and "fan OFF" in line]
    assert "°C" in done.stdout


async def test_status_as_json(mesh: BrokerSettings, tmp_path: Path) -> None:
    """One object with everything that the broker keeps."""
    await pibot(tmp_path, "ask", "turn on the fan on attic", broker=mesh)
    done = await pibot(tmp_path, "status", "--json", broker=mesh)

    status = json.loads(done.stdout)
    assert status["master"]["online"] is True
    assert status["nodes"]["attic"]["outputs"] == {"fan": True}
    assert set(status["nodes"]["attic"]["sensors"]["air"]) == {"temperature", "humidity"}


async def test_status_that_is_watched_follows_and_ends_quietly(mesh: BrokerSettings, tmp_path: Path) -> None:
    """It shows a change; Ctrl-C ends it with 130."""
    more = {"PIBOT_BROKER": str(mesh), "FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    with Program([*PIBOT, "status", "--watch"], env=environment(tmp_path, **more)) as watching:
        await asyncio.to_thread(watching.wait_for, "attic.*online.*fan.*OFF")
        await pibot(tmp_path, "ask", "turn on the fan on attic", broker=mesh)
        await asyncio.to_thread(watching.wait_for, "attic.*online.*fan.*ON")
        watching.send(signal.SIGINT)
        assert await asyncio.to_thread(watching.wait) == 130

    assert watching.err == ""


# watch


async def test_watch_shows_what_is_kept_and_what_comes(mesh: BrokerSettings, tmp_path: Path) -> None:
    """Time, topic and payload; only what the filter says."""
    with _start(tmp_path, mesh, "watch", "node/attic/out/#") as watching:
        await asyncio.to_thread(watching.wait_for, r"^\d\d:\d\d:\d\d\.\d{3} kept pibot/node/attic/out/fan OFF$")
        await pibot(tmp_path, "ask", "turn on the fan on attic", broker=mesh)
        await asyncio.to_thread(watching.wait_for, r"^\d\d:\d\d:\d\d\.\d{3}      pibot/node/attic/out/fan ON$")
        watching.send(signal.SIGINT)
        assert await asyncio.to_thread(watching.wait) == 130

    assert "/status" not in watching.out
    assert watching.err == ""


async def test_watch_as_json_is_an_object_a_line(mesh: BrokerSettings, tmp_path: Path) -> None:
    """Payloads as text, also those that came while it ran; a whole topic as the filter works too."""
    with _start(tmp_path, mesh, "watch", "--json", "pibot/request") as watching:
        while not watching.out:  # it is not told when the subscription stands, so ask until it is seen
            await pibot(tmp_path, "ask", "status", broker=mesh)
        watching.send(signal.SIGINT)
        await asyncio.to_thread(watching.wait)

    line = json.loads(watching.out.splitlines()[0])
    assert line["topic"] == "pibot/request"
    assert json.loads(line["payload"])["text"] == "status"
    assert line["retain"] is False


async def test_watch_ends_when_nobody_reads_any_more(mesh: BrokerSettings, tmp_path: Path) -> None:
    """``pibot watch | head -1``: at once, not at the next message, and quietly."""
    process = subprocess.Popen(
        [*PIBOT, "watch", "node/attic/status", "--broker", str(mesh)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        first = await asyncio.to_thread(process.stdout.readline)
        assert first.endswith(b"pibot/node/attic/status online\n")
        process.stdout.close()
        assert await asyncio.to_thread(process.wait, 10) == 141
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


# services in the foreground


async def test_master_and_node_run_until_they_are_told_to_end(tmp_path: Path) -> None:
    """SIGTERM and SIGINT end both in good order, with 0; the node needs no file."""
    with Mosquitto() as broker:
        address = broker.settings
        with (
            _start(tmp_path, address, "master", "--state-dir", str(tmp_path)) as master,
            _start(
                tmp_path, address, "node", "--id", "porch", "--simulate", "--state-dir", str(tmp_path / "n")
            ) as node,
        ):
            await asyncio.to_thread(master.wait_for, "connected")
            await asyncio.to_thread(node.wait_for, "connected")
            done = await pibot(tmp_path, "ask", "--json", "turn on the fan on porch", broker=address)
            assert done.returncode == 0
            node.send(signal.SIGTERM)
            master.send(signal.SIGINT)
            assert await asyncio.to_thread(node.wait) == 0
            assert await asyncio.to_thread(master.wait) == 0
        after = json.loads((await pibot(tmp_path, "status", "--json", broker=address)).stdout)

    assert after["master"]["online"] is False
    assert after["nodes"]["porch"]["online"] is False
    assert after["nodes"]["porch"]["outputs"]["fan"] is False
    assert "Traceback" not in node.err + master.err


async def test_a_node_waits_for_its_broker(tmp_path: Path) -> None:
    """It is started first, as after a power cut."""
    port = free_port()
    with _start(tmp_path, BrokerSettings(HOST, port), "node", "--id", "porch", "--simulate") as node:
        await asyncio.to_thread(node.wait_for, "connection refused")
        with Mosquitto(port=port):
            await asyncio.to_thread(node.wait_for, "connected to the broker")
            node.send(signal.SIGTERM)
            assert await asyncio.to_thread(node.wait) == 0


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
async def test_a_broker_in_the_foreground(tmp_path: Path, engine: str) -> None:
    """It says where it listens, carries messages, and ends on Ctrl-C with 0."""
    with Program([*PIBOT, "broker", "--engine", engine, "--port", "0"], env=environment(tmp_path)) as broker:
        match = await asyncio.to_thread(broker.wait_for, r"on 127\.0\.0\.1:(\d+); Ctrl-C")
        done = await pibot(tmp_path, "status", broker=BrokerSettings(HOST, int(match[1])))
        assert "no node has ever been seen here" in done.stdout
        broker.send(signal.SIGINT)
        assert await asyncio.to_thread(broker.wait) == 0
    assert "Traceback" not in broker.err


async def test_a_broker_that_dies_is_told(tmp_path: Path) -> None:
    """Mosquitto is killed under ``pibot broker``, which then ends with 3 and one line."""
    args = [*PIBOT, "broker", "--engine", "mosquitto", "--port", "0"]
    with Program(args, env=environment(tmp_path)) as broker:
        await asyncio.to_thread(broker.wait_for, "Ctrl-C")
        [mosquitto] = descendants(broker.process.pid)
        os.kill(mosquitto, signal.SIGKILL)
        assert await asyncio.to_thread(broker.wait) == 3
    assert broker.err.splitlines()[-1].endswith("ended by itself")


async def test_a_broker_on_a_port_that_is_taken(tmp_path: Path) -> None:
    """One line, and 3."""
    with socket.create_server((HOST, 0)) as taken:
        done = await pibot(tmp_path, "broker", "--engine", "amqtt", "--port", str(taken.getsockname()[1]))

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
