"""What a quirk is. Pure: no sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pibot_mesh.agent.messages import CallRequest, UserMessage
from pibot_mesh.agent.model import FailureKind, Finish, ModelRequest
from pibot_mesh.protocol.messages import ToolSpec, Usage
from pibot_mesh.testing.answers import HttpAnswer
from pibot_mesh.testing.model_server import SeenRequest

_ROOM: Final = {"type": "object", "properties": {"room": {"type": "string"}}, "required": ["room"]}
LOOK: Final = ToolSpec("look", "Looks into a room.", _ROOM)
WAIT: Final = ToolSpec("wait", "Waits a little.", {"type": "object", "properties": {}})

ATTIC: Final = '{"room": "attic"}'
HALL: Final = '{"room": "hall"}'

PLAIN: Final = ModelRequest((UserMessage("Look into the attic and the hall."),), "You look.", (LOOK, WAIT), 500)
"""What a quirk is asked, where it wants nothing else."""


@dataclass(frozen=True, slots=True)
class Quirk:
    """One habit of a service. It ends well with what stands from *text* on, or with *failure*.

    A call whose id is "" has one that the client makes up. What is None is not part of the quirk.
    """

    says: str
    """What the service does, and what is right then."""
    answer: HttpAnswer | Callable[[SeenRequest], HttpAnswer]
    text: str = ""
    calls: tuple[CallRequest, ...] = ()
    reasoning: str = ""
    reasoning_field: str = ""
    usage: Usage | None = None
    finish: Finish | None = None
    failure: FailureKind | None = None
    is_retryable: bool = False
    retry_after_s: float | None = None
    request: ModelRequest = field(default=PLAIN, repr=False)
    provider: str = "custom"


def look(id: str = "", arguments: str = ATTIC) -> CallRequest:  # noqa: A002 - what it is called on the wire
    """A call of LOOK."""
    return CallRequest(id, "look", arguments)
