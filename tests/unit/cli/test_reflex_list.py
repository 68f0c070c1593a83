"""The list of reflexes, and which can be switched."""

from __future__ import annotations

import pytest

from pibot_mesh.cli.mesh_view import MeshView
from pibot_mesh.cli.reflex_list import known_nodes, reflex_lines, reflexes_json, why_not
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import NodeCard, ReflexSpec
from pibot_mesh.protocol.topics import Address, Kind


def mesh() -> MeshView:
    """A greenhouse with two reflexes, a shed that is offline with one, and a node without any."""
    view = MeshView()
    cool = ReflexSpec("cool", "when air temperature above 28: vent on")
    learned = ReflexSpec("night", "when light below 5: lamp on", is_learned=True)
    for node, reflexes in (("glass", (cool, learned)), ("shed", (cool,)), ("hall", ())):
        view.see(Address(Kind.NODE_CARD, node=node), encode(NodeCard(node, "b", "1", reflexes=reflexes)))
    view.see(Address(Kind.NODE_STATUS, node="glass"), b"online")
    view.see(Address(Kind.NODE_STATUS, node="hall"), b"online")
    view.see(Address(Kind.REFLEX, node="glass", id="cool"), b"ON")
    view.see(Address(Kind.REFLEX, node="glass", id="night"), b"OFF")
    view.see(Address(Kind.REFLEX, node="glass", id="gone"), b"ON")
    return view


def test_each_reflex_has_its_line() -> None:
    """Where it is, whether it is on, what it says; those that the card does not have any more are left out."""
    assert [(line.text, line.tone) for line in reflex_lines(mesh())] == [
        ("glass/cool   on   when air temperature above 28: vent on", "good"),
        ("glass/night  off  when light below 5: lamp on (learned)", ""),
        ("shed/cool    ?    when air temperature above 28: vent on (offline)", ""),
    ]
    assert [line.text[:9] for line in reflex_lines(mesh(), "shed")] == ["shed/cool"]


def test_where_there_are_none_a_line_says_so() -> None:
    """Of the one node, or of all."""
    assert [line.text for line in reflex_lines(mesh(), "hall")] == ["hall has no reflexes."]
    assert [line.text for line in reflex_lines(MeshView())] == ["No node has any reflexes."]


def test_json_holds_the_same() -> None:
    """By node and reflex."""
    assert reflexes_json(mesh(), "shed") == {
        "shed": {"cool": {"says": "when air temperature above 28: vent on", "on": None, "learned": False}}
    }
    assert list(reflexes_json(mesh())) == ["glass", "hall", "shed"]


@pytest.mark.parametrize(
    ("node", "reflex", "says"),
    [
        ("glass", "cool", ""),
        ("glas", "cool", "there is no node 'glas' (did you mean 'glass'?); there are: glass, hall, shed"),
        ("glass", "cold", "glass has no reflex 'cold' (did you mean 'cool'?); it has: cool, night"),
        ("hall", "cool", "hall has no reflex 'cool'; it has none"),
        ("shed", "cool", "shed is offline, and a reflex is switched there: try again when it is back"),
    ],
)
def test_what_cannot_be_switched_says_why(node: str, reflex: str, says: str) -> None:
    """Before anything is sent: nobody would answer."""
    assert why_not(mesh(), node, reflex) == says


def test_a_node_that_was_never_seen_cannot_be_listed() -> None:
    """Without a name, all are."""
    assert known_nodes(MeshView(), None) == ""
    assert known_nodes(MeshView(), "hall") == "there is no node 'hall'; no node has ever been seen here"


def test_a_node_without_a_card_has_no_reflexes() -> None:
    """Whatever the broker keeps of them."""
    view = MeshView()
    view.see(Address(Kind.REFLEX, node="old", id="cool"), b"ON")

    assert reflexes_json(view) == {"old": {}}
