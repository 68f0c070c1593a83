"""Streams that are cut, damaged, endless, slow or left, over a real socket and both HTTP paths."""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import cache

import pytest

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.messages import AssistantMessage, CallRequest
from pibot_mesh.agent.model import Answer, Delta, FailureKind, StreamPart, UsageSeen
from pibot_mesh.agent.reading import AnswerReader
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing import HttpAnswer, Pause, SeenRequest, never, say, stream
from pibot_mesh.testing.answers import DONE, KEEP_ALIVE, End, fragment, sse
from pibot_mesh.testing.quirks import PLAIN
from tests.conformance.agent.agents import SETTINGS, Path
from tests.conformance.agent.asking import Outcome, asking, outcome
from tests.conformance.agent.damage import damaged, was_sent

pytestmark = pytest.mark.no_cover
"""Thousands of streams say nothing more about coverage than the unit tests do, and take twice the time with it."""

LEAVES_WITHIN_S = 0.5


def _event(delta: object, finish: str | None = None) -> dict[str, object]:
    choice = {"delta": delta} if finish is None else {"delta": delta, "finish_reason": finish}
    return {"choices": [choice]}


def _calls(*pieces: object) -> dict[str, object]:
    return _event({"tool_calls": list(pieces)})


FINISH = _event({}, "tool_calls")
RICH = stream(
    _event({"role": "assistant", "content": ""}),
    _event({"reasoning_content": "Zuerst 阁楼, "}),
    _event({"reasoning_content": "dann 🌡."}),
    KEEP_ALIVE,
    _event({"content": "Ich schaue: "}),
    _event({"content": "Grüße, 你好 🌡️."}),
    _calls(fragment(0, "call_a", "look", '{"room"')),
    _calls(fragment(1, "call_b", "look", "")),
    _calls(fragment(0, None, None, ': "阁楼 🌡"}'), fragment(1, None, None, '{"room": ')),
    _calls(fragment(1, None, None, '"hall"}')),
    FINISH,
    {
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}},
    },
)
"""What a talkative service sends; recorded once, and small enough to be cut everywhere."""
SAID = AssistantMessage(
    "Ich schaue: Grüße, 你好 🌡️.",
    (CallRequest("call_a", "look", '{"room": "阁楼 🌡"}'), CallRequest("call_b", "look", '{"room": "hall"}')),
    "Zuerst 阁楼, dann 🌡.",
    "reasoning_content",
)
USED = Usage(9, 4, 7)


def recorded(newline: str) -> bytes:
    return RICH.body.replace(b"\n", newline.encode())


def end_of(event: bytes, body: bytes) -> int:
    """Where the last character of *event* stands in *body*; the line's end comes behind it."""
    return body.index(event.rstrip(b"\n")) + len(event.rstrip(b"\n"))


def assert_whole(came: Outcome) -> None:
    assert came.end == Answer(SAID, "tool_calls")
    assert came.usage == USED


def assert_cut(came: Outcome, body: bytes, at: int) -> None:
    """A stream that ended behind *at* bytes is a failure, unless its finish had come; then it is the whole answer.

    It is worth another try; only what ended before it could be told from any other text may be taken for that.
    """
    if isinstance(came.end, Answer):
        assert at >= end_of(sse(FINISH), body), "nothing said that the answer was complete"
        assert came.end == Answer(SAID, "tool_calls")
    else:
        assert at < end_of(DONE, body) + 4, "all that matters had come"
        if at >= len(b"data:"):
            assert (came.end.kind, came.end.is_retryable) == (FailureKind.NETWORK, True), came.end.text
        assert SAID.text.startswith(came.text)
        assert SAID.reasoning.startswith(came.reasoning)
    assert came.usage in (None, USED)


