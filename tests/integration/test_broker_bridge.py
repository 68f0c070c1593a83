"""Two real Mosquittos and the bridge between them, as ``pibot broker bridge`` configures it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pibot_mesh.cli.main import pibot
from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings, MasterSettings
from pibot_mesh.master.service import Master
from pibot_mesh.protocol.messages import State
from tests.brokers import HOST, Mosquitto, Recorder, free_port, needs_mosquitto, needs_mosquitto_passwd, until

pytestmark = needs_mosquitto

OUT = (
    "master/status",
    "master/info",
    "master/health",
    "master/state",
    "master/event",
    "request/r1/event",
    "request/r1/reply",
    "reply",
    "stop",
    "node/n1/status",
    "node/n1/health",
    "node/n1/card",
    "node/n1/event",
    "node/n1/in/button",
    "node/n1/out/fan",
    "node/n1/out/fan/cause",
    "node/n1/sensor/climate",
)
NEVER_IN = (
    "request/r1/control",
    "master/log",
    "node/n1/task",
    "node/n1/control",
    "node/n1/task/t1/control",
    "node/n1/task/t1/event",
    "node/n1/task/t1/result",
    "node/n1/out/fan/set",
    "node/n1/llm/c1/request",
    "node/n1/llm/c1/chunk",
    "reply/me",
)
LINK = "bridge"


def configuration(remote: object, name: str, *options: str) -> list[str]:
    """The lines that the command prints for a bridge to *remote*."""
    command = [sys.executable, "-m", "pibot_mesh", "broker", "bridge", str(remote), "--name", name, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


@contextmanager
def bridged(*options: str) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    """The broker of the house, which keeps a link to another one, and that other one."""
    with Mosquitto() as far, Mosquitto(configuration(far.settings, "home", *options)) as near:
        yield near, far


async def linked(far: Recorder) -> None:
    """Wait until the bridge says that it stands."""
    await until(lambda: "home/pibot/bridge" in topics(far), "the bridge", timeout_s=20)


def topics(recorder: Recorder) -> set[str]:
    return {message.topic for message in recorder.received}


async def publish_all(recorder: Recorder, below: str, names: Collection[str]) -> None:
    """Publish one message on each topic, and wait until the broker has them."""
    for name in names:
        recorder.client.publish(f"{below}/{name}", name.encode(), qos=1)
    await recorder.settle()


async def test_the_mesh_is_seen_outside_and_nothing_comes_in() -> None:
    """Round trips of every topic: the house's word goes out below the prefix, once; no command comes in."""
    with bridged() as (near, far):
        async with (
            Recorder(far.settings, "outside", "#") as outside,
            Recorder(near.settings, "inside", "pibot/#", "settle") as inside,
        ):
            await linked(outside)
            await publish_all(inside, "pibot", (*NEVER_IN, "request", *OUT))
            await until(lambda: f"home/pibot/{OUT[-1]}" in topics(outside), "the last topic")
            outside.received.clear()
            inside.received.clear()
            await publish_all(outside, "home/pibot", (*NEVER_IN, "request", *OUT))
            # What must not pass cannot be waited for. What is later on the same link has overtaken nothing.
            inside.client.publish("pibot/reply", b"end", qos=1)
            await until(lambda: outside.received[-1].payload == b"end", "the end marker")
            await inside.settle()

            assert [message.payload for message in inside.received] == [b"end", b""]


async def test_what_goes_out_is_what_the_rules_say_once_each() -> None:
    """Neither tasks nor results nor the model's traffic, and no second copy of anything."""
    with bridged("--allow-requests") as (near, far):
        async with Recorder(far.settings, "outside", "#") as outside, Recorder(near.settings, "inside") as inside:
            await linked(outside)
            await publish_all(inside, "pibot", (*NEVER_IN, "request", *OUT))
            await until(lambda: f"home/pibot/{OUT[-1]}" in topics(outside), "the last topic")

            counts = Counter(message.topic for message in outside.received)
            assert counts == {f"home/pibot/{name}": 1 for name in (*OUT, LINK)}


async def test_requests_come_in_where_they_are_allowed() -> None:
    """They alone: no approval, no stop and no command comes with them."""
    with bridged("--allow-requests") as (near, far):
        async with (
            Recorder(far.settings, "outside", "home/pibot/bridge") as outside,
            Recorder(near.settings, "inside", "pibot/#") as inside,
        ):
            await linked(outside)
            await publish_all(outside, "home/pibot", (*NEVER_IN, *OUT, "request"))
            await until(lambda: inside.received, "the request")

            assert topics(inside) == {"pibot/request"}


