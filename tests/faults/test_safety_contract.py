"""Outputs that are safe by contract: what the pins, the retained topics and the journal say after each thing that goes
wrong, with a node as a process of its own.

The table of docs/safety.md is what these tests found: with ``PIBOT_SAFETY_TABLE=1`` the last one writes it, else it
must stand there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from pibot_mesh.client import Client
from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.hardware.found import SimulatedLevels
from pibot_mesh.master.planner import OfflinePlanner, Planning, Situation, Words
from pibot_mesh.master.service import Master
from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import (
    Cause,
    Event,
    OutputValue,
    Plan,
    Reply,
    Request,
    State,
    Step,
    StepResult,
    decode_value,
)
from pibot_mesh.storage import rows_of_file
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.integration.programs import PIBOT, Program, environment

pytestmark = [needs_mosquitto, pytest.mark.asyncio(loop_scope="module")]

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "safety.md"
BEGIN: Final = "<!-- The table of what was tried: begin. Written by tests/faults/test_safety_contract.py. -->"
END: Final = "<!-- The table of what was tried: end. -->"
PINS: Final = {"fan": 17, "heater": 27, "valve": 22, "lamp": 18}
LOST_S: Final = 5
NODE: Final = """
node: {{id: n1, simulate: true}}
broker: {{port: {port}, keepalive_s: 5}}
state_dir: {folder}
safety:
  lost_after_s: 5
  interlocks: [[fan, heater]]
devices:
  fan: {{kind: relay, pin: 17}}
  heater: {{kind: relay, pin: 27, max_on_s: 2}}
  valve: {{kind: relay, pin: 22, on_lost: keep}}
  lamp: {{kind: light, pin: 18, on_lost: 20}}
