"""The model gateway over a real broker: a service at one end, an agent at the other."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import MessageDelta, Retry, RunState
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, ModelFailure, ModelRequest, UsageSeen
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.config.settings import GatewaySettings
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import LLMChunk, Usage
from pibot_mesh.protocol.topics import Kind
from pibot_mesh.testing import FakeModelServer, HttpAnswer, call, fail, never, say, stream
from pibot_mesh.testing.answers import chunk, usage_json
from tests.brokers import HOST, Mosquitto, needs_mosquitto, until
from tests.integration.gateway_ends import KEY, NODE, TOPICS, MasterEnd, NodeEnd

pytestmark = needs_mosquitto

HELLO = ModelRequest((UserMessage("Hello"),))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as mosquitto:
        yield mosquitto


def begun(*pieces: str) -> HttpAnswer:
    """An answer that begins with these pieces, and then says nothing until the client goes away."""
    return stream(*(chunk({"content": piece}) for piece in pieces), done=False).held_open()


def lookout() -> tuple[ToolRegistry, list[str]]:
    """A tool that looks, and what it was asked to look at."""
    tools, seen = ToolRegistry(), list[str]()

    @tools.tool
    def look(room: str) -> str:
        """Look into a room."""
        seen.append(room)
        return f"the {room} is dark"

    return tools, seen


async def test_an_answer_arrives_while_it_is_being_given(broker: Mosquitto) -> None:
    """In pieces, each in its order, with what it took; the key goes to the service alone."""
    go_on = asyncio.Event()
    used = {**chunk(), "choices": [], "usage": usage_json(Usage(9, 2, 5, 1))}
    pieces = ({"reasoning_content": "I count."}, {"content": "One, "}), ({"content": "two, "}, {"content": "three."})
    first, second = ([chunk(piece) for piece in pieces[number]] for number in (0, 1))
    async with (
        FakeModelServer([stream(*first, go_on, *second, chunk({}, finish="stop"), used)]) as server,
        MasterEnd(broker.settings, server.base_url) as master,
        NodeEnd(broker.settings) as node,
    ):
        parts = node.line.model("t1").stream(HELLO)
        begin = [await anext(parts), await anext(parts)]
        assert not server.requests[0].ended.is_set(), "the service has not ended its answer"
        go_on.set()
        rest = [part async for part in parts]

        assert begin == [Delta("I count.", "reasoning"), Delta("One, ")]
        *said, end = [part for part in rest if not isinstance(part, UsageSeen)]
        assert "".join(part.text for part in said if isinstance(part, Delta)) == "two, three."
        assert end == Answer(AssistantMessage("One, two, three.", (), "I count.", "reasoning_content"))
        assert [part for part in rest if isinstance(part, UsageSeen)][-1].usage == Usage(9, 2, 5, 1)
        assert server.requests[0].key == KEY
        await until(lambda: master.used == [(NODE, "t1", Usage(9, 2, 5, 1))], "it is counted")


async def test_an_agent_on_a_node_works_with_the_masters_model(broker: Mosquitto) -> None:
    """The service sees what it would see of an agent with a key of its own."""
    tools, seen = lookout()
    async with (
        FakeModelServer([say("I look.", call("look", room="attic")), say("It is dark.")]) as server,
        MasterEnd(broker.settings, server.base_url),
        NodeEnd(broker.settings) as node,
    ):
        agent = AgentCore(node.line.model("t1"), tools, system_prompt="You look.")
        await agent.answer("How is the attic?")

        assert agent.outcome is not None
        assert (agent.outcome.state, agent.outcome.text) == (RunState.COMPLETED, "It is dark.")
        assert seen == ["attic"]
        function = {"name": "look", "arguments": '{"room": "attic"}'}
        assert server.requests[1].messages == [
            {"role": "system", "content": "You look."},
            {"role": "user", "content": "How is the attic?"},
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "the attic is dark"},
        ]
        assert server.requests[1].body["tools"][0]["function"]["description"] == "Look into a room."


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_cancel_on_the_node_reaches_the_service_within_a_second(broker: Mosquitto, has_begun: bool) -> None:
    """In the middle of an answer as well as before it; and the gateway is free again."""
    async with (
        FakeModelServer([begun("One, ") if has_begun else never()]) as server,
        MasterEnd(broker.settings, server.base_url) as master,
        NodeEnd(broker.settings) as node,
    ):
        parts = node.line.model("t1").stream(HELLO)
        if has_begun:
            assert await anext(parts) == Delta("One, ")
        reading = asyncio.ensure_future(anext(parts))
        request = await server.asked()

        async with asyncio.timeout(1):
            reading.cancel()
            await asyncio.wait([reading])
            await request.ended.wait()

        assert request.was_left
        assert node.line.open_calls == 0
        await until(lambda: not master.gateway.running, "no call runs")


@contextmanager
def master_program(broker: Mosquitto, base_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The master's end in a process of its own."""
    command = [sys.executable, "-m", "tests.integration.gateway_ends", str(broker.port), base_url]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_master_that_is_killed_in_the_middle_costs_a_retry(broker: Mosquitto) -> None:
    """The node's agent goes on with the next master; no tool call is made twice."""
    tools, seen = lookout()
    answers = [say(call("look", room="attic")), begun("It is ", "d"), say("It is dark.")]
    async with FakeModelServer(answers) as server:
        with master_program(broker, server.base_url) as process:
            async with NodeEnd(broker.settings) as node:
                agent = AgentCore(node.line.model("t1"), tools, system_prompt="You look.")
                retries: list[Retry] = []
                heard: list[str] = []

                async def run() -> None:
                    async for event in agent.run("How is the attic?"):
                        match event:
                            case Retry():
                                retries.append(event)
                            case MessageDelta():
                                heard.append(event.text)

                running = asyncio.create_task(run())
                await until(lambda: heard, "the answer begins", timeout_s=20)
                process.kill()
                await until(lambda: retries, "the agent has noticed")
                async with MasterEnd(broker.settings, server.base_url):
                    await asyncio.wait_for(running, 20)

    assert (retries[0].kind, retries[0].text) == (
        FailureKind.NETWORK,
        "the master, whose model this node uses, is away",
    )
    assert agent.outcome is not None
    assert (agent.outcome.state, agent.outcome.text) == (RunState.COMPLETED, "It is dark.")
    assert seen == ["attic"]


