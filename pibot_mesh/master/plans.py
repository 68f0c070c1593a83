"""Whether a plan can be carried out, and what its references and conditions mean. Pure: no I/O."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jsonschema.validators import Draft202012Validator
from referencing import Registry

from pibot_mesh.agent.tools import schema_violations
from pibot_mesh.errors import PlanError
from pibot_mesh.master.pool import MASTER, carries, find_tool, missing_tools
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import REF_PATTERN, Condition, NodeCard, Plan, Step, ToolSpec

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "above": operator.gt,
    "below": operator.lt,
    "at_least": operator.ge,
    "at_most": operator.le,
    "equals": operator.eq,
    "differs": operator.ne,
}
_NO_OTHER_SCHEMAS: Registry[Any] = Registry()
"""Nothing that a schema refers to is fetched from anywhere."""


def check_plan(
    plan: Plan, cards: Mapping[str, NodeCard], *, pin: str | None = None, others: Collection[str] = ()
) -> None:
    """Whether *plan* fits the live *cards* (the master's own included). Raises PlanError with every violation.

    Checked: step ids are unique; references have their form; a step waits only for, and refers only to, steps before
    it; the node is there, and is *pin* (or the master) where a request is for one node only; the tool exists, and the
    arguments that are known already fit its schema; an agent step's node takes agent tasks and has the tools that the
    agent may call. For a step without a node, one that fits must be there. *others* are steps before these that are
    known to be there, and are not looked at.
    """
    problems: list[str] = []
    earlier: set[str] = set()
    known = set(others)
    for step in plan.steps:
        found = [] if step.id not in earlier else ["its id stands twice"]
        wrong = sorted(ref for ref in references(dict(step.args)) if not re.fullmatch(REF_PATTERN, ref))
        found += [f"{ref!r} is no reference such as s1.value" for ref in wrong]
        for needed in sorted(needs(step) - earlier - known):
            found.append(f"it needs {needed}, which is no step before it")
        if pin is not None and step.node not in (pin, MASTER):
            found.append(f"it is for {step.node or 'any node'}, and the request for {pin} only")
        found += _fit_problems(step, cards)
        problems += [f"step {step.id}: {problem}" for problem in found]
        earlier.add(step.id)
    if problems:
        raise PlanError(problems)


def _fit_problems(step: Step, cards: Mapping[str, NodeCard]) -> list[str]:
    if step.node is not None and step.node not in cards:
        return [f"there is no node {step.node!r} online (online: {', '.join(cards) or 'none'})"]
    candidates = [cards[step.node]] if step.node else _who_carry(step.labels, cards)
    where = step.node or "any node" + (f" labelled {', '.join(step.labels)}" if step.labels else "")
    if step.kind == "agent":
        return _agent_problems(step, candidates, where)
    assert step.tool is not None, "a call has one"
    tools = [tool for card in candidates if (tool := find_tool(card, step.tool)) is not None]
    if not tools:
        return [f"there is no tool {step.tool!r} on {where}"]
    judged: dict[str, list[str]] = {}
    for tool in tools:
        schema = repr(tool.parameters)  # most nodes have the same: each is judged once
        if schema not in judged:
            judged[schema] = argument_problems(tool, step.args)
        if not judged[schema]:
            return []
    return min(judged.values(), key=len)


def _agent_problems(step: Step, candidates: Collection[NodeCard], where: str) -> list[str]:
    """Why none of *candidates* can do an agent step: those that come nearest lack the fewest tools."""
    agents = [card for card in candidates if card.agent]
    if not agents:
        return [f"an instruction cannot be given to {where}: no agent is there, only tools"]
    missing = min((missing_tools(card, step.tools) for card in agents), key=len)
    return [f"there is no tool {name!r} for the agent on {where}" for name in missing]


def _who_carry(labels: Collection[str], cards: Mapping[str, NodeCard]) -> list[NodeCard]:
    """The nodes with *labels*; the master works only where it is named."""
    return [card for node, card in cards.items() if node != MASTER and carries(card, labels)]


def argument_problems(tool: ToolSpec, args: Mapping[str, JSON]) -> list[str]:
    """What is wrong with *args* by the schema of *tool*; what a reference stands for is not judged yet."""
    try:
        validator = Draft202012Validator(_without(dict(tool.parameters), args), registry=_NO_OTHER_SCHEMAS)
        return schema_violations(validator, _known(args))
    except Exception as error:  # noqa: BLE001 - a schema comes from a node, and may be wrong in any way
        return [f"the schema of {tool.name} cannot be used: {type(error).__name__}: {error}"]


def _known(args: Mapping[str, JSON]) -> dict[str, JSON]:
    return {key: value for key, value in args.items() if not references(value)}


def _without(schema: dict[str, JSON], args: Mapping[str, JSON]) -> dict[str, JSON]:
    """The schema with the arguments that hold references no longer required."""
    pending = {key for key, value in args.items() if references(value)}
    if not pending:
        return schema
    return {**schema, "required": [key for key in schema.get("required", []) if key not in pending]}


def needs(step: Step) -> set[str]:
    """The ids of the steps that *step* waits for or refers to."""
    found = {*step.after, *(ref.split(".")[0] for ref in references(dict(step.args)))}
    if step.when is not None:
        found.add(step.when.ref.split(".")[0])
    return found


def references(value: JSON) -> set[str]:
    """The references (``s1.value``) inside an argument."""
    if isinstance(value, dict):
        if set(value) == {"$ref"}:
            return {str(value["$ref"])}
        return set().union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    return set()


def resolve(value: JSON, data: Mapping[str, JSON]) -> JSON:
    """*value* with each reference replaced by what it stands for in *data* (step id → data of its result).

    Raises LookupError, in words, where there is nothing at that place.
    """
    if isinstance(value, dict):
        if set(value) == {"$ref"}:
            return look_up(str(value["$ref"]), data)
        return {key: resolve(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, data) for item in value]
    return value


def look_up(ref: str, data: Mapping[str, JSON]) -> JSON:
    """What stands at *ref*. Raises LookupError, in words."""
    step, *path = ref.split(".")
    found: JSON = data.get(step)
    for index, key in enumerate(path):
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise LookupError(f"the result of {step} has no {'.'.join(path[: index + 1])!r}")
    return found


def holds(condition: Condition, data: Mapping[str, JSON]) -> bool:
    """Whether *condition* is true of the results. Raises LookupError where its value is missing or is no number."""
    found = look_up(condition.ref, data)
    if condition.text is not None:
        return _OPERATORS[condition.op](str(found), condition.text)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise LookupError(f"{condition.ref} is {found!r}, which is no number")
    return _OPERATORS[condition.op](found, condition.value)


def task_id(request: str, step: str) -> str:
    """The id of a step's task: the same after a restart, and legible where it fits into 64 characters."""
    name = f"{request}-{step}"
    return name if len(name) <= 64 else hashlib.sha256(name.encode()).hexdigest()


def describe(plan: Plan) -> str:
    """The plan in plain words, one line a step: what `plan_only` answers."""
    lines = []
    for step in plan.steps:
        what = (
            step.instruction or f"{step.tool}({', '.join(f'{key}={_say(value)}' for key, value in step.args.items())})"
        )
        where = step.node or f"any node{' labelled ' + ', '.join(step.labels) if step.labels else ''}"
        after = f", after {', '.join(step.after)}" if step.after else ""
        lines.append(f"{step.id}: {where}: {what}{_say_condition(step.when)}{after}")
    return "\n".join(lines)


def _say(value: JSON) -> str:
    refs = references(value)
    return ", ".join(sorted(refs)) if refs else str(value)


def _say_condition(condition: Condition | None) -> str:
    return "" if condition is None else f", if {condition_words(condition)}"


def condition_words(condition: Condition) -> str:
    """``s1.values.temperature above 28``."""
    value = condition.text if condition.value is None else f"{condition.value:g}"
    return f"{condition.ref} {condition.op.replace('_', ' ')} {value}"