def read(*pieces: bytes, is_ended: bool = True) -> Outcome:
    """What the pure core makes of a body in these *pieces*."""
    reader = AnswerReader()
    parts: list[StreamPart] = [part for piece in pieces for part in reader.feed(piece)]
    if is_ended and not reader.is_over:
        parts += reader.end()
    return Outcome([*parts, reader.outcome()])


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_read_may_end_at_any_byte(newline: str) -> None:
    """Between two reads nothing is lost: not a character, not a line's end."""
    body = recorded(newline)
    for at in range(len(body) + 1):
        assert_whole(read(body[:at], body[at:]))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("is_ended", [True, False])
def test_a_stream_may_end_at_any_byte(newline: str, is_ended: bool) -> None:
    """Whether its body ended there or its connection: an outcome, and no calls unless the answer was complete."""
    body = recorded(newline)
    for at in range(1, len(body) + 1):
        assert_cut(read(body[:at], is_ended=is_ended), body, at)


def test_bytes_may_come_one_by_one() -> None:
    """The slowest network there is."""
    body = recorded("\n")
    assert_whole(read(*(body[at : at + 1] for at in range(len(body)))))


Make = Callable[[HttpAnswer, int], HttpAnswer]

CUTS: dict[str, Make] = {
    "two reads": lambda whole, at: HttpAnswer(_between(whole.body, at)),
    "the connection ends": lambda whole, at: whole.cut(at),
    "the connection is reset": lambda whole, at: whole.cut(at, reset=True),
    "the body ends": lambda whole, at: HttpAnswer((whole.body[:at],)),
}
"""What may happen behind a byte of a stream."""


def _between(body: bytes, at: int) -> tuple[bytes | Pause, ...]:
    """Both pieces, with a breath in between that lets the client read the first."""
    return body[:at], Pause(0), body[at:]


@pytest.mark.parametrize(
    ("cut", "newline", "every"),
    [
        ("two reads", "\n", 1),
        ("two reads", "\r\n", 7),
        ("the connection ends", "\n", 1),
        ("the connection ends", "\r\n", 7),
        ("the connection is reset", "\n", 7),
        ("the body ends", "\n", 7),
    ],
)
async def test_every_byte_as_a_cutting_point(cut: str, newline: str, every: int, path: Path) -> None:
    """Over a socket as in the core: the same outcome, at every byte.

    At every seventh where the tests above have seen to it, and for two reads with the openai package, which is slow.
    """
    every = 7 if path == "openai" and cut == "two reads" else every
    body, make = recorded(newline), CUTS[cut]
    whole = HttpAnswer((body,))
    places = range(1, len(body) + 1, every)
    async with asking(path, [make(whole, at) for at in places]) as (client, server):
        for at in places:
            came = await outcome(client)
            assert_whole(came) if cut == "two reads" else assert_cut(came, body, at)
    assert len(server.requests) == len(places), "one request for each"


@pytest.mark.parametrize("seed", range(5))
async def test_a_damaged_stream_has_a_typed_outcome(seed: int, path: Path) -> None:
    """Five thousand of them: no exception, no hang, and no call that was not sent.

    Over the openai package, which costs most of the time and reads none of the stream, it is one thousand.
    """
    chance = random.Random(seed)
    count = 1000 if path == "standard" else 200
    bodies = [damaged(recorded(chance.choice(["\n", "\n", "\r\n"])), chance) for _ in range(count)]
    async with asking(path, [_framed(body, chance) for body in bodies]) as (client, _):
        ends: set[str] = set()
        for number, body in enumerate(bodies):
            try:
                came = await outcome(client)
            except BaseException as error:
                error.add_note(f"seed {seed}, stream {number}: {body!r}")
                raise
            ends.add("answer" if isinstance(came.end, Answer) else came.end.kind)
            for call in came.answer.message.calls if isinstance(came.end, Answer) else ():
                assert was_sent(call, body), f"seed {seed}, stream {number}: {call} is not in {body!r}"

    assert {"answer", FailureKind.NETWORK, FailureKind.PROTOCOL} <= ends, "the damage is of many kinds"


