"""Which nodes obey the emergency stop, as lines for people. Pure: no I/O."""

from __future__ import annotations

from pibot_mesh.cli.mesh_view import MeshView, NodeView
from pibot_mesh.cli.story import Line
from pibot_mesh.cli.values import is_on, value_text


def late_nodes(view: MeshView, is_stopped: bool) -> list[str]:
    """The nodes that are online and do not say that they obey: that they are stopped, or not any more."""
    return [name for name, node in sorted(view.nodes.items()) if node.is_online and not _obeys(node, is_stopped)]


def obedience_lines(view: MeshView, is_stopped: bool) -> list[Line]:
    """A line for each node, with what its outputs are at."""
    nodes = {name: node for name, node in sorted(view.nodes.items()) if node.card is not None or node.is_online}
    if not nodes:
        return [Line("No node has ever been seen here; it holds for those that come.", dim=True)]
    width = max(map(len, nodes))
    return [_line(f"  {name:{width}}  ", node, is_stopped) for name, node in nodes.items()]


def _obeys(node: NodeView, is_stopped: bool) -> bool:
    return node.health.get("stopped") == float(is_stopped)


def _line(head: str, node: NodeView, is_stopped: bool) -> Line:
    if not node.is_online:
        return Line(f"{head}offline: it will obey when it is back", "odd")
    if not _obeys(node, is_stopped):
        word = "did not say that it obeys: go and look" if is_stopped else "says that it is stopped still"
        return Line(f"{head}{word}; {_outputs(node)}", "bad")
    if not is_stopped:
        return Line(f"{head}released; {_outputs(node)}", "good")
    on = [device for device, value in _states(node) if is_on(value)]
    if on:
        text = f"stopped; not off: {', '.join(on)} (that is the safe value, or it could not be set); {_outputs(node)}"
        return Line(f"{head}{text}", "odd")
    return Line(f"{head}stopped; {_outputs(node)}", "good")


def _states(node: NodeView) -> list[tuple[str, bool | float | str]]:
    return [(device, value) for device, value in sorted(node.outputs.items()) if node.has(device)]


def _outputs(node: NodeView) -> str:
    states = [f"{device} {value_text(value, node.spec(device))}" for device, value in _states(node)]
    return ", ".join(states) or "no outputs"
