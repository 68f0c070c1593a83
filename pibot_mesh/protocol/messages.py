"""The messages of the mesh. Pure: no I/O.

Each class is the schema of its message (see `codec`); durations are relative seconds, ``ts`` is Unix seconds for
people to read, and order is judged by ``boot`` and ``seq`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import (
    ID_PATTERN,
    JSON,
    VERSION,
    Length,
    Pattern,
    Range,
    Rest,
    decode,
    encode,
    from_dict,
    loads,
)
from pibot_mesh.protocol.topics import DEVICE_PATTERN, NODE_PATTERN

Id: TypeAlias = Annotated[str, Pattern(ID_PATTERN, "an id of 1 to 64 letters, digits, '_' or '-'")]
NodeId: TypeAlias = Annotated[
    str, Pattern(NODE_PATTERN, "a node id of 1 to 32 small letters, digits or '-', not '-' first")
]
DeviceId: TypeAlias = Annotated[
    str, Pattern(DEVICE_PATTERN, "a device id of 1 to 32 small letters, digits, '_' or '-'")
]
TOOL_PATTERN: Final = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"
ToolName: TypeAlias = Annotated[str, Pattern(TOOL_PATTERN, "a tool name of 1 to 64 letters, digits, '_' or '-'")]
Seconds: TypeAlias = Annotated[float, Range(0.001, 7 * 24 * 3600)]
Count: TypeAlias = Annotated[int, Range(0, 2**53)]
Attempt: TypeAlias = Annotated[int, Range(1, 1000)]
REF_PATTERN: Final = r"s[0-9]{1,3}(\.[A-Za-z0-9_-]{1,64})*"
Words: TypeAlias = Annotated[str, Length(1, 8000)]
Effect: TypeAlias = Literal["read", "write", "actuate"]

MAX_WORDS: Final = 500
"""Characters of what is said in words: a cause's reason, a reflex, a routine."""
MAX_SHOWN: Final = 255
"""Characters of a text in `MasterState`: as many as Home Assistant takes for a state."""
MAX_TOLD: Final = 12_000
"""Bytes of JSON of the text in `MasterEvent`: Home Assistant keeps 16 KiB of attributes, all in all."""


class State(StrEnum):
    """The states of a task, in the words of the A2A standard, and one of our own: UNKNOWN."""

    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input_required"  #: an approval is awaited
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    REJECTED = "rejected"
    UNKNOWN = "unknown"  #: the node died or vanished in the middle of an effect that may not be repeated
    SKIPPED = "skipped"  #: a step of a plan that was not needed: its condition was false, or what it waited for failed

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self not in (State.SUBMITTED, State.WORKING, State.INPUT_REQUIRED)


TaskOutcome: TypeAlias = Literal[State.COMPLETED, State.FAILED, State.CANCELED, State.REJECTED, State.UNKNOWN]


@dataclass(frozen=True, slots=True)
class WireError:
    """What went wrong, for programs (``code``, see `pibot_mesh.errors.ErrorCode`) and for people (``message``)."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use at most; None means the receiver's own limit."""

    turns: Annotated[int, Range(1, 10_000)] | None = None
    tool_calls: Annotated[int, Range(0, 10_000)] | None = None
    tokens: Count | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used: ``cached`` is a part of ``input``, ``reasoning`` a part of ``output``."""

    input: Count = 0
    cached: Count = 0
    output: Count = 0
    reasoning: Count = 0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: from arrival to start, and from start to end."""

    waited_s: float = 0.0
    ran_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a task made. ``ok`` is None where the node died before it knew."""

    name: str
    args: Mapping[str, JSON] = field(default_factory=dict)
    ok: bool | None = None
    effect: Effect = "read"


@dataclass(frozen=True, slots=True)
class Output:
    """What a task gave: words for people, ``data`` for later steps."""

    text: str = ""
    data: JSON = None


# --- People and the master ---


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks. ``node`` pins every step to one node; ``session`` names the conversation that it goes on."""

    id: Id
    text: Words
    reply_to: Annotated[str, Length(1, 256)] | None = None
    node: NodeId | None = None
    mode: Literal["auto", "offline", "plan_only"] = "auto"
    timeout_s: Seconds | None = None
    limits: Limits = field(default_factory=Limits)
    session: Id | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """Run the step only if the value at ``ref`` is above, below or equal to ``value``."""

    ref: Annotated[str, Pattern(REF_PATTERN, "a reference such as s1.value")]
    op: Literal["above", "below", "at_least", "at_most", "equals", "differs"]
    value: float | None = None
    text: str | None = None

    @property
    def step(self) -> str:
        """The id of the step referred to."""
        return self.ref.split(".", 1)[0]

    def __post_init__(self) -> None:
        if (self.value is None) == (self.text is None):
            raise ValueError("a condition compares with a value or with a text, with one of them")
        if self.text is not None and self.op not in ("equals", "differs"):
            raise ValueError(f"op: a text can be compared with equals or differs, not {self.op}")