def _framed(body: bytes, chance: random.Random) -> HttpAnswer:
    answer = HttpAnswer((body,)) if body else HttpAnswer()
    return answer.framed(chance.choice(["chunked", "chunked", "length", "close"]))


def test_what_was_sent_is_told_from_what_was_not() -> None:
    """The oracle of the test above, on streams whose calls are known."""
    body = recorded("\n")

    assert all(was_sent(call, body) for call in SAID.calls)
    assert was_sent(CallRequest("x", "look", ""), body)
    assert not was_sent(CallRequest("x", "look", '{"room": "attic"}'), body)
    assert not was_sent(CallRequest("x", "look", '"hall"}{"room": '), body)


@cache
def words(count: int) -> HttpAnswer:
    return say(*("word " for _ in range(count)))


@cache
def letters(count: int) -> HttpAnswer:
    return say(CallRequest("call_a", "look", f'{{"room": "{"x" * (count - 12)}"}}'), split=1)


@pytest.mark.parametrize("make", [words, letters])
async def test_a_long_stream_costs_in_proportion_to_its_length(make: Callable[[int], HttpAnswer], path: Path) -> None:
    """Four times the deltas cost about four times as much; with the square it would be sixteen times."""
    counts = (5_000, 20_000) * 3
    seconds: dict[int, list[float]] = {5_000: [], 20_000: []}
    async with asking(path, [make(5_000), *map(make, counts)]) as (client, _):
        await outcome(client)
        for count in counts:
            begun = time.process_time()
            came = await outcome(client, within_s=60)
            seconds[count].append(time.process_time() - begun)
            message = came.answer.message
            assert len(message.text) == 5 * count or len(message.calls[0].arguments) == count

    assert statistics.median(seconds[20_000]) / statistics.median(seconds[5_000]) < 9


async def test_a_slow_reader_slows_the_service_down(path: Path) -> None:
    """What is not read yet stays with the service, and is not piled up here."""
    hundred = sse(_event({"content": "x" * 100}))
    answer = HttpAnswer((*(100 * hundred for _ in range(400)), sse(_event({}, "stop")), DONE))
    async with (
        asking(path, [answer], send_buffer=16 * 1024) as (client, server),
        aclosing(client.stream(PLAIN)) as parts,
    ):
        assert await anext(parts) == Delta("x" * 100)
        request = await server.asked()
        await _until_still(request)

        assert not request.ended.is_set()
        assert request.sent < 512 * 1024 < len(answer.body)

        read = 1
        async for part in parts:
            read += isinstance(part, Delta)
    assert read == 40_000, "and nothing of it is lost"


async def _until_still(request: SeenRequest) -> None:
    """Wait until nothing more is sent."""
    async with asyncio.timeout(10):
        sent = -1
        while sent != request.sent:
            sent = request.sent
            await asyncio.sleep(0.1)


async def test_an_event_without_end_is_refused(path: Path) -> None:
    """A line of any length would fill the memory."""
    answer = HttpAnswer(
        tuple(b"data: " + b"x" * 1_000_000 if number == 0 else b"x" * 1_000_000 for number in range(40))
    )
    async with asking(path, [answer]) as (client, server):
        failure = (await outcome(client, within_s=20)).failure

        assert (failure.kind, failure.is_retryable) == (FailureKind.PROTOCOL, False)
        assert server.requests[0].sent < 24_000_000, "it was not read to its end"


@pytest.mark.parametrize("answer", [never(), HttpAnswer((b"", End.HANG)), stream(End.HANG, done=False)])
async def test_closing_while_nothing_has_come(answer: HttpAnswer, path: Path) -> None:
    """At once, and the service sees it."""
    async with asking(path, [answer]) as (client, server):
        parts = client.stream(PLAIN)
        waiting = asyncio.ensure_future(anext(parts))
        request = await server.asked()
        await asyncio.sleep(0.05)

        begun = time.monotonic()
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await parts.aclose()
        assert time.monotonic() - begun < LEAVES_WITHIN_S

        await _seen_to_leave(request)


