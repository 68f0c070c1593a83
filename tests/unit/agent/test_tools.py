"""The tool registry."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping

import pytest

from pibot_mesh.agent.tools import (
    DEFAULT,
    Tool,
    ToolContext,
    ToolFunction,
    ToolRegistry,
    collecting,
    make_tool,
    tool as marked,
)
from pibot_mesh.errors import ErrorCode, ToolDefinitionError, ToolError
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
    assert broken.error is not None
    assert broken.error.code == ErrorCode.TOOL_FAILED
    assert re.fullmatch(r"bug broke: KeyError: 'speed' \(test_tools.py:\d+\)", broken.error.message)
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


# --- The registry as it changes ---


def names(registry: ToolRegistry) -> list[str]:
    """The names of its tools, in order."""
    return [one.spec.name for one in registry]


def test_tools_are_replaced_by_source_at_once() -> None:
    """What a source no longer brings goes; the others stay."""
    registry = ToolRegistry([tool(count, "own")])
    registry.replace("a.py", [tool(count, "one"), tool(count, "two")])
    registry.replace("b.py", [tool(count, "three")])
    assert registry.violations("two", {"count": 1}) == []

    registry.replace("a.py", [Tool(ToolSpec("two", parameters={"required": ["x"]}), count)])

    assert names(registry) == ["own", "three", "two"]
    assert [registry.source(name) for name in names(registry)] == ["", "b.py", "a.py"]
    assert registry.violations("two", {"count": 1}) == ["'x' is a required property"]
    registry.replace("a.py", [])
    assert names(registry) == ["own", "three"]


def test_a_conflict_names_both_sources_and_changes_nothing() -> None:
    """So that one of them can be renamed."""
    registry = ToolRegistry([tool(count, "own")])
    registry.replace("a.py", [tool(count, "one")])

    for source, brings, says in [
        ("b.py", ["new", "one"], "a tool named 'one' is there already: b.py and a.py bring it"),
        ("b.py", ["new", "own"], "a tool named 'own' is there already: b.py and the program itself bring it"),
        ("a.py", ["new", "new"], r"a tool named 'new' is there already \(a.py brings two\)"),
    ]:
        with pytest.raises(ValueError, match=says):
            registry.replace(source, [tool(count, name) for name in brings])
        assert names(registry) == ["own", "one"]
    with pytest.raises(ValueError, match=r"the program itself and a\.py bring it"):
        registry.add(tool(count, "one"))


def test_tools_can_be_taken_away_and_chosen() -> None:
    """A choice is a registry of its own: what happens to the other one later does not change it."""
    registry = ToolRegistry([tool(count, name) for name in ("a", "b", "c")])

    chosen = registry.subset(["c", "a", "none"])
    registry.remove("c")

    assert (names(chosen), len(chosen)) == (["a", "c"], 2)
    assert (names(registry), len(registry)) == (["a", "b"], 2)
    assert chosen["a"] is registry["a"]
    with pytest.raises(KeyError):
        registry.remove("c")


async def test_checked_arguments_are_not_checked_again() -> None:
    """Who has checked them says so; the rest is as ever."""
    registry = ToolRegistry([tool(lambda args, context: Output(str(args["count"])))])

    assert (await registry.run("count", {"count": -5})).output.text == "-5"
    gone = await registry.run("gone", {})
    assert gone.error == WireError(ErrorCode.UNKNOWN_TOOL, "there is no tool named 'gone'")


async def test_each_call_has_its_own_sign_to_end() -> None:
    """One call that is told to end does not end the next."""
    seen: list[ToolContext] = []

    def see(args: Mapping[str, JSON], context: ToolContext) -> Output:
        seen.append(context)
        context.canceled.set()
        context.update("words that nobody hears")
        return Output()

    registry = ToolRegistry([tool(see)])
    await registry.call("count", {"count": 1})
    await registry.outcome("count", {"count": 1})
    assert seen[0].canceled is not seen[1].canceled


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        ("text", "count broke: TypeError: it gave str, and an Output is expected"),
        (Output("x", {"a": {1, 2}}), "count broke: TypeError: its result cannot be used: a is of type set, which"),
        (Output("x", float("nan")), "count broke: TypeError: its result cannot be used: it is nan, which JSON cannot"),
    ],
)
async def test_what_is_no_output_is_a_bug_in_words(gives: object, says: str) -> None:
    """And never leaves the registry."""
    outcome = await ToolRegistry([tool(lambda args, context: gives)]).run("count", {})  # type: ignore[arg-type, return-value]
    assert outcome.state is State.FAILED
    assert outcome.error is not None
    assert outcome.error.message.startswith(says)


async def test_a_schema_that_is_none_is_told_when_the_tool_is_called() -> None:
    """The tool does not run."""
    registry = ToolRegistry([Tool(ToolSpec("odd", parameters={"type": "objct"}), count)])

    problem = "its schema is no JSON Schema: type: 'objct' is not valid under any of the given schemas"
    assert registry.violations("odd", {}) == [problem]
    assert (await registry.outcome("odd", {})).error == WireError(ErrorCode.BAD_ARGUMENTS, f"odd: {problem}")
    assert f"the arguments do not fit: {problem}. Nothing was run" in str(registry.read_arguments("odd", "{}"))


def test_a_models_arguments_are_read_by_the_tools_schema() -> None:
    """Cast where it is safe, else refused in words."""
    registry = ToolRegistry([tool(count)])
    assert registry.read_arguments("count", '{"count": "2"}') == {"count": 2}
    assert "count: 0 is less than the minimum of 1" in str(registry.read_arguments("count", '{"count": 0}'))
    with pytest.raises(KeyError):
        registry.read_arguments("gone", "{}")


def test_validators_are_loaded_when_they_are_needed() -> None:
    """A node without calls does without 4.6 MB: neither the import nor a registry with tools loads them."""
    program = """
