"""Tools for what a node does by itself: ``reflex_list``, ``reflex_add``, ``reflex_remove``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Final, Protocol

from pibot_mesh.agent.settled import Settled, SettleFunction
from pibot_mesh.agent.tools import Tool, ToolContext, ToolFunction, arguments_schema
from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.hardware.outputs import MAX_FOR_S, MIN_FOR_S
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, Effect, Output, OutputValue, ReflexSpec, ToolSpec
from pibot_mesh.protocol.topics import DEVICE_PATTERN

_MAX_ID: Final = 32
_WORDS: Final[Mapping[str, bool]] = {"ON": True, "OFF": False}


class Learning(Protocol):
    """What keeps the reflexes of a node."""

    def specs(self) -> tuple[ReflexSpec, ...]:
        """All of them, in words."""

    def states(self) -> Mapping[str, bool]:
        """Which of them are on."""

    def learned(self) -> Mapping[str, ReflexSettings]:
        """Those that came by requests, by id."""

    async def learn(self, reflex: ReflexSettings) -> ReflexSpec:
        """Keep *reflex*, over restarts. Raises ToolError, in words, where it cannot be."""

    async def forget(self, id_: str) -> None:
        """Take a learned one away. Raises ToolError where there is none of that id."""


def reflex_tools(reflexes: Learning, devices: Sequence[DeviceSpec]) -> list[Tool]:
    """The tools for the *reflexes* of a node with *devices*; none where it has nothing to look at, or to set.

    A person must approve each call that changes what the node does.
    """
    looked_at = [spec for spec in devices if spec.direction != "out"]
    outputs = [spec for spec in devices if spec.direction == "out"]
    if not looked_at or not outputs:
        return []
    return [_list(reflexes), _add(reflexes, looked_at, outputs), _remove(reflexes)]


def _list(reflexes: Learning) -> Tool:
    async def reflex_list(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        states = reflexes.states()
        listed = [
            {"id": spec.id, "says": spec.says, "is_learned": spec.is_learned, "is_on": states[spec.id]}
            for spec in reflexes.specs()
        ]
        words = [f"{spec.id}{'' if states[spec.id] else ' (off)'}: {spec.says}" for spec in reflexes.specs()]
        return Output("\n".join(words) or "this node has no reflexes", {"reflexes": listed})

    return _tool("reflex_list", "The rules that this node keeps by itself.", {}, reflex_list)


def _add(reflexes: Learning, looked_at: Sequence[DeviceSpec], outputs: Sequence[DeviceSpec]) -> Tool:
    async def reflex_add(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        spec = await reflexes.learn(_reflex(args, [spec.id for spec in reflexes.specs()]))
        return Output(f"the reflex {spec.id} is kept from now on: {spec.says}", {"id": spec.id, "says": spec.says})

    def settle(args: Mapping[str, JSON]) -> Settled:
        asked = _reflex(args, ())
        for id_, kept in reflexes.learned().items():
            is_same = (kept.when, kept.then, kept.otherwise) == (asked.when, asked.then, asked.otherwise)
            if is_same and args.get("id") in (None, id_):
                says = next((spec.says for spec in reflexes.specs() if spec.id == id_), id_)
                return Settled(Output(f"the reflex {id_} is kept: {says}", {"id": id_, "says": says}), is_done=True)
        return Settled(Output("no such reflex is kept", {}))

    says = (
        "Teach this node a rule that it keeps from now on, by itself: whenever a sensor or input of its own is so, an "
        "output of its own is set. Give exactly one of above, below, state and event. For something to be done once, "
        "now, use other tools."
    )
    return _tool(
        "reflex_add",
        says,
        {**_condition_properties(looked_at), **_action_properties(outputs)},
        reflex_add,
        required=("device", "then_device", "then_value"),
        effect="actuate",
        settle=settle,
    )


def _remove(reflexes: Learning) -> Tool:
    async def reflex_remove(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        await reflexes.forget(args["id"])
        return Output(f"the reflex {args['id']} is gone; the outputs are as they were", {"id": args["id"]})

    def settle(args: Mapping[str, JSON]) -> Settled:
        is_kept = args["id"] in reflexes.learned()
        text = f"the reflex {args['id']} is {'still kept' if is_kept else 'gone'}"
        return Settled(Output(text, {"id": args["id"]}), is_done=not is_kept)

    says = "Have this node forget a rule that it has learned. Its outputs stay as they are."
    properties = {"id": _id("The rule's id.")}
    return _tool("reflex_remove", says, properties, reflex_remove, required=("id",), effect="write", settle=settle)


def _condition_properties(specs: Sequence[DeviceSpec]) -> dict[str, JSON]:
    properties: dict[str, JSON] = {
        "id": _id("A name for the rule; made up where it is missing."),
        "device": _device(specs, "The sensor or input that the rule is about"),
        "above": {"type": "number", "description": "The rule holds above this number."},
        "below": {"type": "number", "description": "The rule holds below this number."},
        "state": {"enum": list(_WORDS), "description": "It holds while the input is so (a contact: ON is open)."},
        "hysteresis": {"type": "number", "minimum": 0, "description": "It ends this much under (over) the number."},
        "for_s": {"type": "number", "minimum": 0, "maximum": MAX_FOR_S, "description": "It must hold so many seconds."},
    }
    if measures := dict.fromkeys(measure for spec in specs for measure in spec.measures):
        says = "Which quantity, for above and below."
        properties["measure"] = {"type": "string", "enum": list(measures), "description": says}
    if events := dict.fromkeys(event for spec in specs for event in spec.events):
        says = "It acts at each such event."
        properties["event"] = {"type": "string", "enum": list(events), "description": says}
    return properties


def _action_properties(specs: Sequence[DeviceSpec]) -> dict[str, JSON]:
    return {
        "then_device": _device(specs, "The output that the rule sets"),
        "then_value": _value(specs, "What it is set to when the rule comes to hold"),
        "then_for_s": {
            "type": "number",
            "minimum": MIN_FOR_S,
            "maximum": MAX_FOR_S,
            "description": "Seconds after which it goes to its safe state by itself; leave out to let it stay.",
        },
        "else_value": _value(specs, "What it is set to when the rule ends; leave out to let it stay"),
    }


def _value(specs: Sequence[DeviceSpec], says: str) -> JSON:
    """The schema of a value for any of *specs*; the node says in words where one does not fit the very output."""
    choices = ["ON", "OFF"]
    if any(spec.dimmable for spec in specs):
        choices.append("a number of percent from 0 to 100")
    has_color = any(spec.color for spec in specs)
    if has_color:
        choices.append("a color such as #ff8800")
    return {
        "type": ["string", "number"],
        "pattern": "^(ON|OFF|#[0-9A-Fa-f]{6})$" if has_color else "^(ON|OFF)$",
        "minimum": 0,
        "maximum": 100,
        "description": f"{says}: {', '.join(choices)}.",
    }


def _device(specs: Sequence[DeviceSpec], says: str) -> JSON:
    words = ", ".join(f"{spec.id} ({spec.name}{' in ' + spec.room if spec.room else ''})" for spec in specs)
    return {"type": "string", "enum": [spec.id for spec in specs], "description": f"{says}: {words}."}


def _id(says: str) -> JSON:
    return {"type": "string", "pattern": f"^{DEVICE_PATTERN}$", "description": says}


def _reflex(args: Mapping[str, JSON], taken: Sequence[str]) -> ReflexSettings:
    device, output = args["device"], args["then_device"]
    otherwise = (Action(output, _output_value(args["else_value"])),) if "else_value" in args else ()
    return ReflexSettings(
        args.get("id") or _new_id(f"{device}-{output}", taken),
        Condition(
            device,
            measure=args.get("measure", ""),
            above=_number(args.get("above")),
            below=_number(args.get("below")),
            state=_WORDS[args["state"]] if "state" in args else None,
            event=args.get("event"),
            hysteresis=float(args.get("hysteresis", 0)),
            for_s=float(args.get("for_s", 0)),
        ),
        (Action(output, _output_value(args["then_value"]), _number(args.get("then_for_s"))),),
        otherwise,
    )


def _output_value(value: JSON) -> OutputValue:
    if isinstance(value, str):
        return _WORDS[value] if value in _WORDS else value.lower()
    return float(value)


def _number(value: JSON) -> float | None:
    return None if value is None else float(value)


def _new_id(name: str, taken: Sequence[str]) -> str:
    """*name* as an id, with a number where it is *taken*."""
    endings = chain([""], (f"-{number}" for number in count(2)))
    return next(id_ for ending in endings if (id_ := name[: _MAX_ID - len(ending)] + ending) not in taken)


def _tool(
    name: str,
    description: str,
    properties: Mapping[str, JSON],
    run: ToolFunction,
    *,
    required: Sequence[str] = (),
    effect: Effect = "read",
    settle: SettleFunction | None = None,
) -> Tool:
    is_read = effect == "read"
    spec = ToolSpec(
        name,
        description,
        arguments_schema(properties, required),
        effect,
        safe_to_retry=is_read,
        timeout_s=10.0,
        approval="auto" if is_read else "ask",
    )
    return Tool(spec, run, settle=settle)
