"""What the master does itself: its calls, its agent, and what that delegates."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import pytest

from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.master.delegation import Delegation
from pibot_mesh.master.events import Delegated, MasterInput, TaskEventSeen, TaskResultSeen
from pibot_mesh.master.own_work import OwnWork
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Control, Output, Result, State, Step, StepResult, Task, ToolSpec, WireError
from pibot_mesh.testing import ScriptedModel, call
from tests.brokers import until

NOTHING = {"type": "object", "properties": {}}


class Work:
    """The master's own work, and all that it tells."""

    def __init__(self, script: Sequence[object] | None = None) -> None:
        self.told: list[MasterInput] = []
        self.begun, self.was_ended = threading.Event(), threading.Event()
        self.delegation = Delegation(self.told.append, self._held)
        tools = [
            Tool(ToolSpec("sleep", "Sleep.", NOTHING), self._sleep),
            Tool(ToolSpec("block", "Block a thread.", NOTHING), self._block),
            Tool(ToolSpec("door_open", "Open the door.", NOTHING, effect="actuate"), self._door_open),
            self.delegation.tool,
        ]
        self.doors = 0
        self.model = None if script is None else ScriptedModel(*script)  # type: ignore[arg-type]
        self.own = OwnWork(
            ToolRegistry(tools),
            self.model,
            prompt=lambda: "You are the master.",
            post=self.told.append,
            boot="b1",
            context_tokens=8_000,
        )

    def _held(self, task: str) -> AbstractContextManager[None]:
        return self.own.held(task)

    async def _sleep(self, _: Mapping[str, JSON], __: ToolContext) -> Output:
        self.begun.set()
        await asyncio.sleep(3600)
        return Output("slept")

    def _block(self, _: Mapping[str, JSON], context: ToolContext) -> Output:
        self.begun.set()
        self.was_ended.set() if context.canceled.wait(10) else None
        return Output("stopped early")

    async def _door_open(self, _: Mapping[str, JSON], __: ToolContext) -> Output:
        self.doors += 1
        return Output("open")

    async def result(self) -> Result:
        await until(lambda: any(isinstance(told, TaskResultSeen) for told in self.told), "the result")
        [seen] = [told for told in self.told if isinstance(told, TaskResultSeen)]
        assert seen.node == MASTER
        return seen.result

    def events(self, kind: str) -> list[Mapping[str, JSON]]:
        seen = [told.event for told in self.told if isinstance(told, TaskEventSeen)]
        return [event.data for event in seen if event.type == kind]

    async def event(self, kind: str) -> Mapping[str, JSON]:
        await until(lambda: self.events(kind), kind)
        return self.events(kind)[0]


def calling(tool: str) -> Task:
    return Task("r1-s1", "r1", "call", tool=tool)


