"""Tools for a node's outputs, inputs and sensors.

They are async functions, since a board belongs to the event loop's thread. What they say is what was read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import Tool, ToolContext, ToolFunction, arguments_schema
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.board import Board, reads_as
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.levels import white
from pibot_mesh.hardware.outputs import MAX_FOR_S, MIN_FOR_S, value_words
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Cause, DeviceSpec, Effect, Output, OutputValue, ToolSpec

_UNITS_OF_TIME: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def device_tools(board: Board) -> list[Tool]:
    """The tools for what *board* has; a board without sensors gets no tool for sensors."""
    specs = board.specs()
    outputs, inputs, sensors = (
        [spec for spec in specs if spec.direction == direction] for direction in ("out", "in", "sensor")
    )
    tools: list[Tool] = []
    if outputs:
        tools += [_output_set(board, outputs), _output_get(board, outputs)]
    if inputs:
        tools.append(_input_read(board, inputs))
    if sensors:
        tools += [_sensor_read(board, sensors), _sensor_read_all(board, sensors)]
    return tools


def wire_value(value: OutputValue) -> str | float:
    """``ON``, ``OFF``, a number or a color, as protocol.md writes states."""
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    if isinstance(value, str):
        return value
    return int(value) if value == int(value) else value


def seconds_words(seconds: float) -> str:
    """``10 minutes``, ``1 hour``, ``90 seconds``: the largest unit that says it in a whole number."""
    for size, unit in _UNITS_OF_TIME:
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds:g} seconds"


def measures_words(values: Mapping[str, float], spec: DeviceSpec) -> str:
    """``temperature 22.4 °C, humidity 48 %``."""
    return ", ".join(
        f"{measure} {value:.6g} {spec.measures[measure].unit}".rstrip() for measure, value in values.items()
    )


def _tool(
    name: str,
    description: str,
    properties: Mapping[str, JSON],
    run: ToolFunction,
    *,
    required: Sequence[str] = (),
    effect: Effect = "read",
) -> Tool:
    parameters = arguments_schema(properties, required)
    spec = ToolSpec(name, description, parameters, effect, safe_to_retry=effect == "read", timeout_s=15.0)
    return Tool(spec, run)


def _device_property(specs: Sequence[DeviceSpec]) -> JSON:
    words = ", ".join(f"{spec.id} ({_about(spec)})" for spec in specs)
    return {"type": "string", "enum": [spec.id for spec in specs], "description": words}


def _about(spec: DeviceSpec) -> str:
    label = f", {spec.label}" if spec.label and spec.label != spec.name else ""
    return f"{spec.name}{' in ' + spec.room if spec.room else ''}{label}"


def _units(specs: Sequence[DeviceSpec]) -> dict[str, str]:
    return {measure: unit.unit for spec in specs for measure, unit in spec.measures.items()}


def _output_set(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def output_set(args: Mapping[str, JSON], context: ToolContext) -> Output:
        spec, for_s = by_id[args["device"]], args.get("for_s")
        time = None if for_s is None else f"for {seconds_words(for_s)}"
        cause = Cause(by="task", id=context.task or None, request=context.request or None, reason=time)
        reads = board.set(spec.id, _asked(args), cause=cause, for_s=for_s)
        data: dict[str, JSON] = {"device": spec.id, "name": spec.name, "value": wire_value(reads)}
        text = _output_text(spec, reads)
        if for_s is not None:
            data["for_s"] = for_s
            text += f" for {seconds_words(for_s)}"
        return Output(text, data)

    properties = {
        "device": _device_property(specs),
        "value": _value_property(specs),
        "for_s": {
            "type": "number",
            "minimum": MIN_FOR_S,
            "maximum": MAX_FOR_S,
            "description": "Only for so many seconds; then the output goes to its safe state, which is off by default.",
        },
    }
    description = "Turn an output on or off, or set its level. Answers with the state that was read back."
    tool = _tool("output_set", description, properties, output_set, required=("device", "value"), effect="actuate")
    return replace(tool, settle=lambda args: _settle_output(board, by_id[args["device"]], args))


def _value_property(specs: Sequence[DeviceSpec]) -> JSON:
    dimmable = [spec.id for spec in specs if spec.dimmable]
    colored = [spec.id for spec in specs if spec.color]
    if not (dimmable or colored):
        return {"enum": ["ON", "OFF"], "description": "ON or OFF."}
    choices = ["ON, OFF"]
    if dimmable:
        choices.append(f"for {', '.join(dimmable)} a number of percent from 0 to 100")
    if colored:
        choices.append(f"for {', '.join(colored)} a color such as #ff8800, or a number of percent of white")
    return {
        "type": ["string", "number"],
        "pattern": "^(ON|OFF|#[0-9A-Fa-f]{6})$" if colored else "^(ON|OFF)$",
        "minimum": 0,
        "maximum": 100,
        "description": f"{', or '.join(choices)}.",
    }


def _settle_output(board: Board, spec: DeviceSpec, args: Mapping[str, JSON]) -> Settled | None:
    """What the pin was at when the node came back, beside what was ordered, and what it is at now.

    An output is absolute: one that was found as ordered, and is so still, is done, whoever it was that set it. One that
    was ordered for a time is not: with the process its time has gone.
    """
    found, now = board.found(spec.id), board.state(spec.id)
    if found is None:
        return None
    ordered = _ordered(args, spec)
    is_found = reads_as(spec, found, ordered)
    is_done = is_found and reads_as(spec, now, ordered) and "for_s" not in args
    data: dict[str, JSON] = {
        "device": spec.id,
        "name": spec.name,
        "value": wire_value(now),
        "found": wire_value(found),
    }
    if is_done:
        return Settled(Output(_output_text(spec, now), data), is_done=True)
    as_ordered = "as ordered" if is_found else f"not {_words(ordered, spec)} as ordered"
    text = f"after the restart {spec.name} was found {_at(found, spec)}, {as_ordered}"
    if not reads_as(spec, found, now):
        text += f", and is {_at(now, spec)} now"
    return Settled(Output(text, data))


def _asked(args: Mapping[str, JSON]) -> OutputValue:
    value = args["value"]
    if value in ("ON", "OFF"):
        return bool(value == "ON")
    return value.lower() if isinstance(value, str) else float(value)


def _ordered(args: Mapping[str, JSON], spec: DeviceSpec) -> OutputValue:
    """What *args* ask for, as the output says it."""
    asked = _asked(args)
    if isinstance(asked, str) or not (spec.dimmable or spec.color):
        return asked
    level = 100.0 * asked if isinstance(asked, bool) else asked
    return white(level) if spec.color else level


def _output_get(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def output_get(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        spec = by_id[args["device"]]
        value = board.state(spec.id)
        return Output(_output_text(spec, value), {"device": spec.id, "name": spec.name, "value": wire_value(value)})

    properties = {"device": _device_property(specs)}
    return _tool("output_get", "The state of an output.", properties, output_get, required=("device",))


def _output_text(spec: DeviceSpec, value: OutputValue) -> str:
    return f"{spec.name} is {_at(value, spec)}"


def _at(value: OutputValue, spec: DeviceSpec) -> str:
    words = _words(value, spec)
    return f"at {words}" if words.endswith("%") else words


def _words(value: OutputValue, spec: DeviceSpec) -> str:
    """As `value_words`; but 0 percent of a servo's travel is a place and not off, and black is off."""
    if KINDS[spec.kind].is_position:
        return f"{value:.4g} %"
    return "off" if value == white(0) else value_words(value)