async def test_a_piece_that_is_lost_or_comes_twice(broker: Mosquitto) -> None:
    """A copy does nothing; behind a gap the answer is not whole: it is worth another try, and the service may stop."""
    async with (
        FakeModelServer([begun("One, ", "two.")]) as server,
        MasterEnd(broker.settings, server.base_url) as master,
        NodeEnd(broker.settings) as node,
    ):
        parts = node.line.model("t1").stream(HELLO)
        first = await anext(parts)
        assert isinstance(first, Delta)
        [call_id] = node.asked
        topic = TOPICS.topic(Kind.LLM_CHUNK, node=NODE, id=call_id)
        for copied, seq in ((first.text, 0), ("x", 9)):
            master.client.publish(topic, encode(LLMChunk(call_id, seq, delta={"content": copied})), qos=1)

        rest = [part async for part in parts]

        failure = rest[-1]
        assert isinstance(failure, ModelFailure)
        assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, True)
        said = "".join(part.text for part in [first, *rest] if isinstance(part, Delta))
        assert "One, two.".startswith(said)
        assert failure.partial.text == said
        await asyncio.wait_for(server.requests[0].ended.wait(), 5)


async def test_limits_are_told_to_the_node(broker: Mosquitto) -> None:
    """With a kind that its agent understands, and how long to wait."""
    async with (
        FakeModelServer([say("Hi", usage=Usage(60, 0, 50)), say("Ho")]) as server,
        MasterEnd(broker.settings, server.base_url, GatewaySettings(2, 100)) as master,
        NodeEnd(broker.settings) as node,
    ):
        unknown = await node.outcome(HELLO, task="unknown")
        assert isinstance(await node.outcome(HELLO), Answer)
        await until(lambda: master.used, "it is counted")
        tokens = await node.outcome(HELLO)

    assert isinstance(unknown, ModelFailure)
    assert (unknown.kind, unknown.is_retryable) == (FailureKind.PROTOCOL, False)
    assert isinstance(tokens, ModelFailure)
    assert (tokens.kind, tokens.is_retryable) == (FailureKind.QUOTA, False)
    assert "100 tokens" in tokens.text


