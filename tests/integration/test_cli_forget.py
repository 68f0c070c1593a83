"""``pibot forget``, against a real broker, with a master that knew the node and a node that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli import forget
from pibot_mesh.cli.exits import FAILED, NOBODY
from pibot_mesh.cli.main import pibot
from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, MasterSettings, NodeSettings
from pibot_mesh.master.service import Master
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Cause, DeviceSpec, NodeCard
from tests.brokers import DEADLINE_S, HOST, Mosquitto, Recorder, free_port, needs_mosquitto, until

pytestmark = needs_mosquitto
FAN = DeviceSettings("fan", "relay", 17, "fan", "attic")
LEFT_BEHIND = {
    "status": b"offline",
    "card": encode(NodeCard("attic", "b", "1", devices=(DeviceSpec("fan", "out", "relay"),))),
    "health": b'{"seq": 3}',
    "in/button": b"OFF",
    "out/fan": b"OFF",
    "out/fan/cause": encode(Cause("start")),
    "sensor/air": b'{"temperature": 21.5}',
    "reflex/cool": b"ON",
    "left/by/an/old/version": b"?",
}
RULES = """
user person
topic read pibot/#
topic write pibot/node/+/out/+/set
topic write settle

user caretaker
topic write settle
topic readwrite pibot/node/#
"""


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    """A broker of its own."""
    with Mosquitto() as mosquitto:
        yield mosquitto


@pytest.fixture
def strict_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker with rules: a person reads everything, and only the caretaker writes in a node's name."""
    (tmp_path / "acl").write_text(RULES, encoding="utf-8")
    with Mosquitto([f"acl_file {tmp_path / 'acl'}"]) as mosquitto:
        yield mosquitto


async def pibot_says(broker: BrokerSettings, *args: str, user: str | None = None) -> Result:
    """Run a command to its end, on another thread."""
    env = {"PIBOT_USERNAME": user}
    return await asyncio.to_thread(CliRunner().invoke, pibot, [*args, "--broker", str(broker)], env=env)


async def keep(
    broker: BrokerSettings, node: str, messages: Mapping[str, bytes], *, root: str = "pibot", user: str | None = None
) -> None:
    """Have the broker keep *messages*, as *node* would."""
    async with Recorder(BrokerSettings(broker.host, broker.port, user), "keeper") as keeper:
        for topic, payload in messages.items():
            keeper.client.publish(f"{root}/node/{node}/{topic}", payload, qos=1, retain=True)
        await keeper.settle()


async def kept(broker: BrokerSettings, topic_filter: str = "pibot/node/#", user: str | None = None) -> dict[str, bytes]:
    """What the broker keeps of the nodes; one message more, kept last, shows that it has all come."""
    settings = BrokerSettings(broker.host, broker.port, user)
    async with Recorder(settings, "reader", topic_filter) as reader:
        await reader.settle()
        return {message.topic: message.payload for message in reader.received if message.retain}


async def test_all_that_is_kept_of_a_node_is_cleared_and_nothing_of_others(broker: Mosquitto) -> None:
    """What an older version has left there, too."""
    await keep(broker.settings, "attic", LEFT_BEHIND)
    await keep(broker.settings, "attic-2", LEFT_BEHIND)

    done = await pibot_says(broker.settings, "forget", "attic")

    assert (done.exit_code, done.stdout) == (0, f"attic: {len(LEFT_BEHIND)} retained messages cleared\n"), done.output
    assert set(await kept(broker.settings)) == {f"pibot/node/attic-2/{topic}" for topic in LEFT_BEHIND}
    again = await pibot_says(broker.settings, "forget", "attic")
    assert again.exit_code == FAILED
    assert again.stderr == "pibot: there is no node 'attic' (did you mean 'attic-2'?); there are: attic-2\n"


async def test_more_than_brokers_and_clients_hold_at_once_is_cleared_too(broker: Mosquitto) -> None:
    """A node that went wild before it was taken away; below a root of its own."""
    wild = {f"out/o{number}": b"ON" for number in range(1200)}
    for part in (dict(list(wild.items())[:600]), dict(list(wild.items())[600:])):
        await keep(broker.settings, "attic", part, root="home/pibot")

    done = await pibot_says(broker.settings, "forget", "attic", "--root", "home/pibot")

    assert done.stdout == "attic: 1200 retained messages cleared\n", done.output
    assert await kept(broker.settings, "home/pibot/#") == {}