def _input_read(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def input_read(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        spec = by_id[args["device"]]
        value, words = board.state(spec.id), KINDS[spec.kind].words
        data: dict[str, JSON] = {"device": spec.id, "name": spec.name, "value": wire_value(value)}
        if words is None:
            data["unit"] = spec.unit
            return Output(f"{spec.name} is at {value:.6g} {spec.unit}".rstrip(), data)
        data["state"] = words.on if value else words.off
        return Output(f"{spec.name} is {data['state']}", data)

    properties = {"device": _device_property(specs)}
    return _tool("input_read", "The state of an input.", properties, input_read, required=("device",))


def _sensor_read(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def sensor_read(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        spec, measure = by_id[args["device"]], args.get("measure")
        if measure is not None and measure not in spec.measures:
            there = ", ".join(spec.measures)
            raise ToolError(f"{spec.name} does not measure {measure}, only {there}", code=ErrorCode.BAD_ARGUMENTS)
        values = await board.read(spec.id)
        if measure is not None:
            values = {measure: values[measure]}
        units = {name: unit for name, unit in _units([spec]).items() if name in values}
        data = {"device": spec.id, "name": spec.name, "values": values, "units": units}
        return Output(f"{spec.name}: {measures_words(values, spec)}", data)

    properties = {
        "device": _device_property(specs),
        "measure": {"type": "string", "enum": list(_units(specs)), "description": "Only this quantity."},
    }
    return _tool("sensor_read", "Read one sensor now.", properties, sensor_read, required=("device",))


def _sensor_read_all(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    async def sensor_read_all(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        answers = await asyncio.gather(*(board.read(spec.id) for spec in specs), return_exceptions=True)
        sensors: dict[str, Mapping[str, float]] = {}
        failed: dict[str, str] = {}
        texts: list[str] = []
        for spec, answer in zip(specs, answers, strict=True):
            if isinstance(answer, ToolError):
                failed[spec.id] = str(answer)
                texts.append(f"{spec.name} could not be read: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                sensors[spec.id] = answer
                texts.append(f"{spec.name}: {measures_words(answer, spec)}")
        if not sensors:
            raise ToolError("; ".join(texts), retryable=True)
        data: dict[str, JSON] = {"sensors": sensors, "units": _units(specs)}
        if failed:
            data["failed"] = failed
        return Output("; ".join(texts), data)

    return _tool("sensor_read_all", "Read every sensor of this node now.", {}, sensor_read_all)
