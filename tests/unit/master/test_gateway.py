"""The master's end of the model gateway: who gets what, in which pieces, and what is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import cast

import pytest

from pibot_mesh.agent.chat_json import write_request
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Model, ModelFailure, ModelRequest, StreamPart
from pibot_mesh.config.settings import GatewaySettings
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master import chunks, gateway
from pibot_mesh.master.chunks import ChunkWriter
from pibot_mesh.master.gateway import AT_ONCE, REMEMBERED, WAITING, Gateway
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import LLMChunk, LLMRequest, ToolSpec, Usage
from pibot_mesh.testing import ScriptedModel, call
from pibot_mesh.testing.scripted import Pause, Turn
from tests.brokers import until


class Desk:
    """A gateway, and all that it said and counted. The clock and the day stand still until they are moved."""

    def __init__(
        self,
        *script: Turn,
        settings: GatewaySettings | None = None,
        model: Model | None = None,
        used_today: dict[str, int] | None = None,
    ) -> None:
        self.model = ScriptedModel(*script)
        self.chunks: dict[str, list[LLMChunk]] = {}
        self.times: dict[str, list[float]] = {}
        self.used: list[tuple[str, str, Usage]] = []
        self.budgets: dict[tuple[str, str], int] = {}
        self.now, self.day = 1000.0, "2025-03-01"
        settings = settings or GatewaySettings(1000, 1_000_000)
        self.gateway = self._gateway(model or self.model, settings, used_today or {})

    def _gateway(self, model: Model | None, settings: GatewaySettings, used_today: dict[str, int]) -> Gateway:
        return Gateway(
            model,
            settings,
            budget=lambda node, task: self.budgets.get((node, task), None if task == "unknown" else 100_000),
            send=self._take,
            used=lambda node, task, usage: self.used.append((node, task, usage)),
            used_today=used_today,
            clock=lambda: self.now,
            today=lambda: self.day,
        )

    def _take(self, node: str, chunk: LLMChunk) -> None:
        encode(chunk)
        self.chunks.setdefault(chunk.id, []).append(chunk)
        self.times.setdefault(chunk.id, []).append(time.monotonic())

    def ask(self, call_id: str = "c1", node: str = "attic", task: str = "t1", text: str = "Hello") -> None:
        """A request of a node."""
        self.gateway.ask(node, write_request(ModelRequest((UserMessage(text),)), id=call_id, task=task))

    async def last(self, call_id: str = "c1") -> LLMChunk:
        """The last chunk of a call, once it has come."""
        await until(lambda: self.is_over(call_id), f"the last chunk of {call_id}")
        seqs = [chunk.seq for chunk in self.chunks[call_id]]
        assert seqs == list(range(len(seqs))), "numbered without a gap"
        assert [chunk.last for chunk in self.chunks[call_id]].count(True) == 1
        return self.chunks[call_id][-1]

    def is_over(self, call_id: str) -> bool:
        """Whether the last chunk of a call came."""
        return call_id in self.chunks and self.chunks[call_id][-1].last

    def said(self, call_id: str = "c1", key: str = "content") -> str:
        """The text of all chunks of a call."""
        return "".join(chunk.delta.get(key, "") for chunk in self.chunks.get(call_id, []))

    async def idle(self) -> None:
        """Wait until no call runs."""
        await until(lambda: not self.gateway.running, "no call runs")


# What comes back


async def test_an_answer_comes_whole() -> None:
    """Text, reasoning, calls, why it ended, and what it took."""
    desk = Desk([Delta("hm", "reasoning"), "I ", "look.", call("look", room="attic"), Usage(90, 5, 12, 3)])
    desk.ask()

    last = await desk.last()

    assert desk.said() == "I look."
    assert desk.said(key="reasoning_content") == "hm"
    calls = [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"room": "attic"}'}}]
    assert last.delta == {"finish_reason": "tool_calls", "tool_calls": calls}
    assert last.usage == Usage(90, 5, 12, 3)
    assert last.error is None


async def test_the_model_is_asked_what_the_node_asked() -> None:
    """With prompt, tools and limit."""
    desk = Desk("Hi")
    asked = ModelRequest((UserMessage("Hello"),), "Be short.", (ToolSpec("fan", "Switch.", {"type": "object"}),), 70)
    desk.gateway.ask("attic", write_request(asked, id="c1", task="t1"))
    await desk.last()

    [came] = desk.model.requests
    assert replace(came, tools=()) == replace(asked, tools=())
    assert [(tool.name, tool.description) for tool in came.tools] == [("fan", "Switch.")]


async def test_reasoning_under_another_name_is_told_with_its_name() -> None:
    """The service wants it back under that."""
    desk = Desk(Answer(AssistantMessage("Hi", reasoning="hm", reasoning_field="reasoning")))
    desk.ask()

    assert (await desk.last()).delta["reasoning_field"] == "reasoning"


async def test_an_answer_without_pieces_is_said_whole() -> None:
    """A model need not stream."""

    class Whole:
        async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
            yield Answer(AssistantMessage("All at once.", reasoning="hm", reasoning_field="reasoning_content"))

    desk = Desk(model=Whole())
    desk.ask()
    await desk.last()

    assert (desk.said(), desk.said(key="reasoning_content")) == ("All at once.", "hm")


async def test_what_was_said_stays_said() -> None:
    """Where an answer is not what its pieces were, the node has the pieces."""
    desk = Desk(["Yes", Answer(AssistantMessage("No"))])
    desk.ask()
    await desk.last()

    assert desk.said() == "Yes"


async def test_nothing_is_said_behind_the_end() -> None:
    """A stream that was told to end may still have something to say."""
    sent: list[LLMChunk] = []
    writer = ChunkWriter("c1", sent.append)
    writer.say(Delta("a"))
    writer.close()
    writer.say(Delta("b"))
    writer.end(Answer(AssistantMessage("ab")))

    assert [chunk.delta for chunk in sent] == [{"content": "a"}]


async def test_the_first_piece_comes_at_once_and_the_rest_ten_times_a_second() -> None:
    """However fast the model is; nothing is lost and nothing waits for the end."""
    steps = [step for number in range(100) for step in (f"{number} ", Pause(0.01))]
    desk = Desk(["first ", Pause(0.05), *steps])
    desk.ask()
    await until(lambda: "c1" in desk.chunks, "the first piece")
    assert desk.said() == "first "

    await desk.last()

    assert desk.said() == "first " + "".join(f"{number} " for number in range(100))
    pieces = desk.times["c1"][:-2]
    assert len(pieces) > 5
    assert all(later - earlier > 0.08 for earlier, later in pairwise(pieces))


async def test_a_long_piece_is_cut_to_what_a_message_can_carry() -> None:
    """Also where JSON needs six bytes for each character."""
    text, thought = "\x01" * 30_000 + "风" * 30_000, "\x02" * 10_000
    desk = Desk([Delta(thought, "reasoning"), text])
    desk.ask()
    await desk.last()

    assert (desk.said(), desk.said(key="reasoning_content")) == (text, thought)


async def test_calls_that_no_message_can_carry_are_a_failure() -> None:
    """The node would wait for ever for what cannot come."""
    desk = Desk(["Let me write.", call("file_write", text="x" * 70_000)])
    desk.ask()

    last = await desk.last()

    assert last.error is not None
    assert last.error.code == ErrorCode.MODEL_FAILED
    assert not last.error.retryable
    assert last.delta == {"kind": "protocol"}
    assert "the answer is larger than a message may be" in last.error.message
    assert desk.said() == "Let me write."


async def test_calls_that_no_message_can_say_are_a_failure() -> None:
    """Half a character, for example, which only a model of somebody's own sends."""
    desk = Desk(AssistantMessage("", (CallRequest("a", "fan", "\udc00"),)))
    desk.ask()

    last = await desk.last()
    assert last.error is not None
    assert (last.error.retryable, last.delta) == (False, {"kind": "protocol"})


