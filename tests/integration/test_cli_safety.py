"""``pibot stop-all``, ``why`` and ``reflexes``, against a broker, and nodes that run or that are only what it keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli import reflexes, stop_all
from pibot_mesh.cli.exits import FAILED, NOBODY
from pibot_mesh.cli.main import pibot
from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, MasterSettings, NodeSettings
from pibot_mesh.master.service import Master
from pibot_mesh.mqtt.client import Message
from pibot_mesh.mqtt.link import Link
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Cause, DeviceSpec, NodeCard, ReflexSpec, encode_health
from pibot_mesh.protocol.topics import Address, Kind, Topics
from tests.brokers import DEADLINE_S, HOST, Mosquitto, Recorder, free_port, needs_mosquitto, until
from tests.integration.programs import PIBOT, Terminal, environment

pytestmark = needs_mosquitto
FAN = DeviceSettings("fan", "relay", 17, "fan", "attic")


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    """A broker of its own, without a master."""
    with Mosquitto() as mosquitto:
        yield mosquitto


@pytest.fixture
async def attic(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[Node]:
    """A node that runs, with a fan that is on."""
    node = Node(NodeSettings("attic", broker=broker.settings, state_dir=tmp_path, devices=(FAN,), simulate=True))
    async with node:
        await node.wait_connected()
        node.board.set("fan", True, cause=Cause("person", "x1"))
        yield node


async def pibot_says(broker: BrokerSettings, *args: str) -> Result:
    """Run a command to its end, on another thread."""
    return await asyncio.to_thread(CliRunner().invoke, pibot, [*args, "--broker", str(broker)])


async def keep(broker: BrokerSettings, messages: Mapping[str, bytes]) -> None:
    """Have the broker keep *messages* (topics below the root), as nodes that were there would."""
    async with Recorder(broker, "keeper") as keeper:
        for topic, payload in messages.items():
            keeper.client.publish(f"pibot/{topic}", payload, qos=1, retain=True)
        await keeper.settle()


def shown(
    node: str, *devices: DeviceSpec, reflexes: tuple[ReflexSpec, ...] = (), status: str = "online"
) -> dict[str, bytes]:
    """What the broker keeps of a node."""
    card = NodeCard(node, "b", "1", devices=devices, reflexes=reflexes)
    return {f"node/{node}/card": encode(card), f"node/{node}/status": status.encode()}


# stop-all


async def test_stop_all_makes_every_output_safe(broker: Mosquitto, attic: Node) -> None:
    """Without a master; a node that is away is told of, and does not make it fail."""
    await keep(broker.settings, shown("shed", status="offline"))

    done = await pibot_says(broker.settings, "stop-all")

    assert done.exit_code == 0, done.output
    assert attic.board.state("fan") is False
    assert done.stdout.splitlines() == [
        "STOP is sent, and the broker keeps it.",
        "  attic  stopped; fan OFF",
        "  shed   offline: it will obey when it is back",
    ]


async def test_the_stop_holds_until_a_person_ends_it(broker: Mosquitto, attic: Node) -> None:
    """Status shows it, and how to end it; the end sets nothing."""
    await pibot_says(broker.settings, "stop-all")
    status = await pibot_says(broker.settings, "status")
    assert "EMERGENCY STOP: outputs are held safe until a person clears it: pibot stop-all --release" in status.stdout

    done = await pibot_says(broker.settings, "stop-all", "--release", "--yes")

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["RUN is sent: the emergency stop is over.", "  attic  released; fan OFF"]
    assert attic.board.set("fan", True, cause=Cause("person")) is True
    assert "EMERGENCY STOP" not in (await pibot_says(broker.settings, "status")).stdout


async def test_a_node_that_does_not_obey_makes_it_fail(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is online and says nothing of a stop: somebody must go and look."""
    monkeypatch.setattr(stop_all, "_OBEYED_WITHIN_S", 0.2)
    pump = DeviceSpec("pump", "out", "relay")
    health = {"node/cellar/health": encode_health({"stopped": 0.0}), "node/cellar/out/pump": b"ON"}
    await keep(broker.settings, {**shown("cellar", pump), **health})

    done = await pibot_says(broker.settings, "stop-all")

    assert done.exit_code == FAILED
    assert done.stdout.splitlines()[1:] == ["  cellar  did not say that it obeys: go and look; pump ON"]


