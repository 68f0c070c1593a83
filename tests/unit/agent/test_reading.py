"""The body of a reply to an answer, whatever its shape."""

from __future__ import annotations

import json

import pytest

from pibot_mesh.agent.assembly import Assembler
from pibot_mesh.agent.messages import AssistantMessage, CallRequest
from pibot_mesh.agent.model import Answer, Delta, FailureKind, ModelFailure, StreamPart
from pibot_mesh.agent.reading import MAX_WHOLE, AnswerReader
from pibot_mesh.agent.sse import MAX_EVENT
from pibot_mesh.protocol.codec import JSON

DONE = b"data: [DONE]\n\n"


def event(finish: str | None = None, **delta: JSON) -> bytes:
    """One event with a chunk."""
    chunk = {"choices": [{"delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def read(*pieces: bytes, has_end: bool = True) -> tuple[list[StreamPart], Answer | ModelFailure]:
    """The parts and the outcome of a body that comes in *pieces*, as the client reads it."""
    reader = AnswerReader(Assembler(lambda: "new"))
    parts: list[StreamPart] = []
    for piece in pieces:
        parts += reader.feed(piece)
        if reader.is_over:
            break
    else:
        parts += reader.end() if has_end else []
    return parts, reader.outcome()


def failure(*pieces: bytes) -> ModelFailure:
    """The failure of a body that must not go well."""
    _, outcome = read(*pieces)
    assert isinstance(outcome, ModelFailure), outcome
    return outcome


def test_a_stream_is_read_to_its_done() -> None:
    """What stands behind it does not matter."""
    parts, outcome = read(event(content="a") + DONE + event(content="b"))

    assert parts == [Delta("a")]
    assert outcome == Answer(AssistantMessage("a"))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_means_the_same_wherever_it_is_cut(line_end: bytes) -> None:
    """Byte by byte, too."""
    call = [{"index": 0, "id": "a", "function": {"name": "扇", "arguments": '{"on": "ü🌀"}'}}]
    body = b": hm\n\n" + event(content="Ü🌀") + event(tool_calls=call) + event("stop") + DONE
    body = body.replace(b"\n", line_end)
    expected = Answer(AssistantMessage("Ü🌀", (CallRequest("a", "扇", '{"on": "ü🌀"}'),)), "tool_calls")

    assert read(body)[1] == expected
    assert read(*(body[at : at + 1] for at in range(len(body))))[1] == expected
    for at in range(len(body)):
        assert read(body[:at], body[at:])[1] == expected


def test_a_stream_that_is_cut_is_no_answer() -> None:
    """Wherever it is cut before its end; what had come is kept."""
    body = event(content="a") + event(content="b") + DONE
    for at in range(len(body) - len(b"]\n\n")):
        for has_end in (True, False):
            parts, outcome = read(body[:at], has_end=has_end)
            assert isinstance(outcome, ModelFailure)
            assert outcome.is_retryable or outcome.kind is FailureKind.PROTOCOL
            assert outcome.partial.text == "".join(part.text for part in parts if isinstance(part, Delta))


@pytest.mark.parametrize("body", [b"", b"\n\n", b": keep-alive\n\n", b"data: {}\n\n"])
def test_a_stream_that_says_nothing_is_cut(body: bytes) -> None:
    """It is worth another try, unless there was something else than a stream."""
    assert failure(body).kind is FailureKind.NETWORK or body.startswith(b":")


def test_an_answer_need_not_be_a_stream() -> None:
    """Whatever its content type says, and however it comes."""
    body = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": None}]}, indent=1).encode()
    for whole in (body, b"\xef\xbb\xbf" + body, b"\n " + body):
        assert read(whole)[1] == Answer(AssistantMessage("a"))
    assert read(b"\n", body[:5], body[5:])[1] == Answer(AssistantMessage("a"))


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"<!DOCTYPE html><p>Hello", FailureKind.PROTOCOL, "a web page came"),
        (b"Hello, I am a printer.\n", FailureKind.PROTOCOL, "check model.base_url: Hello, I am a printer."),
        (b'{"hello": "there"}', FailureKind.PROTOCOL, 'check model.base_url: {"hello": "there"}'),
        (b'{"choices": [', FailureKind.PROTOCOL, "no answer of a chat completions service"),
        (b"[]", FailureKind.PROTOCOL, "no answer of a chat completions service"),
        (b"[" * 100_000, FailureKind.PROTOCOL, "no answer of a chat completions service"),
        (b'{"error": {"message": "busy", "code": 503}}', FailureKind.NETWORK, "busy"),
        (b'[{"error": {"message": "busy", "code": 503}}]', FailureKind.NETWORK, "busy"),
        (b'{"choices": []}', FailureKind.EMPTY, "empty"),
        (event(content="a") + b"data: {broken\n\n" + DONE, FailureKind.PROTOCOL, "not JSON: {broken"),
        (event(content="a") + b"data: " + b"[" * 100_000 + b"\n\n", FailureKind.PROTOCOL, "not JSON"),
        (event(content="a") + b"data: " + b"x" * (MAX_EVENT + 1), FailureKind.PROTOCOL, "more than"),
        (b"data: " + b"x" * (MAX_EVENT - 9) + b"\n\n", FailureKind.PROTOCOL, "not JSON"),
        (b"{" + b" " * MAX_WHOLE, FailureKind.PROTOCOL, "more than"),
    ],
)
def test_what_is_no_answer_is_told(body: bytes, kind: FailureKind, says: str) -> None:
    """With what to do about it, where that is known."""
    failed = failure(body)

    assert failed.kind is kind
    assert says in failed.text
    assert len(failed.text) < 600


