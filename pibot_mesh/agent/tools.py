"""Tools: what a plan step, a task or a model can call, and the registry that holds them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import re
import threading
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast, get_args, overload

from pibot_mesh.agent.arguments import checked_validator, read_arguments, schema_violations
from pibot_mesh.agent.hints import Between, Length, Matches
from pibot_mesh.agent.settled import SettleFunction
from pibot_mesh.agent.signature import as_output, place, read_signature
from pibot_mesh.agent.threads import in_thread
from pibot_mesh.errors import ErrorCode, ToolDefinitionError, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import TOOL_PATTERN, Effect, Output, State, ToolSpec, WireError
from pibot_mesh.schemas import certainly_fits

if TYPE_CHECKING:
    from jsonschema.validators import Draft202012Validator

__all__ = [
    "DEFAULT",
    "Between",
    "Length",
    "Matches",
    "Tool",
    "ToolContext",
    "ToolFunction",
    "ToolOutcome",
    "ToolRegistry",
    "collecting",
    "make_tool",
    "schema_violations",
    "tool",
]

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_MAX_TIMEOUT_S: Final = 7 * 24 * 3600


def arguments_schema(properties: Mapping[str, JSON], required: Iterable[str] = ()) -> dict[str, JSON]:
    """The JSON Schema of a tool that takes these arguments and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _nobody(_: str) -> None:
    """Where nobody listens to a tool's progress."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """On whose behalf a tool runs: the task and the request that it belongs to (empty outside the mesh).

    *canceled* is set when the tool should end; a tool in a thread looks at it, or waits on it instead of sleeping.
    *update* tells in words how far the tool is; any thread may call it, and after the tool's end it does nothing.
    """

    task: str = ""
    request: str = ""
    canceled: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)
    update: Callable[[str], None] = field(default=_nobody, compare=False, repr=False)


ToolFunction: TypeAlias = Callable[[Mapping[str, JSON], ToolContext], Output | Awaitable[Output]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: what others see of it, and the function behind it.

    *run* gets the checked arguments. An async function runs in the loop and is cancelled with its task; any other runs
    in a thread, so it may block. It raises ToolError, whose text is shown to the person who asked.
    """

    spec: ToolSpec
    run: ToolFunction
    is_sequential: bool = False
    """No other call of the same batch runs beside it."""
    origin: str = ""
    """Where it was written, as ``module.function``: the same function, loaded again, takes its own place."""
    settle: SettleFunction | None = None
    """After a restart: what a call with these arguments, cut off in the middle, has done; None where that cannot be
    known. It looks, and changes nothing."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended: completed with an output, or failed with an error."""

    state: Literal[State.COMPLETED, State.FAILED]
    output: Output = Output()
    error: WireError | None = None


@dataclass(slots=True)
class _Entry:
    """A tool, who brought it, and its validator once it has been needed."""

    tool: Tool
    source: str = ""
    validator: Draft202012Validator | None = None


