"""The live cards as text for a model: short, and bounded whatever the size of the mesh. Pure: no I/O.

What is the same on several nodes is said once: tools by their name, the tools of a node as one letter, the quantities
of a sensor as one number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Final

from pibot_mesh.agent.data_marks import as_data
from pibot_mesh.master.planner import Situation
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard, ToolSpec

NODES_BYTES: Final = 12 * 1024
"""For the lines of the nodes: 80 of eight devices, or many more that are alike; what a request names comes first."""
TOOLS_BYTES: Final = 6 * 1024
"""For what the tools are; further ones are only named."""
_MANY: Final = 20
"""Nodes: of more than that, those with the same devices are said in short."""
_OFFLINE_SHOWN: Final = 40
_VARIANTS: Final = 3
_CHOICES: Final = 8
_DESCRIPTION: Final = 120
_HINT: Final = 48
_CHOICE_PATTERN = re.compile(r"\^\(([\w|-]+)\)\$")
_ID = re.compile(r"[a-z0-9_-]+")
_NO_WORD = re.compile(r"[^\w-]+")
_NEUTRAL: Final = {"string": "text", "boolean": "true|false", "array": "list"}


def mesh_text(situation: Situation, request: str = "") -> str:
    """What the mesh has, marked as data. Nodes, labels, rooms and devices that *request* names go first if not all fit.

    At most about 20 KB.
    """
    cards = list(situation.cards.values())
    sets = _tool_sets(cards)
    measures = _measure_sets(cards)
    described = _described(cards)
    parts = [
        _nodes(_by_relevance(cards, request), situation.load, sets, measures),
        _legend("Quantities of the sensors", {f"#{number}": _measures(spec) for spec, number in measures.items()}),
        _offline(situation.offline),
        _legend(
            "Tools of the nodes", {letter: _set_words(names, is_agent) for (names, is_agent), letter in sets.items()}
        ),
        _tools("What the nodes' tools are", described, {}, TOOLS_BYTES),
        _tools("The master's own tools", _described([situation.own_card]), described, TOOLS_BYTES // 2),
    ]
    return as_data("mesh", "\n".join(part for part in parts if part))


@dataclass(slots=True)
class _Described:
    """A tool that several nodes may have, and its forms: the same name can take other arguments on other nodes."""

    tool: ToolSpec
    forms: dict[str, None] = field(default_factory=dict)

    def line(self) -> str:
        """What it takes, what it does to the world, and what it is for."""
        shown = " or ".join(list(self.forms)[:_VARIANTS])
        more = " (others on other nodes)" if len(self.forms) > _VARIANTS else ""
        return f"- {shown}{more} {self.tool.effect}: {_short(self.tool.description, _DESCRIPTION)}"


ToolSet = tuple[tuple[str, ...], bool]
"""The names of a node's tools, and whether it takes instructions."""
MeasureSet = tuple[tuple[str, str], ...]
"""The quantities of a sensor, with their units."""


def _tool_set(card: NodeCard) -> ToolSet:
    return tuple(sorted(tool.name for tool in card.tools)), card.agent


def _tool_sets(cards: Iterable[NodeCard]) -> dict[ToolSet, str]:
    found = dict.fromkeys(map(_tool_set, cards))
    return {tools: _letter(number) for number, tools in enumerate(found)}