import sys
from pibot_mesh.agent.tools import DEFAULT, tool

@tool
def add(a: int, b: int = 1) -> int:
    "Add."
    return a + b

assert "jsonschema" not in sys.modules, "at load"
assert DEFAULT.violations("add", {"a": "x"}) == ["a: 'x' is not of type 'integer'"]
assert "jsonschema" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# --- Functions marked as tools ---


def test_a_marked_function_stays_a_function() -> None:
    """Users can test it as they wrote it."""
    registry = ToolRegistry()

    @registry.tool
    def add(a: int, b: int = 1) -> int:
        """Add two numbers.

        Args:
            a: The first.
        """
        return a + b

    assert add(2) == 3
    assert registry["add"] is add.tool
    assert add.tool.spec == ToolSpec(
        "add",
        "Add two numbers.",
        {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "description": "The first."},
                "b": {"type": "integer", "default": 1},
            },
            "required": ["a"],
            "additionalProperties": False,
        },
    )


async def test_a_marked_function_is_called_as_a_tool() -> None:
    """With converted arguments and the context, in a thread; an async one in the loop."""
    registry = ToolRegistry()

    @registry.tool(effect="actuate", timeout_s=5, sequential=True, name="blink-it", description="Blink.")
    def blink(times: float, context: ToolContext) -> dict[str, JSON]:
        return {"times": times, "task": context.task, "thread": threading.get_ident()}

    @registry.tool(effect="write", safe_to_retry=True)
    async def note(text: str) -> Output:
        """Note it."""
        return Output(text, threading.get_ident())

    output = await registry.call("blink-it", {"times": 2}, ToolContext("t1"))
    assert output.text == ""
    assert (output.data["times"], output.data["task"]) == (2.0, "t1")
    assert isinstance(output.data["times"], float)
    assert output.data["thread"] != threading.get_ident()
    assert blink.tool.is_sequential
    spec = blink.tool.spec
    assert (spec.description, spec.effect, spec.safe_to_retry, spec.timeout_s) == ("Blink.", "actuate", False, 5.0)

    assert inspect.iscoroutinefunction(note.tool.run), "or it could not be cancelled"
    assert await note("x") == Output("x", threading.get_ident())
    assert await registry.call("note", {"text": "hi"}) == Output("hi", threading.get_ident())
    assert (note.tool.spec.effect, note.tool.spec.safe_to_retry) == ("write", True)


async def test_a_raw_schema_is_an_escape_hatch() -> None:
    """For what hints cannot say."""
    registry = ToolRegistry()

    @registry.tool(parameters={"type": "object", "properties": {"a": {"multipleOf": 3}}, "required": ["a"]})
    def third(a):  # type: ignore[no-untyped-def]
        """Take a third."""
        return a // 3

    assert (await registry.call("third", {"a": 9})).data == 3
    with pytest.raises(ToolError, match="a: 10 is not a multiple of 3"):
        await registry.call("third", {"a": 10})


def make_greeting(text: str) -> Callable[[], str]:
    """A function that is another each time, and always the same in its module."""

    def greet() -> str:
        """Greet."""
        return text

    return greet


def test_marked_functions_go_where_is_collected() -> None:
    """Into the default registry, or into the one that is named for the time being."""
    own = ToolRegistry()
    with collecting(own) as registry:
        assert registry is own
        marked(make_greeting("hello"))
        with collecting(ToolRegistry()) as inner:
            marked(make_greeting("hello"))
        assert (names(inner), names(own)) == (["greet"], ["greet"])
    assert "greet" not in DEFAULT

    marked(make_greeting("hello"))
    try:
        assert "greet" in DEFAULT
    finally:
        DEFAULT.remove("greet")


async def test_a_function_loaded_again_takes_its_place() -> None:
    """Another function of the same name is an error."""
    registry = ToolRegistry([tool(count, "first")])
    registry.tool(make_greeting("hello"))
    registry.add(tool(count, "last"))

    registry.tool(make_greeting("good day"))

    assert names(registry) == ["first", "greet", "last"]
    assert (await registry.call("greet", {})).text == "good day"
    with pytest.raises(ValueError, match="a tool named 'greet' is there already"):

        @registry.tool
        def greet() -> str:
            """Another one."""
            return ""


def test_a_tool_that_cannot_be_is_refused_where_it_is_written() -> None:
    """All of it, with file and line."""

    def fine(a: int) -> None:
        """Fine."""

    with pytest.raises(ToolDefinitionError) as caught:
        make_tool(fine, name="no good", effect="explode", timeout_s=0)  # type: ignore[arg-type]

    where = f"{__file__}:{fine.__code__.co_firstlineno}: function fine: "
    assert list(caught.value.problems) == [
        f"{where}'no good' is no name of a tool: 1 to 64 letters, digits, '_' or '-' are",
        f"{where}effect: one of read, write, actuate is expected, not 'explode'",
        f"{where}timeout_s: a number from 0.001 to 604800 is expected, not 0",
    ]
    fine.__doc__ = ""
    with pytest.raises(ToolDefinitionError, match=r"function fine: has no docstring"):
        make_tool(fine)
