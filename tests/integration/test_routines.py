"""Schedules and triggers of a real master: what makes them, what they make, and how a person sees and switches them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.settings import (
    BrokerSettings,
    DeviceSettings,
    MasterSettings,
    NodeSettings,
    Place,
    ScheduleSettings,
    TriggerSettings,
)
from pibot_mesh.master.schedule_times import SunTimes
from pibot_mesh.master.service import Master
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import NodeEvent, RoutineState
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.integration.programs import PIBOT, environment
from tests.postgres import Postgres, needs_postgres

pytestmark = needs_mosquitto

PLACE = Place(0.0, 0.0)
BELL = TriggerSettings("bell", "turn on the lamp", "porch", "button", "pressed", rest_s=0.0)
MORNING = ScheduleSettings("morning", "turn on the lamp", "0 7 * * *", missed="run")
LAMP = DeviceSettings("lamp", "switch", 17, "lamp", "hall")
BUTTON = DeviceSettings("button", "button", 27, "button", "hall")


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as broker:
        yield broker


@pytest.fixture
async def watcher(broker: Mosquitto) -> AsyncIterator[Recorder]:
    """Somebody who hears of all requests and routines, and can play a node."""
    async with Recorder(broker.settings, "watcher", "+/request/+/event", "+/routine/+") as watcher:
        yield watcher


def settings(broker: Mosquitto, folder: Path, **fields: object) -> MasterSettings:
    return replace(
        MasterSettings(broker=broker.settings, state_dir=folder, place=PLACE, schedules=(MORNING,), triggers=(BELL,)),
        **fields,  # type: ignore[arg-type]
    )


def sun_in(seconds: float) -> ScheduleSettings:
    """A schedule that is due so many seconds from now, to within one: cron words would take a minute."""
    at = time.time() + seconds
    sunset = SunTimes("sunset", 0.0, 0.0).first_after(at - 12 * 3600)
    assert sunset is not None
    return ScheduleSettings("soon", "turn on the lamp", "sunset", offset_s=round(at - sunset))


def accepted(watcher: Recorder) -> list[str]:
    """The ids of the requests that a master took, in their order."""
    events = [message for message in watcher.received if message.topic.endswith("/event")]
    return [message.topic.split("/")[-2] for message in events if b'"request_accepted"' in message.payload]


def states(watcher: Recorder, name: str) -> list[RoutineState | None]:
    """What was told of a routine; None where it was taken away."""
    told = [message.payload for message in watcher.received if message.topic.endswith(f"/routine/{name}")]
    return [decode(RoutineState, payload) if payload else None for payload in told]


def press(watcher: Recorder, seq: int, *, root: str = "pibot") -> None:
    """The button of a node that is played by the watcher."""
    watcher.client.publish(f"{root}/node/porch/event", encode(NodeEvent("pressed", "button", "b1", seq)), qos=1)


async def pibot(folder: Path, broker: BrokerSettings, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, beside the mesh that runs in this process."""

    def run() -> subprocess.CompletedProcess[str]:
        env = environment(folder, PIBOT_BROKER=str(broker))
        return subprocess.run([*PIBOT, *args], env=env, capture_output=True, text=True, check=False, timeout=30)

    return await asyncio.to_thread(run)


async def test_a_button_on_one_node_turns_on_a_lamp_on_another(
    broker: Mosquitto, watcher: Recorder, tmp_path: Path
) -> None:
    """By the master's words, as if a person had said them; each press once."""
    nodes = [
        NodeSettings("porch", broker=broker.settings, state_dir=tmp_path, devices=(BUTTON,), simulate=True),
        NodeSettings("hall", broker=broker.settings, state_dir=tmp_path, devices=(LAMP,), simulate=True),
    ]
    async with Master(settings(broker, tmp_path)) as master, Node(nodes[0]) as porch, Node(nodes[1]) as hall:
        await master.wait_online("porch", "hall")
        porch.board.simulated_pin("button").drive_low()
        await until(lambda: hall.board.outputs()["lamp"][0] is True, "the lamp is on")

    [request] = accepted(watcher)
    assert request.startswith(f"trg-bell-{porch.boot}-")


