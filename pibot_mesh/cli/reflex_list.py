"""The reflexes of a mesh, as lines for people and as JSON. Pure: no I/O."""

from __future__ import annotations

from pibot_mesh.cli.mesh_view import MeshView, NodeView
from pibot_mesh.cli.story import Line
from pibot_mesh.config.source import suggestion
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import ReflexSpec


def known_nodes(view: MeshView, node: str | None) -> str:
    """Why *node* cannot be listed, or nothing."""
    if node is None or node in view.nodes:
        return ""
    there = f"there are: {', '.join(sorted(view.nodes))}" if view.nodes else "no node has ever been seen here"
    return f"there is no node {node!r}{suggestion(node, tuple(view.nodes))}; {there}"


def why_not(view: MeshView, node: str, reflex: str) -> str:
    """Why a reflex cannot be switched now, or nothing."""
    problem = known_nodes(view, node)
    if problem:
        return problem
    ids = tuple(spec.id for spec in _specs(view.nodes[node]))
    if reflex not in ids:
        there = f"it has: {', '.join(ids)}" if ids else "it has none"
        return f"{node} has no reflex {reflex!r}{suggestion(reflex, ids)}; {there}"
    if not view.nodes[node].is_online:
        return f"{node} is offline, and a reflex is switched there: try again when it is back"
    return ""


def reflex_lines(view: MeshView, node: str | None = None) -> list[Line]:
    """A line for each reflex, of all nodes or of one: where, whether it is on, and what it says."""
    rows = [
        (f"{name}/{spec.id}", _state(each, spec), spec, each)
        for name, each in sorted(view.nodes.items())
        if node in (None, name)
        for spec in _specs(each)
    ]
    if not rows:
        whose = "No node has" if node is None else f"{node} has no"
        return [Line(f"{whose} reflexes." if node else f"{whose} any reflexes.", dim=True)]
    width = max(len(title) for title, *_ in rows)
    return [
        Line(f"{title:{width}}  {state:3}  {_says(spec, each)}", "good" if state == "on" else "", dim=state != "on")
        for title, state, spec, each in rows
    ]


def reflexes_json(view: MeshView, node: str | None = None) -> dict[str, JSON]:
    """Node → reflex → what it says, whether it is on (null: not said), and whether it came by a request."""
    return {
        name: {
            spec.id: {"says": spec.says, "on": each.reflexes.get(spec.id), "learned": spec.is_learned}
            for spec in _specs(each)
        }
        for name, each in sorted(view.nodes.items())
        if node in (None, name)
    }


def _specs(node: NodeView) -> tuple[ReflexSpec, ...]:
    return node.card.reflexes if node.card is not None else ()


def _state(node: NodeView, spec: ReflexSpec) -> str:
    is_on = node.reflexes.get(spec.id)
    return "?" if is_on is None else "on" if is_on else "off"


def _says(spec: ReflexSpec, node: NodeView) -> str:
    notes = [*(["learned"] if spec.is_learned else []), *([] if node.is_online else ["offline"])]
    return spec.says + (f" ({', '.join(notes)})" if notes else "")