def test_a_damaged_event_is_worth_another_try() -> None:
    """Passed over, it could leave a tool with other arguments than the model gave."""
    failed = failure(event(content="a") + event(content="b")[:-5] + b"\n\n" + DONE)

    assert (failed.is_retryable, failed.partial.text) == (True, "a")


@pytest.mark.parametrize("idle", [b"data: ping\n\n", b"data: \n\n", b"data: keep-alive\n\n", b"event: ping\n\n"])
def test_what_keeps_a_connection_open_is_passed_over(idle: bytes) -> None:
    """Where services should have sent a comment."""
    assert read(idle + event(content="a") + idle + DONE)[1] == Answer(AssistantMessage("a"))


def test_events_without_blank_lines_are_events() -> None:
    """Each line is one."""
    body = (event(content="a") + event(content="b") + DONE).replace(b"\n\n", b"\n")

    assert read(body)[1] == Answer(AssistantMessage("ab"))


def test_an_event_may_have_lines() -> None:
    """As the standard has it."""
    lines = b'data: {"choices":\ndata: [{"delta": {"content": "a"}}]}\n\n'

    assert read(lines + DONE)[1] == Answer(AssistantMessage("a"))


def test_pieces_count_content_alone() -> None:
    """A comment is no sign of life, and the end is told."""
    reader = AnswerReader()
    seen = []
    for piece in (b": hm\n\n", event(role="assistant"), event(content="a"), event("stop"), DONE):
        reader.feed(piece)
        seen.append((reader.pieces, reader.is_finished, reader.is_over))

    assert seen == [
        (0, False, False),
        (0, False, False),
        (1, False, False),
        (1, True, False),
        (1, True, True),
    ]


def test_whoever_reads_may_break_off() -> None:
    """What had come is kept."""
    reader = AnswerReader()
    reader.feed(event(content="a"))
    reader.break_off(FailureKind.TIMEOUT, "silence", is_retryable=True)

    assert reader.outcome() == ModelFailure(
        FailureKind.TIMEOUT, "silence", is_retryable=True, partial=AssistantMessage("a")
    )