async def test_the_stop_is_the_first_word_on_the_wire(broker: Mosquitto) -> None:
    """Nothing is looked up, subscribed or waited for before it."""
    done = await pibot_says(broker.settings, "stop-all")

    assert done.exit_code == 0, done.output
    [client] = {word for line in broker.log.splitlines() for word in line.split() if word.startswith("pibot-stop-")}
    said = [line.split(": ", 1)[-1] for line in broker.log.splitlines() if client in line]
    packets = [line.split()[1] for line in said if line.startswith(("Received", "Sending"))]
    assert packets[:3] == ["CONNACK", "PUBLISH", "PUBACK"]


async def test_a_broker_that_drops_the_stop_is_found_out(tmp_path: Path) -> None:
    """On MQTT 3.1.1 it confirms what its rules forbid; and who forbids it on MQTT 5 says so."""
    (tmp_path / "acl").write_text("topic read pibot/#\n", encoding="utf-8")
    with Mosquitto([f"acl_file {tmp_path / 'acl'}"]) as mosquitto:
        done = await pibot_says(mosquitto.settings, "stop-all")

    assert done.exit_code == NOBODY
    assert "pibot/stop" in done.stderr
    assert "STOP is sent" not in done.stdout


async def test_without_a_broker_stop_all_says_so() -> None:
    """In seconds, with an exit code of its own."""
    done = await pibot_says(BrokerSettings(HOST, free_port()), "stop-all")

    assert done.exit_code == NOBODY
    assert "connection refused" in done.stderr


async def test_a_release_needs_a_person(broker: Mosquitto) -> None:
    """Where there is no terminal, nobody was asked; and a stop asks nobody."""
    done = await pibot_says(broker.settings, "stop-all", "--release")
    assert done.exit_code == FAILED
    assert "here is no terminal: add --yes" in done.stderr

    done = await pibot_says(broker.settings, "stop-all", "--yes")
    assert done.exit_code == FAILED


@pytest.mark.parametrize(("typed", "says"), [("n\r", "Nothing was changed."), ("y\r", "RUN is sent")])
async def test_a_person_is_asked_before_outputs_may_move(
    typed: str, says: str, broker: Mosquitto, tmp_path: Path
) -> None:
    """On a terminal; Enter alone is no."""
    await pibot_says(broker.settings, "stop-all")

    def released() -> None:
        args = [*PIBOT, "stop-all", "--release", "--broker", str(broker.settings)]
        with Terminal(args, env=environment(tmp_path)) as terminal:
            terminal.wait_for("Is everybody clear of what may move or heat up")
            terminal.type(typed)
            terminal.wait_for(says)
            assert terminal.wait() == (0 if typed.startswith("y") else FAILED)

    await asyncio.to_thread(released)


# why


async def test_why_tells_a_person_from_a_stop(broker: Mosquitto, attic: Node) -> None:
    """By what the node publishes with each change."""
    first = await pibot_says(broker.settings, "why", "attic/fan")
    assert first.exit_code == 0
    assert first.stdout.startswith("fan on attic is ON since ")
    assert first.stdout.endswith("set by a person (id x1)\n")

    await pibot_says(broker.settings, "stop-all")

    then = await pibot_says(broker.settings, "why", "fan")
    assert "fan on attic is OFF since " in then.stdout
    assert "set by the emergency stop" in then.stdout


async def test_why_tells_the_words_of_the_request(broker: Mosquitto, attic: Node, tmp_path: Path) -> None:
    """From the ledger, where it is at hand; else its id, and where to look."""
    state_dir = tmp_path / "master"
    async with Master(MasterSettings(broker=broker.settings, state_dir=state_dir)) as master:
        await until(lambda: "attic" in master.pool.online(), "the node is online")
        async with Client(broker.settings) as client:
            await client.ask("turn off the fan on attic", request_id="r1")

        known = await pibot_says(broker.settings, "why", "fan", "--state-dir", str(state_dir))
        unknown = await pibot_says(broker.settings, "why", "fan")
        facts = json.loads(
            (await pibot_says(broker.settings, "why", "fan", "--json", "--state-dir", str(state_dir))).stdout
        )

    assert 'of request r1 ("turn off the fan on attic")' in known.stdout
    assert "'pibot history r1' tells the request" in unknown.stdout
    assert (facts["cause"]["request"], facts["request_text"]) == ("r1", "turn off the fan on attic")


async def test_a_ledger_that_was_named_must_be_there(broker: Mosquitto, tmp_path: Path) -> None:
    """One that was not named is only a convenience."""
    cause = encode(Cause("task", "t1", "r9", ts=1.8e9))
    fan = DeviceSpec("fan", "out", "relay")
    await keep(broker.settings, {**shown("hall", fan), "node/hall/out/fan": b"ON", "node/hall/out/fan/cause": cause})
    (tmp_path / "master.sqlite").write_bytes(b"no ledger at all" * 100)

    done = await pibot_says(broker.settings, "why", "fan", "--state-dir", str(tmp_path))

    assert done.exit_code == FAILED
    assert "master.sqlite" in done.stderr