async def test_two_houses_that_show_each_other_their_mesh_make_no_storm() -> None:
    """One message is two on each side's broker at most: its own, and the other's copy."""
    ports = free_port(), free_port()
    north = Mosquitto(configuration(f"{HOST}:{ports[1]}", "north", "--allow-requests"), port=ports[0])
    south = Mosquitto(configuration(f"{HOST}:{ports[0]}", "south", "--allow-requests"), port=ports[1])
    with north, south:
        async with (
            Recorder(north.settings, "a", "#") as at_north,
            Recorder(south.settings, "b", "#") as at_south,
        ):
            await until(lambda: "north/pibot/bridge" in topics(at_south), "the bridge to the south", timeout_s=20)
            await until(lambda: "south/pibot/bridge" in topics(at_north), "the bridge to the north", timeout_s=20)
            at_north.received.clear()
            at_south.received.clear()
            for _ in range(3):
                at_north.client.publish("pibot/node/n1/status", b"online", qos=1, retain=True)
                at_south.client.publish("pibot/node/n1/status", b"offline", qos=1, retain=True)
            for recorder, name in ((at_north, "north"), (at_south, "south")):
                # Both ways once more: what an echo would have added is there before the end marker.
                recorder.client.publish("pibot/reply", name.encode(), qos=1)
            await until(lambda: "north/pibot/reply" in topics(at_south), "the end marker from the north")
            await until(lambda: "south/pibot/reply" in topics(at_north), "the end marker from the south")
            await at_north.settle()
            await at_south.settle()

            for recorder, other in ((at_north, "south"), (at_south, "north")):
                counts = Counter(message.topic for message in recorder.received)
                assert counts["pibot/node/n1/status"] == counts[f"{other}/pibot/node/n1/status"] == 3
                assert counts.keys() == {
                    *("pibot/node/n1/status", "pibot/reply", "settle"),
                    *(f"{other}/pibot/node/n1/status", f"{other}/pibot/reply"),
                }


async def test_a_request_from_outside_is_answered_there(tmp_path: Path) -> None:
    """``pibot --root home/pibot`` on the other broker asks this house."""
    with bridged("--allow-requests") as (near, far):
        async with (
            Master(MasterSettings("pibot", near.settings, tmp_path)),
            Client(far.settings, root="home/pibot", wait_s=20) as client,
        ):
            reply = await client.ask("which nodes are online", timeout_s=20)

    assert reply.state is State.COMPLETED, reply.text


@needs_mosquitto_passwd
async def test_the_bridge_needs_two_rights_at_the_other_broker(tmp_path: Path) -> None:
    """As docs/scaling.md names them; the password is filled in where the configuration says so."""
    rules, passwords, port = tmp_path / "acl", tmp_path / "passwords", free_port()
    rules.write_text(
        "user home\ntopic write home/pibot/#\ntopic read home/pibot/request\nuser all\ntopic readwrite #\n"
    )
    passwords.touch()
    for user in ("home", "all"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "secret"], check=True)
    for file in (rules, passwords):
        file.chmod(0o600)
    config = f"listener {port} {HOST}\nallow_anonymous false\npassword_file {passwords}\nacl_file {rules}"
    with Mosquitto(config=config, port=port) as far:
        made = configuration(far.settings, "home", "--username", "home", "--allow-requests")
        with Mosquitto([line.replace("# remote_password PASSWORD", "remote_password secret") for line in made]) as near:
            visitor = replace(far.settings, username="all", password="secret")
            async with Recorder(visitor, "outside", "#") as outside, Recorder(near.settings, "in", "pibot/#") as inside:
                await linked(outside)
                await publish_all(outside, "home/pibot", ("request",))
                await until(lambda: "pibot/request" in topics(inside), "the request")
                await publish_all(inside, "pibot", OUT)
                await until(lambda: f"home/pibot/{OUT[-1]}" in topics(outside), "the last topic")

                assert {f"home/pibot/{name}" for name in OUT} <= topics(outside)


async def test_what_was_said_while_the_link_was_down_goes_out_later() -> None:
    """A reply is not lost with the link; and the other broker can see that the link is down."""
    with bridged() as (near, far):
        async with Recorder(far.settings, "outside", "#") as outside, Recorder(near.settings, "inside") as inside:
            await linked(outside)
            far.kill()
            await publish_all(inside, "pibot", ("request/r1/reply",))
            outside.received.clear()
            far.start()
            await until(lambda: "home/pibot/request/r1/reply" in topics(outside), "the reply", timeout_s=30)


def test_the_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    """Our own is."""
    theirs, ours = tmp_path / "theirs.conf", tmp_path / "ours.conf"
    theirs.write_text("listener 1883\n")
    ask = ["broker", "bridge", "hub.example", "--output"]

    assert CliRunner().invoke(pibot, [*ask, str(theirs)]).exit_code != 0
    assert theirs.read_text() == "listener 1883\n"
    for _ in range(2):
        assert CliRunner().invoke(pibot, [*ask, str(ours)]).exit_code == 0
    assert "address hub.example:1883\n" in ours.read_text()


@pytest.mark.parametrize("given", ["2", "new", "2.x"])
def test_a_version_is_two_numbers(given: str) -> None:
    """What is none is named."""
    result = CliRunner().invoke(pibot, ["broker", "bridge", "hub.example", "--for-version", given])

    assert result.exit_code != 0
    assert "two numbers are expected" in result.output


def test_the_servers_of_a_cluster_are_all_named() -> None:
    """The link goes on to the next one."""
    settings = BrokerSettings("a", 1, others=(("b", 2),))
    result = CliRunner().invoke(pibot, ["broker", "bridge", str(settings)])

    assert "address a:1 b:2\n" in result.stdout
