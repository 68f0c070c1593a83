"""Every error of the mesh, drawn as a tree.

::

    MeshError
    ├── ConfigError (ValueError)          a file or variable says something impossible
    │   └── ToolDefinitionError           a function marked @tool cannot be one
    ├── ProtocolError (ValueError)        a payload or topic is not what protocol.md says
    │   ├── UnsupportedVersion            it is of a later protocol than this program speaks
    │   └── PayloadTooLarge               it is over 64 KiB (or the broker's limit)
    ├── PlanError (ValueError)            a plan does not fit the live nodes; names all violations
    ├── ToolError (RuntimeError)          a tool could not do what it was asked
    ├── StoreError (OSError)              the ledger or a journal cannot be read or written
    └── BrokerError (ConnectionError)     no broker, not let in, or it went away
        ├── PublishRefused                the broker answered a publish with an error (MQTT 5, 0x87)
        ├── QueueFull                     more waits to be sent than the client may hold
        └── NoMaster                      the broker is there, the master is not

Each is also the built-in that it resembles, keeps its facts as attributes, and says what was wrong, where, and what to
do.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

_SAID = 10
"""Violations that the text of an error says: a message can hold thousands."""


class ErrorCode(StrEnum):
    """What may stand in ``error.code`` on the wire. A reader must accept codes that it does not know (newer peers)."""

    BAD_REQUEST = "bad_request"  #: the message is malformed
    UNSUPPORTED_VERSION = "unsupported_version"  #: the message is of a later protocol
    OVERLOADED = "overloaded"  #: the master holds as many open requests as it may
    NOT_UNDERSTOOD = "not_understood"  #: no sentence (and no model) knows these words
    AMBIGUOUS = "ambiguous"  #: more than one device fits; the message lists them
    BAD_PLAN = "bad_plan"  #: the plan does not fit the live nodes
    NO_MODEL = "no_model"  #: an agent task or free words, and no model is configured
    UNKNOWN_TOOL = "unknown_tool"  #: the node has no such tool
    BAD_ARGUMENTS = "bad_arguments"  #: the tool's schema refuses the arguments
    TOOL_FAILED = "tool_failed"  #: the tool ran and reported an error
    BUSY = "busy"  #: the node runs and queues as much as it may
    EXPIRED = "expired"  #: not started within ``ttl_s`` of its arrival
    TIMEOUT = "timeout"  #: not finished in time
    CANCELED = "canceled"  #: somebody cancelled it
    INTERRUPTED = "interrupted"  #: the node restarted in the middle
    STOPPED = "stopped"  #: the emergency stop holds
    UNSAFE = "unsafe"  #: a rule for the output forbids it: an interlock, a rest after it was on, too many changes
    DENIED = "denied"  #: a person did not approve it
    BUDGET = "budget"  #: what the request may use is used up
    MODEL_FAILED = "model_failed"  #: the language model gave no answer; the message says why
    OFFLINE = "offline"  #: the node is not there
    STORAGE = "storage"  #: the ledger or journal cannot be written
    INTERNAL = "internal"  #: a bug; the log says more


class MeshError(Exception):
    """The root of all errors that PiBot Mesh raises on purpose."""


class ConfigError(MeshError, ValueError):
    """A configuration file or environment variable is wrong.

    *problems* holds one sentence each, ``FILE: PATH: what is wrong and what to do``; all of them, not only the first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ToolDefinitionError(ConfigError):
    """A function that cannot be a tool.

    *problems* are ``FILE:LINE: function name(parameter): what is wrong and what to use``.
    """


class ProtocolError(MeshError, ValueError):
    """A payload or topic that breaks the protocol.

    *problems* holds every violation, as ``field: what is wrong``; the text says the first of them. *id* is the id that
    the message named, where one could still be read, so that its sender can be answered.
    """

    code = ErrorCode.BAD_REQUEST

    def __init__(self, what: str, problems: Sequence[str], *, id: str | None = None) -> None:  # noqa: A002 - the wire's own name
        self.what = what
        self.problems = tuple(problems)
        self.id = id
        said = [*self.problems[:_SAID], *([f"and {len(self.problems) - _SAID} more"] if problems[_SAID:] else [])]
        super().__init__(f"{what}: {'; '.join(said)}")


class UnsupportedVersion(ProtocolError):
    """The message is of a later major version than this program speaks; the text names both."""

    code = ErrorCode.UNSUPPORTED_VERSION


class PayloadTooLarge(ProtocolError):
    """The payload is larger than may be sent or read; the text names both sizes in bytes."""


class PlanError(MeshError, ValueError):
    """A plan that does not fit the live nodes. *problems* names every violation, as ``step s2: what is wrong``."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ToolError(MeshError, RuntimeError):
    """A tool could not do what it was asked. Its text goes to the person who asked, so it must make sense there."""

    def __init__(self, message: str, *, code: str = ErrorCode.TOOL_FAILED, retryable: bool = False) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(message)


class StoreError(MeshError, OSError):
    """The ledger or the journal cannot be read or written; names the file and the cause."""


class BrokerError(MeshError, ConnectionError):
    """The broker is not there, did not let us in, or went away."""


class PublishRefused(BrokerError):
    """The broker answered a publish with an error (only MQTT 5 brokers do); names the topic and the reason code."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(f"the broker refused a message to {topic}: {reason} (check the broker's access rules)")


class QueueFull(BrokerError):
    """More messages wait for the broker than the client may hold."""


class NoMaster(BrokerError):
    """The broker is there, and no master answers on it."""