async def _seen_to_leave(request: SeenRequest) -> None:
    async with asyncio.timeout(5):
        await request.ended.wait()
    assert request.was_left


@pytest.mark.parametrize("is_quick", [True, False])
async def test_closing_in_the_middle(is_quick: bool, path: Path) -> None:
    """Whether the service waits or never stops talking."""
    much = (sse(_event({"content": "again "})) * 100,) * 5_000
    answer = HttpAnswer((sse(_event({"content": "Hello "})), *(much if is_quick else ()), End.HANG))
    async with asking(path, [answer], send_buffer=16 * 1024) as (client, server):
        parts = client.stream(PLAIN)
        assert await anext(parts) == Delta("Hello ")

        begun = time.monotonic()
        await parts.aclose()
        assert time.monotonic() - begun < LEAVES_WITHIN_S

        await _seen_to_leave(server.requests[0])


async def test_a_client_that_was_left_is_as_good_as_before(path: Path) -> None:
    """What was closed has no effect on what comes then."""
    async with asking(path, [stream(_event({"content": "Hello"}), End.HANG), *["Yes."] * 3]) as (client, _):
        async with aclosing(client.stream(PLAIN)) as parts:
            assert await anext(parts) == Delta("Hello")

        assert [(await outcome(client)).text for _ in range(3)] == ["Yes."] * 3


async def test_closing_while_it_connects(path: Path) -> None:
    """Where a connection is neither taken nor refused."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(3)]
        try:
            for other in others:
                other.setblocking(False)
                other.connect_ex(full.getsockname())
            settings = replace(SETTINGS, base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1")
            async with LLMClient(settings, transport=path) as client:
                waiting = asyncio.ensure_future(anext(client.stream(PLAIN)))
                await asyncio.sleep(0.1)
                assert not waiting.done()

                begun = time.monotonic()
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
                assert time.monotonic() - begun < LEAVES_WITHIN_S
        finally:
            for other in others:
                other.close()


QUICK = replace(SETTINGS, first_content_s=0.5, between_s=0.5)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (never(), ""),
        (HttpAnswer((b"", End.HANG)), ""),
        (stream(*[KEEP_ALIVE, Pause(0.02)] * 200), ""),
        (stream(*[_event({"role": "assistant"}), Pause(0.02)] * 200), ""),
        (stream(_event({"content": "Ye"}), End.HANG, done=False), "Ye"),
        (stream(_event({"content": "Ye"}), *[KEEP_ALIVE, Pause(0.02)] * 200), "Ye"),
    ],
    ids=["no head", "no body", "comments alone", "no content", "no more", "no more than comments"],
)
async def test_nothing_for_too_long_is_a_timeout(answer: HttpAnswer, text: str, path: Path) -> None:
    """To the first content, and between; what keeps a connection alive is not content."""
    async with asking(path, [answer], QUICK) as (client, server):
        came = await outcome(client, within_s=5)

        assert (came.failure.kind, came.failure.is_retryable, came.text) == (FailureKind.TIMEOUT, True, text)
        await _seen_to_leave(server.requests[0])


async def test_an_answer_may_take_long_while_content_comes(path: Path) -> None:
    """The deadlines are for nothing, not for much."""
    answer = say(*("word " for _ in range(60)), one_write=False).paced(0.02)
    async with asking(path, [answer], QUICK) as (client, _):
        assert (await outcome(client)).text == "word " * 60


async def test_a_slow_reader_is_no_slow_service(path: Path) -> None:
    """Only the time counts in which the client waits for the service."""
    async with (
        asking(path, [say("a", "b", usage=USED)], QUICK) as (client, _),
        aclosing(client.stream(PLAIN)) as parts,
    ):
        came = [await anext(parts)]
        await asyncio.sleep(0.8)
        came += [part async for part in parts]

    assert came == [Delta("a"), Delta("b"), UsageSeen(USED), Answer(AssistantMessage("ab"))]
