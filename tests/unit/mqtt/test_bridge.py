"""The configuration of a bridge: what goes in and out, and what each version of Mosquitto can be told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.settings import Tls
from pibot_mesh.errors import ConfigError
from pibot_mesh.mqtt.bridge import Bridge, bridge_config
from pibot_mesh.protocol.topics import Kind

BRIDGE = Bridge("home", (("hub.example", 1883),), "pibot", "home")


def directions(config: str) -> dict[str, list[str]]:
    """The patterns of a configuration, by direction."""
    found: dict[str, list[str]] = {}
    for pattern, direction in re.findall(r"^topic (\S+) (\S+) ", config, re.MULTILINE):
        found.setdefault(direction, []).append(pattern)
    return found


def test_nothing_comes_in_unless_it_is_allowed() -> None:
    """And then requests alone; no topic goes both ways."""
    assert directions(bridge_config(BRIDGE, (2, 0))).keys() == {"out"}
    allowed = directions(bridge_config(replace(BRIDGE, is_asked=True), (2, 0)))

    assert allowed["in"] == ["request"]
    assert not set(allowed["in"]) & set(allowed["out"])


@pytest.mark.parametrize(
    "kind",
    [
        *(Kind.NODE_TASK, Kind.NODE_CONTROL, Kind.TASK_CONTROL, Kind.OUTPUT_SET, Kind.REQUEST_CONTROL),
        *(Kind.LLM_CHUNK, Kind.REFLEX_SET, Kind.ROUTINE_SET),
    ],
)
def test_a_command_goes_neither_in_nor_out(kind: Kind) -> None:
    """Whatever the options: it is nobody's business outside the house."""
    pattern = re.sub(r"\{\w+\}", "+", kind.value)

    assert f"topic {pattern} " not in bridge_config(replace(BRIDGE, is_asked=True), (2, 0))


def test_the_mesh_stands_below_its_prefix() -> None:
    """Roots of several levels too; both ends of a topic are cut at the same place."""
    bridge = replace(BRIDGE, root="house/pibot", prefix="north/home")

    assert bridge.remote_root == "north/home/house/pibot"
    assert "topic node/+/status out 1 house/pibot/ north/home/house/pibot/\n" in bridge_config(bridge, (2, 0))


def test_an_older_mosquitto_is_told_what_it_knows() -> None:
    """An unknown option would end it."""
    new, old = bridge_config(BRIDGE, (2, 0)), bridge_config(BRIDGE, (1, 5))

    assert "local_cleansession false\n" in new
    assert "restart_timeout 2 30\n" in new
    assert "local_cleansession" not in old
    assert "restart_timeout 10\n" in old


def test_several_servers_are_tried_in_turn() -> None:
    """The other broker may be a cluster; an IPv6 address has no brackets in Mosquitto's words."""
    config = bridge_config(replace(BRIDGE, addresses=(("a", 1), ("::1", 2))), (2, 0))

    assert "address a:1 ::1:2\n" in config
    assert "round_robin true\n" in config
    assert "round_robin" not in bridge_config(BRIDGE, (2, 0))


def test_encryption_trusts_the_system_or_the_file_given() -> None:
    """And shows a certificate of our own where there is one."""
    assert "bridge_capath /etc/ssl/certs\n" in bridge_config(replace(BRIDGE, tls=Tls()), (2, 0))
    own = Tls(Path("/ca.pem"), Path("/own.pem"), Path("/own.key"))
    config = bridge_config(replace(BRIDGE, tls=own), (2, 0))

    assert "bridge_cafile /ca.pem\nbridge_certfile /own.pem\nbridge_keyfile /own.key\n" in config
    assert "bridge_c" not in bridge_config(BRIDGE, (2, 0))


def test_a_password_is_left_to_be_filled_in() -> None:
    """What this prints may end up anywhere."""
    config = bridge_config(replace(BRIDGE, username="ann"), (2, 0))

    assert "remote_username ann\n" in config
    assert "\n# remote_password PASSWORD\n" in config


@pytest.mark.parametrize(
    ("field", "text"),
    [("name", ""), ("name", "a b"), ("prefix", ""), ("prefix", "a/#"), ("root", 'a"b'), ("username", "a\nb")],
)
def test_what_mosquitto_would_read_otherwise_is_refused(field: str, text: str) -> None:
    """A space ends a word there, and an empty prefix would mix two meshes."""
    texts = {"name": "home", "root": "pibot", "prefix": "home", "username": "ann", field: text}
    with pytest.raises(ConfigError, match=f"^{field} "):
        Bridge(texts["name"], (("hub", 1),), texts["root"], texts["prefix"], username=texts["username"])


def test_a_prefix_must_be_a_topic() -> None:
    """No empty level, nor $ first."""
    with pytest.raises(ConfigError, match="use plain levels"):
        replace(BRIDGE, prefix="$SYS/home")
