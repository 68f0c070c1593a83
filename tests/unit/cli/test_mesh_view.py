"""From retained messages to a picture of the mesh."""

from __future__ import annotations

import json

import pytest

from pibot_mesh.cli.mesh_view import MeshView, NodeView
from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import DeviceSpec, MasterInfo, Measure, NodeCard
from pibot_mesh.protocol.topics import Address, Kind


def attic() -> MeshView:
    """A mesh of a master and one node with a fan and a thermometer."""
    view = MeshView()
    card = NodeCard(
        "attic",
        "b",
        "1",
        devices=(
            DeviceSpec("fan", "out", "switch", room="attic"),
            DeviceSpec("air", "sensor", "climate", measures={"temperature": Measure("°C")}),
        ),
    )
    view.see(Address(Kind.MASTER_STATUS), b"online")
    view.see(Address(Kind.MASTER_INFO), encode(MasterInfo("b", "1")))
    view.see(Address(Kind.NODE_CARD, node="attic"), encode(card))
    view.see(Address(Kind.NODE_STATUS, node="attic"), b"online")
    view.see(Address(Kind.OUTPUT, node="attic", device="fan"), b"ON")
    view.see(Address(Kind.OUTPUT, node="attic", device="old"), b"OFF")
    view.see(Address(Kind.SENSOR, node="attic", device="air"), b'{"temperature": 21.5}')
    return view


def test_the_picture_is_json_too() -> None:
    """States of devices that the node no longer has are left out."""
    picture = json.loads(json.dumps(attic().to_json()))

    assert picture["master"]["online"] is True
    node = picture["nodes"]["attic"]
    assert node["online"] is True
    assert node["outputs"] == {"fan": True}
    assert node["sensors"] == {"air": {"temperature": 21.5}}


def test_units_come_from_the_card() -> None:
    """And are empty where it names none."""
    node = attic().nodes["attic"]

    assert node.unit("air", "temperature") == "°C"
    assert node.unit("air", "humidity") == ""


def test_who_thinks_is_seen() -> None:
    """A master with a model, and a node that takes instructions; nothing is taken for granted."""
    plain = attic()
    assert (plain.has_model, plain.nodes["attic"].is_agent) == (False, False)
    assert (MeshView().has_model, NodeView().is_agent) == (False, False)

    view = attic()
    view.see(Address(Kind.MASTER_INFO), encode(MasterInfo("b", "1", engines=("offline", "llm"))))
    view.see(Address(Kind.NODE_CARD, node="attic"), encode(NodeCard("attic", "b", "1", agent=True)))

    assert (view.has_model, view.nodes["attic"].is_agent) == (True, True)


def test_an_empty_card_takes_the_node_away() -> None:
    """So do empty messages of the master for what they said."""
    view = attic()

    view.see(Address(Kind.NODE_CARD, node="attic"), b"")
    view.see(Address(Kind.MASTER_STATUS), b"")
    view.see(Address(Kind.NODE_STATUS, node="ghost"), b"")

    assert view.nodes == {}
    assert not view.is_master_online


def test_the_emergency_stop_is_seen() -> None:
    """And its end."""
    view = MeshView()
    view.see(Address(Kind.STOP), b"STOP")
    assert view.is_stopped
    view.see(Address(Kind.STOP), b"RUN")
    assert not view.is_stopped


def test_what_breaks_the_protocol_is_refused() -> None:
    """The connection counts it and goes on."""
    with pytest.raises(ProtocolError):
        MeshView().see(Address(Kind.NODE_STATUS, node="attic"), b"perhaps")


def test_a_lost_broker_leaves_an_empty_picture() -> None:
    """Nothing of before is shown as if it were now."""
    view = attic()
    view.forget()

    assert view == MeshView()