async def test_why_says_what_an_offline_node_said_last(broker: Mosquitto) -> None:
    """And that it may be otherwise."""
    cause = encode(Cause("rule", "cool", reason="temperature above 28", ts=1.7e9))
    fan = DeviceSpec("fan", "out", "relay", room="hall")
    kept = {**shown("pi-1", fan, status="offline"), "node/pi-1/out/fan": b"ON", "node/pi-1/out/fan/cause": cause}
    await keep(broker.settings, kept)

    done = await pibot_says(broker.settings, "why", "hall", "fan")

    first, last = done.stdout.splitlines()
    assert done.exit_code == 0
    assert first.endswith("set by the rule cool: temperature above 28")
    assert last == "pi-1 is offline: this is what it said last."


async def test_why_of_what_is_not_there_names_what_is(broker: Mosquitto, attic: Node) -> None:
    """With the nearest name."""
    done = await pibot_says(broker.settings, "why", "attic/fam")

    assert done.exit_code == FAILED
    assert done.stderr == "pibot: attic has no output 'fam': it has attic/fan\n"


# reflexes


class Greenhouse:
    """A node with one reflex, that is switched as it is told; deaf, where it does not answer."""

    def __init__(self, broker: BrokerSettings, *, is_deaf: bool = False) -> None:
        self.orders: list[tuple[str, bytes, bool]] = []
        self._is_deaf = is_deaf
        self._link = Link(
            broker,
            Topics(),
            client_id="glass",
            listen=[(Kind.REFLEX_SET, "glass")],
            receive=self._receive,
            presence=Address(Kind.NODE_STATUS, node="glass"),
        )

    async def __aenter__(self) -> Greenhouse:
        await self._link.start()
        await self._link.wait_connected(DEADLINE_S)
        card = NodeCard("glass", "b", "1", reflexes=(ReflexSpec("cool", "when air above 28: vent on"),))
        self._link.send(Kind.NODE_CARD, encode(card), node="glass")
        self._link.send(Kind.REFLEX, b"ON", node="glass", id="cool")
        self._link.send_presence(True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.stop()

    def _receive(self, address: Address, message: Message) -> None:
        self.orders.append((address.id, message.payload, message.retain))
        self._link.ack(message)
        if not self._is_deaf:
            self._link.send(Kind.REFLEX, message.payload, node="glass", id=address.id)


async def test_a_reflex_is_listed_and_switched(broker: Mosquitto) -> None:
    """Off on its node, and then in the list; the order is not kept by the broker."""
    async with Greenhouse(broker.settings) as node:
        before = await pibot_says(broker.settings, "reflexes")
        done = await pibot_says(broker.settings, "reflexes", "off", "glass/cool")
        after = await pibot_says(broker.settings, "reflexes", "glass", "--json")

    assert before.stdout == "glass/cool  on   when air above 28: vent on\n"
    assert (done.exit_code, done.stdout) == (0, "glass/cool is off.\n")
    assert json.loads(after.stdout)["glass"]["cool"]["on"] is False
    assert node.orders == [("cool", b"OFF", False)]


async def test_a_node_that_does_not_answer_is_told_of(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reflex may be on still."""
    monkeypatch.setattr(reflexes, "_SWITCHED_WITHIN_S", 0.2)
    async with Greenhouse(broker.settings, is_deaf=True) as node:
        done = await pibot_says(broker.settings, "reflexes", "off", "glass/cool")

    assert done.exit_code == FAILED
    assert done.stderr == "pibot: glass did not say within 0.2 s that it did it\n"
    assert len(node.orders) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["glas"], "there is no node 'glas' (did you mean 'glass'?); there are: glass"),
        (["on", "glass/cold"], "glass has no reflex 'cold' (did you mean 'cool'?); it has: cool"),
        (["on", "glass"], "pibot reflexes [NODE], or pibot reflexes on|off NODE/REFLEX"),
        (["off"], "pibot reflexes [NODE], or pibot reflexes on|off NODE/REFLEX"),
        (["a", "b"], "pibot reflexes [NODE], or pibot reflexes on|off NODE/REFLEX"),
    ],
)
async def test_what_cannot_be_done_sends_nothing(args: list[str], says: str, broker: Mosquitto) -> None:
    """And says what there is."""
    async with Greenhouse(broker.settings) as node:
        done = await pibot_says(broker.settings, "reflexes", *args)

    assert done.exit_code == FAILED
    assert says in done.stderr
    assert node.orders == []
