"""Bytes to events, however they are cut."""

from __future__ import annotations

import pytest

from pibot_mesh.agent.sse import EventTooLong, SseReader


def events(*pieces: bytes, max_event: int = 1000) -> list[str]:
    """What a reader makes of a body that comes in *pieces*."""
    reader = SseReader(max_event)
    found = [event for piece in pieces for event in reader.feed(piece)]
    return found + reader.flush()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_any_of_three_ways(end: bytes) -> None:
    """As the standard has it."""
    assert events(end.join([b"data: a", b"", b"data: b", b"", b""])) == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b": keep-alive\n\n: again\n\ndata: a\n\n", ["a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"]),
        (b"data:a\n\ndata:  b\n\n", ["a", " b"]),
        (b"data: \n\n", [""]),
        (b"dataset: a\n\nnonsense\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b'{"error": "busy"}\n\n', ['{"error": "busy"}']),
        (b"data: \xff\n\n", ["�"]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_each_line_is_what_the_standard_says(body: bytes, expected: list[str]) -> None:
    """Comments and other fields are no data; bare JSON is, since services send errors so."""
    assert events(body) == expected


@pytest.mark.parametrize("body", [b"data: a\n\ndata: b", b"data: a\n\ndata: b\n", b"data: a\r\n\r\ndata: b\r"])
def test_the_last_event_needs_no_blank_line(body: bytes) -> None:
    """Services leave it out, and the last line's end as well."""
    assert events(body) == ["a", "b"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_body_means_the_same_wherever_it_is_cut(end: str) -> None:
    """In the middle of a character, and between CR and LF, too."""
    text = ": hm\n\ndata: 风扇 ü\ndata: 🌀\n\n\ndata: [DONE]\n\n"
    body = text.replace("\n", end).encode()
    whole = ["风扇 ü\n🌀", "[DONE]"]

    assert events(body) == whole
    assert events(*(body[at : at + 1] for at in range(len(body)))) == whole
    for at in range(len(body) + 1):
        assert events(body[:at], body[at:]) == whole
        assert events(body[:at], b"", body[at:]) == whole


def test_an_event_is_given_as_soon_as_it_is_whole() -> None:
    """Nothing waits for what follows."""
    reader = SseReader()

    assert reader.feed(b"data: a\n") == []
    assert reader.feed(b"\ndata: b") == ["a"]
    assert reader.feed(b"\n\n") == ["b"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 100],
        [b"x" * 60, b"x" * 60],
        [b"data: " + b"x" * 50 + b"\n", b"data: " + b"x" * 50 + b"\n"],
        [b"data: " + b"x" * 60 + b"\n", b"x" * 60],
        [b": " + b"x" * 120],
    ],
    ids=["one line", "a line in pieces", "an event of lines", "a line behind others", "a comment"],
)
def test_what_never_ends_is_refused(pieces: list[bytes]) -> None:
    """Before it fills the memory."""
    with pytest.raises(EventTooLong, match="more than 100 bytes"):
        events(*pieces, max_event=100)


def test_the_limit_is_for_one_event() -> None:
    """Any number of them may come."""
    assert events(*[b"data: " + b"x" * 80 + b"\n\n"] * 50, max_event=100) == ["x" * 80] * 50
    assert events(b"data: " + b"x" * 50, b"x" * 30 + b"\n\n", b"data: " + b"y" * 80, max_event=100)[1] == "y" * 80