async def test_an_event_that_is_delivered_twice_makes_one_request(
    broker: Mosquitto, watcher: Recorder, tmp_path: Path
) -> None:
    """Also to two processes of the master, one after the other."""
    async with Master(settings(broker, tmp_path)) as master:
        await master.wait_connected()
        press(watcher, 1)
        press(watcher, 1)
        press(watcher, 2)
        await until(lambda: accepted(watcher) == ["trg-bell-b1-1", "trg-bell-b1-2"], "both presses")
    async with Master(settings(broker, tmp_path)) as again:
        await again.wait_connected()
        press(watcher, 2)
        press(watcher, 3)
        await until(lambda: "trg-bell-b1-3" in accepted(watcher), "the third press")

    assert accepted(watcher) == ["trg-bell-b1-1", "trg-bell-b1-2", "trg-bell-b1-3"]


async def test_a_schedule_is_run_once_though_the_master_starts_anew(
    broker: Mosquitto, watcher: Recorder, tmp_path: Path
) -> None:
    """At its time; and the next process, which is there a moment later, knows of it."""
    at = settings(broker, tmp_path, schedules=(sun_in(7.0),))
    async with Master(at):
        await until(lambda: accepted(watcher), "it is due", timeout_s=20)
    told = states(watcher, "soon")[-1]
    assert told is not None
    async with Master(at):
        await until(lambda: states(watcher, "soon")[-1] not in (None, told), "it is up again")
        press(watcher, 1)
        await until(lambda: "trg-bell-b1-1" in accepted(watcher), "it has looked at the clock since")

    [first, _] = accepted(watcher)
    assert first.startswith("sch-soon-")


async def test_a_schedule_that_was_due_while_no_master_ran_is_made_up_for(
    broker: Mosquitto, watcher: Recorder, tmp_path: Path
) -> None:
    """Of a master that was away for a moment; before it was known there was none."""
    at = settings(broker, tmp_path, schedules=(sun_in(7.0), replace(sun_in(-5.0), id="before")))
    async with Master(at):
        await until(lambda: (state := states(watcher, "soon")) and state[-1] and state[-1].next_ts, "it is known")
    due = states(watcher, "soon")[-1]
    assert due is not None
    assert due.next_ts is not None
    await until(lambda: time.time() > (due.next_ts or 0) + 1, "its time is over", timeout_s=20)
    assert accepted(watcher) == []
    async with Master(at):
        await until(lambda: accepted(watcher), "it is made up for")

    assert len(accepted(watcher)) == 1


async def test_routines_are_listed(broker: Mosquitto, tmp_path: Path) -> None:
    """As a table, and as JSON; without a master too, with a word and another code."""
    async with Master(settings(broker, tmp_path)) as master:
        await master.wait_connected()
        await until(master._routines._routines.wake_at, "the next time is known")
        table = await pibot(tmp_path, broker.settings, "routines")
        listed = await pibot(tmp_path, broker.settings, "routines", "--json")
    after = await pibot(tmp_path, broker.settings, "routines")

    assert table.returncode == listed.returncode == 0
    [morning] = [line for line in table.stdout.splitlines() if line.split()[:1] == ["morning"]]
    assert "on" in morning
    assert "At 07:00 every day" in morning
    assert "07:00:00" in morning
    assert "When button of porch sends 'pressed'" in table.stdout
    found = json.loads(listed.stdout)
    assert found["master"] == {"online": True}
    assert [(each["id"], each["is_on"]) for each in found["routines"]] == [("morning", True), ("bell", True)]
    assert after.returncode == 3
    assert "no master is online" in after.stderr


async def test_a_routine_is_switched_and_run_by_hand(broker: Mosquitto, watcher: Recorder, tmp_path: Path) -> None:
    """The command waits until it is so; what is off makes nothing, but for a person."""
    async with Master(settings(broker, tmp_path)) as master:
        await master.wait_connected()
        off = await pibot(tmp_path, broker.settings, "routines", "off", "bell")
        press(watcher, 1)
        run = await pibot(tmp_path, broker.settings, "routines", "run", "bell")
        on = await pibot(tmp_path, broker.settings, "routines", "on", "bell", "--json")
        press(watcher, 2)
        await until(lambda: "trg-bell-b1-2" in accepted(watcher), "it hears again")

    assert (off.returncode, off.stdout) == (0, "bell is off\n")
    assert (run.returncode, on.returncode) == (0, 0)
    [by_hand, _] = accepted(watcher)
    assert run.stdout == f"request {by_hand}: turn on the lamp\n"
    assert by_hand.startswith("run-bell-")
    assert json.loads(on.stdout)["routine"]["is_on"] is True