async def test_a_call_that_goes_on_in_silence_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that runs, and the one that waits for its turn: a long call of a tool is told as a whole."""
    monkeypatch.setattr(chunks, "LIFE_S", 0.05)
    monkeypatch.setattr(gateway, "AT_ONCE", 1)
    held = asyncio.Event()
    desk = Desk([held, "Hi"], "Ho")
    desk.ask("c1")
    desk.ask("c2")

    await until(lambda: all(len(desk.chunks.get(name, [])) >= 3 for name in ("c1", "c2")), "three signs of both")
    held.set()
    await desk.last("c1")
    await desk.last("c2")

    assert (desk.said("c1"), desk.said("c2")) == ("Hi", "Ho")


async def test_usage_comes_as_it_is_told() -> None:
    """With the next piece, so that a node knows it also of a call that it cancels."""
    held = asyncio.Event()
    desk = Desk(["a", Usage(10, 0, 1), Pause(0.01), "b", Pause(0.2), held])
    desk.ask()
    await until(lambda: len(desk.chunks.get("c1", [])) == 2, "two pieces")

    assert [chunk.usage for chunk in desk.chunks["c1"]] == [None, Usage(10, 0, 1)]
    desk.gateway.cancel("attic", "c1")


# Failures


async def test_a_failure_of_the_model_keeps_its_kind_and_the_wait() -> None:
    """The node's agent decides by them."""
    desk = Desk(["I was ab", ModelFailure(FailureKind.RATE_LIMIT, "slow down", True, 2.5)])
    desk.ask()

    last = await desk.last()

    assert last.error is not None
    assert (last.error.code, last.error.message, last.error.retryable) == (ErrorCode.MODEL_FAILED, "slow down", True)
    assert last.delta == {"kind": "rate_limit", "retry_after_s": 2.5}
    assert desk.said() == "I was ab"


