"""What ``pibot ha`` makes of cards and of what is published for Home Assistant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli.ha import _indented
from pibot_mesh.cli.ha_view import Device, Heard, devices_of
from pibot_mesh.cli.main import pibot
from pibot_mesh.errors import ProtocolError
from pibot_mesh.master.home_assistant.naming import MASTER, Naming
from pibot_mesh.mqtt.client import Message
from pibot_mesh.protocol.codec import MAX_PAYLOAD, dumps, encode
from pibot_mesh.protocol.messages import DeviceSpec, MasterInfo, NodeCard, RoutineState
from pibot_mesh.protocol.topics import Address, Kind, Topics

NAMING = Naming("pibot")
FAN = DeviceSpec("fan", "out", "switch", "fan")
KITCHEN = NodeCard("kitchen", "b1", "1.0", devices=(FAN,))
INFO = MasterInfo("m1", "1.0")
BELL = RoutineState("bell", "trigger", "When button of porch sends 'pressed'", "ring", True)


def message(payload: bytes, topic: str = "t") -> Message:
    return Message(topic, payload, qos=1, retain=True)


def heard(*cards: NodeCard, is_master: bool = False) -> Heard:
    result = Heard()
    for card in cards:
        result.see(Address(Kind.NODE_CARD, node=card.node), message(encode(card)))
    if is_master:
        result.see(Address(Kind.MASTER_INFO), message(encode(INFO)))
        result.see(Address(Kind.ROUTINE, id="bell"), message(encode(BELL)))
    return result


def devices(of: Heard) -> dict[str, Device]:
    return {device.name: device for device in devices_of(of, Topics(), NAMING)}


def keep(of: Heard, topic: str, payload: object) -> None:
    of.see_kept(message(payload if isinstance(payload, bytes) else dumps(payload), topic))


def run(*args: str) -> Result:
    return CliRunner().invoke(pibot, ["ha", *args])


def node_file(folder: Path, devices: str, *, name: str = "kitchen") -> str:
    path = folder / f"{name}-{len(devices)}.yaml"
    path.write_text(f"node: {{id: {name}, simulate: true}}\ndevices:\n{devices}", encoding="utf-8")
    return str(path)


# What is heard


def test_each_node_and_the_master_is_a_device() -> None:
    """The nodes first; a mesh without a master has none."""
    found = devices(heard(KITCHEN, is_master=True))

    assert list(found) == ["kitchen", MASTER]
    assert found["kitchen"].topic == "homeassistant/device/pibot/kitchen/config"
    assert found["kitchen"].entities > 1
    assert found["kitchen"].size == len(dumps(found["kitchen"].payload))
    assert list(devices(heard(KITCHEN))) == ["kitchen"]


def test_a_payload_that_is_too_large_has_a_size_too() -> None:
    """Else nobody could say by how much."""
    assert Device("kitchen", "t", {"name": "ü" * 70_000}).size == 140_000 + len('{"name":""}')


def test_what_does_not_fit_into_a_message_is_named_and_the_rest_is_as_it_is_sent() -> None:
    """A house with hundreds of routines: the master leaves out the same ones."""
    mesh = heard(is_master=True)
    for number in range(150):
        mesh.see(Address(Kind.ROUTINE, id=f"r{number:03}"), message(encode(replace(BELL, id=f"r{number:03}"))))

    master = devices(mesh)[MASTER]

    assert [flaw.where for flaw in master.flaws] == ["payload", "payload"]
    assert "are not shown, from routine_r" in master.flaws[-1].text
    assert master.size <= MAX_PAYLOAD
    assert {"ask", "stop"} <= master.payload["cmps"].keys()
    keep(mesh, master.topic, master.payload)
    assert devices(mesh)[MASTER].at_broker == "published"


def test_what_is_taken_away_is_gone() -> None:
    """A card, a routine, the master and a payload each go with an empty message."""
    all_of_it = heard(KITCHEN, is_master=True)
    keep(all_of_it, NAMING.config_topic("kitchen"), {"cmps": {}})
    all_of_it.see(Address(Kind.NODE_CARD, node="kitchen"), message(b""))
    all_of_it.see(Address(Kind.MASTER_INFO), message(b""))
    all_of_it.see(Address(Kind.ROUTINE, id="bell"), message(b""))
    keep(all_of_it, NAMING.config_topic("kitchen"), b"")

    assert (all_of_it.cards, all_of_it.routines, all_of_it.master, all_of_it.kept) == ({}, {}, None, {})
    assert devices(all_of_it) == {}


def test_garbage_is_refused() -> None:
    """The link counts it."""
    with pytest.raises(ProtocolError):
        Heard().see(Address(Kind.NODE_CARD, node="kitchen"), message(b"ON"))


def test_it_is_told_whether_the_broker_has_it_so() -> None:
    """Not yet, just so, or as another version made it."""
    mesh = heard(KITCHEN)
    assert devices(mesh)["kitchen"].at_broker == "not published"

    keep(mesh, NAMING.config_topic("kitchen"), devices(mesh)["kitchen"].payload)
    assert devices(mesh)["kitchen"].at_broker == "published"

    keep(mesh, NAMING.config_topic("kitchen"), {**dict(devices(mesh)["kitchen"].payload), "qos": 0})
    assert devices(mesh)["kitchen"].at_broker == "another one"


def test_what_another_version_published_is_judged_too() -> None:
    """Its flaws are told apart from those of what this one makes."""
    mesh = heard(KITCHEN)
    keep(mesh, NAMING.config_topic("kitchen"), {**dict(devices(mesh)["kitchen"].payload), "name": "x"})

    [flaw] = devices(mesh)["kitchen"].flaws

    assert (
        flaw.text
        == "as the broker keeps it: Home Assistant drops the whole device: unknown key at the root: take it out"
    )


def test_what_stands_there_without_a_card_is_judged() -> None:
    """Left over from a node, or another mesh's; also what nobody can read."""
    mesh = heard(KITCHEN)
    keep(mesh, NAMING.config_topic("gone"), b"{no json")
    keep(mesh, Naming("home/mesh").config_topic("kitchen"), {"components": {"a": {"p": "sensor"}}})

    found = devices(mesh)

    assert (found["gone"].at_broker, found["gone"].entities) == ("left over", 0)
    assert [flaw.where for flaw in found["gone"].flaws] == ["payload"]
    [other] = [device for name, device in found.items() if name.startswith("homeassistant/")]
    assert (other.at_broker, other.entities) == ("of another mesh", 1)
    assert {flaw.where for flaw in other.flaws} == {"dev", "o"}
    assert found["kitchen"].flaws == ()