StepId: TypeAlias = Annotated[str, Pattern(r"s[0-9]{1,3}", "a step id such as s1")]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan: a ``call`` of a tool, or an ``agent`` instruction.

    ``node`` is a node's id or ``master``; without it, any node may do the step that has the tool and all ``labels``.
    In ``args`` an object ``{"$ref": "s1.value"}`` stands for a value of an earlier step. ``tools`` are those that an
    agent may call; where there are none, it may call all that its node has.
    """

    id: StepId
    kind: Literal["call", "agent"] = "call"
    node: NodeId | None = None
    labels: tuple[Words, ...] = ()
    tool: ToolName | None = None
    args: Mapping[str, JSON] = field(default_factory=dict)
    instruction: Words | None = None
    tools: tuple[ToolName, ...] = ()
    after: tuple[StepId, ...] = ()
    when: Condition | None = None
    timeout_s: Seconds | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind, self.tool, self.instruction)


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done for a request. ``language`` (such as ``en``) is that of the answer."""

    engine: Literal["offline", "llm"]
    steps: Annotated[tuple[Step, ...], Length(1, 100)]
    language: Annotated[str, Length(2, 16)] = "en"
    complexity: Literal["simple", "moderate", "complex"] = "simple"


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step of the plan ended."""

    step: StepId
    state: State
    node: NodeId | None = None
    task: Id | None = None
    attempt: Attempt = 1
    output: Output = field(default_factory=Output)
    error: WireError | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class ReplyTiming:
    """Seconds from the request's arrival: until the plan stood, and until the reply."""

    plan_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The one, terminal answer to a request; ``text`` says what happened, from results.

    ``usage`` is all that the request has used: planning, its tasks, and the words of the answer.
    """

    id: Id
    state: State
    text: str
    engine: Literal["offline", "llm"] | None = None
    plan: Plan | None = None
    results: tuple[StepResult, ...] = ()
    usage: Usage = Usage()
    timing: ReplyTiming = ReplyTiming()
    error: WireError | None = None
    boot: str = ""
    seq: Count = 0
    ts: float = 0.0


@dataclass(frozen=True, slots=True)
class Control:
    """An order about something that runs.

    ``tasks`` are results to forget, or those of a request's tasks that ``steer`` is for (all, where there are none).
    ``call`` is the call to approve or deny, as ``approval_required`` named it. ``by`` says who gives the order, for
    people to read. ``epoch`` is that of the master's hold on the request (`Task`).
    """

    action: Literal["cancel", "steer", "approve", "deny", "forget", "reload"]
    text: Annotated[str, Length(0, 8000)] | None = None
    reason: Annotated[str, Length(0, 1000)] | None = None
    call: Id | None = None
    tasks: Annotated[tuple[Id, ...], Length(0, 500)] = ()
    by: Annotated[str, Length(0, 200)] | None = None
    epoch: Count = 0


# --- The master and nodes ---


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work for one node.

    ``retry`` is ``safe`` where a new attempt may do it again, ``never`` where an effect may happen at most once.
    It must start within ``ttl_s`` of its arrival and finish within ``timeout_s`` of its start, so nodes need no clock.
    ``tools`` are those that an agent may call (all, where there are none); those in ``ask``, by name or by effect, only
    once a person has approved the very call, who is waited for ``ask_within_s`` long. The waiting does not count
    against ``timeout_s``.

    Where several masters run, ``epoch`` grows each time that the request passes from one to another. A node that has
    seen a later one of the same request does not take the task: it comes from a master that lost it.
    """

    id: Id
    request: Id
    kind: Literal["call", "agent"]
    attempt: Attempt = 1
    tool: ToolName | None = None
    args: Mapping[str, JSON] = field(default_factory=dict)
    instruction: Words | None = None
    context: str | None = None
    tools: tuple[ToolName, ...] = ()
    retry: Literal["safe", "never"] = "never"
    ttl_s: Seconds = 30.0
    timeout_s: Seconds = 30.0
    limits: Limits = field(default_factory=Limits)
    ask: tuple[ToolName, ...] = ()
    ask_within_s: Seconds = 120.0
    epoch: Count = 0

    def __post_init__(self) -> None:
        _check_kind(self.kind, self.tool, self.instruction)