async def test_no_key_is_in_a_failure() -> None:
    """A model of somebody's own may be less careful than ours; and no text is without bounds."""
    secret = "sk-" + "a1" * 20
    desk = Desk(ModelFailure(FailureKind.AUTH, f"Authorization: Bearer {secret} is wrong " + "x" * 100_000))
    desk.ask()

    last = await desk.last()

    assert last.error is not None
    assert secret not in last.error.message
    assert "***" in last.error.message
    assert len(last.error.message) < 3000


@pytest.mark.parametrize(
    ("parts", "words", "is_retryable"),
    [([], "ended without an answer", True), ([KeyError("oops")], "the model broke: KeyError", False)],
)
async def test_a_model_that_is_broken_is_a_failure(
    parts: Sequence[Exception], words: str, is_retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be anybody's code."""

    class Broken:
        async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
            for part in parts:
                raise part
            for never in cast(list[StreamPart], []):
                yield never

    desk = Desk(model=Broken())
    desk.ask()

    last = await desk.last()
    assert last.error is not None
    assert words in last.error.message
    assert (last.error.retryable, last.delta) == (is_retryable, {"kind": "protocol"})
    await desk.idle()
    assert desk.used == []


# Who may ask


def refusal(desk: Desk, call_id: str = "c1") -> tuple[str, str, bool]:
    """Code, kind, and whether another try is worth it, of a call that was refused at once."""
    [chunk] = desk.chunks[call_id]
    assert chunk.error is not None
    assert chunk.last
    return chunk.error.code, chunk.delta["kind"], chunk.error.retryable


async def test_a_master_without_a_model_says_so() -> None:
    """No other try will do."""
    desk = Desk()
    desk.gateway = desk._gateway(None, GatewaySettings(), {})
    desk.ask()

    assert refusal(desk) == ("no_model", "auth", False)


async def test_only_open_tasks_may_ask() -> None:
    """So nobody can use the model beside the master's plans."""
    desk = Desk()
    desk.ask(task="unknown")

    assert refusal(desk) == ("bad_request", "protocol", False)
    assert desk.model.requests == []


async def test_a_task_cannot_use_more_than_its_budget() -> None:
    """Nothing is left: nothing is asked."""
    desk = Desk()
    desk.budgets["attic", "t1"] = 0
    desk.ask()

    assert refusal(desk) == ("budget", "quota", False)
    assert desk.model.requests == []


async def test_a_budget_that_is_used_up_while_a_call_waits_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or many calls at once would get what one may have."""
    monkeypatch.setattr(gateway, "AT_ONCE", 1)
    held = asyncio.Event()
    desk = Desk([held, "Hi"], "Ho")
    desk.ask("c1")
    desk.ask("c2")
    desk.ask("c3", task="t2")
    desk.budgets["attic", "t1"] = 0
    held.set()

    await desk.last("c1")
    await desk.last("c3")
    assert refusal(desk, "c2") == ("budget", "quota", False)


async def test_calls_of_one_task_are_made_one_after_another() -> None:
    """Each gets what those before have left, also while the ledger has not counted them; other tasks go on."""
    held = asyncio.Event()
    turn: Turn = [held, "Hi", Usage(400, 0, 200)]
    desk = Desk(*[turn] * 4)
    desk.budgets["attic", "t1"] = 1000
    for number in range(3):
        desk.ask(f"c{number}")
    desk.ask("d1", task="t2")
    await until(lambda: len(desk.model.requests) == 2, "one call of each task")
    assert (desk.gateway.running, desk.gateway.waiting) == (2, 2)
    held.set()

    lasts = [await desk.last(f"c{number}") for number in range(3)]

    assert [last.error and last.error.code for last in lasts] == [None, None, "budget"]
    assert [request.max_tokens for request in desk.model.requests] == [1000, None, 400]


async def test_tasks_are_counted_in_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have asked last."""
    monkeypatch.setattr(gateway, "REMEMBERED", 3)
    desk = Desk(*["Hi"] * 5)
    for number in range(5):
        desk.ask(f"c{number}", node=f"n{number}")
        await desk.last(f"c{number}")

    assert list(desk.gateway._tasks) == [("n2", "t1"), ("n3", "t1"), ("n4", "t1")]


@pytest.mark.parametrize(
    ("left", "asked", "sent"),
    [(100_000, None, None), (100_000, 5000, 5000), (3000, 5000, 3000), (3000, 50, 50), (3000, None, 3000)],
)
async def test_an_answer_is_no_longer_than_what_is_left(left: int, asked: int | None, sent: int | None) -> None:
    """A limit that nobody asked for, larger than any model's answers, is not made up: some services refuse it."""
    desk = Desk("Hi")
    desk.budgets["attic", "t1"] = left
    desk.gateway.ask("attic", LLMRequest("c1", "t1", ({"role": "user", "content": "Hi"},), max_tokens=asked))
    await desk.last()

    assert desk.model.requests[0].max_tokens == sent


async def test_a_node_that_asks_too_often_waits() -> None:
    """It alone, and not for longer than it is told."""
    desk = Desk("1", "2", "3", "4", settings=GatewaySettings(2, 1_000_000))
    for call_id in ("c1", "c2", "c3"):
        desk.ask(call_id)
    desk.ask("d1", node="cellar")

    assert refusal(desk, "c3") == ("overloaded", "rate_limit", True)
    wait_s = desk.chunks["c3"][0].delta["retry_after_s"]
    await desk.last("d1")
    desk.now += wait_s
    desk.ask("c4")
    assert (await desk.last("c4")).error is None


async def test_a_node_that_has_used_its_day_waits_for_the_next() -> None:
    """What the ledger knows of today counts, and what is asked since; a new day begins at nothing."""
    turn: Turn = ["Hi", Usage(60, 0, 20)]
    desk = Desk(turn, turn, "Hi", settings=GatewaySettings(1000, 1000), used_today={"attic": 850})
    for call_id in ("c1", "c2"):
        desk.ask(call_id)
        await desk.last(call_id)
        await desk.idle()
    desk.ask("c3")

    assert refusal(desk, "c3") == ("budget", "quota", False)
    error = desk.chunks["c3"][0].error
    assert error is not None
    assert "1000 tokens" in error.message
    assert "midnight" in error.message
    desk.day = "2025-03-02"
    desk.ask("c4")
    assert (await desk.last("c4")).error is None


async def test_a_request_that_makes_no_sense_is_refused() -> None:
    """With what is wrong."""
    desk = Desk()
    desk.gateway.ask("attic", LLMRequest("c1", "t1", ({"role": "god", "content": "x"},)))

    assert refusal(desk) == ("bad_request", "protocol", False)
    error = desk.chunks["c1"][0].error
    assert error is not None
    assert "messages[0].role" in error.message


async def test_a_copy_of_a_request_is_not_asked_again() -> None:
    """The broker may deliver it twice, also behind its end or its cancel; another node's ids are its own."""
    held = asyncio.Event()
    desk = Desk("1", ["2", held], "3")
    desk.ask("c1")
    desk.ask("c1")
    await desk.last("c1")
    desk.ask("c1")
    desk.ask("c2")
    await until(lambda: "c2" in desk.chunks, "the second call begins")
    desk.gateway.cancel("attic", "c2")
    desk.ask("c2")
    desk.ask("c1", node="cellar")
    await until(lambda: len(desk.model.requests) == 3, "the call of the other node")
    await desk.idle()

    assert len(desk.model.requests) == 3


async def test_ids_are_remembered_in_a_bounded_number() -> None:
    """The last thousand."""
    desk = Desk()
    for number in range(REMEMBERED + 1):
        desk.ask(f"c{number}", task="unknown")
    desk.ask("c1", task="unknown")
    desk.ask("c0", task="unknown")

    assert [len(desk.chunks[name]) for name in ("c0", "c1")] == [2, 1]


# Turns


def holding(events: dict[str, asyncio.Event]) -> Callable[[ModelRequest], Turn]:
    """A turn that waits until it is let go, by what was asked."""

    def turn(request: ModelRequest) -> Turn:
        return [events.setdefault(request.messages[0].text, asyncio.Event()), "Done."]

    return turn


async def test_a_few_calls_run_at_once_and_the_nodes_take_turns() -> None:
    """A flood from one node does not starve the others."""
    events: dict[str, asyncio.Event] = {}
    desk = Desk(*[holding(events)] * 100)
    for number in range(AT_ONCE + 20):
        desk.ask(f"a{number}", task=f"t{number}", text=f"a{number}")
    desk.ask("b", node="cellar", text="b")
    desk.ask("c", node="porch", text="c")
    await until(lambda: len(events) == AT_ONCE, "as many as may run")
    assert (desk.gateway.running, desk.gateway.waiting) == (AT_ONCE, 22)

    for number in range(3):
        events[f"a{number}"].set()

    await until(lambda: len(events) == AT_ONCE + 3, "three more")
    assert {"b", "c"} < set(events)
    assert desk.gateway.running == AT_ONCE
    await desk.gateway.stop()


async def test_more_than_may_wait_is_told_to_come_back() -> None:
    """The last calls of the node that has the most of them."""
    desk = Desk(*[holding({})] * 100)
    for number in range(AT_ONCE + WAITING):
        desk.ask(f"a{number}", task=f"t{number}")
    desk.ask("b", node="cellar")
    desk.ask("a-late")

    assert refusal(desk, f"a{AT_ONCE + WAITING - 1}") == ("overloaded", "rate_limit", True)
    assert refusal(desk, "a-late") == ("overloaded", "rate_limit", True)
    assert "b" not in desk.chunks
    assert desk.chunks["a-late"][0].delta["retry_after_s"] > 0
    assert desk.gateway.waiting == WAITING
    await desk.gateway.stop()


# Ends


async def test_a_cancelled_call_ends_at_once_and_in_silence() -> None:
    """The stream is closed; nothing more is said, and a piece that waited is dropped."""
    desk = Desk(["a", "b", asyncio.Event()])
    desk.ask()
    await until(lambda: desk.model.open_calls, "it runs")
    await until(lambda: "c1" in desk.chunks, "a piece")

    desk.gateway.ask("attic", LLMRequest("c1", "t1", cancel=True))
    await until(lambda: not desk.model.open_calls, "the stream is closed", timeout_s=1)
    await asyncio.sleep(2 * chunks.EVERY_S)

    assert [chunk.delta for chunk in desk.chunks["c1"]] == [{"content": "a"}]
    await desk.idle()


async def test_a_cancel_is_for_the_calls_of_its_own_node() -> None:
    """And one for nobody's call does nothing."""
    held = asyncio.Event()
    desk = Desk([held, "Hi"])
    desk.ask()
    await until(lambda: desk.model.open_calls, "it runs")
    desk.gateway.cancel("cellar", "c1")
    desk.gateway.cancel("attic", "c9")
    held.set()

    assert (await desk.last()).error is None


async def test_a_call_that_is_cancelled_before_its_turn_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that had its turn and has not begun."""
    monkeypatch.setattr(gateway, "AT_ONCE", 1)
    desk = Desk("1")
    desk.ask("c0")
    desk.gateway.cancel("attic", "c0")
    desk.ask("c1")
    desk.ask("c2")
    desk.gateway.cancel("attic", "c2")
    await desk.last("c1")
    await desk.idle()

    assert len(desk.model.requests) == 1
    assert set(desk.chunks) == {"c1"}


async def test_the_calls_of_a_node_that_is_gone_are_ended() -> None:
    """It is told so: it may have been away for a moment only, and would wait long for nothing."""
    held = asyncio.Event()
    desk = Desk([held, "Hi"], [held, "Ho"])
    desk.ask("c1")
    desk.ask("d1", node="cellar")
    await until(lambda: desk.model.open_calls == 2, "both run")

    desk.gateway.node_gone("attic")

    await until(lambda: desk.model.open_calls == 1, "one is closed")
    held.set()
    await desk.last("d1")
    [chunk] = desk.chunks["c1"]
    assert chunk.error is not None
    assert (chunk.last, chunk.delta["kind"], chunk.error.retryable) == (True, "network", True)


async def test_a_gateway_that_stops_tells_everybody() -> None:
    """Those that run, those that wait, and those that come; another try, at the next master, is worth it."""
    turn: Turn = ["Hi", asyncio.Event()]
    desk = Desk(*[turn] * AT_ONCE)
    for number in range(AT_ONCE + 1):
        desk.ask(f"c{number}", task=f"t{number}")
    await until(lambda: desk.model.open_calls == AT_ONCE, "they run")

    await desk.gateway.stop()
    desk.ask("late")

    assert desk.model.open_calls == 0
    for call_id in ("c0", f"c{AT_ONCE}", "late"):
        last = await desk.last(call_id)
        assert last.error is not None
        assert (last.error.retryable, last.delta["kind"]) == (True, "network")
    assert (desk.gateway.running, desk.gateway.waiting) == (0, 0)


# What is counted


async def test_what_a_call_took_is_counted_once() -> None:
    """For its node and task."""
    desk = Desk(["Hi", Usage(5, 0, 1), Usage(90, 5, 12, 3)])
    desk.ask()
    await desk.last()
    await desk.idle()

    assert desk.used == [("attic", "t1", Usage(90, 5, 12, 3))]


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_calls_without_an_answer_count_as_far_as_it_was_told(is_cancelled: bool) -> None:
    """Their tokens are gone all the same."""
    desk = Desk([Usage(90, 0, 2), asyncio.Event() if is_cancelled else ModelFailure(FailureKind.NETWORK, "cut", True)])
    desk.ask()
    await until(lambda: desk.model.requests, "it runs")
    if is_cancelled:
        desk.gateway.cancel("attic", "c1")
    await desk.idle()

    assert desk.used == [("attic", "t1", Usage(90, 0, 2))]


async def test_what_is_not_told_is_estimated() -> None:
    """Of an answer, from what went in and out; the node is told the same."""
    desk = Desk(Answer(AssistantMessage("x" * 3000, reasoning="y" * 300, reasoning_field="reasoning")))
    desk.ask(text="z" * 6000)

    last = await desk.last()
    await desk.idle()

    [(_, _, usage)] = desk.used
    assert last.usage == usage
    assert 1900 < usage.input < 2200
    assert 1000 < usage.output < 1300
    assert usage.reasoning == 101


async def test_what_had_come_of_a_call_that_broke_off_is_estimated() -> None:
    """The model had read all of it."""
    desk = Desk(["x" * 30, ModelFailure(FailureKind.NETWORK, "cut", True)])
    desk.ask(text="z" * 6000)
    await desk.last()
    await desk.idle()

    [(_, _, usage)] = desk.used
    assert usage.input > 1900
    assert 10 <= usage.output < 30


async def test_a_call_of_which_nothing_came_has_used_nothing() -> None:
    """Such as a service that is not there."""
    desk = Desk(ModelFailure(FailureKind.NETWORK, "no connection", True))
    desk.ask()
    last = await desk.last()
    await desk.idle()

    assert desk.used == []
    assert last.usage == Usage()