def instructed(**fields: object) -> Task:
    return Task("r1-s1", "r1", "agent", instruction="do it", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("tool", ["sleep", "block"])
async def test_a_cancelled_call_is_told_to_end(tool: str) -> None:
    """One in the loop is cancelled; one in a thread sees its signal, and what it gives counts."""
    work = Work()
    work.own.start(calling(tool))
    await until(work.begun.is_set, "it runs")

    work.own.control("r1-s1", Control("cancel"))
    result = await work.result()

    assert result.state is (State.CANCELED if tool == "sleep" else State.COMPLETED)
    assert work.was_ended.is_set() is (tool == "block")


@pytest.mark.parametrize("task", [calling("sleep"), calling("block"), instructed()])
async def test_what_is_cancelled_as_it_begins_does_nothing(task: Task) -> None:
    """The word came with the task: neither a tool nor the model is asked, and the one result comes."""
    work = Work([call("door_open")])
    work.own.start(task)
    work.own.control("r1-s1", Control("cancel"))

    result = await work.result()

    assert (result.state, work.doors, work.begun.is_set()) == (State.CANCELED, 0, False)
    assert work.own._runs == {}


async def test_what_is_said_as_an_agent_begins_is_heard() -> None:
    """Before its first word to the model."""
    work = Work(["As you like."])
    work.own.start(instructed())
    work.own.control("r1-s1", Control("steer", text="quickly"))

    await work.result()

    assert work.model is not None
    assert "quickly" in str(work.model.requests[0].messages)


async def test_while_a_step_is_delegated_the_agents_time_stands_still() -> None:
    """The node's step has its own, and may wait for a person."""
    work = Work([call("delegate", node="n1", tool="read"), "It is 21 degrees."])
    work.own.start(instructed(timeout_s=0.3))
    await until(lambda: [told for told in work.told if isinstance(told, Delegated)], "it is delegated")
    [delegated] = [told for told in work.told if isinstance(told, Delegated)]
    await asyncio.sleep(0.5)  # longer than the agent has

    work.delegation.told(delegated.key, StepResult("s2", State.COMPLETED, "n1", output=Output("21")))

    assert (await work.result()).output.text == "It is 21 degrees."


async def test_a_word_for_nobody_means_nothing() -> None:
    """The task has ended, or was never here; a call cannot be steered."""
    work = Work()
    work.own.control("r9-s1", Control("cancel"))
    work.own.start(calling("door_open"))
    work.own.control("r1-s1", Control("steer", text="no"))
    work.own.control("r1-s1", Control("approve", call="c1"))

    assert (await work.result()).state is State.COMPLETED


async def test_without_a_model_an_instruction_fails_in_words() -> None:
    """As on a node."""
    work = Work()
    work.own.start(instructed())

    result = await work.result()

    assert result.error is not None
    assert (result.state, result.error.code) == (State.FAILED, ErrorCode.NO_MODEL)


async def test_the_agent_tells_what_it_does_and_answers() -> None:
    """It knows the master's prompt, and what it used is in the result."""
    work = Work([call("door_open"), "The door is open."])
    work.own.start(instructed())

    result = await work.result()

    assert (result.state, result.output.text, work.doors) == (State.COMPLETED, "The door is open.", 1)
    assert [one.name for one in result.tool_calls] == ["door_open"]
    assert [told.event.seq for told in work.told if isinstance(told, TaskEventSeen)] == list(range(len(work.told) - 1))
    assert work.model is not None
    assert work.model.requests[0].system.startswith("You are the master.")


async def test_the_agent_is_steered_and_cancelled() -> None:
    """By the words that a node's would get."""
    work = Work([call("sleep"), "never"])
    work.own.start(instructed())
    await until(work.begun.is_set, "it runs")
    work.own.control("r1-s1", Control("steer", text="hurry"))
    work.own.control("r1-s1", Control("cancel", reason="enough"))

    result = await work.result()

    assert (result.state, result.tool_calls[0].ok) == (State.CANCELED, False)


@pytest.mark.parametrize("is_granted", [True, False])
async def test_the_agent_waits_for_a_persons_word(*, is_granted: bool) -> None:
    """And does what it was told about that very call."""
    work = Work([call("door_open"), "So be it."])
    work.own.start(instructed(ask=("actuate",)))
    asked = await work.event("approval_required")

    work.own.control("r1-s1", Control("approve", call="made-up"))
    work.own.control("r1-s1", Control("approve" if is_granted else "deny", call=str(asked["call"])))
    await work.result()

    assert work.doors == is_granted


async def test_at_the_end_nothing_is_said_of_what_is_cut_off() -> None:
    """The ledger has it, for the next start."""
    work = Work([call("sleep")])
    work.own.start(instructed())
    work.own.start(Task("r1-s2", "r1", "call", tool="sleep"))
    await until(work.begun.is_set, "they run")

    await work.own.stop()

    assert not any(isinstance(told, TaskResultSeen) for told in work.told)


async def test_a_bug_still_gives_the_one_result(caplog: pytest.LogCaptureFixture) -> None:
    """The log says more."""
    work = Work(["hello"])
    work.own._prompt = lambda: 1 / 0  # type: ignore[assignment,return-value]
    work.own.start(instructed())

    result = await work.result()

    assert result.error is not None
    assert result.error.code == ErrorCode.INTERNAL
    assert "a bug: task r1-s1" in caplog.text


# Delegation


async def delegate(result: StepResult | None = None, **args: JSON) -> tuple[Step, Output]:
    """Delegate, and say that it ended so."""
    posted: list[Delegated] = []
    delegation = Delegation(posted.append)
    run = delegation.tool.run(args, ToolContext("r1-s1", "r1"))
    asking = asyncio.ensure_future(run)  # type: ignore[arg-type]
    await until(lambda: posted or asking.done(), "it is posted")
    if posted:
        assert posted[0].task == "r1-s1"
        delegation.told("another", StepResult("s9", State.FAILED))
        for _ in range(2):
            delegation.told(posted[0].key, result or StepResult("s2", State.COMPLETED, "n1", output=Output("ok")))
    output: Output = await asking
    return posted[0].step, output


async def test_a_call_is_delegated_as_a_step() -> None:
    """What comes back names the node."""
    step, output = await delegate(node="n1", tool="read", args={"device": "air"})

    assert step == Step("s0", node="n1", tool="read", args={"device": "air"})
    assert output.text == "on n1: ok"


async def test_an_instruction_is_delegated_to_whoever_is_free() -> None:
    """With the tools that it may use; data without words is said as JSON."""
    done = StepResult("s2", State.COMPLETED, None, output=Output(data={"value": 1}))

    step, output = await delegate(done, instruction="look around", tools=["read"], labels=["attic"])

    assert step == Step("s0", "agent", None, ("attic",), instruction="look around", tools=("read",))
    assert (output.text, output.data) == ('on no node: {"value": 1}', {"value": 1})


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"tool": "read", "instruction": "look"}, "give one of them"),
        ({"node": "n1"}, "give a tool with its args, or an instruction"),
        ({"tool": "read", "node": "No Such Name"}, "node"),
    ],
)
async def test_what_cannot_be_delegated_is_an_error_for_the_model(args: dict[str, JSON], said: str) -> None:
    """In words that it can mend it by."""
    with pytest.raises(ToolError, match=said) as caught:
        await delegate(**args)

    assert caught.value.code == ErrorCode.BAD_ARGUMENTS


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (StepResult("s2", State.FAILED, "n1", error=WireError("tool_failed", "no wire")), "failed on n1: no wire"),
        (
            StepResult("s2", State.CANCELED, "n1", output=Output("half of it"), error=WireError("canceled", "enough")),
            "canceled on n1: enough; so far: half of it",
        ),
        (StepResult("s2", State.SKIPPED), "skipped on no node: no reason is known"),
    ],
)
async def test_what_did_not_go_well_is_an_error_for_the_model(result: StepResult, said: str) -> None:
    """With what is known of it."""
    with pytest.raises(ToolError) as caught:
        await delegate(result, tool="read")

    assert str(caught.value) == said
