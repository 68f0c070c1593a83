"""Answers are made in the words of a test, and say what services say."""

from __future__ import annotations

import asyncio
import json

from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing import HttpAnswer, Pause, call, fail, never, raw, say, stream
from pibot_mesh.testing.answers import DONE, KEEP_ALIVE, End, fragment, wire


def events(answer: HttpAnswer) -> list[JSON]:
    """What the stream's events say, without [DONE]."""
    *lines, done, nothing = answer.body.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def deltas(answer: HttpAnswer) -> list[JSON]:
    return [event["choices"][0]["delta"] for event in events(answer) if event["choices"]]


def test_text_comes_in_the_pieces_that_were_said() -> None:
    """Each word of the test is a delta; splitting makes them smaller."""
    assert deltas(say("Hel", "lo"))[1:] == [{"content": "Hel"}, {"content": "lo"}, {}]
    assert deltas(say("Hello", split=2))[1:] == [{"content": "He"}, {"content": "ll"}, {"content": "o"}, {}]


def test_calls_come_in_fragments() -> None:
    """The first has id and name; ids are made up where there are none."""
    answer = say("I look.", call("look", room="attic"), CallRequest("mine", "wait"), split=9)

    assert deltas(answer)[2:] == [
        {"tool_calls": [fragment(0, "call_1", "look", '{"room": ')]},
        {"tool_calls": [fragment(0, None, None, '"attic"}')]},
        {"tool_calls": [fragment(1, "mine", "wait", "")]},
        {},
    ]
    assert events(answer)[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_finish_is_the_right_one_unless_another_is_asked_for() -> None:
    """None leaves it out."""
    finishes = [events(answer)[-1]["choices"][0]["finish_reason"] for answer in (say("x"), say("x", finish="length"))]

    assert finishes == ["stop", "length"]
    assert events(say("x", finish=None))[-1]["choices"][0]["finish_reason"] is None


def test_reasoning_goes_first_and_usage_last() -> None:
    """Under the field's name that was asked for."""
    answer = say("Four.", reasoning="2 + 2", reasoning_field="reasoning", usage=Usage(9, 4, 7, 5))

    assert deltas(answer)[1] == {"reasoning": "2 + 2"}
    assert events(answer)[-1]["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 7,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }


def test_what_is_not_streamed_says_the_same() -> None:
    """Calls and reasoning too."""
    whole = json.loads(say("I look.", call("look"), reasoning="Hm.").whole)

    [choice] = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "I look.",
        "reasoning_content": "Hm.",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}],
    }


def test_writes_can_be_chosen() -> None:
    """All in one, one for each event, of one size, or split at places; the bytes stay the same."""
    answer = say("Hel", "lo", one_write=False)

    assert len(answer.steps) == 5
    assert len(answer.in_writes().steps) == 1
    assert {len(step) for step in answer.in_writes(7).steps[:-1] if isinstance(step, bytes)} == {7}
    assert [step for step in answer.split(0, 5, 9).steps if isinstance(step, bytes)] == [
        answer.body[:5],
        answer.body[5:9],
        answer.body[9:],
    ]
    assert {one.body for one in (answer, answer.in_writes(), answer.in_writes(7), answer.split(5))} == {answer.body}


def test_an_answer_can_be_slow_and_end_badly() -> None:
    """Each change gives another answer."""
    gate = asyncio.Event()
    answer = say("Hello")

    assert answer.delayed(0.2).steps == (Pause(0.2), *answer.steps)
    assert answer.paced(0.1).steps == (*answer.steps, Pause(0.1))
    assert answer.cut(after=10).steps == (answer.body[:10], End.CUT)
    assert answer.cut(reset=True).steps == (answer.body, End.RESET)
    assert answer.cut(after=10).in_writes(5).steps == (answer.body[:5], answer.body[5:10], End.CUT)
    assert answer.held_open().steps == (*answer.steps, End.HANG)
    assert never().steps == (End.HANG,)
    assert stream(gate, None, End.HANG).steps == (gate, b"data: null\n\n", DONE, End.HANG)


def test_a_stream_is_made_by_hand() -> None:
    """Bytes stand as they are, with other ends of lines where that is asked for."""
    assert stream(KEEP_ALIVE, {"a": "ä"}, newline="\r\n").body == (
        b': keep-alive\r\n\r\ndata: {"a":"\xc3\xa4"}\r\n\r\ndata: [DONE]\r\n\r\n'
    )
    assert stream(None, done=False).body == b"data: null\n\n"


def test_failures_say_what_services_say() -> None:
    """With Retry-After where there is one."""
    answer = fail(429, "slow down", code="rate_limit_exceeded", retry_after=2)

    assert json.loads(answer.body) == {
        "error": {"message": "slow down", "type": "error", "param": None, "code": "rate_limit_exceeded"}
    }
    assert (answer.status, answer.framing) == (429, "length")
    assert dict(answer.headers) == {"Content-Type": "application/json", "Retry-After": "2"}


def test_bytes_can_be_anything() -> None:
    """As a body, or as all that goes over the wire."""
    assert raw(b"<html>", status=502, content_type="text/html") == HttpAnswer(
        (b"<html>",), 502, (("Content-Type", "text/html"),), "length"
    )
    assert wire(b"HTTP/1.1 2").steps == (b"HTTP/1.1 2", End.CUT)
    assert wire(b"HTTP/1.1 2", End.RESET).steps == (b"HTTP/1.1 2", End.RESET)
    assert say("x").framed("close").framing == "close"
