"""Every topic of the mesh: built and parsed in one place. Pure: no I/O.

The table `TOPICS` is the protocol's own (docs/protocol.md): a template, the quality of service, and whether the
broker keeps the last message (retained).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pibot_mesh.errors import ConfigError
from pibot_mesh.protocol.codec import ID_PATTERN

NODE_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,31}"
DEVICE_PATTERN: Final = r"[a-z0-9][a-z0-9_-]{0,31}"
DEFAULT_ROOT: Final = "pibot"


class Kind(StrEnum):
    """What a topic is for; the value is its template under the root."""

    REQUEST = "request"
    REQUEST_CONTROL = "request/{id}/control"
    REQUEST_EVENT = "request/{id}/event"
    REQUEST_REPLY = "request/{id}/reply"
    REPLY = "reply"
    STOP = "stop"
    ROUTINE = "routine/{id}"
    ROUTINE_SET = "routine/{id}/set"
    MASTER_STATUS = "master/status"
    MASTER_INFO = "master/info"
    MASTER_HEALTH = "master/health"
    MASTER_LOG = "master/log"
    MASTER_STATE = "master/state"
    MASTER_EVENT = "master/event"
    MASTER_CONTROL = "master/control"
    NODE_STATUS = "node/{node}/status"
    NODE_HEALTH = "node/{node}/health"
    NODE_CARD = "node/{node}/card"
    NODE_TASK = "node/{node}/task"
    NODE_CONTROL = "node/{node}/control"
    NODE_EVENT = "node/{node}/event"
    TASK_CONTROL = "node/{node}/task/{id}/control"
    TASK_EVENT = "node/{node}/task/{id}/event"
    TASK_RESULT = "node/{node}/task/{id}/result"
    LLM_REQUEST = "node/{node}/llm/{id}/request"
    LLM_CHUNK = "node/{node}/llm/{id}/chunk"
    INPUT = "node/{node}/in/{device}"
    OUTPUT = "node/{node}/out/{device}"
    OUTPUT_SET = "node/{node}/out/{device}/set"
    OUTPUT_CAUSE = "node/{node}/out/{device}/cause"
    SENSOR = "node/{node}/sensor/{device}"
    REFLEX = "node/{node}/reflex/{id}"
    REFLEX_SET = "node/{node}/reflex/{id}/set"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages of a kind travel. *qos* is for lifecycle messages; deltas of events go at 0."""

    qos: int
    retain: bool


DELIVERY: Final[dict[Kind, Delivery]] = {
    kind: Delivery(
        qos=0 if kind in (Kind.MASTER_HEALTH, Kind.MASTER_LOG, Kind.NODE_HEALTH, Kind.SENSOR) else 1,
        retain=kind
        in (
            Kind.STOP,
            Kind.ROUTINE,
            Kind.MASTER_STATUS,
            Kind.MASTER_INFO,
            Kind.MASTER_HEALTH,
            Kind.MASTER_STATE,
            Kind.NODE_STATUS,
            Kind.NODE_HEALTH,
            Kind.NODE_CARD,
            Kind.INPUT,
            Kind.OUTPUT,
            Kind.OUTPUT_CAUSE,
            Kind.SENSOR,
            Kind.REFLEX,
        ),
    )
    for kind in Kind
}


DELTAS: Final = frozenset(("message_delta", "tool_update"))
"""The types of events of which nobody misses one: they travel at QoS 0."""


MASTER_READS: Final = (
    (Kind.REQUEST, ""),
    (Kind.REQUEST_CONTROL, ""),
    (Kind.NODE_STATUS, "+"),
    (Kind.NODE_HEALTH, "+"),
    (Kind.NODE_CARD, "+"),
    (Kind.TASK_EVENT, "+"),
    (Kind.TASK_RESULT, "+"),
    (Kind.LLM_REQUEST, "+"),
    (Kind.MASTER_STATUS, ""),
)
"""What every master reads for its requests: a kind, and of which node where it is a node's."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: its kind, and the node, id (of a request, task or call) or device that it names."""

    kind: Kind
    node: str = ""
    id: str = ""
    device: str = ""


_FIELD_PATTERNS = {"node": NODE_PATTERN, "id": ID_PATTERN, "device": DEVICE_PATTERN}


def _pattern(kind: Kind) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", lambda match: f"(?P<{match[1]}>{_FIELD_PATTERNS[match[1]]})", kind.value))


_PATTERNS: Final = {kind: _pattern(kind) for kind in Kind}


class Topics:
    """Builds and parses the topics below *root*, which may have several levels (``home/pibot``).

    Raises ConfigError for a root that no broker would take: empty, with ``+``, ``#``, ``$`` first, or an empty level.
    """

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        if not re.fullmatch(r"[^+#$/\x00][^+#/\x00]*(/[^+#/\x00]+)*", root) or len(root) > 200:
            raise ConfigError([f"root topic {root!r}: use plain levels such as 'pibot' or 'home/pibot'"])
        self.root = root

    def topic(self, kind: Kind, *, node: str = "", id: str = "", device: str = "") -> str:  # noqa: A002 - the wire's own name
        """The topic of *kind*. Raises ValueError where a field that it needs is missing or not of its form."""
        topic = kind.value.format(node=node, id=id, device=device)
        if not _PATTERNS[kind].fullmatch(topic):
            raise ValueError(f"{topic!r} is no topic of the form {kind.value}")
        return f"{self.root}/{topic}"

    def filter(self, kind: Kind, *, node: str = "+") -> str:
        """The subscription filter for every topic of *kind*, of one *node* or (``+``) of all."""
        return f"{self.root}/{kind.value.format(node=node, id='+', device='+')}"

    def parse(self, topic: str) -> Address | None:
        """What *topic* addresses, or None where it is none of ours."""
        if not topic.startswith(self.root + "/"):
            return None
        below = topic[len(self.root) + 1 :]
        for kind, pattern in _PATTERNS.items():
            if match := pattern.fullmatch(below):
                return Address(kind, **match.groupdict())
        return None

    def is_reply_topic(self, topic: str) -> bool:
        """Whether a reply may go to *topic*: only below ``reply/``, so that nobody has the master publish a task."""
        prefix = f"{self.root}/reply/"
        return topic.startswith(prefix) and re.fullmatch(r"[^+#\x00]{1,200}", topic[len(prefix) :]) is not None
