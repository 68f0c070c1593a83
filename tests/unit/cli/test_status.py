"""``pibot status``, as far as it tells who thinks."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from pibot_mesh.cli.main import pibot
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import DeviceSpec, MasterInfo, NodeCard
from tests.brokers import Mosquitto, Recorder, needs_mosquitto


@needs_mosquitto
@pytest.mark.parametrize(
    ("engines", "says"), [(("offline",), ", without a model"), (("offline", "llm"), ", with a model")]
)
async def test_the_first_line_tells_whether_there_is_a_model(engines: tuple[str, ...], says: str) -> None:
    """And a node that takes instructions is called an agent."""
    with Mosquitto() as broker:
        async with Recorder(broker.settings, "master") as master:
            kept = {
                "pibot/master/info": encode(MasterInfo("b", "1.2", engines=engines)),
                "pibot/node/attic/card": encode(NodeCard("attic", "b", "1", agent=True)),
                "pibot/node/hall/card": encode(NodeCard("hall", "b", "1")),
                **dict.fromkeys(
                    ("pibot/master/status", "pibot/node/attic/status", "pibot/node/hall/status"), b"online"
                ),
            }
            for topic, payload in kept.items():
                master.client.publish(topic, payload, qos=1, retain=True)
            await master.settle()
            args = ["status", "--broker", str(broker.settings)]
            done = await asyncio.to_thread(CliRunner().invoke, pibot, args)

    lines = done.stdout.splitlines()
    assert done.exit_code == 0
    assert lines[0].endswith(f"version 1.2{says}")
    assert [line.split() for line in lines[-4:-1]] == [["attic", "online"], ["agent"], ["hall", "online"]]


@needs_mosquitto
async def test_states_are_shown_with_labels_units_and_colors() -> None:
    """A device with a label has its id beside it, which is what the topics and commands take."""
    card = NodeCard(
        "attic",
        "b",
        "1",
        devices=(
            DeviceSpec("strip", "out", "rgb_led", color=True, label="Shelf light"),
            DeviceSpec("fan", "out", "fan", dimmable=True),
            DeviceSpec("tank", "in", "distance", unit="cm"),
            DeviceSpec("door", "in", "contact"),
        ),
    )
    kept = {
        "status": b"online",
        "card": encode(card),
        "out/strip": b"#ff8800",
        "out/fan": b"40",
        "in/tank": b"12.5",
        "in/door": b"ON",
    }
    with Mosquitto() as broker:
        async with Recorder(broker.settings, "attic") as node:
            for topic, payload in kept.items():
                node.client.publish(f"pibot/node/attic/{topic}", payload, qos=1, retain=True)
            await node.settle()
            args = ["status", "--broker", str(broker.settings)]
            done = await asyncio.to_thread(CliRunner().invoke, pibot, args)

    words = " ".join(done.stdout.split())
    assert "fan 40 %" in words
    assert "Shelf light (strip) #ff8800 ■" in words
    assert "door ON" in words
    assert "tank 12.5 cm" in words