skills: {{folders: [{skills}]}}
"""
SLOW: Final = '''
"""A tool that takes its time."""

import asyncio

from pibot_mesh.agent import tool


@tool(effect="actuate")
async def take_long() -> str:
    """Take a minute."""
    await asyncio.sleep(60)
    return "done"
'''


class _Planner:
    """The offline engine, and the words "fan and wait": an output is set, and then something takes long."""

    def __init__(self) -> None:
        self._engine = OfflinePlanner()

    async def plan(self, request: Request, situation: Situation) -> Planning:
        if request.text != "fan and wait":
            return await self._engine.plan(request, situation)
        fan = Step("s1", node="n1", tool="output_set", args={"device": "fan", "value": "ON"})
        return Planning(Plan("offline", (fan, Step("s2", node="n1", tool="take_long", after=("s1",)))))

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        return self._engine.answer(plan, results)

    async def write(self, _: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        return Words(self.answer(plan, results))

    def examples(self, language: str) -> list[str]:
        return self._engine.examples(language)

    def close(self) -> None:
        self._engine.close()


class House:
    """A broker, a master in this process, a node in its own, and three ways to see what its outputs are at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Mosquitto(["persistence true", "autosave_interval 1"])
        self.broker.add(f"persistence_location {self.broker.folder}/")
        self.found: dict[str, dict[str, str]] = {}
        self._node: Program | None = None
        self._master: Master | None = None
        skills = folder / "skills"
        skills.mkdir()
        (skills / "slow.py").write_text(SLOW)
        self._config = folder / "node.yaml"
        self._config.write_text(NODE.format(port=self.broker.port, folder=folder / "n1", skills=skills))

    def start_node(self) -> None:
        """Start the node's process."""
        self._node = Program([*PIBOT, "node", "--config", str(self._config)], env=environment(self.folder))

    async def end_node(self, how: signal.Signals) -> None:
        """Send the node a signal, and wait until it has ended."""
        assert self._node is not None
        self._node.send(how)
        await asyncio.to_thread(self._node.wait)

    async def start_master(self) -> None:
        """Start the master."""
        settings = MasterSettings(broker=self.broker.settings, state_dir=self.folder / "master")
        self._master = await Master(settings, planner=_Planner()).__aenter__()

    async def end_master(self) -> None:
        """End it; the mesh knows at once."""
        if self._master is not None:
            await self._master.__aexit__(None, None, None)
        self._master = None

    async def close(self) -> None:
        """End all."""
        await self.end_master()
        if self._node is not None:
            self._node.__exit__()
        self.broker.stop()

    async def is_ready(self) -> bool:
        """Wait until the node is online and nothing is on."""
        await until(
            lambda: self._master is not None and "n1" in self._master.pool.online(), "the node is online", timeout_s=30
        )
        await self.ask("turn off the fan on n1 and turn off the heater on n1")
        await self.ask("turn off the valve on n1 and turn off the lamp on n1")
        return True

    async def ask(self, sentence: str) -> Reply:
        """Ask the master."""
        async with Client(self.broker.settings, wait_s=20) as client:
            return await client.ask(sentence, timeout_s=20)

    def pins(self) -> dict[str, str]:
        """What the mock pins are at; one that nobody drives is off."""
        levels = SimulatedLevels(self.folder / "n1" / "pins-n1")
        try:
            return {device: _words(levels.read(pin) or 0.0) for device, pin in PINS.items()}
        finally:
            levels.close()

    def journal(self) -> dict[str, str]:
        """What the journal says."""
        query = "SELECT device, value FROM output"
        rows = rows_of_file(self.folder / "n1" / "node-n1.sqlite", "output", query) or []
        return {device: _state(json.loads(value)) for device, value in rows}

    async def topics(self) -> dict[str, str]:
        """What is retained, as somebody finds it who comes now."""
        async with Recorder(self.broker.settings, "looker", "pibot/node/n1/out/+", session_expiry_s=0) as looker:
            await until(lambda: len(looker.received) >= len(PINS), "every state is retained")
            values = {message.topic.rpartition("/")[2]: decode_value(message.payload) for message in looker.received}
        return {device: _state(value) for device, value in values.items()}

    async def cause(self, device: str) -> Cause:
        """What set an output last, as it is retained."""
        async with Recorder(
            self.broker.settings, "asker", f"pibot/node/n1/out/{device}/cause", session_expiry_s=0
        ) as asker:
            await until(lambda: asker.received, "a cause is retained")
            return decode(Cause, asker.received[0].payload)

    async def agrees_on(self, what: str, **expected: str) -> None:
        """Wait until pins, topics and journal all say *expected* (off, where nothing is named), and note it."""
        whole = {device: expected.get(device, "off") for device in PINS}
        await until(lambda: self.pins() == whole, f"{what}: the pins are {whole}", timeout_s=30)
        await until(lambda: self.journal() == whole, f"{what}: the journal says so")
        async with asyncio.timeout(30):
            while await self.topics() != whole:
                await asyncio.sleep(0.1)
        self.found[what] = whole


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """With everything online."""
    async with AsyncExitStack() as stack:
        house = House(tmp_path_factory.mktemp("house"))
        stack.push_async_callback(house.close)
        house.broker.start()
        await house.start_master()
        house.start_node()
        yield house


async def test_a_node_that_is_told_to_end_turns_all_off(house: House) -> None:
    """SIGTERM: safe values first, and they are said."""
    await house.is_ready()
    await house.ask("turn on the fan on n1 and set the lamp on n1 to 40 %")
    await house.agrees_on("a node at work", fan="on", lamp="40 %")
    await house.end_node(signal.SIGTERM)

    await house.agrees_on("the node ended (SIGTERM)")
    assert (await house.cause("fan")).reason == "the node stops"
    house.start_node()


async def test_a_node_that_is_killed_leaves_its_pins_and_says_so_when_it_is_back(house: House) -> None:
    """SIGKILL: what a killed process leaves is the kernel's business; the next start ends it, and tells what it was."""
    await house.is_ready()
    await house.ask("turn on the fan on n1 for 10 minutes")
    await house.agrees_on("a node at work", fan="on")
    await house.end_node(signal.SIGKILL)

    await house.agrees_on("the node killed (SIGKILL), not started yet", fan="on")
    house.start_node()
    await house.agrees_on("the node killed (SIGKILL), and started again")
    cause = await house.cause("fan")
    assert cause.by == "start"
    assert "before the restart it was on, set by task" in (cause.reason or "")
    assert "10 minutes" in (cause.reason or "")


