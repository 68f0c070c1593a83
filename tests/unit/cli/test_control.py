"""``pibot approve``, ``deny`` and ``steer``: what they send, what they say of what comes of it, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli import control
from pibot_mesh.cli.control import outcome_line
from pibot_mesh.cli.main import pibot
from pibot_mesh.client import who
from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import JSON, decode, encode
from pibot_mesh.protocol.messages import Control, Event, Reply, State
from pibot_mesh.protocol.topics import Address, Kind, Topics
from tests.brokers import DEADLINE_S, HOST, Mosquitto, free_port, needs_mosquitto

CALL = "0a1b2c3d4e5f"
DOOR = {"call": CALL, "tool": "door_open", "reason": ""}

Answers = Callable[[Control], Sequence[Event | Reply]]


def event(kind: str, **facts: JSON) -> Event:
    """An event of the request r1."""
    return Event("r1", kind, "b", 0, 0.0, facts)


# what an event says of an order


@pytest.mark.parametrize(
    ("order", "told", "expected", "tone"),
    [
        (Control("approve", call=CALL), {**DOOR, "granted": True}, f"approved: door_open (call {CALL})", "good"),
        (Control("approve"), {**DOOR, "granted": True}, f"approved: door_open (call {CALL})", "good"),
        (Control("deny", call=CALL), {**DOOR, "granted": False}, f"denied: door_open (call {CALL})", "good"),
        (
            Control("approve", call=CALL),
            {**DOOR, "granted": False, "reason": "nobody approved it within 120 s"},
            f"door_open (call {CALL}) was denied already: nobody approved it within 120 s",
            "bad",
        ),
        (
            Control("deny", call=CALL),
            {**DOOR, "granted": True, "reason": "approved"},
            f"door_open (call {CALL}) was approved already: approved",
            "bad",
        ),
    ],
)
def test_an_answer_says_whether_it_is_ours(order: Control, told: dict[str, JSON], expected: str, tone: str) -> None:
    """Somebody else, or the clock, may have been faster."""
    line = outcome_line(order, event("approval_answered", **told))

    assert line is not None
    assert (line.text, line.tone) == (expected, tone)


def test_a_refusal_is_told_with_its_reason() -> None:
    """That of another order, or about another call, is not ours."""
    order = Control("approve", call=CALL)

    line = outcome_line(order, event("control_refused", action="approve", call=CALL, reason="no such call waits"))

    assert line is not None
    assert (line.text, line.tone) == ("the master refuses: no such call waits", "bad")
    assert outcome_line(order, event("control_refused", action="approve", call="ffff", reason="?")) is None
    assert outcome_line(order, event("control_refused", action="steer", reason="?")) is None


@pytest.mark.parametrize(
    ("tasks", "expected"), [(["t1"], "told one agent; read before"), (["t1", "t2"], "told 2 agents; read before")]
)
def test_steering_tells_how_many_agents_heard_it(tasks: list[JSON], expected: str) -> None:
    """The words tell whose steering it is."""
    order = Control("steer", text="not so loud")

    line = outcome_line(order, event("steered", text="not so loud", tasks=tasks))

    assert line is not None
    assert line.text.startswith(expected)
    assert outcome_line(order, event("steered", text="louder", tasks=tasks)) is None


def test_other_events_say_nothing_of_an_order() -> None:
    """Nor does the answer to a question that was not meant."""
    order = Control("approve", call=CALL)

    assert outcome_line(order, event("tool_start", call=CALL, name="door_open")) is None
    assert outcome_line(order, event("approval_answered", **{**DOOR, "call": "ffff"}, granted=True)) is None
    assert outcome_line(Control("steer", text="x"), event("approval_answered", **DOOR, granted=True)) is None


# the commands, against something that answers as a master does


class Stand:
    """A master that only answers orders, with what *answers* gives. *orders* are those that came."""

    def __init__(self, broker: BrokerSettings, answers: Answers) -> None:
        self.orders: list[tuple[str, Control]] = []
        self._answers = answers
        self._link = Link(
            broker,
            Topics("home"),
            client_id="stand",
            listen=[(Kind.REQUEST_CONTROL, "")],
            receive=self._receive,
            presence=Address(Kind.MASTER_STATUS),
        )

    async def __aenter__(self) -> Stand:
        await self._link.start()
        await self._link.wait_connected(DEADLINE_S)
        self._link.send_presence(True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.stop()

    def _receive(self, address: Address, message: Message) -> None:
        order = decode(Control, message.payload)
        self.orders.append((address.id, order))
        for answer in self._answers(order):
            kind = Kind.REQUEST_EVENT if isinstance(answer, Event) else Kind.REQUEST_REPLY
            self._link.send(kind, encode(answer), id=address.id)
        self._link.ack(message)


@asynccontextmanager
async def standing(*answers: Event | Reply) -> AsyncIterator[tuple[Stand, BrokerSettings]]:
    """A broker, and a stand-in for the master that answers every order with *answers*."""
    with Mosquitto() as broker:
        async with Stand(broker.settings, lambda _: answers) as stand:
            yield stand, broker.settings


async def run(broker: BrokerSettings, *args: str) -> Result:
    """Run a command to its end, on another thread."""
    more = ["--broker", str(broker), "--root", "home"]
    return await asyncio.to_thread(CliRunner().invoke, pibot, [*args, *more])


@needs_mosquitto
async def test_approve_names_the_call_and_ends_with_0() -> None:
    """Other events of the request come in between, and are not shown."""
    told = event("tool_update", call="x", text="on the way"), event("approval_answered", **DOOR, granted=True)
    async with standing(*told) as (stand, broker):
        done = await run(broker, "approve", "r1", CALL)

    assert stand.orders == [("r1", Control("approve", call=CALL, by=who("pibot approve")))]
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"approved: door_open (call {CALL})\n", "")


@needs_mosquitto
async def test_deny_tells_why() -> None:
    """CALL may be left out: the master knows whether only one waits."""
    async with standing(event("approval_answered", **DOOR, granted=False)) as (stand, broker):
        done = await run(broker, "deny", "r1", "--reason", "not at night")

    assert stand.orders == [("r1", Control("deny", reason="not at night", by=who("pibot deny")))]
    assert (done.exit_code, done.stdout) == (0, f"denied: door_open (call {CALL})\n")


@needs_mosquitto
async def test_steer_sends_words_to_the_tasks_that_are_named() -> None:
    """As one text."""
    async with standing(event("steered", text="not so loud", tasks=["t1"])) as (stand, broker):
        done = await run(broker, "steer", "r1", "not", "so", "loud", "--task", "t1", "--task", "t2")

    assert stand.orders == [("r1", Control("steer", text="not so loud", tasks=("t1", "t2"), by=who("pibot steer")))]
    assert (done.exit_code, done.stdout) == (0, "told one agent; read before the next step\n")


@needs_mosquitto
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            event("control_refused", action="approve", reason="2 calls wait for it; say which of a, b"),
            "pibot: the master refuses: 2 calls wait for it; say which of a, b\n",
        ),
        (
            event("approval_answered", **{**DOOR, "reason": "no"}, granted=False),
            f"pibot: door_open (call {CALL}) was denied already: no\n",
        ),
        (Reply("r1", State.CANCELED, "Cancelled."), "pibot: request r1 has ended: Cancelled.\n"),
    ],
)
async def test_what_is_not_done_as_ordered_ends_with_2(answer: Event | Reply, expected: str) -> None:
    """In one line, on standard error."""
    async with standing(answer) as (_, broker):
        done = await run(broker, "approve", "r1")

    assert (done.exit_code, done.stdout, done.stderr) == (2, "", expected)


@needs_mosquitto
@pytest.mark.parametrize(
    ("args", "answers", "expected"),
    [
        (["approve", "r1", CALL], [], f"request r1 is not open, or call {CALL} does not wait"),
        (["deny", "r1"], [], "request r1 is not open"),
        (["approve", "r1", CALL], [event("turn_start")], f"call {CALL} does not wait for an answer in request r1"),
        (["deny", "r1"], [event("turn_start")], "no call waits for an answer in request r1"),
        (["steer", "r1", "hello"], [event("turn_start")], "request r1 is not open"),
    ],
)
async def test_silence_is_told_after_a_while(
    args: list[str], answers: list[Event], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2, and what that may mean."""
    monkeypatch.setattr(control, "_TAKEN_WITHIN_S", 0.5)
    async with standing(*answers) as (_, broker):
        done = await run(broker, *args)

    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"pibot: nobody took it: {expected}\n")


@needs_mosquitto
@pytest.mark.parametrize("args", [["approve", "r1"], ["deny", "r1", CALL], ["steer", "r1", "hello"]], ids=" ".join)
async def test_without_a_master_there_is_one_line_and_3(args: list[str]) -> None:
    """Within 5 seconds; it says what to do."""
    started = time.monotonic()
    with Mosquitto() as broker:
        done = await run(broker.settings, *args)

    assert time.monotonic() - started < 5
    [line] = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (3, "")
    assert line == f"pibot: no master is online at {broker.settings}: start one with 'pibot master'"


async def test_without_a_broker_there_is_one_line_and_3() -> None:
    """It says that there is none."""
    nobody = BrokerSettings(HOST, free_port())

    done = await run(nobody, "approve", "r1")

    [line] = done.stderr.splitlines()
    assert done.exit_code == 3
    assert f"{nobody}: connection refused" in line
