"""Requests that outlive their master or broker: ``pibot ask`` waits, ``pibot watch`` says so, and the story is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import Reply, State
from tests.brokers import Mosquitto, needs_mosquitto, until
from tests.integration.programs import PIBOT, Program, environment

pytestmark = needs_mosquitto

NODE = """\
node: {id: attic, simulate: true}
devices:
  fan: {kind: switch, pin: 17}
skills: {shipped: []}
"""
SLOW_FAN = '''
from pathlib import Path

from pibot_mesh.agent.tools import ToolContext, tool
from pibot_mesh.protocol.messages import Output

HERE = Path(__file__).parent.parent


@tool(effect="actuate", timeout_s=120)
def output_set(device: str, value: str, context: ToolContext) -> Output:
    """Set an output, once somebody lets it.

    Args:
        device: Which.
        value: ON or OFF.
    """
    with (HERE / "begun").open("a") as begun:
        begun.write("x")
    while not (HERE / "let").exists():
        if context.canceled.wait(0.02):
            return Output("stopped")
    return Output(f"{device} is {value}", {"device": device, "value": value})
'''
START_S = 30.0
ACCEPTED = r"accepted as [0-9a-f]{32}"
PLANNED = ["plan:", "  s1: attic: output_set(device=fan, value=ON)", "→ s1 to attic"]
DONE = "✓ s1 on attic: fan is ON"


@dataclass
class House:
    """A broker, a master and a node, each a process; the node's fan waits until it is let."""

    folder: Path
    broker: Mosquitto
    running: contextlib.ExitStack

    def __post_init__(self) -> None:
        self.master = self.start_master()
        self.start("node", "--config", str(self.folder / "node.yaml"), "--state-dir", str(self.folder))

    def start(self, *args: str) -> Program:
        env = environment(self.folder, PIBOT_BROKER=str(self.broker.settings), USER="ann", LOGNAME="ann")
        return self.running.enter_context(Program([*PIBOT, *args], env=env))

    def start_master(self) -> Program:
        return self.start("master", "--state-dir", str(self.folder / "master"))

    async def do(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        program = self.start(*args)
        code = await asyncio.to_thread(program.wait)
        return subprocess.CompletedProcess(args, code, program.out, program.err)

    async def ask(self, *more: str) -> Program:
        """Ask for the fan, and wait until the node works on it."""
        asking = self.start("ask", *more, "turn on the fan on attic")
        await until((self.folder / "begun").exists, "the fan waits")
        if not more:
            await asyncio.to_thread(asking.wait_for, "→ s1 to attic")
        return asking

    def kill_master(self) -> None:
        """SIGKILL: the broker says so after ten seconds, unless it is back by then."""
        self.master.process.kill()
        self.master.process.wait()

    def let(self) -> None:
        """Let the fan be set."""
        (self.folder / "let").touch()

    async def history(self, *args: str) -> str:
        done = await self.do("history", "--state-dir", str(self.folder / "master"), *args)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Ready for requests."""
    (tmp_path / "skills").mkdir(mode=0o700)
    (tmp_path / "skills" / "slow.py").write_text(SLOW_FAN)
    (tmp_path / "node.yaml").write_text(NODE)
    with Mosquitto() as broker, contextlib.ExitStack() as running:
        house = House(tmp_path, broker, running)
        deadline = time.monotonic() + START_S
        while '"fan":false' not in (await house.do("status", "--json")).stdout:
            assert time.monotonic() < deadline, "the node is not online"
        yield house


def lines(asking: Program) -> list[str]:
    """What was said on standard error, without the id of the request."""
    first, *others = asking.err.splitlines()
    assert re.fullmatch(ACCEPTED, first)
    return others


# The master goes away and comes back


async def test_ask_waits_for_a_master_that_is_killed(house: House) -> None:
    """One line when it goes, one when it is back, then the answer; the fan was set once."""
    asking = await house.ask()
    house.kill_master()
    await asyncio.to_thread(asking.wait_for, "^the master went away", timeout_s=30)
    house.start_master()
    await asyncio.to_thread(asking.wait_for, "^the master is back")
    house.let()

    assert await asyncio.to_thread(asking.wait) == 0
    assert lines(asking) == [
        *PLANNED,
        "the master went away; the request stands in its ledger, waiting for it to come back",
        "the master is back, and goes on with the request",
        DONE,
    ]
    assert asking.out == "attic: the fan is on.\n"
    assert (house.folder / "begun").read_text() == "x"


async def test_a_reply_that_was_there_before_the_return_was_noticed(house: House) -> None:
    """The fan is set while there is no master: its return is told all the same, and then the answer."""
    asking = await house.ask()
    house.kill_master()
    await asyncio.to_thread(asking.wait_for, "^the master went away", timeout_s=30)
    house.let()
    house.start_master()

    assert await asyncio.to_thread(asking.wait) == 0
    assert lines(asking)[3:] == [
        "the master went away; the request stands in its ledger, waiting for it to come back",
        "the master is back, and goes on with the request",
        DONE,
    ]


async def test_a_master_that_is_back_at_once_is_told_in_one_line(house: House) -> None:
    """Before the broker has told that it was gone."""
    asking = await house.ask()
    house.kill_master()
    house.start_master()
    await asyncio.to_thread(asking.wait_for, "^the master was gone for a moment", timeout_s=30)
    house.let()

    assert await asyncio.to_thread(asking.wait) == 0
    assert lines(asking) == [
        *PLANNED,
        "the master was gone for a moment; the request goes on from its ledger",
        DONE,
    ]


async def test_programs_hear_nothing_of_it(house: House) -> None:
    """``--json`` prints the reply, when it comes."""
    asking = await house.ask("--json")
    house.kill_master()
    house.start_master()
    house.let()

    assert await asyncio.to_thread(asking.wait, 30) == 0
    assert decode(Reply, asking.out.encode()).state is State.COMPLETED
    assert asking.err == ""


# The broker goes away and comes back


async def test_ask_and_watch_wait_for_a_broker_that_is_killed(house: House) -> None:
    """One line each when it goes, one when it is back; then the answer."""
    watching = house.start("watch", "request/#")
    asking = await house.ask()
    await asyncio.to_thread(watching.wait_for, "task_accepted")
    house.broker.kill()
    await asyncio.to_thread(asking.wait_for, "^the broker went away")
    await asyncio.to_thread(watching.wait_for, "^the broker went away")
    house.broker.start()
    await asyncio.to_thread(asking.wait_for, "^the broker is back", timeout_s=30)
    await asyncio.to_thread(watching.wait_for, "^the broker is back", timeout_s=30)
    house.let()

    assert await asyncio.to_thread(asking.wait, 30) == 0
    assert lines(asking) == [
        *PLANNED,
        "the broker went away; waiting for it to come back",
        "the broker is back, and the master with it",
        DONE,
    ]
    await asyncio.to_thread(watching.wait_for, "request/[0-9a-f]+/reply")
    watching.send(signal.SIGINT)
    assert await asyncio.to_thread(watching.wait) == 130
    gone, back = watching.err.splitlines()
    assert re.fullmatch(r"the broker went away \(.+\); waiting for it to come back", gone)
    assert back == "the broker is back"


# Histories


async def test_the_story_of_a_request_is_kept(house: House) -> None:
    """Over a kill of the master: the plan, the attempt, who cancelled, and how it ended; by the beginning of its id."""
    asking = await house.ask()
    house.kill_master()
    house.start_master()
    await asyncio.to_thread(asking.wait_for, "^the master was gone for a moment", timeout_s=30)
    request_id = asking.err.splitlines()[0].removeprefix("accepted as ")
    assert (await house.do("cancel", request_id)).returncode == 0
    assert await asyncio.to_thread(asking.wait) == 2

    story = await house.history(request_id[:10])

    assert story.startswith(f"request {request_id}\n  turn on the fan on attic\n  accepted 20")
    assert "\n  s1 on attic, 0." in story
    assert "\nevents:\n       0.00 s  accepted\n" in story
    assert "= the master was started anew" in story
    assert re.search(r"s  ! cancelled \(ann@\S+, pibot cancel\)$", story, re.MULTILINE)
    told = json.loads(await house.history("--json", request_id))
    assert told["cancelled"]["by"].endswith(", pibot cancel")
    assert told["state"] == "canceled"
    assert [event["is_anew"] for event in told["events"]].count(True) == 1
    assert [attempt["node"] for attempt in told["attempts"]] == ["attic"]
    [line] = (await house.history()).splitlines()
    assert re.fullmatch(rf"20\d\d-\S+ \S+  {request_id[:8]}  canceled +\d+\S* s  turn on the fan on attic", line)


async def test_ctrl_c_says_who_pressed_it(house: House) -> None:
    """The user, the machine and the program."""
    asking = await house.ask()
    asking.send(signal.SIGINT)
    assert await asyncio.to_thread(asking.wait) == 130
    request_id = asking.err.splitlines()[0].removeprefix("accepted as ")

    cancelled = json.loads(await house.history("--json", request_id))["cancelled"]

    assert re.fullmatch(r"ann@\S+, pibot ask", cancelled["by"])
    assert cancelled["reason"] == "Ctrl-C"
