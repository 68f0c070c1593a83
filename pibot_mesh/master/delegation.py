"""The tool with which the master's own agent has a node do something."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from pibot_mesh.agent.tools import Tool, ToolContext
from pibot_mesh.errors import ErrorCode, ProtocolError, ToolError
from pibot_mesh.master.events import Delegated
from pibot_mesh.master.task_making import DELEGATE
from pibot_mesh.protocol.codec import JSON, from_dict
from pibot_mesh.protocol.messages import Output, State, Step, StepResult, ToolSpec

_WITHIN_S: Final = 24 * 3600.0
"""The step has limits of its own, and the request has one."""
_SPEC: Final = ToolSpec(
    DELEGATE,
    "Have a node do something: one call of a tool that it has (tool, args), or an instruction for an agent on it "
    "(instruction, tools). Without a node, one that can do it and has the least to do is taken. Gives what came of it.",
    {
        "type": "object",
        "properties": {
            "node": {"type": "string", "description": "The node's id."},
            "labels": {"type": "array", "items": {"type": "string"}, "description": "What the node must be labelled."},
            "tool": {"type": "string"},
            "args": {"type": "object"},
            "instruction": {"type": "string", "description": "Whole and clear: the agent knows nothing else."},
            "tools": {"type": "array", "items": {"type": "string"}, "description": "The tools that the agent may use."},
        },
        "additionalProperties": False,
    },
    safe_to_retry=False,  # what it does is the step's: that has an effect of its own, and asks by itself
    timeout_s=_WITHIN_S,
)


def _held_by_nobody(_: str) -> AbstractContextManager[None]:
    return nullcontext()


class Delegation:
    """What the master's own agent has given to nodes, and waits for. *post* hands it to the core.

    *held* is a block in which the time of the agent that works on a task stands still: a node's step has its own.
    """

    def __init__(
        self, post: Callable[[Delegated], None], held: Callable[[str], AbstractContextManager[None]] = _held_by_nobody
    ) -> None:
        self._post = post
        self._held = held
        self._waiting: dict[str, asyncio.Future[StepResult]] = {}
        self.tool = Tool(_SPEC, self._delegate)

    def told(self, key: str, result: StepResult) -> None:
        """What was delegated under *key* has ended."""
        future = self._waiting.get(key)
        if future is not None and not future.done():
            future.set_result(result)

    async def _delegate(self, args: Mapping[str, JSON], context: ToolContext) -> Output:
        step, key = _step(args), uuid.uuid4().hex
        self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            self._post(Delegated(context.task, key, step))
            with self._held(context.task):
                return _output(await self._waiting[key])
        finally:
            del self._waiting[key]


def _step(args: Mapping[str, JSON]) -> Step:
    kind = "call" if args.get("tool") else "agent"
    given: dict[str, Any] = {key: value for key, value in args.items() if value}
    if kind == "call" and given.get("instruction"):
        raise ToolError("tool and instruction: give one of them", code=ErrorCode.BAD_ARGUMENTS)
    if kind == "agent" and not given.get("instruction"):
        raise ToolError("give a tool with its args, or an instruction", code=ErrorCode.BAD_ARGUMENTS)
    try:
        return from_dict(Step, {"id": "s0", "kind": kind, **given})
    except ProtocolError as error:
        raise ToolError(str(error), code=ErrorCode.BAD_ARGUMENTS) from None


def _output(result: StepResult) -> Output:
    """What the agent reads. Raises ToolError where it was not done, with what is known of that."""
    where = f"on {result.node}" if result.node else "on no node"
    if result.state is State.COMPLETED:
        data = result.output.data
        text = result.output.text or json.dumps(data, ensure_ascii=False)
        return Output(f"{where}: {text}", data)
    why = result.error.message if result.error is not None else "no reason is known"
    more = f"; so far: {result.output.text}" if result.output.text else ""
    raise ToolError(f"{result.state} {where}: {why}{more}", code=result.error.code if result.error else "tool_failed")
