"""Tools: what a plan step, a task or a model can call, and the registry that holds them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jsonschema.validators import Draft202012Validator

from pibot_mesh.agent.threads import in_thread
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, State, ToolSpec, WireError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """On whose behalf a tool runs: the task and the request that it belongs to (empty outside the mesh)."""

    task: str = ""
    request: str = ""


ToolFunction: TypeAlias = Callable[[Mapping[str, JSON], ToolContext], Output | Awaitable[Output]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: what others see of it, and the function behind it.

    *run* gets the checked arguments. An async function runs in the loop and is cancelled with its task; any other runs
    in a thread, so it may block. It raises ToolError, whose text is shown to the person who asked.
    """

    spec: ToolSpec
    run: ToolFunction


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended: completed with an output, or failed with an error."""

    state: Literal[State.COMPLETED, State.FAILED]
    output: Output = Output()
    error: WireError | None = None


class ToolRegistry:
    """The tools of one master, node or agent, by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._validators: dict[str, Draft202012Validator] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Add *tool*. Raises ValueError where its name is taken."""
        name = tool.spec.name
        if name in self._tools:
            raise ValueError(f"a tool named {name!r} is there already")
        self._tools[name] = tool
        self._validators[name] = Draft202012Validator(dict(tool.spec.parameters))

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def __getitem__(self, name: str) -> Tool:
        return self._tools[name]

    def specs(self) -> tuple[ToolSpec, ...]:
        """What others see, in the order in which the tools were added."""
        return tuple(tool.spec for tool in self._tools.values())

    def violations(self, name: str, args: Mapping[str, JSON]) -> list[str]:
        """What is wrong with *args* by the schema of the tool *name*; empty where nothing is."""
        return schema_violations(self._validators[name], args)

    async def outcome(self, name: str, args: Mapping[str, JSON], context: ToolContext) -> ToolOutcome:
        """How a call of the tool *name* ended. Raises nothing but what cancels the caller: errors are outcomes too."""
        try:
            return ToolOutcome(State.COMPLETED, await self.call(name, args, context))
        except ToolError as error:
            return ToolOutcome(State.FAILED, error=WireError(error.code, str(error), error.retryable))
        except Exception as error:  # noqa: BLE001 - a tool may be anybody's code, and its bug is no reason to stop
            _log.exception("a bug in the tool %s", name)
            message = f"{name} broke: {type(error).__name__}: {error}"
            return ToolOutcome(State.FAILED, error=WireError(ErrorCode.TOOL_FAILED, message))

    async def call(self, name: str, args: Mapping[str, JSON], context: ToolContext = ToolContext()) -> Output:
        """Check *args* and run the tool. Raises ToolError; any other error is a bug of the tool."""
        if name not in self._tools:
            raise ToolError(f"there is no tool named {name!r}", code=ErrorCode.UNKNOWN_TOOL)
        problems = self.violations(name, args)
        if problems:
            raise ToolError(f"{name}: {'; '.join(problems)}", code=ErrorCode.BAD_ARGUMENTS)
        run = self._tools[name].run
        is_async = inspect.iscoroutinefunction(run)
        output = run(args, context) if is_async else await in_thread(lambda: run(args, context))
        return output if isinstance(output, Output) else await output


def schema_violations(validator: Draft202012Validator, args: Mapping[str, JSON]) -> list[str]:
    """One sentence for each violation of a JSON Schema, with its path, in a stable order."""
    errors = sorted(
        validator.iter_errors(dict(args)), key=lambda error: (list(map(str, error.absolute_path)), error.message)
    )
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}" if error.absolute_path else error.message
        for error in errors
    ]
