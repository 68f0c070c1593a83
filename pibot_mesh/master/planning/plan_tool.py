"""The tools with which a model answers when it is asked for a plan, and what it wrote read into a draft. Pure: no I/O.

A draft says what kind of work each step is; `assignment` says where the work is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, Length, from_dict
from pibot_mesh.protocol.messages import Condition, NodeId, Seconds, StepId, ToolName, ToolSpec, Words

Work: TypeAlias = Literal["files", "query", "system", "network", "device", "compute", "code"]
"""What kind of work a step is; it decides where the step goes (see `pibot_mesh.master.planning.assignment`)."""
Complexity: TypeAlias = Literal["simple", "moderate", "complex"]

_MAX_STEPS: Final = 100
_TEXT: Final[JSON] = {"type": "string"}
_TEXTS: Final[JSON] = {"type": "array", "items": _TEXT}
_CONDITION: Final[JSON] = {
    "type": "object",
    "description": "Do the step only if this holds. Compare with a number (value) or with a text (text).",
    "properties": {
        "ref": {"type": "string", "description": "A value of an earlier step, such as s1.values.temperature."},
        "op": {"type": "string", "enum": ["above", "below", "at_least", "at_most", "equals", "differs"]},
        "value": {"type": "number"},
        "text": _TEXT,
    },
    "required": ["ref", "op"],
    "additionalProperties": False,
}
_STEP: Final[JSON] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "s1, s2, s3 and so on."},
        "work": {"type": "string", "enum": list(get_args(Work)), "description": "Decides who does the step."},
        "node": {"type": "string", "description": "Only where one certain node is meant."},
        "labels": {**_TEXTS, "description": "Only a node with all of these labels."},
        "tool": {"type": "string", "description": "The tool to call: either this or instruction."},
        "args": {
            "type": "object",
            "description": 'The arguments of tool. {"$ref": "s1.value"} stands for a value of an earlier step.',
        },
        "instruction": {"type": "string", "description": "What an agent is to do there; must be clear by itself."},
        "tools": {**_TEXTS, "description": "The tools that the agent may call; left out, all that are there."},
        "after": {**_TEXTS, "description": "Ids of the steps that must have ended before."},
        "when": _CONDITION,
        "timeout_s": {"type": "number", "description": "Seconds that the step may take."},
    },
    "required": ["id", "work"],
    "additionalProperties": False,
}
MAKE_PLAN: Final = ToolSpec(
    "make_plan",
    "Hand in the plan for the request. It is checked, and then carried out.",
    {
        "type": "object",
        "properties": {
            "complexity": {"type": "string", "enum": list(get_args(Complexity))},
            "language": {"type": "string", "description": "The language of the person, such as en or zh-cn."},
            "steps": {"type": "array", "items": _STEP, "minItems": 1, "maxItems": _MAX_STEPS},
        },
        "required": ["complexity", "language", "steps"],
        "additionalProperties": False,
    },
)
"""With this a model hands in a plan."""
ASK_BACK: Final = ToolSpec(
    "ask_back",
    "Ask the person one short question instead of making a plan, where two things could be meant or one is missing.",
    {
        "type": "object",
        "properties": {"question": {"type": "string", "minLength": 1, "maxLength": 2000}},
        "required": ["question"],
        "additionalProperties": False,
    },
)
"""With this a model asks what is meant."""


@dataclass(frozen=True, slots=True)
class DraftStep:
    """A step as a model wrote it: a call of *tool*, or an *instruction* for an agent that may call *tools*."""

    id: StepId
    work: Work
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
        """Raises ValueError where it is neither a call nor an instruction, or something of both."""
        if (self.tool is None) == (self.instruction is None):
            raise ValueError("either tool or instruction is needed, and only one of them")
        if self.tool is None and self.args:
            raise ValueError("args: are for a tool, and this is an instruction")
        if self.instruction is None and self.tools:
            raise ValueError("tools: are for an instruction, and this is a call of one tool")

    @property
    def is_agent(self) -> bool:
        """Whether it is an instruction."""
        return self.instruction is not None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The tools that must be where it is done."""
        return self.tools if self.tool is None else (self.tool,)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a model handed in: the steps that could be read, and in *problems* everything that could not.

    *unread* are the ids of the steps that could not.
    """

    complexity: Complexity
    language: str
    steps: tuple[DraftStep, ...]
    problems: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Head:
    complexity: Complexity
    language: Annotated[str, Length(2, 16)]
    steps: Annotated[tuple[JSON, ...], Length(1, _MAX_STEPS)]


def read_draft(args: Mapping[str, JSON]) -> Draft:
    """What the arguments of ``make_plan`` say. Reads on behind what is wrong, so that all of it is named at once.

    Empty texts, lists and objects count as left out: models fill in what they have no use for.
    """
    problems = _strange_keys(args, _Head)
    try:
        head = from_dict(_Head, dict(args))
        complexity, language = head.complexity, language_code(head.language)
    except ProtocolError as error:
        problems += error.problems
        complexity, language = "simple", "en"
    items = args.get("steps")
    steps: list[DraftStep] = []
    unread: set[str] = set()
    for number, item in enumerate(items if isinstance(items, list) else (), 1):
        step = _read_step(item)
        if isinstance(step, DraftStep):
            steps.append(step)
            continue
        step_id = item.get("id") if isinstance(item, dict) else None
        name = step_id if isinstance(step_id, str) else str(number)
        unread.add(name)
        problems += [f"step {name}: {problem}" for problem in step]
    return Draft(complexity, language, tuple(steps), tuple(problems), frozenset(unread))


def _read_step(item: JSON) -> DraftStep | list[str]:
    """The step, or all that is wrong with it."""
    if not isinstance(item, dict):
        return ["an object is expected"]
    given = {key: value for key, value in item.items() if value not in ("", None, [], {})}
    problems = _strange_keys(given, DraftStep)
    try:
        step = from_dict(DraftStep, given)
    except ProtocolError as error:
        return [*problems, *error.problems]
    return problems or step


def _strange_keys(given: Mapping[str, JSON], cls: type[DraftStep] | type[_Head]) -> list[str]:
    known = [one.name for one in dataclasses.fields(cls)]
    return [f"{key}: there is no such field; there are {', '.join(known)}" for key in given if key not in known]


def language_code(name: str) -> str:
    """*name* (``en-US``, ``zh``, ``zh_Hans``) as the sentence files write it: ``en``, ``zh-cn``."""
    first = name.lower().replace("_", "-").split("-")[0]
    return "zh-cn" if first in ("zh", "chinese") else first