def _check_kind(kind: str, tool: str | None, instruction: str | None) -> None:
    if kind == "call" and tool is None:
        raise ValueError("tool: is missing, and a call needs it")
    if kind == "agent" and instruction is None:
        raise ValueError("instruction: is missing, and an agent step or task needs it")


@dataclass(frozen=True, slots=True)
class Result:
    """How a task ended. Sent again until the master says ``forget``."""

    id: Id
    request: Id
    attempt: Attempt
    state: TaskOutcome
    output: Output = field(default_factory=Output)
    error: WireError | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    timing: Timing = Timing()
    boot: str = ""
    seq: Count = 0
    ts: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a run (a request or a task). ``data`` holds the type's own fields, flat on the wire.

    A gap in ``seq`` of one ``boot`` shows that something was dropped.
    """

    run: Id
    type: Annotated[str, Length(1, 64)]
    boot: str
    seq: Count
    ts: float = 0.0
    data: Annotated[Mapping[str, JSON], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a node's card shows it. ``parameters`` is the JSON Schema of its arguments, an object.

    With the approval ``ask``, a person must approve each call.
    """

    name: ToolName
    description: str = ""
    parameters: Mapping[str, JSON] = field(default_factory=dict)
    effect: Effect = "read"
    safe_to_retry: bool = True
    timeout_s: Seconds = 30.0
    approval: Literal["auto", "ask"] = "auto"


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity that a sensor gives, with its unit (``°C``, ``%``) and Home Assistant's device class."""

    unit: str = ""
    device_class: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device as a node's card shows it.

    ``id`` is its place in the topics, ``name`` its word in sentences ("fan"), ``label`` its name for people to read,
    ``room`` where it is. An output that is ``dimmable`` takes 0 to 100 (percent) as well as ON and OFF, one in
    ``color`` also ``#rrggbb``. ``measures`` is for sensors: quantity → unit; an input whose state is a number has its
    ``unit``. ``device_class`` is what Home Assistant calls its sort of thing (``outlet``, ``garage_door``).
    """

    id: DeviceId
    direction: Literal["in", "out", "sensor"]
    kind: Annotated[str, Length(1, 32)]
    name: Annotated[str, Length(0, 64)] = ""
    room: Annotated[str, Length(0, 64)] = ""
    dimmable: bool = False
    measures: Mapping[str, Measure] = field(default_factory=dict)
    color: bool = False
    label: Annotated[str, Length(0, 64)] = ""
    unit: Annotated[str, Length(0, 16)] = ""
    device_class: Annotated[str, Length(1, 64)] | None = None
    events: tuple[Annotated[str, Length(1, 64)], ...] = ()
    """The types of the events that it may send."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many tasks a node runs at once, and how many more it queues."""

    running: Annotated[int, Range(1, 1000)] = 2
    queued: Annotated[int, Range(0, 10_000)] = 16


