"""What fits into a model's context, and where a transcript may be cut."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.agent.context import (
    message_tokens,
    overhead_tokens,
    plain_summary,
    record,
    shrink,
    split,
    summary_message,
    text_tokens,
    tokens_of,
)
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from pibot_mesh.protocol.messages import ToolSpec


def turn(number: int, size: int = 300) -> list[Message]:
    """An answer that asks for two calls, and their results."""
    calls = (CallRequest(f"a{number}", "look", '{"n":1}'), CallRequest(f"b{number}", "look"))
    results = [ToolMessage(call.id, "look", "x" * size) for call in calls]
    return [AssistantMessage("I look.", calls), *results]


@st.composite
def transcripts(draw: st.DrawFn) -> list[Message]:
    """Any order of questions, answers, and answers with calls and their results."""
    messages: list[Message] = []
    for number in range(draw(st.integers(0, 8))):
        match draw(st.sampled_from("uat")):
            case "u":
                messages.append(UserMessage("q" * draw(st.integers(0, 400))))
            case "a":
                messages.append(AssistantMessage("a" * draw(st.integers(0, 400))))
            case _:
                messages += turn(number, draw(st.integers(0, 2000)))
    return messages


def test_an_estimate_grows_with_bytes() -> None:
    """A Chinese character counts about as much as three letters."""
    assert text_tokens("") == 1
    assert text_tokens("a" * 300) == 101
    assert text_tokens("温" * 100) == 101
    assert text_tokens("half a surrogate \ud800") > 1


def test_calls_and_schemas_count() -> None:
    """They stand in every request as well."""
    plain = message_tokens(AssistantMessage("x"))
    assert message_tokens(AssistantMessage("x", (CallRequest("i", "look", "y" * 300),))) > plain + 100
    assert overhead_tokens("", []) < 5
    assert overhead_tokens("s" * 300, [ToolSpec("look", "d" * 300, {"type": "object"})]) > 200


def test_the_last_turn_is_always_kept_whole() -> None:
    """Even where it alone is too large."""
    messages = [UserMessage("q"), AssistantMessage("a"), *turn(1)]
    assert split(messages, 0) == 2
    assert split(messages, 10_000) == 0
    assert split(turn(1), 0) == 0
    assert split([], 10) == 0


@given(transcripts(), st.integers(0, 2000))
def test_a_cut_never_parts_a_call_from_its_result(messages: list[Message], keep: int) -> None:
    """What is kept begins with a person or an answer; what is cut off ends with all its results."""
    cut = split(messages, keep)

    assert 0 <= cut < max(1, len(messages))
    assert not messages[cut:] or not isinstance(messages[cut], ToolMessage)
    following = [message for message in messages[cut:] if not isinstance(message, ToolMessage)]
    assert tokens_of(messages[cut:]) <= keep or len(following) == 1 or cut == 0


@given(transcripts(), st.integers(0, 3000))
def test_results_are_cut_until_the_rest_fits(messages: list[Message], room: int) -> None:
    """Nothing but results is touched, none is cut that need not be, and none below two hundred bytes."""
    shorter = shrink(messages, room)

    assert len(shorter) == len(messages)
    for before, after in zip(messages, shorter, strict=True):
        if isinstance(before, ToolMessage):
            assert isinstance(after, ToolMessage)
            assert (after.call, after.name, after.is_error) == (before.call, before.name, before.is_error)
            assert len(after.text) <= max(len(before.text), 260)
        else:
            assert after == before
    if tokens_of(messages) <= room:
        assert shorter == messages
    results = [message for message in shorter if isinstance(message, ToolMessage)]
    assert tokens_of(shorter) <= room + 2 * len(messages) or all(len(message.text) <= 260 for message in results)


def test_the_longest_results_are_cut_first() -> None:
    """A short one that says much is left alone."""
    long, short = ToolMessage("a", "look", "x" * 9000), ToolMessage("b", "look", "23 °C")

    [first, second] = shrink([long, short], 1000)

    assert second == short
    assert 2000 < len(first.text) < 3100


def test_a_record_names_who_said_what() -> None:
    """It is what a summary is made from."""
    messages: list[Message] = [
        UserMessage("Look!"),
        AssistantMessage("I do.", (CallRequest("c", "look", '{"room":"attic"}'),)),
        ToolMessage("c", "look", "dark"),
        AssistantMessage("", (CallRequest("d", "light"),)),
        ToolMessage("d", "light", "no lamp", is_error=True),
    ]
    assert record(messages, 1000).splitlines() == [
        "PERSON: Look!",
        "ASSISTANT: I do.",
        'CALL look {"room":"attic"}',
        "RESULT OF look: dark",
        "CALL light ",
        "ERROR OF light: no lamp",
    ]
    assert len(record([UserMessage("x" * 9000)] * 100, 500)) < 1600


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([UserMessage("q")], "The assistant used no tool."),
        (
            [*turn(1), *turn(2), AssistantMessage("Dark."), AssistantMessage("")],
            "The assistant used look (4 times). It said last: Dark.",
        ),
    ],
)
def test_without_a_model_a_summary_names_the_tools(messages: list[Message], says: str) -> None:
    """And what was said last."""
    assert plain_summary(messages) == says


def test_a_summary_keeps_the_words_that_were_said_first_and_last() -> None:
    """They say what it is all about, and what is being done."""
    summary = ['<data from="summary">', "Dark.", "</data>"]
    assert summary_message("Dark.", "Look!", "And there?").text.splitlines()[1:] == [
        "It began with: Look!",
        "It was asked last: And there?",
        *summary,
    ]
    assert summary_message("Dark.", "Look!", "Look!").text.splitlines()[1:] == ["It began with: Look!", *summary]
    assert summary_message("Dark.", "", "").text.splitlines()[1:] == summary