def _letter(number: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    turn, place = divmod(number, len(ascii_uppercase))
    return f"{ascii_uppercase[place]}{turn or ''}"


def _set_words(names: Sequence[str], is_agent: bool) -> str:
    taken = "takes instructions; " if is_agent else "takes calls only; "
    return taken + (", ".join(names) or "no tools")


def _measure_set(device: DeviceSpec) -> MeasureSet:
    return tuple((name, measure.unit) for name, measure in device.measures.items())


def _measure_sets(cards: Iterable[NodeCard]) -> dict[MeasureSet, int]:
    found = dict.fromkeys(_measure_set(device) for card in cards for device in card.devices if device.measures)
    return {measures: number for number, measures in enumerate(found, 1)}


def _measures(measures: MeasureSet) -> str:
    return ", ".join(f"{name} {unit}".rstrip() for name, unit in measures)


def _legend(title: str, entries: Mapping[str, str]) -> str:
    return "\n".join([f"{title}:", *(f"- {key}: {words}" for key, words in entries.items())]) if entries else ""


def _by_relevance(cards: Sequence[NodeCard], request: str) -> list[NodeCard]:
    """*cards*, those of which the request names something first."""
    plain = request.casefold()
    said = f" {_NO_WORD.sub(' ', plain)} "

    def is_named(word: str) -> bool:
        whole = word.casefold()
        return (
            f" {whole} " in said or f" {whole.replace('_', ' ')} " in said or (not whole.isascii() and whole in plain)
        )

    def named(card: NodeCard) -> int:
        devices = [word for device in card.devices for word in (device.id, device.name, device.room)]
        return -sum(map(is_named, {word for word in (card.node, *card.labels, *devices) if word}))

    return sorted(cards, key=named) if request else list(cards)


def _nodes(
    cards: Sequence[NodeCard],
    load: Mapping[str, float],
    sets: Mapping[ToolSet, str],
    measures: Mapping[MeasureSet, int],
) -> str:
    if not cards:
        return "No node is online."
    head = (
        f"Nodes online ({len(cards)}). Each: id [labels] load (tasks that it holds, for its size, if any); letter of "
        "its tools; room; its devices by their id, with % where they take 0 to 100, (another name, room), #quantities:"
    )
    lines: list[str] = []
    shown: dict[str, str] = {}
    size = 0
    for number, card in enumerate(cards):
        devices = _devices(card, measures)
        model = shown.setdefault(devices, card.node) if devices and len(cards) > _MANY else card.node
        if model != card.node:
            devices = f"; devices as {model}"
        line = f"{_node(card, load.get(card.node, 0.0), sets[_tool_set(card)])}{devices}"
        size += len(line.encode()) + 1
        if size > NODES_BYTES:
            lines.append(f"- and {len(cards) - number} more that are not shown: they can be named all the same")
            break
        lines.append(line)
    return "\n".join([head, *lines])


def _node(card: NodeCard, load: float, letter: str) -> str:
    labels = f" [{', '.join(card.labels)}]" if card.labels else ""
    busy = f" load {load:.2g}" if load else ""
    room = _common_room(card)
    return f"- {card.node}{labels}{busy}; {letter}" + (f"; {room}" if room else "")


def _common_room(card: NodeCard) -> str:
    """The room of all devices of a node, where it is the same."""
    rooms = {device.room for device in card.devices}
    return rooms.pop() if len(rooms) == 1 else ""


def _devices(card: NodeCard, measures: Mapping[MeasureSet, int]) -> str:
    room, said = _common_room(card), ""
    for direction in ("out", "in", "sensor"):
        devices = [_device(device, room, measures) for device in card.devices if device.direction == direction]
        said += f"; {direction} {' '.join(devices)}" if devices else ""
    return said


def _device(device: DeviceSpec, common_room: str, measures: Mapping[MeasureSet, int]) -> str:
    facts = [device.name] if device.name and device.name.casefold() != device.id.replace("_", " ") else []
    facts += [device.room] if device.room != common_room else []
    level = "%" if device.dimmable else ""
    quantities = f"#{measures[_measure_set(device)]}" if device.measures else ""
    return f"{device.id}{level}{quantities}" + (f"({', '.join(facts)})" if facts else "")


def _offline(nodes: Iterable[str]) -> str:
    names = sorted(nodes)
    more = f" and {len(names) - _OFFLINE_SHOWN} more" if len(names) > _OFFLINE_SHOWN else ""
    return f"Known but offline: {', '.join(names[:_OFFLINE_SHOWN])}{more}." if names else ""


def _described(cards: Iterable[NodeCard]) -> dict[str, _Described]:
    """The tools of *cards* by their name."""
    found: dict[str, _Described] = {}
    for card in cards:
        for tool in card.tools:
            found.setdefault(tool.name, _Described(tool)).forms.setdefault(signature(tool, card.devices))
    return found


def _tools(title: str, tools: Mapping[str, _Described], said: Mapping[str, _Described], room: int) -> str:
    """Each tool once, with all its forms. One that was *said* before in the same form is only named."""
    known = [name for name in sorted(tools) if name in said and list(tools[name].forms) == list(said[name].forms)]
    lines = [f"- as above: {', '.join(known)}"] if known else []
    for name in sorted(tools.keys() - known):
        line = tools[name].line()
        room -= len(line.encode()) + 1
        lines.append(line if room > 0 else f"- {name}")
    return "\n".join([f"{title} (? may be left out):", *lines]) if lines else ""


def signature(tool: ToolSpec, devices: Sequence[DeviceSpec] = ()) -> str:
    """``output_set(device, value: ON|OFF, for_s?: number)``. The *devices* of its node are not listed again."""
    properties: JSON = tool.parameters.get("properties") or {}
    required = tool.parameters.get("required") or ()
    ids = {device.id for device in devices}
    known = {"device": ids, "measure": {name for device in devices for name in device.measures}}
    said = [
        f"{key}{'' if key in required else '?'}{_argument(schema, known.get(key, set()), ids)}"
        for key, schema in properties.items()
    ]
    return f"{tool.name}({', '.join(said)})"


def _argument(schema: JSON, known: set[str], ids: set[str]) -> str:
    """What may stand for an argument; nothing where it is one of the things of the node that are *known* anyway.

    A hint that names devices of the node, by their *ids*, is left out: it would be said of all nodes.
    """
    if not isinstance(schema, Mapping):
        return ""
    choices = schema.get("enum")
    if isinstance(choices, list) and known and known.issuperset(map(str, choices)):
        return ""
    hint = _short(str(schema.get("description", "")), _HINT)
    is_general = ids.isdisjoint(_ID.findall(hint))
    return f": {_type(schema)}" + (f" ({hint})" if hint and is_general else "")


def _type(schema: Mapping[str, JSON]) -> str:
    choices = schema.get("enum")
    if isinstance(choices, list):
        return "|".join(map(str, choices[:_CHOICES])) + ("|..." if len(choices) > _CHOICES else "")
    kinds = schema.get("type", "any")
    return "|".join(_kind(str(kind), schema) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _kind(kind: str, schema: Mapping[str, JSON]) -> str:
    if kind == "string" and (pattern := _CHOICE_PATTERN.fullmatch(str(schema.get("pattern", "")))):
        return pattern[1]
    if kind in ("number", "integer"):
        low, high = schema.get("minimum"), schema.get("maximum")
        is_close = all(isinstance(limit, (int, float)) and abs(limit) < 1e6 for limit in (low, high))
        return f"{kind} {low}..{high}" if is_close else kind
    return _NEUTRAL.get(kind, kind)


def _short(text: str, limit: int) -> str:
    """*text* in one line of at most *limit* characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