async def test_what_cannot_be_switched_is_said(broker: Mosquitto, tmp_path: Path) -> None:
    """With what may have been meant."""
    async with Master(settings(broker, tmp_path)) as master:
        await master.wait_connected()
        slip = await pibot(tmp_path, broker.settings, "routines", "on", "bel")
        unknown = await pibot(tmp_path, broker.settings, "routines", "run", "xyz")
        missing = await pibot(tmp_path, broker.settings, "routines", "on")
        needless = await pibot(tmp_path, broker.settings, "routines", "list", "bell")
    nobody = await pibot(tmp_path, broker.settings, "routines", "on", "bell")

    assert slip.stderr == "pibot: the master has no routine 'bel': did you mean 'bell'?\n"
    assert unknown.stderr == "pibot: the master has no routine 'xyz': there are: bell, morning\n"
    assert "say which one: pibot routines on ID" in missing.stderr
    assert "'pibot routines' lists all of them" in needless.stderr
    assert [done.returncode for done in (slip, unknown, missing, needless, nobody)] == [2, 2, 2, 2, 3]


async def test_without_routines_the_list_says_so(broker: Mosquitto, tmp_path: Path) -> None:
    """And where to read on."""
    async with Master(settings(broker, tmp_path, schedules=(), triggers=())) as master:
        await master.wait_connected()
        done = await pibot(tmp_path, broker.settings, "routines")

    assert (done.returncode, done.stdout.split(":")[0]) == (0, "The master has no schedules and no triggers")


async def test_a_routine_that_is_gone_from_the_file_is_gone_from_the_topics(
    broker: Mosquitto, watcher: Recorder, tmp_path: Path
) -> None:
    """Nobody sees it for ever; and a switch that somebody left on its topic switches nothing."""
    async with Master(settings(broker, tmp_path)) as master:
        await master.wait_connected()
        await until(lambda: states(watcher, "bell"), "it is told")
    watcher.client.publish("pibot/routine/morning/set", b"OFF", qos=1, retain=True)
    async with Master(settings(broker, tmp_path, triggers=())) as again:
        await until(lambda: states(watcher, "bell")[-1] is None, "it is taken away")
        await until(lambda: again.refused, "the retained switch is refused")
        await until(lambda: "routine/bell" not in again._ledger.read_settings(""), "it is forgotten")

    morning = states(watcher, "morning")[-1]
    assert morning is not None
    assert morning.is_on


@needs_postgres
async def test_two_masters_make_each_request_once(broker: Mosquitto, tmp_path: Path) -> None:
    """While both hear everything, and when the one that leads leaves in between."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Postgres() as database:
        async with AsyncExitStack() as stack:
            watcher = await stack.enter_async_context(Recorder(broker.settings, "watcher", f"{root}/request/+/event"))
            first_stack = await stack.enter_async_context(AsyncExitStack())
            masters = []
            for number, on in enumerate((first_stack, stack)):
                at = settings(broker, tmp_path / str(number), ledger=database.url, root=root)
                masters.append(await on.enter_async_context(Master(at)))
                await masters[-1].wait_connected()
            for seq in range(5):
                press(watcher, seq, root=root)
            watcher.client.publish(f"{root}/routine/bell/set", b"RUN", qos=1)
            await until(lambda: len(accepted(watcher)) >= 6, "all of them")
            press(watcher, 5, root=root)
            await first_stack.aclose()
            press(watcher, 6, root=root)
            await until(lambda: "trg-bell-b1-6" in accepted(watcher), "the other one leads", timeout_s=20)
            records = masters[1]._ledger.recent(100)

    by_event = [each for each in accepted(watcher) if each.startswith("trg-")]
    assert sorted(set(by_event)) == [f"trg-bell-b1-{seq}" for seq in range(7)]
    assert sorted(record.request.id for record in records if record.request.id.startswith("trg-")) == sorted(
        set(by_event)
    )
    assert len([record for record in records if record.request.id.startswith("run-")]) == 1