class ToolRegistry:
    """The tools of one master, node or agent, by name. Changed in the loop's thread; may be read from any."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._entries: dict[str, _Entry] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool, source: str = "") -> None:
        """Add *tool*, which *source* (such as a skill's file) brings.

        Raises ValueError where its name is taken by another tool. A function that was loaded again takes its own place.
        """
        there = self._entries.get(tool.spec.name)
        if there is not None and not (tool.origin and tool.origin == there.tool.origin):
            raise ValueError(_taken(there, tool, source))
        self._entries = {**self._entries, tool.spec.name: _Entry(tool, source)}

    def replace(self, source: str, tools: Iterable[Tool]) -> None:
        """Let *tools* be all that *source* brings, in one step: nobody sees half of it. None takes them away.

        Raises ValueError, and changes nothing, where a name is another source's or stands twice.
        """
        entries = {name: entry for name, entry in self._entries.items() if entry.source != source}
        for tool in tools:
            if tool.spec.name in entries:
                raise ValueError(_taken(entries[tool.spec.name], tool, source))
            entries[tool.spec.name] = _Entry(tool, source)
        self._entries = entries

    def remove(self, name: str) -> None:
        """Take the tool *name* away. Raises KeyError where there is none."""
        entries = dict(self._entries)
        del entries[name]
        self._entries = entries

    def subset(self, names: Collection[str]) -> ToolRegistry:
        """A registry of its own with those of *names* that are here, in this one's order."""
        subset = ToolRegistry()
        subset._entries = {name: entry for name, entry in self._entries.items() if name in names}
        return subset

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Tool:
        return self._entries[name].tool

    def __iter__(self) -> Iterator[Tool]:
        """The tools, in the order in which they were added."""
        return iter([entry.tool for entry in self._entries.values()])

    def __len__(self) -> int:
        return len(self._entries)

    def source(self, name: str) -> str:
        """Who brought the tool *name*; empty for the program itself. Raises KeyError where there is none."""
        return self._entries[name].source

    def specs(self) -> tuple[ToolSpec, ...]:
        """What others see, in the order in which the tools were added."""
        return tuple(tool.spec for tool in self)

    @overload
    def tool(self, function: Callable[P, R_co], /) -> MarkedFunction[P, R_co]: ...
    @overload
    def tool(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        effect: Effect = "read",
        safe_to_retry: bool | None = None,
        timeout_s: float = 30.0,
        sequential: bool = False,
        parameters: Mapping[str, JSON] | None = None,
    ) -> Mark: ...
    def tool(self, function: Callable[P, R_co] | None = None, /, **told: object) -> MarkedFunction[P, R_co] | Mark:
        """`pibot_mesh.agent.tools.tool`, for this registry."""
        return _decorator(self, function, told)

    def violations(self, name: str, args: Mapping[str, JSON]) -> list[str]:
        """What is wrong with *args* by the schema of the tool *name*, or with the schema; empty where nothing is."""
        entry = self._entries[name]
        if certainly_fits(args, entry.tool.spec.parameters):
            return []
        if entry.validator is None:
            try:
                entry.validator = checked_validator(entry.tool.spec.parameters)
            except ValueError as error:
                return [str(error)]
        return schema_violations(entry.validator, args)

    def read_arguments(self, name: str, raw: str) -> Mapping[str, JSON] | str:
        """The arguments that a model wrote for the tool *name*, checked; or what is wrong with them.

        See `pibot_mesh.agent.arguments.read_arguments`. Raises KeyError where there is no such tool.
        """
        return read_arguments(raw, self[name].spec.parameters, lambda args: self.violations(name, args))

    async def outcome(self, name: str, args: Mapping[str, JSON], context: ToolContext | None = None) -> ToolOutcome:
        """How a call of the tool *name* ended. Raises nothing but what cancels the caller: errors are outcomes too."""
        return await _ended(name, self.call(name, args, context))

    async def run(self, name: str, args: Mapping[str, JSON], context: ToolContext | None = None) -> ToolOutcome:
        """`outcome` for a caller that has checked *args* already."""
        return await _ended(name, self._run(name, args, context))

    async def call(self, name: str, args: Mapping[str, JSON], context: ToolContext | None = None) -> Output:
        """Check *args* and run the tool. Raises ToolError; any other error is a bug of the tool."""
        if name in self._entries:
            problems = self.violations(name, args)
            if problems:
                raise ToolError(f"{name}: {'; '.join(problems)}", code=ErrorCode.BAD_ARGUMENTS)
        return await self._run(name, args, context)

    async def _run(self, name: str, args: Mapping[str, JSON], context: ToolContext | None) -> Output:
        entry = self._entries.get(name)
        if entry is None:
            raise ToolError(f"there is no tool named {name!r}", code=ErrorCode.UNKNOWN_TOOL)
        run, context = entry.tool.run, context or ToolContext()
        is_async = inspect.iscoroutinefunction(run)
        output: object = run(args, context) if is_async else await in_thread(lambda: run(args, context))
        if inspect.isawaitable(output):
            output = await output
        if not isinstance(output, Output):
            raise TypeError(f"it gave {type(output).__name__}, and an Output is expected")
        return as_output(output)


def _taken(there: _Entry, tool: Tool, source: str) -> str:
    name = repr(tool.spec.name)
    if there.source == source:
        return f"a tool named {name} is there already" + (f" ({source} brings two)" if source else "")
    return f"a tool named {name} is there already: {_source_words(source)} and {_source_words(there.source)} bring it"


def _source_words(source: str) -> str:
    return source or "the program itself"


async def _ended(name: str, call: Awaitable[Output]) -> ToolOutcome:
    try:
        return ToolOutcome(State.COMPLETED, await call)
    except ToolError as error:
        return ToolOutcome(State.FAILED, error=WireError(error.code, str(error), error.retryable))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return _broken(f"{name} broke: it was cancelled by something inside itself")
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a tool may be anybody's code, and its end is no reason to end
        _log.exception("a bug in the tool %s", name)
        return _broken(f"{name} broke: {type(error).__name__}: {error}{_place_of(error)}")


def _place_of(error: BaseException) -> str:
    """``(fan.py:12)``: the last line of the tool's own code that *error* came through, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not Path(frame.filename).is_relative_to(_OURS)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


_OURS: Final = Path(__file__).parents[1]


def _broken(message: str) -> ToolOutcome:
    return ToolOutcome(State.FAILED, error=WireError(ErrorCode.TOOL_FAILED, message))


DEFAULT: Final = ToolRegistry()
"""Where functions marked `tool` are registered, unless another registry is collecting."""
_collecting: Final = contextvars.ContextVar("pibot-collecting", default=DEFAULT)


@contextlib.contextmanager
def collecting(registry: ToolRegistry) -> Iterator[ToolRegistry]:
    """Functions that are marked `tool` within the block go into *registry*."""
    token = _collecting.set(registry)
    try:
        yield registry
    finally:
        _collecting.reset(token)


class MarkedFunction(Protocol[P, R_co]):
    """A function that is a tool as well; it can still be called as it was written."""

    tool: Tool

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the plain function."""
        ...


class Mark(Protocol):
    """What ``@tool(...)`` does to a function."""

    def __call__(self, function: Callable[P, R_co], /) -> MarkedFunction[P, R_co]:
        """Make it a tool."""
        ...


@overload
def tool(function: Callable[P, R_co], /) -> MarkedFunction[P, R_co]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "read",
    safe_to_retry: bool | None = None,
    timeout_s: float = 30.0,
    sequential: bool = False,
    parameters: Mapping[str, JSON] | None = None,
) -> Mark: ...
def tool(function: Callable[P, R_co] | None = None, /, **told: object) -> MarkedFunction[P, R_co] | Mark:
    """Make a function a tool, and add it to `DEFAULT` or to the registry that is `collecting`.

    The type hints become the JSON Schema, and the first paragraph of the docstring the description; parameters are
    described in an ``Args:`` section, in ``:param name:`` lines, or by a text in ``Annotated``. A parameter annotated
    ToolContext gets the context. What the function gives becomes the output: text, or data that JSON can say.

    *name* and *description* stand for the function's own. *effect* says whether it only reads, writes, or moves
    something; *safe_to_retry* (by default: whether it only reads) whether it may run twice where once was asked;
    *timeout_s* how long it may take; *sequential* that no other call of the same batch runs beside it. *parameters* is
    a raw JSON Schema instead of the hints: the values then come as they are, by name, or all in one where the function
    has a single parameter annotated dict or Mapping.

    Raises ToolDefinitionError, with file, line and parameter, for what cannot be expressed, and ValueError where
    another function has the name already.
    """
    return _decorator(_collecting.get(), function, told)


