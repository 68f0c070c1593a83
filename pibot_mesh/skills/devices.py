"""Tools for a node's outputs, inputs and sensors.

They are async functions, since a board belongs to the event loop's thread. What they say is what was read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import Tool, ToolContext, ToolFunction
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.board import Board, reads_as
from pibot_mesh.hardware.kinds import KINDS
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
    """``ON``, ``OFF`` or a number, as protocol.md writes states."""
    if isinstance(value, bool):
        return "ON" if value else "OFF"
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
    parameters = {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }
    spec = ToolSpec(name, description, parameters, effect, safe_to_retry=effect == "read", timeout_s=10.0)
    return Tool(spec, run)


def _device_property(specs: Sequence[DeviceSpec]) -> JSON:
    words = ", ".join(f"{spec.id} ({spec.name}{' in ' + spec.room if spec.room else ''})" for spec in specs)
    return {"type": "string", "enum": [spec.id for spec in specs], "description": words}


def _units(specs: Sequence[DeviceSpec]) -> dict[str, str]:
    return {measure: unit.unit for spec in specs for measure, unit in spec.measures.items()}


def _output_set(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def output_set(args: Mapping[str, JSON], context: ToolContext) -> Output:
        spec, asked, for_s = by_id[args["device"]], args["value"], args.get("for_s")
        value: OutputValue = asked == "ON" if isinstance(asked, str) else float(asked)
        cause = Cause(by="task", id=context.task or None, request=context.request or None)
        reads = board.set(spec.id, value, cause=cause, for_s=for_s)
        data: dict[str, JSON] = {"device": spec.id, "name": spec.name, "value": wire_value(reads)}
        text = _output_text(spec, reads)
        if for_s is not None:
            data["for_s"] = for_s
            text += f" for {seconds_words(for_s)}"
        return Output(text, data)

    value: dict[str, JSON] = {"enum": ["ON", "OFF"], "description": "ON or OFF."}
    if any(spec.dimmable for spec in specs):
        dimmable = ", ".join(spec.id for spec in specs if spec.dimmable)
        value = {
            "type": ["string", "number"],
            "pattern": "^(ON|OFF)$",
            "minimum": 0,
            "maximum": 100,
            "description": f"ON, OFF, or for {dimmable} a number of percent from 0 to 100.",
        }
    properties = {
        "device": _device_property(specs),
        "value": value,
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
    as_ordered = "as ordered" if is_found else f"not {value_words(ordered)} as ordered"
    text = f"after the restart {spec.name} was found {_at(found)}, {as_ordered}"
    if not reads_as(spec, found, now):
        text += f", and is {_at(now)} now"
    return Settled(Output(text, data))


def _ordered(args: Mapping[str, JSON], spec: DeviceSpec) -> OutputValue:
    value = args["value"]
    if isinstance(value, str):
        is_on = value == "ON"
        return (100.0 if is_on else 0.0) if spec.dimmable else is_on
    return float(value)


def _output_get(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def output_get(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        spec = by_id[args["device"]]
        value = board.state(spec.id)
        return Output(_output_text(spec, value), {"device": spec.id, "name": spec.name, "value": wire_value(value)})

    properties = {"device": _device_property(specs)}
    return _tool("output_get", "The state of an output.", properties, output_get, required=("device",))


def _output_text(spec: DeviceSpec, value: OutputValue) -> str:
    return f"{spec.name} is {_at(value)}"


def _at(value: OutputValue) -> str:
    words = value_words(value)
    return f"at {words}" if words.endswith("%") else words


def _input_read(board: Board, specs: Sequence[DeviceSpec]) -> Tool:
    by_id = {spec.id: spec for spec in specs}

    async def input_read(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        spec = by_id[args["device"]]
        is_on = bool(board.state(spec.id))
        words = KINDS[spec.kind].words
        assert words is not None
        state = words.on if is_on else words.off
        data = {"device": spec.id, "name": spec.name, "value": wire_value(is_on), "state": state}
        return Output(f"{spec.name} is {state}", data)

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
