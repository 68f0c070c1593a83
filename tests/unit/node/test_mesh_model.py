"""A node's end of the model gateway: what it sends, and what it makes of what comes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import Compacted, RunState
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, ModelFailure, ModelRequest, StreamPart, UsageSeen
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.node.mesh_model import MAX_UNREAD, GatewayLine
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import LLMChunk, LLMRequest, ToolSpec, Usage, WireError
from tests.brokers import until

HELLO = ModelRequest((UserMessage("Hello"),))


class Party:
    """A line whose other end is the test, and one call on it whose parts are read as they come."""

    def __init__(self, *, first_content_s: float = 5.0, between_s: float = 5.0) -> None:
        ids = iter(f"c{number}" for number in range(1, 100))
        self.sent: list[LLMRequest] = []
        self.parts: list[StreamPart] = []
        self.line = GatewayLine(
            self.sent.append, first_content_s=first_content_s, between_s=between_s, new_id=lambda: next(ids)
        )

    async def ask(self, request: ModelRequest = HELLO) -> None:
        """Begin a call, and wait until it is open."""
        self.reading = asyncio.create_task(self._read(self.line.model("t1").stream(request)))
        await until(lambda: self.line.open_calls or self.reading.done(), "the call is open")

    async def _read(self, stream: AsyncGenerator[StreamPart, None]) -> None:
        async for part in stream:
            self.parts.append(part)

    def give(
        self,
        seq: int,
        *,
        last: bool = False,
        usage: Usage | None = None,
        error: WireError | None = None,
        call_id: str = "c1",
        **delta: JSON,
    ) -> None:
        """A chunk from the gateway."""
        self.line.received(call_id, LLMChunk(call_id, seq, last, delta, usage, error))

    async def end(self) -> list[StreamPart]:
        """All parts, once the call has ended."""
        await asyncio.wait_for(self.reading, 5)
        return self.parts

    async def failure(self) -> ModelFailure:
        """What the call ended with, which is a failure."""
        [*_, last] = await self.end()
        assert isinstance(last, ModelFailure)
        return last

    @property
    def cancels(self) -> list[str]:
        """The calls of which the gateway was told that nobody waits for them."""
        return [request.id for request in self.sent if request.cancel]


async def test_an_answer_comes_in_pieces() -> None:
    """What was asked goes out once; text and reasoning, usage and the whole message come in."""
    party = Party()
    await party.ask(ModelRequest((UserMessage("Hello"),), "Be short.", (ToolSpec("fan"),), 50))
    party.give(0, reasoning_content="hm")
    party.give(1, content="Good ", usage=Usage(9, 1, 1))
    party.give(2, content="day.")
    party.give(3, last=True, finish_reason="stop", usage=Usage(9, 1, 4))

    assert await party.end() == [
        Delta("hm", "reasoning"),
        Delta("Good "),
        UsageSeen(Usage(9, 1, 1)),
        Delta("day."),
        UsageSeen(Usage(9, 1, 4)),
        Answer(AssistantMessage("Good day.", (), "hm", "reasoning_content"), "stop"),
    ]
    [request] = party.sent
    assert (request.id, request.task, request.max_tokens, len(request.tools)) == ("c1", "t1", 50, 1)
    assert [message["content"] for message in request.messages] == ["Be short.", "Hello"]
    assert party.line.open_calls == 0


@pytest.mark.parametrize(("asked", "sent"), [(None, 300), (50, 50)])
async def test_a_nodes_own_limit_is_for_answers_without_one(asked: int | None, sent: int) -> None:
    """As with any other model."""
    requests: list[LLMRequest] = []
    line = GatewayLine(requests.append, first_content_s=5, between_s=5, max_tokens=300)
    stream = line.model("t1").stream(replace(HELLO, max_tokens=asked))
    reading = asyncio.ensure_future(anext(stream))
    await until(lambda: requests, "the request is out")
    line.close()
    await reading

    assert requests[0].max_tokens == sent


@pytest.mark.parametrize(
    ("delta", "answer"),
    [
        ({"finish_reason": "length"}, Answer(AssistantMessage("Hi"), "length")),
        ({"finish_reason": "whatever"}, Answer(AssistantMessage("Hi"), "stop")),
        ({}, Answer(AssistantMessage("Hi"), "stop")),
        (
            {"tool_calls": [{"id": "a", "type": "function", "function": {"name": "fan", "arguments": "{broken"}}]},
            Answer(AssistantMessage("Hi", (CallRequest("a", "fan", "{broken"),)), "tool_calls"),
        ),
        ({"content": "!"}, Answer(AssistantMessage("Hi!"))),
    ],
)
async def test_the_last_chunk_says_how_it_ends(delta: dict[str, JSON], answer: Answer) -> None:
    """Arguments are the model's own words: the agent looks at them."""
    party = Party()
    await party.ask()
    party.give(0, content="Hi")
    party.give(1, last=True, **delta)

    assert (await party.end())[-1] == answer


