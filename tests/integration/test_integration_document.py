"""docs/integration.md: what it has other programs read and write are topics, numbers and orders of a real mesh."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.hardware.machine import read_health
from pibot_mesh.hardware.sensor_kinds import SENSOR_KINDS
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.messages import decode_health
from pibot_mesh.protocol.topics import DELIVERY, Kind, Topics
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "integration.md").read_text(encoding="utf-8")
TOPICS: Final = Topics()
NOT_EVERYWHERE: Final = {"cpu_temp_c", "rssi_dbm"}
"""What is missing from the health of a machine without a thermometer and without Wi-Fi."""
ORDERS: Final = {Kind.REQUEST, Kind.OUTPUT_SET}


def blocks(language: str) -> list[str]:
    """The code blocks of the document in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.S | re.M)


def kind_of(topic: str) -> Kind | None:
    """What a topic, or a filter, of the document is for."""
    address = TOPICS.parse(topic.replace("+", "x1"))
    return None if address is None else address.kind


def flow() -> list[dict[str, Any]]:
    """The one for Node-RED."""
    [text] = blocks("json")
    nodes: list[dict[str, Any]] = json.loads(text)
    return nodes


def exporters() -> list[dict[str, Any]]:
    """The files for mqtt2prometheus: of health, and of sensors."""
    return [read for read in map(yaml.safe_load, blocks("yaml")) if "metrics" in read]


def test_the_table_of_topics_is_the_protocols() -> None:
    """Each is one, and is said to be retained where it is."""
    [table] = re.findall(r"\| topic under `pibot/` .*?\n\n", DOCUMENT, re.S)
    rows = re.findall(r"^\| (`.*?`) \| .* \| (.*) \|$", table, re.M)

    assert len(rows) > 10
    for names, says in rows:
        for name in re.findall(r"`(.*?)`", names):
            kind = kind_of("pibot/" + re.sub(r"\{\w+\}", "x1", name))
            assert kind is not None, name
            assert DELIVERY[kind].retain or not says.startswith("retained"), name


def test_the_flow_for_node_red_hangs_together() -> None:
    """Every wire and every broker leads to a node of it, and no id is there twice."""
    nodes = flow()
    ids = [node["id"] for node in nodes]
    wires = {end for node in nodes for output in node.get("wires", []) for end in output}

    assert len(set(ids)) == len(ids)
    assert wires | {node["broker"] for node in nodes if "mqtt " in node["type"]} <= set(ids)


def test_the_flow_for_node_red_reads_and_writes_topics_of_the_mesh() -> None:
    """It writes orders alone, and retains none: a retained one would be refused."""
    writers = [node for node in flow() if node["type"] == "mqtt out"]
    readers = [node for node in flow() if node["type"] == "mqtt in"]

    assert {kind_of(node["topic"]) for node in writers} == ORDERS
    assert all(node["retain"] == "false" for node in writers)
    assert {kind_of(node["topic"]) for node in readers} == {Kind.REQUEST_REPLY, Kind.SENSOR, Kind.NODE_EVENT}


def test_the_things_for_openhab_read_and_write_topics_of_the_mesh() -> None:
    """Their states and availability are told; their commands are orders."""
    things, _ = blocks("java")
    states = re.findall(r'(?:stateTopic|availabilityTopic)="(.*?)"', things)
    commands = re.findall(r'commandTopic="(.*?)"', things)

    assert None not in set(map(kind_of, states))
    assert set(map(kind_of, commands)) == ORDERS
    assert ORDERS.isdisjoint(map(kind_of, states))


def test_every_item_for_openhab_has_a_channel() -> None:
    """Of the things beside them."""
    things, items = blocks("java")
    channels = set[str]()
    for thing, body in re.findall(r"^Thing (mqtt:topic:\w+) .*?\{(.*?)^\}", things, re.S | re.M):
        channels |= {f"{thing}:{name}" for name in re.findall(r"Type \w+ *: (\w+)", body)}

    assert set(re.findall(r'channel="(.*?)"', items)) <= channels


def test_the_exporters_find_the_node_in_each_topic() -> None:
    """Their pattern of topics is the protocol's, and their expression finds the node's id in it."""
    for exporter, kind, topic in zip(
        exporters(),
        (Kind.NODE_HEALTH, Kind.SENSOR),
        ("pibot/node/kitchen/health", "pibot/node/kitchen/sensor/climate"),
        strict=True,
    ):
        mqtt = exporter["mqtt"]
        found = re.fullmatch(mqtt["device_id_regex"], topic)
        assert mqtt["topic_path"] == TOPICS.filter(kind)
        assert found is not None
        assert found["deviceid"] == "kitchen"


def test_the_exported_measures_are_those_of_sensors() -> None:
    """Of some kind of sensor."""
    _, sensors = exporters()
    measures = {measure for kind in SENSOR_KINDS for measure in kind.measures}

    assert {metric["mqtt_name"] for metric in sensors["metrics"]} <= measures


@needs_mosquitto
async def test_the_exported_metrics_are_those_of_a_nodes_health(tmp_path: Path) -> None:
    """All but what this machine may not have; and nothing in the health is no number."""
    health, _ = exporters()
    wanted = {metric["mqtt_name"] for metric in health["metrics"]} - NOT_EVERYWHERE
    with Mosquitto() as broker:
        node = NodeSettings("kitchen", broker=broker.settings, simulate=True, state_dir=tmp_path, health_interval_s=1)
        async with Recorder(broker.settings, "exporter", TOPICS.filter(Kind.NODE_HEALTH)) as exporter, Node(node):
            told = dict[str, float]()

            def has_all() -> bool:
                for message in exporter.received:
                    told.update(decode_health(message.payload))
                return wanted <= told.keys()

            await until(has_all, f"health with {sorted(wanted)}")


def test_a_pi_with_wifi_tells_the_rest_of_the_metrics(tmp_path: Path) -> None:
    """What other machines do not have."""
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/wireless").write_text("\n\n wlan0: 0000   55.  -55.  -256\n")
    (tmp_path / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("48312\n")

    assert read_health(tmp_path).keys() >= NOT_EVERYWHERE


@pytest.mark.parametrize("language", ["json", "yaml"])
def test_what_is_to_be_pasted_can_be_read(language: str) -> None:
    """By the program that it is for."""
    read = json.loads if language == "json" else yaml.safe_load

    assert blocks(language)
    assert all(read(block) for block in blocks(language))
