"""Why an output is as it is: found by a person's words, and told in a sentence. Pure: no I/O, no clock."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pibot_mesh.cli.mesh_view import MeshView, NodeView
from pibot_mesh.cli.values import value_text
from pibot_mesh.errors import MeshError
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import Cause, DeviceSpec, OutputValue

_NO_CLOCK_TS: Final = 1_000_000_000.0
"""A time before it comes from a machine without a clock that had not heard of the time yet."""
_NAMED: Final = 8
_SHOWN: Final = 80
"""Characters of a request's words that are shown."""


class UnknownOutput(MeshError, LookupError):
    """No output, or more than one, is what a person named."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as its words are known. *is_plain*: it came as plain text, from a broker's own tools, say."""

    text: str
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Why:
    """One output: what it is at, and who or what set it last, as far as the mesh has said so."""

    node: str
    output: str
    is_online: bool
    spec: DeviceSpec | None = None
    value: OutputValue | None = None
    cause: Cause | None = None

    @property
    def title(self) -> str:
        """What to call it: ``fan on kitchen``."""
        name = (self.spec.label or self.spec.name) if self.spec is not None else ""
        return f"{name or self.output} on {self.node}"

    def to_json(self, asked: Asked | None) -> dict[str, JSON]:
        """What ``pibot why --json`` prints."""
        return {
            "node": self.node,
            "output": self.output,
            "online": self.is_online,
            "value": self.value,
            "cause": to_dict(self.cause) if self.cause is not None else None,
            "request_text": asked.text if asked is not None else None,
        }


def find_output(view: MeshView, words: str) -> Why:
    """The output that *words* name: ``kitchen/fan``, or some of the words of its node, room, name and label.

    Raises UnknownOutput, with what may be meant.
    """
    outputs = [(name, output) for name, node in sorted(view.nodes.items()) for output in _outputs(node)]
    exact = [each for each in outputs if "/".join(each) == words.strip().lower()]
    fitting = exact or [each for each in outputs if _fits(view.nodes[each[0]], *each, words)]
    if len(fitting) == 1:
        [(name, output)] = fitting
        node = view.nodes[name]
        return Why(name, output, node.is_online, node.spec(output), node.outputs.get(output), node.causes.get(output))
    if fitting:
        raise UnknownOutput(f"more than one output is called {words!r}: name one of {_named(fitting)}")
    raise UnknownOutput(_unknown(view, outputs, words))


def sentences(why: Why, *, now_ts: float, clock: Callable[[float], str], asked: Asked | None = None) -> list[str]:
    """What the output is at and who set it; then what else is worth knowing. *clock* writes a time for people."""
    lines = [_state(why, now_ts, clock)]
    if why.cause is not None:
        lines[0] += f": {cause_text(why.cause, asked)}"
        if why.cause.request is not None and asked is None:
            lines.append(f"'pibot history {why.cause.request}' tells the request, on the master's machine.")
    if not why.is_online:
        lines.append(f"{why.node} is offline: this is what it said last.")
    return lines


def cause_text(cause: Cause, asked: Asked | None = None) -> str:
    """Who or what set an output, in words."""
    reason = f": {cause.reason}" if cause.reason else ""
    name = f" {cause.id}" if cause.id else ""
    match cause.by:
        case "start":
            return f"its value from the node's start{reason}"
        case "task":
            return f"set by task{name}{_of_request(cause, asked)}{reason}"
        case "request":
            return f"set by request{name}{_quoted(asked)}{reason}"
        case "rule":
            return f"set by the rule{name}{reason}"
        case "person":
            return f"set by a person{f' (id {cause.id})' if cause.id else ''}{reason}"
        case "timer":
            return f"set by its timer{reason}"
        case "safety":
            return f"set by safety{f' ({cause.id})' if cause.id else ''}{reason}"
    return "set by the emergency stop" + (reason if cause.reason != "emergency stop" else "")


def ago(seconds: float) -> str:
    """``12 minutes ago``, in the largest unit that fits."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now" if seconds < 2 else f"{int(seconds)} seconds ago"


def _state(why: Why, now_ts: float, clock: Callable[[float], str]) -> str:
    if why.value is None:
        return f"{why.title} has not said what it is at"
    text = f"{why.title} is {value_text(why.value, why.spec)}"
    if why.cause is None:
        return f"{text}, and its node did not say why"
    if why.cause.ts < _NO_CLOCK_TS:
        return text
    return f"{text} since {clock(why.cause.ts)} ({ago(max(0.0, now_ts - why.cause.ts))})"


def _of_request(cause: Cause, asked: Asked | None) -> str:
    return f" of request {cause.request}{_quoted(asked)}" if cause.request else ""


def _quoted(asked: Asked | None) -> str:
    if asked is None:
        return ""
    text = asked.text if len(asked.text) <= _SHOWN else f"{asked.text[: _SHOWN - 1]}…"
    return f' ("{text}"{", asked in plain text" if asked.is_plain else ""})'


def _outputs(node: NodeView) -> list[str]:
    """The outputs of its card; without one, those that have said anything."""
    if node.card is None:
        return sorted(node.outputs)
    return [device.id for device in node.card.devices if device.direction == "out"]


def _fits(node: NodeView, name: str, output: str, words: str) -> bool:
    spec = node.spec(output)
    told = (name, output, *((spec.name, spec.label, spec.room) if spec is not None else ()))
    known = {word for text in told for word in _words(text)} | {name, output}
    wanted = _words(words, also="_-")
    return bool(wanted) and all(word in known for word in wanted if word not in ("the", "on", "in"))


def _words(text: str, *, also: str = "") -> list[str]:
    return re.findall(rf"[\w{re.escape(also)}]+", text.casefold().replace("/", " "))


def _unknown(view: MeshView, outputs: list[tuple[str, str]], words: str) -> str:
    node, _, _ = words.partition("/")
    if "/" in words and node in view.nodes:
        own = [each for each in outputs if each[0] == node]
        there = f"it has {_named(own)}" if own else "it has no outputs"
        return f"{node} has no output {words.partition('/')[2]!r}: {there}"
    if not outputs:
        return "no node has shown an output yet"
    near = difflib.get_close_matches(words.lower(), ["/".join(each) for each in outputs], 1, 0.6)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return f"no output is called {words!r}{meant}: there are {_named(outputs)}"


def _named(outputs: list[tuple[str, str]]) -> str:
    more = f" and {len(outputs) - _NAMED} more" if len(outputs) > _NAMED else ""
    return ", ".join("/".join(each) for each in outputs[:_NAMED]) + more
