"""Topics and identifiers of the mesh in Home Assistant."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.master.home_assistant.naming import Naming, capitalized, readable, shortened

ROOTS = st.text(st.sampled_from("abZ/-_ é"), min_size=1, max_size=8)
NODES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)


def test_the_default_mesh_has_short_names() -> None:
    """Nobody has to read the root of a mesh that is the only one."""
    naming = Naming()

    assert naming.config_topic("kitchen") == "homeassistant/device/pibot/kitchen/config"
    assert naming.config_filter == "homeassistant/device/pibot/+/config"
    assert naming.birth_topic == "homeassistant/status"
    assert naming.device_id("master") == "pibot_master"
    assert naming.unique_id("kitchen", "out_fan") == "pibot_kitchen_out_fan"


def test_another_mesh_bears_its_root() -> None:
    """A root that stands as it is needs no more; one with other characters gets a mark of its own."""
    assert Naming("cellar").config_topic("pi") == "homeassistant/device/pibot/cellar_pi/config"
    assert re.fullmatch(
        r"ha/device/pibot/home-pibot-[0-9a-f]{6}_pi/config", Naming("home/pibot", "ha").config_topic("pi")
    )


@given(ROOTS, ROOTS, NODES, NODES)
def test_two_meshes_never_share_a_name(root: str, other: str, node: str, other_node: str) -> None:
    """Whatever their roots and nodes are, neither a topic nor an id of one is one of the other."""
    one, two = Naming(root), Naming(other)
    if (root, node) == (other, other_node):
        return

    assert one.config_topic(node) != two.config_topic(other_node)
    assert one.device_id(node) != two.device_id(other_node)
    assert one.unique_id(node, "a") != two.unique_id(other_node, "a")


@given(ROOTS, NODES)
def test_the_topic_of_a_node_names_it(root: str, node: str) -> None:
    """What was published by a mesh is known again by it, and is of a form that Home Assistant takes."""
    naming = Naming(root)

    assert naming.node_of(naming.config_topic(node)) == node
    assert re.fullmatch(r"homeassistant/device/pibot/[a-zA-Z0-9_-]+/config", naming.config_topic(node))


@pytest.mark.parametrize(
    "topic",
    [
        "homeassistant/device/pibot/cellar_pi/config",
        "homeassistant/device/other/pi/config",
        "homeassistant/device/pibot/pi/config/more",
        "homeassistant/status",
        "pibot/node/pi/card",
    ],
)
def test_a_foreign_topic_names_no_node(topic: str) -> None:
    """Other meshes' devices, and topics that are none of a device, are not ours."""
    assert Naming().node_of(topic) is None


@pytest.mark.parametrize(
    ("node", "component", "entity_id"),
    [
        ("kitchen", "fan", "switch.kitchen_fan"),
        ("pi-2", "Night-light__2", "switch.pi_2_night_light_2"),
        ("pi", "x" * 300, f"switch.pi_{'x' * 197}"),
    ],
)
def test_an_entity_id_has_small_letters_and_single_underscores(node: str, component: str, entity_id: str) -> None:
    """Home Assistant would make another id of anything else."""
    assert Naming().entity_id("switch", node, component) == entity_id


def test_ids_become_names() -> None:
    """What was written for a topic is shown as a person would write it."""
    assert readable("living-room_2") == "Living room 2"
    assert readable("__") == ""
    assert capitalized("  the  TV-set ") == "The TV-set"


def test_long_words_are_cut_at_a_blank() -> None:
    """A name ends with a word where one ends not too far before, and is never longer than it may be."""
    assert shortened("turn on the fan", 15) == "turn on the fan"
    assert shortened("turn on the fans", 13) == "turn on the…"
    assert shortened("a veryveryverylongword", 10) == "a veryver…"