@dataclass(frozen=True, slots=True)
class ReflexSpec:
    """A reflex as a node's card shows it: a rule that the node keeps by itself. ``says`` it in words.

    One that ``is_learned`` came by a request, and can be removed by one; the others stand in the node's file. Whether
    it is on stands on its topic.
    """

    id: DeviceId
    says: Annotated[str, Length(1, MAX_WORDS)]
    is_learned: bool = False


@dataclass(frozen=True, slots=True)
class NodeCard:
    """What a node is and can do; retained, published at every connect and when it changes.

    A node of which nothing is heard for three times ``health_interval_s`` counts as lost. One that is an ``agent``
    takes instructions as well as calls.
    """

    node: NodeId
    boot: str
    version: str
    protocol: Count = VERSION
    labels: tuple[Annotated[str, Length(1, 64)], ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    devices: tuple[DeviceSpec, ...] = ()
    capacity: Capacity = Capacity()
    simulated: bool = False
    health_interval_s: Seconds = 10.0
    agent: bool = False
    seq: Count = 0
    reflexes: tuple[ReflexSpec, ...] = ()
    start_reason: Annotated[str, Length(1, 32)] | None = None
    """Why its process started: ``first``, ``restart``, ``crash``, ``reboot`` or ``power_loss``; None: not known."""


@dataclass(frozen=True, slots=True)
class MasterInfo:
    """What the master is; retained."""

    boot: str
    version: str
    protocol: Count = VERSION
    engines: tuple[str, ...] = ()
    seq: Count = 0


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call that waits for a person's word, of a *request*. ``says`` it in words: what, where, and with what."""

    request: Id
    call: Id
    tool: ToolName
    says: Annotated[str, Length(1, MAX_WORDS)]
    args: Mapping[str, JSON] = field(default_factory=dict)
    node: NodeId | None = None


@dataclass(frozen=True, slots=True)
class MasterState:
    """What the master is doing, for displays; retained, and said when it changes.

    ``request`` is the newest of its ``open`` requests, ``asked`` the text of the last one that came, ``answer`` that of
    the last reply, and ``outcome`` how it ended. ``pending`` is the call that has waited longest for a person's word.
    Texts are cut to `MAX_SHOWN` characters.
    """

    state: Literal["idle", "working", "needs_approval", "stopped"]
    is_stopped: bool = False
    open: Count = 0
    request: Id | None = None
    asked: str = ""
    answer: str = ""
    outcome: State | None = None
    pending: PendingCall | None = None
    boot: str = ""
    seq: Count = 0


@dataclass(frozen=True, slots=True)
class MasterEvent:
    """A request got its reply, or waits for a person's word: for automations, which see neither topic nor plan.

    ``answered`` is a request that was completed, ``failed`` one that was not; ``text`` is the reply's, or what the call
    in ``pending`` is about, cut to `MAX_TOLD` bytes of JSON; ``asked`` is cut to `MAX_SHOWN` characters.
    """

    event_type: Literal["answered", "failed", "needs_approval"]
    id: Id
    text: str = ""
    asked: str = ""
    state: State | None = None
    session: Id | None = None
    pending: PendingCall | None = None
    boot: str = ""
    seq: Count = 0
    ts: float = 0.0


@dataclass(frozen=True, slots=True)
class MasterControl:
    """An order about a *request* from where a topic cannot name it, such as a button. Never retained.

    ``call`` is the call to approve or deny, and needed for that.
    """

    action: Literal["cancel", "approve", "deny"]
    request: Id
    call: Id | None = None
    reason: Annotated[str, Length(0, 1000)] | None = None
    by: Annotated[str, Length(0, 200)] | None = None

    def __post_init__(self) -> None:
        if self.call is None and self.action != "cancel":
            raise ValueError(f"call: is missing, and {self.action} needs it")


@dataclass(frozen=True, slots=True)
class RoutineState:
    """A routine of the master: a request that is made at a time, or when something happens. Retained.

    ``says`` it in words. ``last_ts`` is when it was made last, ``next_ts`` when a schedule is due next (Unix seconds).
    """

    id: Id
    kind: Literal["schedule", "trigger"]
    says: Annotated[str, Length(1, MAX_WORDS)]
    request: Annotated[str, Length(1, 8000)]
    is_on: bool
    last_ts: float | None = None
    next_ts: float | None = None
    boot: str = ""
    seq: Count = 0


@dataclass(frozen=True, slots=True)
class Cause:
    """Who or what set an output last. ``id`` names the request, task or rule; ``reason`` is for people."""

    by: Literal["start", "task", "request", "rule", "person", "timer", "safety", "stop"]
    id: Annotated[str, Length(0, 128)] | None = None
    request: Id | None = None
    reason: Annotated[str, Length(0, MAX_WORDS)] | None = None
    boot: str = ""
    seq: Count = 0
    ts: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """Something that happened at a node: a button was pressed, held or released, something moved, a measure crossed a
    threshold.
    """

    event_type: Annotated[str, Length(1, 64)]
    device: DeviceId
    boot: str
    seq: Count
    ts: float = 0.0
    data: Annotated[Mapping[str, JSON], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """A chat completion that a node asks of the model gateway for one of its tasks.

    ``messages`` and ``tools`` are as OpenAI writes them. With ``cancel``, nobody waits for the call ``id`` any more.
    """

    id: Id
    task: Id
    messages: Annotated[tuple[Mapping[str, JSON], ...], Length(0, 1000)] = ()
    tools: tuple[Mapping[str, JSON], ...] = ()
    max_tokens: Annotated[int, Range(1, 2**31)] | None = None
    temperature: Annotated[float, Range(0, 2)] | None = None
    cancel: bool = False

    def __post_init__(self) -> None:
        if not self.messages and not self.cancel:
            raise ValueError("messages: is empty, and a model needs at least one")


@dataclass(frozen=True, slots=True)
class LLMChunk:
    """One piece of the gateway's answer. ``seq`` counts from 0; a gap means that the answer is not whole.

    ``delta`` has ``content`` and ``reasoning_content``, the next pieces of the text and of the reasoning; an empty one
    is a sign of life. The ``last`` one has ``tool_calls`` (whole, as OpenAI writes them), ``finish_reason`` and, where
    the service calls its reasoning otherwise, ``reasoning_field``; or the error: then ``delta`` has the failure's
    ``kind`` and, where the service asks to wait, ``retry_after_s``. ``usage`` is what the call has used so far.
    """

    id: Id
    seq: Count
    last: bool = False
    delta: Mapping[str, JSON] = field(default_factory=dict)
    usage: Usage | None = None
    error: WireError | None = None


# --- Payloads that are not dataclasses on the wire: presence, health, output values, requests in plain text ---

OutputValue: TypeAlias = bool | float | str
"""True and False for ON and OFF, a number (percent for a dimmable output), or a color: ``#rrggbb`` in small letters."""


@dataclass(frozen=True, slots=True)
class OutputSet:
    """An order to set an output. ``for_s``: back to its safe value after so many seconds. ``id``: obeyed once."""

    value: OutputValue
    for_s: float | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class _OutputSetObject:
    value: JSON
    for_s: Seconds | None = None
    id: Id | None = None


RETAINED: Final = "it came as a retained message, which may be from long ago"
"""Why a command or an event is not heeded that the broker had kept."""


def refuse_retained(what: str, is_retained: bool) -> None:
    """Raises ProtocolError where *what* is a command, or an event, that the broker had kept (promise 3)."""
    if is_retained:
        raise ProtocolError(what, [RETAINED])


def decode_presence(payload: bytes) -> bool:
    """Whether a status payload says ``online``. Raises ProtocolError for anything but ``online`` and ``offline``."""
    return _word(payload, "status", {"online": True, "offline": False})


def encode_presence(is_online: bool) -> bytes:
    """``online`` or ``offline``."""
    return b"online" if is_online else b"offline"


def decode_stop(payload: bytes) -> bool:
    """Whether the emergency stop holds (``STOP``) or not (``RUN``). Raises ProtocolError for anything else."""
    return _word(payload, "stop", {"STOP": True, "RUN": False})


def decode_switch(payload: bytes) -> bool:
    """Whether something is to be on (``ON``) or off (``OFF``). Raises ProtocolError for anything else."""
    return _word(payload, "switch", {"ON": True, "OFF": False})


def encode_stop(is_stopped: bool) -> bytes:
    """``STOP`` or ``RUN``."""
    return b"STOP" if is_stopped else b"RUN"


def decode_health(payload: bytes) -> dict[str, float]:
    """Flat numeric JSON. Raises ProtocolError where a value is no number."""
    return dict(decode(_Health, payload).numbers)


def encode_health(numbers: Mapping[str, float]) -> bytes:
    """Flat numeric JSON; numbers must be finite. Raises ProtocolError."""
    return encode(_Health(numbers))


decode_sensor = decode_health
encode_sensor = encode_health


@dataclass(frozen=True, slots=True)
class _Health:
    numbers: Annotated[Mapping[str, float], Rest()] = field(default_factory=dict)


def decode_value(payload: bytes) -> OutputValue:
    """The confirmed state of an input or output: ``ON``, ``OFF``, a number or a color. Raises ProtocolError."""
    value = _plain_value(payload)
    return _number(loads(payload, "state"), "state") if value is None else value


def encode_value(value: OutputValue) -> bytes:
    """``ON``, ``OFF``, a color, or a number without needless digits. Raises ProtocolError where it is not finite."""
    if isinstance(value, bool):
        return b"ON" if value else b"OFF"
    if isinstance(value, str):
        return _color(value, "state").encode()
    return f"{_number(value, 'state'):.6g}".encode()


def decode_output_set(payload: bytes) -> OutputSet:
    """``ON``, ``OFF``, a number, a color, or JSON ``{"value", "for_s", "id"}``. Raises ProtocolError.

    There is no toggle: a message that comes twice must mean the same as one that comes once.
    """
    plain = _plain_value(payload)
    if plain is not None:
        return OutputSet(plain)
    value = loads(payload, "set")
    if not isinstance(value, dict):
        return OutputSet(_number(value, "set"))
    fields = decode(_OutputSetObject, payload)
    return OutputSet(_value(fields.value, "set"), fields.for_s, fields.id)


def encode_output_set(order: OutputSet) -> bytes:
    """The plain value where that says all, else JSON."""
    if order.for_s is None and order.id is None:
        return encode_value(order.value)
    value = ("ON" if order.value else "OFF") if isinstance(order.value, bool) else order.value
    return encode(_OutputSetObject(value, order.for_s, order.id))


def decode_request(payload: bytes, *, new_id: str) -> Request:
    """A Request from JSON, or from plain text, which gets *new_id*. Raises ProtocolError.

    Plain text is whatever does not begin with ``{``: a person types it with ``mosquitto_pub``.
    """
    if payload.lstrip()[:1] == b"{":
        return decode(Request, payload)
    try:
        text = payload.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ProtocolError("Request", [f"not UTF-8 at byte {error.start}"]) from None
    return from_dict(Request, {"id": new_id, "text": text})


def _word(payload: bytes, what: str, words: Mapping[str, bool]) -> bool:
    for word, meaning in words.items():
        if payload == word.encode():
            return meaning
    raise ProtocolError(what, [f"{' or '.join(words)} is expected, not {payload[:40]!r}"])


def _plain_value(payload: bytes) -> OutputValue | None:
    """``ON``, ``OFF`` or a color as it stands, or None."""
    if payload in (b"ON", b"OFF"):
        return payload == b"ON"
    return _color(payload.decode("ascii", "replace"), "value") if payload.startswith(b"#") else None


def _value(value: JSON, what: str) -> OutputValue:
    if value in ("ON", "OFF"):
        return bool(value == "ON")
    return _color(value, what) if isinstance(value, str) and value.startswith("#") else _number(value, what)


def _color(text: str, what: str) -> str:
    if re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        return text.lower()
    raise ProtocolError(what, [f"value: a color is '#' and six hexadecimal digits (#ff8800), not {text[:40]!r}"])


def _number(value: JSON, what: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    raise ProtocolError(what, [f"value: ON, OFF, a color or a number below 1e15 is expected, not {str(value)[:40]!r}"])
