"""The tool registry."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Mapping

import pytest

from pibot_mesh.agent.tools import Tool, ToolContext, ToolFunction, ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, State, ToolSpec, WireError

PARAMETERS = {
    "type": "object",
    "properties": {"count": {"type": "integer", "minimum": 1}, "where": {"enum": ["here", "there"]}},
    "required": ["count"],
    "additionalProperties": False,
}


def tool(run: ToolFunction, name: str = "count") -> Tool:
    """A tool that counts."""
    return Tool(ToolSpec(name, "Counts.", PARAMETERS), run)


def count(args: Mapping[str, JSON], context: ToolContext) -> Output:
    """Says in which thread it ran, and for whom."""
    return Output(f"{args['count']} for {context.task}", {"thread": threading.get_ident()})


async def count_async(args: Mapping[str, JSON], context: ToolContext) -> Output:
    """The same, in the loop."""
    return count(args, context)


def count_later(args: Mapping[str, JSON], context: ToolContext) -> Awaitable[Output]:
    """A plain function that gives an awaitable."""
    return count_async(args, context)


@pytest.mark.parametrize(
    ("run", "in_loop"), [(count, False), (count_async, True), (count_later, True)], ids=["plain", "async", "awaitable"]
)
async def test_a_tool_runs_with_its_arguments_and_context(run: ToolFunction, in_loop: bool) -> None:
    """An async one in the loop; any other in a thread, where it may block."""
    output = await ToolRegistry([tool(run)]).call("count", {"count": 2}, ToolContext(task="t1"))
    assert output.text == "2 for t1"
    assert (output.data["thread"] == threading.get_ident()) is in_loop


async def test_outside_the_mesh_a_tool_runs_for_nobody() -> None:
    """The context may be left out."""
    assert (await ToolRegistry([tool(count)]).call("count", {"count": 2})).text == "2 for "


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({}, "count: 'count' is a required property"),
        ({"count": 0}, "count: count: 0 is less than the minimum of 1"),
        ({"count": "x"}, "count: count: 'x' is not of type 'integer'"),
        ({"count": 1, "wher": 1}, "count: Additional properties are not allowed ('wher' was unexpected)"),
        (
            {"count": 0, "where": "x"},
            "count: count: 0 is less than the minimum of 1; where: 'x' is not one of ['here', 'there']",
        ),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_the_tool_runs(args: Mapping[str, JSON], says: str) -> None:
    """All violations at once."""

    def never(args: Mapping[str, JSON], context: ToolContext) -> Output:
        raise AssertionError("it ran")

    with pytest.raises(ToolError) as caught:
        await ToolRegistry([tool(never)]).call("count", args)
    assert (str(caught.value), caught.value.code) == (says, ErrorCode.BAD_ARGUMENTS)


async def test_an_unknown_tool_is_an_error_with_its_own_code() -> None:
    """So that a planner can tell it from a tool that failed."""
    with pytest.raises(ToolError, match="there is no tool named 'none'") as caught:
        await ToolRegistry().call("none", {})
    assert caught.value.code == ErrorCode.UNKNOWN_TOOL


async def test_a_tools_own_error_comes_through() -> None:
    """From a thread as well."""

    def fail(args: Mapping[str, JSON], context: ToolContext) -> Output:
        raise ToolError("the fan is stuck")

    with pytest.raises(ToolError, match="the fan is stuck"):
        await ToolRegistry([tool(fail)]).call("count", {"count": 1})


async def test_every_end_of_a_call_is_an_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """Done, refused, failed or broken: the caller need not catch anything, and a bug is logged with its trace."""

    def fail(args: Mapping[str, JSON], context: ToolContext) -> Output:
        raise ToolError("the fan is stuck", retryable=True)

    def bug(args: Mapping[str, JSON], context: ToolContext) -> Output:
        raise KeyError("speed")

    registry = ToolRegistry([tool(count), tool(fail, "fail"), tool(bug, "bug")])
    done = await registry.outcome("count", {"count": 1}, ToolContext(task="t1"))
    assert (done.state, done.output.text, done.error) == (State.COMPLETED, "1 for t1", None)

    refused = await registry.outcome("count", {}, ToolContext())
    assert refused.state is State.FAILED
    assert refused.error is not None
    assert refused.error.code == ErrorCode.BAD_ARGUMENTS

    failed = await registry.outcome("fail", {"count": 1}, ToolContext())
    assert failed.error == WireError(ErrorCode.TOOL_FAILED, "the fan is stuck", retryable=True)

    broken = await registry.outcome("bug", {"count": 1}, ToolContext())
    assert broken.error == WireError(ErrorCode.TOOL_FAILED, "bug broke: KeyError: 'speed'")
    assert "a bug in the tool bug" in caplog.text


def test_the_registry_knows_its_tools_in_order() -> None:
    """Names are unique."""
    registry = ToolRegistry([tool(count, "b"), tool(count, "a")])
    assert [spec.name for spec in registry.specs()] == ["b", "a"]
    assert "a" in registry
    assert "c" not in registry
    assert registry["a"].spec.name == "a"
    assert registry.violations("a", {"count": 1}) == []
    with pytest.raises(ValueError, match="a tool named 'a' is there already"):
        registry.add(tool(count, "a"))