async def test_a_node_that_runs_is_not_forgotten(broker: Mosquitto, tmp_path: Path) -> None:
    """Nothing of it is touched."""
    settings = NodeSettings("attic", broker=broker.settings, state_dir=tmp_path, devices=(FAN,), simulate=True)
    async with Node(settings), Recorder(broker.settings, "onlooker", "pibot/node/attic/status") as onlooker:
        await until(lambda: [message.payload for message in onlooker.received][-1:] == [b"online"], "it is online")
        before = await kept(broker.settings)

        done = await pibot_says(broker.settings, "forget", "attic")

        assert done.exit_code == FAILED
        assert "attic is online: end it first" in done.stderr
        assert set(await kept(broker.settings)) == set(before)


async def test_a_person_may_insist(broker: Mosquitto) -> None:
    """The broker lost the last word of a node that is gone, and takes it to be online for ever."""
    await keep(broker.settings, "attic", {**LEFT_BEHIND, "status": b"online"})

    done = await pibot_says(broker.settings, "forget", "attic", "--force")

    assert done.exit_code == 0, done.output
    assert "it comes back as offline: forget it again then" in done.stdout
    assert await kept(broker.settings) == {}


async def test_a_node_that_lives_shows_itself_again_when_it_was_forgotten(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever insisted was wrong, and is told so."""
    monkeypatch.setattr(forget, "_ALIVE_WITHIN_S", DEADLINE_S)
    settings = NodeSettings("attic", broker=broker.settings, state_dir=tmp_path, devices=(FAN,), simulate=True)
    async with Node(settings), Recorder(broker.settings, "onlooker", "pibot/node/attic/status") as onlooker:
        await until(lambda: [message.payload for message in onlooker.received][-1:] == [b"online"], "it is online")
        before = await kept(broker.settings)

        done = await pibot_says(broker.settings, "forget", "attic", "--force")

        assert done.exit_code == FAILED
        assert "Something of it is new: the node is alive; end it first" in done.stderr
        statuses = [message.payload for message in onlooker.received]
        assert b"online" in statuses[statuses.index(b"") :], "it was forgotten and came back"
        after = await kept(broker.settings)
        assert set(before) <= set(after)
        assert after["pibot/node/attic/status"] == b"online"


async def test_who_may_not_write_there_is_told_so(strict_broker: Mosquitto) -> None:
    """By what still stands; the caretaker may."""
    broker = strict_broker.settings
    await keep(broker, "attic", LEFT_BEHIND, user="caretaker")

    refused = await pibot_says(broker, "forget", "attic", user="person")

    assert refused.exit_code == FAILED
    assert f"attic: 0 of {len(LEFT_BEHIND)} retained messages cleared; kept: card, health, in/button" in refused.stderr
    assert "This user may not write there" in refused.stderr
    assert refused.stdout == ""
    assert len(await kept(broker, user="person")) == len(LEFT_BEHIND)

    done = await pibot_says(broker, "forget", "attic", user="caretaker")

    assert done.exit_code == 0, done.output
    assert await kept(broker, user="person") == {}


async def test_a_master_forgets_the_node_and_knows_it_when_it_comes_back(broker: Mosquitto, tmp_path: Path) -> None:
    """It was repaired after all."""
    settings = NodeSettings("attic", broker=broker.settings, state_dir=tmp_path / "n", devices=(FAN,), simulate=True)
    async with Master(MasterSettings(broker=broker.settings, state_dir=tmp_path / "m")) as master:
        async with Node(settings):
            await until(lambda: "attic" in master.pool.online(), "the node is online")
        await until(lambda: not master.pool["attic"].is_online, "it is offline")

        done = await pibot_says(broker.settings, "forget", "attic")

        assert done.exit_code == 0, done.output
        await until(lambda: "attic" not in master.pool.members, "the master has forgotten it")
        assert await kept(broker.settings) == {}
        status = await pibot_says(broker.settings, "status")
        assert "no node has ever been seen here" in status.stdout
        async with Node(settings):
            await until(lambda: "attic" in master.pool.online(), "it is known again")
            assert {"pibot/node/attic/card", "pibot/node/attic/out/fan"} <= set(await kept(broker.settings))


async def test_without_a_broker_forget_says_so() -> None:
    """With an exit code of its own."""
    done = await pibot_says(BrokerSettings(HOST, free_port()), "forget", "attic")

    assert done.exit_code == NOBODY
    assert "connection refused" in done.stderr


@pytest.mark.parametrize("name", ["+", "#", "attic/out", "Attic", ""])
async def test_what_is_no_node_is_refused(name: str) -> None:
    """Before anything is read: a wildcard would be every node."""
    done = await pibot_says(BrokerSettings(HOST, free_port()), "forget", name)

    assert done.exit_code == FAILED
    assert "a node is 1 to 32 small letters, digits or '-'" in done.stderr
