"""Who obeys the emergency stop."""

from __future__ import annotations

from pibot_mesh.cli.mesh_view import MeshView
from pibot_mesh.cli.obedience import late_nodes, obedience_lines
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard, encode_health
from pibot_mesh.protocol.topics import Address, Kind


def see(view: MeshView, node: str, *, stopped: bool | None, outputs: dict[str, bytes], is_online: bool = True) -> None:
    """A node shows itself."""
    devices = tuple(DeviceSpec(output, "out", "relay") for output in outputs)
    view.see(Address(Kind.NODE_CARD, node=node), encode(NodeCard(node, "b", "1", devices=devices)))
    view.see(Address(Kind.NODE_STATUS, node=node), b"online" if is_online else b"offline")
    if stopped is not None:
        view.see(Address(Kind.NODE_HEALTH, node=node), encode_health({"stopped": float(stopped)}))
    for output, state in outputs.items():
        view.see(Address(Kind.OUTPUT, node=node, device=output), state)


def test_each_node_has_its_line_while_the_stop_holds() -> None:
    """Those that are away too, and what is not off although it is safe."""
    view = MeshView()
    see(view, "attic", stopped=True, outputs={"fan": b"OFF", "lamp": b"OFF"})
    see(view, "bath", stopped=True, outputs={"valve": b"ON"})
    see(view, "cellar", stopped=False, outputs={"pump": b"ON"})
    see(view, "door", stopped=None, outputs={})
    see(view, "shed", stopped=True, outputs={"saw": b"ON"}, is_online=False)

    assert late_nodes(view, True) == ["cellar", "door"]
    assert [(line.text, line.tone) for line in obedience_lines(view, True)] == [
        ("  attic   stopped; fan OFF, lamp OFF", "good"),
        ("  bath    stopped; not off: valve (that is the safe value, or it could not be set); valve ON", "odd"),
        ("  cellar  did not say that it obeys: go and look; pump ON", "bad"),
        ("  door    did not say that it obeys: go and look; no outputs", "bad"),
        ("  shed    offline: it will obey when it is back", "odd"),
    ]


def test_each_node_has_its_line_when_the_stop_is_over() -> None:
    """Its end sets nothing."""
    view = MeshView()
    see(view, "attic", stopped=False, outputs={"fan": b"OFF"})
    see(view, "bath", stopped=True, outputs={"valve": b"OFF"})

    assert late_nodes(view, False) == ["bath"]
    assert [(line.text, line.tone) for line in obedience_lines(view, False)] == [
        ("  attic  released; fan OFF", "good"),
        ("  bath   says that it is stopped still; valve OFF", "bad"),
    ]


def test_a_mesh_without_nodes_is_told_so() -> None:
    """What a broker keeps of a node that was taken away is none."""
    view = MeshView()
    view.see(Address(Kind.OUTPUT, node="old", device="fan"), b"ON")

    assert [line.text for line in obedience_lines(view, True)] == [
        "No node has ever been seen here; it holds for those that come."
    ]
