"""What a node's model is told before it gets an instruction."""

from __future__ import annotations

from pibot_mesh.agent.data_marks import DATA_RULE
from pibot_mesh.agent.prompts import node_prompt
from pibot_mesh.protocol.messages import DeviceSpec, Measure


def test_it_knows_where_it_is_and_what_is_there() -> None:
    """Its node, labels and devices, with rooms and units."""
    devices = [
        DeviceSpec("fan", "out", "switch", "fan", "attic"),
        DeviceSpec(
            "air", "sensor", "dht22", "air sensor", measures={"temperature": Measure("°C"), "motion": Measure()}
        ),
    ]

    prompt = node_prompt("n1", ["indoors", "window"], devices)

    assert "the node n1 in PiBot Mesh" in prompt
    assert "Labels: indoors, window." in prompt
    assert "fan (switch, out, attic); air 'air sensor' (dht22, sensor, gives temperature in °C, motion)." in prompt


def test_it_knows_the_rules() -> None:
    """What data is, and that it can approve nothing."""
    prompt = node_prompt("n1")

    assert DATA_RULE in prompt
    assert "You cannot approve anything" in prompt
    assert "It has no devices." in prompt
    assert "Labels" not in prompt