# The commands


def test_a_node_s_file_is_checked_without_a_mesh(tmp_path: Path) -> None:
    """It is shown with the number of its entities and the size of its payload."""
    done = run("check", node_file(tmp_path, "  fan: {kind: switch, pin: 17}\n"))

    assert (done.exit_code, done.stderr) == (0, "")
    assert "kitchen" in done.output
    assert "Home Assistant takes all of it." in done.output
    assert "at the broker" not in done.output


def test_what_is_wrong_names_the_node_and_the_device(tmp_path: Path) -> None:
    """In a line of its own, with what would be right; the command ends with 2."""
    done = run("check", node_file(tmp_path, "  door: {kind: contact, pin: 24, device_class: garagedoor}\n"))

    assert done.exit_code == 2
    [line] = [line for line in done.output.splitlines() if line.startswith("kitchen: ")]
    assert "door" in line
    assert "'garage_door'" in line


def test_json_has_every_device_with_its_flaws(tmp_path: Path) -> None:
    """For programs."""
    done = run("check", "--json", node_file(tmp_path, "  door: {kind: contact, pin: 24, device_class: garagedoor}\n"))

    assert done.exit_code == 2
    [device] = json.loads(done.output)["devices"]
    assert (device["device"], device["at_broker"]) == ("kitchen", "")
    assert device["bytes"] > 100
    assert len(device["flaws"]) == 1
    assert set(device["flaws"][0]) == {"where", "text"}


def test_files_with_mistakes_are_all_named(tmp_path: Path) -> None:
    """Every mistake of every file, in one go."""
    first, second = node_file(tmp_path, "  a: {kind: nope}\n"), node_file(tmp_path, "  bcd: {kind: neither}\n")

    done = run("check", first, second, str(tmp_path / "none.yaml"))

    assert done.exit_code == 2
    assert all(word in done.stderr for word in ("nope", "neither", "none.yaml"))
    assert "Traceback" not in done.stderr


def test_two_files_of_one_node_are_a_mistake(tmp_path: Path) -> None:
    """The second would take the first one's place."""
    files = [node_file(tmp_path, f"  {name}: {{kind: switch, pin: 17}}\n") for name in ("fan", "lamp")]

    done = run("check", *files)

    assert done.exit_code == 2
    assert "another file has the same id 'kitchen'" in done.stderr


def test_a_payload_is_shown_so_that_it_can_be_pasted() -> None:
    """It stays JSON, and moves nobody's cursor."""
    text = _indented({"name": "a\x9bK\u202e", "unit": "°C"})

    assert json.loads(text) == {"name": "a\x9bK\u202e", "unit": "°C"}
    assert not {"\x9b", "\u202e"} & set(text)
    assert "\n" in text
