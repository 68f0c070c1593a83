"""The client that programs ask with, against a master of which each message is in the test's hands."""

from __future__ import annotations

import asyncio

import pytest

from pibot_mesh import client as client_module
from pibot_mesh.client import Client
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import Event, Reply, Request, State
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

pytestmark = needs_mosquitto
SILENCE_S = 0.3


def _accepted(number: int) -> bytes:
    return encode(Event("r1", "request_accepted", "boot", number, data={"text": "anything"}))


async def test_a_reply_that_a_full_broker_dropped_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was heard, so that only its silence says so; words of it put that off, and are passed on."""
    monkeypatch.setattr(client_module, "_SILENCE_S", SILENCE_S)
    heard: list[int] = []
    with Mosquitto() as broker:
        async with Recorder(broker.settings, "master", "pibot/request") as master:
            master.client.publish("pibot/master/status", b"online", qos=1, retain=True)

            async def answer() -> None:
                await until(lambda: len(master.received) == 1, "it is asked")
                master.client.publish("pibot/request/r1/event", _accepted(0), qos=1)
                await until(lambda: len(master.received) == 2, "it is asked again after a silence")
                master.client.publish("pibot/request/r1/event", _accepted(1), qos=1)
                await until(lambda: len(master.received) == 3, "and again after a longer one")
                master.client.publish("pibot/request/r1/reply", encode(Reply("r1", State.COMPLETED, "done")), qos=1)

            async with Client(broker.settings) as client, asyncio.TaskGroup() as group:
                group.create_task(answer())
                reply = await client.ask("anything", request_id="r1", on_event=lambda event: heard.append(event.seq))

    assert reply.text == "done"
    assert heard == [0, 1]
    assert len({message.payload for message in master.received}) == 1
    assert decode(Request, master.received[0].payload).id == "r1"