async def test_a_node_that_asks_too_often_is_told_when_to_come_back(broker: Mosquitto) -> None:
    """Within the minute."""
    async with (
        FakeModelServer([say("Hi"), say("Ho")]) as server,
        MasterEnd(broker.settings, server.base_url, GatewaySettings(1, 1_000_000)),
        NodeEnd(broker.settings) as node,
    ):
        assert isinstance(await node.outcome(HELLO), Answer)
        refused = await node.outcome(HELLO)

    assert isinstance(refused, ModelFailure)
    assert (refused.kind, refused.is_retryable) == (FailureKind.RATE_LIMIT, True)
    assert refused.retry_after_s is not None
    assert 0 < refused.retry_after_s <= 60


async def test_a_master_that_stops_says_so(broker: Mosquitto) -> None:
    """To the calls that are open."""
    async with (
        FakeModelServer([begun("One, ")]) as server,
        MasterEnd(broker.settings, server.base_url) as master,
        NodeEnd(broker.settings) as node,
    ):
        asking = asyncio.create_task(node.outcome(HELLO))
        request = await server.asked()
        await master.gateway.stop()
        failure = await asking

        assert isinstance(failure, ModelFailure)
        assert (failure.kind, failure.is_retryable) == (FailureKind.NETWORK, True)
        await asyncio.wait_for(request.ended.wait(), 1)


class Eavesdropper:
    """Whatever goes over the broker, as ``mosquitto_sub`` prints it."""

    def __init__(self, broker: Mosquitto) -> None:
        command = ["mosquitto_sub", "-h", HOST, "-p", str(broker.port), "-v", "-t", "#"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.heard = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.heard += line

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is not installed")
async def test_the_key_is_in_no_message_and_in_no_log(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the service says of it: in an answer's refusal, in the middle of a stream, or in a header."""
    caplog.set_level(logging.DEBUG)
    expired = {"error": {"message": f"the key {KEY} has expired", "code": 401}}
    answers = [
        say("Hello.", call("look", room="attic"), reasoning="hm", usage=Usage(9, 0, 2)),
        fail(401, f"Incorrect API key provided: {KEY}"),
        fail(429, f"too many requests for api_key={KEY}", retry_after=1),
        stream(chunk({"content": "One, "}), expired),
        fail(302).with_headers({"Location": f"http://somewhere.invalid/v1?key={KEY}"}),
    ]
    ear = Eavesdropper(broker)
    try:
        async with (
            FakeModelServer(answers) as server,
            MasterEnd(broker.settings, server.base_url) as master,
            NodeEnd(broker.settings) as node,
        ):
            outcomes = [await node.outcome(HELLO) for _ in answers]
            master.client.publish("pibot/reply", b"that is all", qos=1)
            await until(lambda: b"that is all" in ear.heard, "the ear has heard it all")
            assert [request.key for request in server.requests] == [KEY] * len(answers)
    finally:
        ear.stop()

    assert isinstance(outcomes[0], Answer)
    assert outcomes[0].message.calls == (CallRequest("call_1", "look", '{"room": "attic"}'),)
    failures = [outcome for outcome in outcomes[1:] if isinstance(outcome, ModelFailure)]
    assert [failure.kind for failure in failures[:3]] == [FailureKind.AUTH, FailureKind.RATE_LIMIT, FailureKind.AUTH]
    assert len(failures) == len(answers) - 1
    assert ear.heard.count(b"/request {") == len(answers)
    assert ear.heard.count(b'"last":true') == len(answers)
    assert b"***" in ear.heard
    assert KEY.encode() not in ear.heard
    assert KEY not in caplog.text
    assert b"api_key" not in ear.heard.replace(b"api_key=***", b"").replace(b"model.api_key_file", b"")