@pytest.mark.parametrize(
    ("told", "field"), [("reasoning", "reasoning"), (None, "reasoning_content"), ("role", "reasoning_content")]
)
async def test_reasoning_keeps_the_name_that_its_service_gave_it(told: str | None, field: str) -> None:
    """It goes back under it; a name that no service has is none."""
    party = Party()
    await party.ask()
    party.give(0, reasoning_content="hm")
    party.give(1, last=True, content="Hi", reasoning_field=told)

    assert (await party.end())[-1] == Answer(AssistantMessage("Hi", (), "hm", field))


@pytest.mark.parametrize(
    ("error", "delta", "failure"),
    [
        (
            WireError("model_failed", "slow down", True),
            {"kind": "rate_limit", "retry_after_s": 2.5},
            ModelFailure(FailureKind.RATE_LIMIT, "slow down", True, 2.5),
        ),
        (WireError("budget", "used up"), {"kind": "quota"}, ModelFailure(FailureKind.QUOTA, "used up")),
        (WireError("new", "what?"), {"kind": "new"}, ModelFailure(FailureKind.PROTOCOL, "what?")),
        (WireError("new", "what?"), {"retry_after_s": -1}, ModelFailure(FailureKind.PROTOCOL, "what?")),
        (WireError("new", "what?"), {"kind": 5, "retry_after_s": True}, ModelFailure(FailureKind.PROTOCOL, "what?")),
    ],
)
async def test_a_failure_keeps_its_kind_and_the_wait(
    error: WireError, delta: dict[str, JSON], failure: ModelFailure
) -> None:
    """So that the agent tries again where, and when, that helps."""
    party = Party()
    await party.ask()
    party.give(0, last=True, error=error, **delta)

    assert await party.end() == [failure]
    assert party.cancels == []


async def test_what_had_come_stays_with_a_failure() -> None:
    """As the partial message."""
    party = Party()
    await party.ask()
    party.give(0, content="I was ab")
    party.give(1, last=True, error=WireError("model_failed", "cut", True), kind="network")

    failure = await party.failure()
    assert failure.partial == AssistantMessage("I was ab")
    assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, True)


@pytest.mark.parametrize("calls", ["fan", [{"id": 5}]])
async def test_calls_that_cannot_be_read_are_a_failure(calls: JSON) -> None:
    """Another try would bring the same."""
    party = Party()
    await party.ask()
    party.give(0, last=True, tool_calls=calls)

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable) == (FailureKind.PROTOCOL, False)


async def test_an_answer_that_says_nothing_is_an_empty_one() -> None:
    """Text that is none counts as nothing; the agent asks once more."""
    party = Party()
    await party.ask()
    party.give(0, content=5, reasoning_content="hm")
    party.give(1, last=True, finish_reason="stop")

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable, failure.partial.reasoning) == (FailureKind.EMPTY, True, "hm")


async def test_a_chunk_that_comes_twice_counts_once() -> None:
    """A broker may deliver again what it has delivered."""
    party = Party()
    await party.ask()
    party.give(0, content="a")
    party.give(1, content="b")
    party.give(0, content="a")
    party.give(1, content="b")
    party.give(2, last=True)
    party.give(2, last=True)

    assert await party.end() == [Delta("a"), Delta("b"), Answer(AssistantMessage("ab"))]


async def test_a_gap_is_worth_another_try() -> None:
    """What comes behind it is not read, and the gateway is told that nobody waits."""
    party = Party()
    await party.ask()
    party.give(0, content="a")
    party.give(2, content="c")
    party.give(3, last=True)

    failure = await party.failure()
    assert party.parts[:-1] == [Delta("a")]
    assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, True)
    assert failure.partial == AssistantMessage("a")
    assert party.cancels == ["c1"]


async def test_what_nobody_reads_does_not_grow_for_ever() -> None:
    """A call is given up where more waits than can be."""
    party = Party()
    stream = party.line.model("t1").stream(HELLO)
    reading = asyncio.ensure_future(anext(stream))
    await until(lambda: party.sent, "the request is out")
    for seq in range(MAX_UNREAD + 50):
        party.give(seq, content="x")

    parts = [await reading, *[part async for part in stream]]
    assert len(parts) == MAX_UNREAD + 1
    assert isinstance(parts[-1], ModelFailure)
    assert parts[-1].kind is FailureKind.NETWORK


async def test_silence_at_the_beginning_ends_the_call() -> None:
    """After *first_content_s*."""
    party = Party(first_content_s=0.05)
    await party.ask()

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable) == (FailureKind.TIMEOUT, True)
    assert "0.05 s" in failure.text
    assert party.cancels == ["c1"]


async def test_silence_in_the_middle_ends_the_call() -> None:
    """After *between_s*; a chunk that says nothing shows that the gateway is at work."""
    party = Party(between_s=0.8)
    await party.ask()
    for seq in range(4):
        party.give(seq)
        await asyncio.sleep(0.25)
    assert not party.reading.done()

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable) == (FailureKind.TIMEOUT, True)
    assert "0.8 s" in failure.text
    assert party.cancels == ["c1"]