def _decorator(
    registry: ToolRegistry, function: Callable[P, R_co] | None, told: Mapping[str, object]
) -> MarkedFunction[P, R_co] | Mark:
    def mark(function: Callable[P, R_co], /) -> MarkedFunction[P, R_co]:
        made = make_tool(function, **told)  # type: ignore[arg-type]  # the overloads say what may be told
        registry.add(made)
        function.tool = made  # type: ignore[attr-defined]  # this is what makes it a MarkedFunction
        return cast(MarkedFunction[P, R_co], function)

    return cast(Mark, mark) if function is None else mark(function)


def make_tool(
    function: Callable[..., object],
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "read",
    safe_to_retry: bool | None = None,
    timeout_s: float = 30.0,
    sequential: bool = False,
    parameters: Mapping[str, JSON] | None = None,
) -> Tool:
    """The tool that *function* is, registered nowhere; see `tool`. Raises ToolDefinitionError."""
    signature = read_signature(function, context=ToolContext, description=description, parameters=parameters)
    name = name or function.__name__
    problems = []
    if not re.fullmatch(TOOL_PATTERN, name):
        problems.append(f"{name!r} is no name of a tool: 1 to 64 letters, digits, '_' or '-' are")
    if effect not in get_args(Effect):
        problems.append(f"effect: one of {', '.join(get_args(Effect))} is expected, not {effect!r}")
    if not 0.001 <= timeout_s <= _MAX_TIMEOUT_S:
        problems.append(f"timeout_s: a number from 0.001 to {_MAX_TIMEOUT_S} is expected, not {timeout_s!r}")
    if problems:
        raise ToolDefinitionError([f"{place(function)}: function {function.__name__}: {what}" for what in problems])

    if inspect.iscoroutinefunction(function):

        async def run_async(args: Mapping[str, JSON], context: ToolContext) -> Output:
            return as_output(await function(**signature.bind(args, context)))

        run: ToolFunction = run_async
    else:

        def run(args: Mapping[str, JSON], context: ToolContext) -> Output:
            return as_output(function(**signature.bind(args, context)))

    is_safe = effect == "read" if safe_to_retry is None else safe_to_retry
    spec = ToolSpec(name, signature.description, signature.parameters, effect, is_safe, float(timeout_s))
    return Tool(spec, run, sequential, f"{function.__module__}.{function.__qualname__}")