async def test_without_a_broker_each_output_does_what_its_owner_said(house: House) -> None:
    """Off by default, a value of its own, or as it is; and not before its time."""
    await house.is_ready()
    await house.ask("turn on the fan on n1 and set the lamp on n1 to 80 %")
    await house.ask("turn on the valve on n1")
    house.broker.kill()
    await asyncio.sleep(LOST_S / 2)
    assert house.pins() == {"fan": "on", "heater": "off", "valve": "on", "lamp": "80 %"}, "a short absence is nothing"
    await until(lambda: house.pins()["fan"] == "off", "the fan is off", timeout_s=20)
    house.broker.start()

    await until(lambda: house._master is not None and "n1" in house._master.pool.online(), "it is back", timeout_s=30)
    await house.agrees_on("no broker for longer than `lost_after_s`, and the broker back", valve="on", lamp="20 %")
    assert (await house.cause("fan")).by == "safety"


async def test_without_a_master_the_same_holds(house: House) -> None:
    """The broker answers, and nobody looks after the house."""
    await house.is_ready()
    await house.ask("turn on the fan on n1 and turn on the valve on n1")
    await house.end_master()

    await house.agrees_on("no master for longer than `lost_after_s`", valve="on", lamp="20 %")
    assert "no master" in ((await house.cause("fan")).reason or "")
    await house.start_master()


async def test_what_may_be_on_for_so_long_goes_off_by_itself(house: House) -> None:
    """However often it is turned on meanwhile."""
    await house.is_ready()
    await house.ask("turn on the heater on n1")
    assert house.pins()["heater"] == "on"
    await house.ask("turn on the heater on n1")

    await house.agrees_on("`max_on_s` reached")
    assert (await house.cause("heater")).by == "safety"


async def test_a_plan_that_an_interlock_forbids_fails_in_words(house: House) -> None:
    """What was on stays on, what must not join it stays off."""
    await house.is_ready()
    await house.ask("turn on the fan on n1")
    reply = await house.ask("turn on the heater on n1")

    assert reply.state is State.FAILED
    assert "fan is on" in reply.text
    await house.agrees_on("an interlock (heater, fan) violated by a plan", fan="on")


async def test_the_emergency_stop_ends_a_plan_and_holds_over_a_restart(house: House) -> None:
    """What runs is ended, everything is off, nothing can be set; a node that starts under it switches nothing on."""
    await house.is_ready()
    await house.ask("turn on the valve on n1")
    begun = asyncio.Event()

    def heard(event: Event) -> None:
        if event.type == "task_accepted" and event.data.get("step") == "s2":
            begun.set()

    async with (
        Client(house.broker.settings, wait_s=20) as client,
        Recorder(house.broker.settings, "person") as person,
    ):
        asking = asyncio.ensure_future(client.ask("fan and wait", timeout_s=30, on_event=heard))
        await asyncio.wait_for(begun.wait(), 20)
        assert house.pins()["fan"] == "on"
        person.client.publish("pibot/stop", b"STOP", qos=1, retain=True)
        reply = await asking
        await house.agrees_on("the emergency stop during a plan")
        assert reply.state is State.FAILED
        assert "emergency stop" in (await house.ask("turn on the fan on n1")).text
        await house.end_node(signal.SIGKILL)
        house.start_node()
        await until(lambda: house._master is not None and "n1" in house._master.pool.online(), "it is back")
        assert "emergency stop" in (await house.ask("turn on the fan on n1")).text
        await house.agrees_on("a restart under the emergency stop")
        person.client.publish("pibot/stop", b"RUN", qos=1, retain=True)
        await person.settle()
    await until(lambda: house.pins()["fan"] == "off", "its end sets nothing")


async def test_the_table_of_the_document_is_what_was_found(house: House) -> None:
    """Row by row."""
    del house.found["a node at work"]
    lines = ["| after | " + " | ".join(PINS) + " |", "| --- |" + " --- |" * len(PINS)]
    lines += [f"| {what} | {' | '.join(state.values())} |" for what, state in house.found.items()]
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join([BEGIN, "", *lines, "", END])
    if os.environ.get("PIBOT_SAFETY_TABLE"):
        DOCUMENT.write_text(before + table + after, encoding="utf-8")

    assert table in DOCUMENT.read_text(encoding="utf-8")


def _state(value: OutputValue) -> str:
    return _words(100.0 * value if isinstance(value, bool) else float(value))


def _words(percent: float) -> str:
    return {0.0: "off", 100.0: "on"}.get(percent, f"{percent:g} %")