async def test_who_stops_reading_frees_everything() -> None:
    """Closing the stream cancels the call at the gateway; late chunks are nobody's."""
    party = Party()
    stream = party.line.model("t1").stream(HELLO)
    reading = asyncio.ensure_future(anext(stream))
    await until(lambda: party.sent, "the request is out")
    party.give(0, content="a")
    assert await reading == Delta("a")

    await stream.aclose()

    assert party.sent[1:] == [LLMRequest("c1", "t1", cancel=True)]
    assert party.line.open_calls == 0
    party.give(1, content="b")


async def test_who_is_cancelled_while_waiting_frees_everything() -> None:
    """As the agent does it when its run is aborted."""
    party = Party()
    await party.ask()

    party.reading.cancel()
    await asyncio.wait([party.reading])

    assert party.cancels == ["c1"]
    assert party.line.open_calls == 0


async def test_an_answer_that_is_there_is_not_cancelled() -> None:
    """Though nobody has read its end yet; nor is it lost when the master goes away now."""
    party = Party()
    stream = party.line.model("t1").stream(HELLO)
    reading = asyncio.ensure_future(anext(stream))
    await until(lambda: party.sent, "the request is out")
    party.give(0, content="a")
    party.give(1, last=True)
    party.line.master_gone()

    assert [await reading, *[part async for part in stream]] == [Delta("a"), Answer(AssistantMessage("a"))]
    assert party.cancels == []


async def test_a_master_that_goes_away_ends_what_is_open() -> None:
    """With a failure that is worth another try, behind what had come; it is told of it when it is back."""
    party = Party()
    await party.ask()
    party.give(0, content="a")
    party.line.master_gone()
    party.line.master_gone()
    party.give(1, last=True)

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, True)
    assert failure.text == "the master, whose model this node uses, is away"
    assert failure.partial == AssistantMessage("a")
    assert party.cancels == ["c1"]


async def test_nothing_is_asked_of_a_master_that_is_away() -> None:
    """Until it is back."""
    party = Party()
    party.line.master_here()
    party.line.master_gone()
    await party.ask()
    failure = await party.failure()
    assert (failure.kind, failure.is_retryable, party.sent) == (FailureKind.NETWORK, True, [])

    party.line.master_here()
    await party.ask()
    party.give(0, content="Hi")
    party.give(1, last=True)

    assert (await party.end())[-1] == Answer(AssistantMessage("Hi"))


async def test_a_node_that_stops_ends_its_calls_for_good() -> None:
    """Another try makes no sense, even when the master is there."""
    party = Party()
    await party.ask()
    party.line.close()
    party.line.master_gone()
    party.line.master_here()

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, False)
    await party.ask()
    assert await party.failure() == ModelFailure(failure.kind, failure.text)


async def test_a_request_that_is_too_large_is_not_sent() -> None:
    """It says so as a service would: the agent then shortens it."""
    party = Party()
    await party.ask(ModelRequest((UserMessage("x" * 70_000),)))

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable, party.sent) == (FailureKind.OVERFLOW, False, [])
    assert "65536" in failure.text


async def test_a_request_that_no_message_can_say_is_not_sent() -> None:
    """A schema may be nested deeper than any reader goes."""
    schema: dict[str, JSON] = {}
    for _ in range(40):
        schema = {"properties": {"a": schema}}
    party = Party()
    await party.ask(ModelRequest((UserMessage("x"),), tools=(ToolSpec("deep", parameters=schema),)))

    failure = await party.failure()
    assert (failure.kind, failure.is_retryable, party.sent) == (FailureKind.PROTOCOL, False, [])


async def test_an_agent_whose_talk_gets_too_large_goes_on_with_a_shorter_one() -> None:
    """What fits into the model's context need not fit into a message: older turns are summarised then."""
    party = Party()
    limits = RunLimits(context_tokens=1_000_000)
    agent = AgentCore(party.line.model("t1"), ToolRegistry(), system_prompt="", limits=limits)

    async def play() -> None:
        answered: list[str] = []
        while True:
            await until(lambda: len(party.sent) > len(answered), "a request", timeout_s=60)
            answered.append(party.sent[len(answered)].id)
            party.give(0, call_id=answered[-1], last=True, content="A short one.", finish_reason="stop")

    playing = asyncio.create_task(play())
    await agent.answer("x" * 40_000)
    events = [event async for event in agent.run("y" * 40_000)]
    playing.cancel()

    assert agent.outcome is not None
    assert (agent.outcome.state, agent.outcome.text) == (RunState.COMPLETED, "A short one.")
    assert any(isinstance(event, Compacted) for event in events)


def test_a_node_loads_it_cheaply() -> None:
    """Neither the agent's loop nor any client of a service comes with it."""
    script = (
        "import sys\nimport pibot_mesh.node.mesh_model\n"
        "heavy = {'pibot_mesh.agent.core', 'pibot_mesh.agent.client', 'jsonschema', 'openai'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "0"
