"""Chunks to one answer, whatever services send."""

from __future__ import annotations

import itertools

import pytest

from pibot_mesh.agent.assembly import Assembler, new_call_id
from pibot_mesh.agent.fragments import repaired
from pibot_mesh.agent.messages import AssistantMessage, CallRequest
from pibot_mesh.agent.model import Answer, Delta, FailureKind, ModelFailure, StreamPart, UsageSeen
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Usage


def chunk(finish: JSON = None, **delta: JSON) -> JSON:
    """One chunk as most services send it."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def fragment(arguments: JSON = None, *, index: JSON = None, id: JSON = None, name: JSON = None) -> JSON:  # noqa: A002
    """A piece of a tool call; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    head = {key: value for key, value in (("index", index), ("id", id)) if value is not None}
    return {**head, "type": "function", "function": function}


def calls_chunk(*fragments: JSON) -> JSON:
    """A chunk with pieces of tool calls."""
    return chunk(tool_calls=list(fragments))


def assembled(*chunks: JSON, is_whole: bool = True) -> tuple[list[StreamPart], Answer | ModelFailure]:
    """The parts and the outcome; ids that are made up are new-1, new-2 and so on."""
    numbers = itertools.count(1)
    assembler = Assembler(lambda: f"new-{next(numbers)}", max_answer=20_000)
    parts = [part for one in chunks for part in assembler.feed(one)]
    return parts, assembler.outcome(is_whole=is_whole)


def message(*chunks: JSON, is_whole: bool = True) -> AssistantMessage:
    """The message of an answer that must go well."""
    _, outcome = assembled(*chunks, is_whole=is_whole)
    assert isinstance(outcome, Answer), outcome
    return outcome.message


def calls(*chunks: JSON) -> list[tuple[str, str, str]]:
    """Id, name and arguments of each call."""
    return [(call.id, call.name, call.arguments) for call in message(*chunks).calls]


def failure(*chunks: JSON, is_whole: bool = True) -> ModelFailure:
    """The failure of an answer that must not go well."""
    _, outcome = assembled(*chunks, is_whole=is_whole)
    assert isinstance(outcome, ModelFailure), outcome
    return outcome


def test_text_comes_in_deltas_and_as_a_whole() -> None:
    """An empty delta is none."""
    parts, outcome = assembled(
        chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk("stop")
    )

    assert parts == [Delta("Hel"), Delta("lo")]
    assert outcome == Answer(AssistantMessage("Hello"), "stop")


def test_calls_and_text_may_come_in_any_order() -> None:
    """Between each other, too."""
    answer = message(
        calls_chunk(fragment("", index=0, id="a", name="fan")),
        chunk(content="I "),
        calls_chunk(fragment('{"on":', index=0)),
        chunk(content="look."),
        calls_chunk(fragment(" true}", index=0)),
    )

    assert answer == AssistantMessage("I look.", (CallRequest("a", "fan", '{"on": true}'),))


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        pytest.param(
            [fragment("", index=0, id="a", name="f"), fragment("{", index=0), fragment("}", index=0)],
            [("a", "f", "{}")],
            id="as OpenAI does it",
        ),
        pytest.param(
            [
                fragment("{", index=0, id="a", name="f"),
                fragment("{", index=1, id="b", name="g"),
                fragment("}", index=0),
                fragment("}", index=1),
            ],
            [("a", "f", "{}"), ("b", "g", "{}")],
            id="two at a time",
        ),
        pytest.param(
            [fragment("{", index=1, id="a", name="f"), fragment("}", index=1)],
            [("a", "f", "{}")],
            id="the first index is 1",
        ),
        pytest.param([fragment("{}", index=0, name="f")], [("new-1", "f", "{}")], id="no id"),
        pytest.param(
            [fragment("{", index=0, name="f"), fragment("}", index=0, id="late")],
            [("late", "f", "{}")],
            id="a late id",
        ),
        pytest.param(
            [fragment("{", index=0, id="a", name="f"), fragment("}", index=0, id="")],
            [("a", "f", "{}")],
            id="empty id behind",
        ),
        pytest.param(
            [fragment("{", index=0, id="a", name="f"), fragment("}", index=0, id="b")],
            [("a", "f", "{}")],
            id="another id in the middle",
        ),
        pytest.param(
            [fragment("{", index=0, id="a", name="f"), fragment("}", index=0, id="b", name="f")],
            [("a", "f", "{}")],
            id="another id, and the name again",
        ),
        pytest.param(
            [fragment("{}", index=0, id="a", name="f"), fragment("{}", index=1, name="g")],
            [("a", "f", "{}"), ("new-1", "g", "{}")],
            id="no id behind the first",
        ),
        pytest.param(
            [fragment('{"x":1}', id="a", name="f"), fragment('{"x":2}', id="b", name="f")],
            [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}')],
            id="no index",
        ),
        pytest.param(
            [fragment("{", id="a", name="f"), fragment("}"), fragment("{", id="b", name="g"), fragment("}")],
            [("a", "f", "{}"), ("b", "g", "{}")],
            id="no index, in pieces",
        ),
        pytest.param(
            [fragment("{", id="a", name="f"), fragment("}", id="b")],
            [("a", "f", "{}")],
            id="no index, another id in the middle",
        ),
        pytest.param(
            [fragment('{"x":1}', name="f"), fragment('{"x":2}', name="f"), fragment("{}", name="g")],
            [("new-1", "f", '{"x":1}'), ("new-2", "f", '{"x":2}'), ("new-3", "g", "{}")],
            id="neither index nor id",
        ),
        pytest.param(
            [fragment("{", name="f"), fragment("}", name="f")],
            [("new-1", "f", "{}")],
            id="neither, and the name again",
        ),
        pytest.param(
            [
                fragment('{"x":1}', index=0, id="a", name="f"),
                fragment('{"x":2}', index=0, id="b", name="f"),
                fragment("{", index=0, id="c", name="g"),
                fragment("}", index=0, id="c"),
            ],
            [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}'), ("c", "g", "{}")],
            id="always index 0",
        ),
        pytest.param(
            [fragment("{}", index=0, name="f"), fragment("{}", index=0, name="g")],
            [("new-1", "f", "{}"), ("new-2", "g", "{}")],
            id="always index 0 and no id",
        ),
        pytest.param(
            [fragment(index=0, id="a", name="stop"), fragment(index=0, id="b", name="beep")],
            [("a", "stop", ""), ("b", "beep", "")],
            id="always index 0, nothing to say",
        ),
        pytest.param(
            [
                fragment("{}", index=0, id="a", name="f"),
                fragment("", index=0, id="b", name="f"),
                fragment('{"x":2}', index=0),
            ],
            [("a", "f", "{}"), ("b", "f", '{"x":2}')],
            id="always index 0, arguments behind",
        ),
        pytest.param(
            [fragment("{}", index=0, id="a", name="f"), fragment("", index=0, id="b", name="f")],
            [("a", "f", "{}")],
            id="the name again under another id, and no more",
        ),
        pytest.param(
            [fragment("{}", index=0, id="same", name="f"), fragment("{}", index=1, id="same", name="g")],
            [("same", "f", "{}"), ("new-1", "g", "{}")],
            id="one id for two",
        ),
        pytest.param(
            [fragment('{"x":1}', id="f", name="f"), fragment('{"x":2}', id="f", name="f")],
            [("f", "f", '{"x":1}'), ("new-1", "f", '{"x":2}')],
            id="the name for an id",
        ),
        pytest.param(
            [fragment('{"x":1}', index=0, id="a", name="f"), fragment('{"x":1}', index=0, id="a", name="f")],
            [("a", "f", '{"x":1}')],
            id="all of it again",
        ),
        pytest.param(
            [fragment("{}", index=0, id="a", name="f"), fragment("", index=0, id="a", name="f")],
            [("a", "f", "{}")],
            id="its head again",
        ),
        pytest.param(
            [fragment("{", index=0, id="a", name="f"), fragment("}", index=1, id="a")],
            [("a", "f", "{}")],
            id="another index in the middle",
        ),
        pytest.param(
            [fragment("{", index=0, id="a", name="f"), fragment("{}", index=0, id="b", name="g")],
            [("a", "f", "{"), ("b", "g", "{}")],
            id="cut by the next",
        ),
        pytest.param(
            [fragment("{}", index=0, id="a", name="f"), fragment("\n", index=0, id="a", name="f")],
            [("a", "f", "{}\n")],
            id="a blank behind",
        ),
        pytest.param(
            [fragment(index=0, name="get_"), fragment(index=0, name="weather"), fragment("{}", index=0)],
            [("new-1", "get_weather", "{}")],
            id="a name in pieces",
        ),
        pytest.param(
            [fragment(index=0, name="get"), fragment("{}", index=0, name="get_weather")],
            [("new-1", "get_weather", "{}")],
            id="more of the name each time",
        ),
        pytest.param(
            [fragment("{", index=0, id="a"), fragment("}", index=0, name="f")],
            [("a", "f", "{}")],
            id="a late name",
        ),
        pytest.param([fragment({"on": True}, name="f")], [("new-1", "f", '{"on": true}')], id="an object (Ollama)"),
        pytest.param([fragment(["x"], name="f")], [("new-1", "f", '["x"]')], id="a list"),
        pytest.param([fragment("{}", index="0", name="f")], [("new-1", "f", "{}")], id="an index in quotes"),
        pytest.param([fragment("{}", index=True, name="f")], [("new-1", "f", "{}")], id="an index that is none"),
        pytest.param([{"name": "f", "arguments": "{}"}], [("new-1", "f", "{}")], id="without function around it"),
        pytest.param([fragment("{}", name=" f ")], [("new-1", "f", "{}")], id="blanks around the name"),
        pytest.param([{}, fragment("{}", index=0, name="f")], [("new-1", "f", "{}")], id="an empty one before"),
        pytest.param(
            [fragment('{"a":"\\', index=0, name="f"), fragment('"}{"}', index=0), fragment("{}", index=0, name="g")],
            [("new-1", "f", '{"a":"\\"}{"}'), ("new-2", "g", "{}")],
            id="quotes and braces in a text",
        ),
    ],
)
def test_a_call_is_put_together_whatever_its_keys(fragments: list[JSON], expected: list[tuple[str, str, str]]) -> None:
    """Each fragment in a chunk of its own."""
    assert calls(*map(calls_chunk, fragments)) == expected


@pytest.mark.parametrize(
    ("fragments", "expected"),
    [
        ([fragment("{}", index=0, name="f"), fragment("{}", index=0, name="f")], 2),
        ([fragment("", name="f"), fragment("", name="g")], 2),
        ([fragment("", index=0, id="a", name="f"), fragment("{}", index=0, id="a", name="f")], 1),
        ([fragment("", index=0, id="a", name="f"), fragment("{}", index=0)], 1),
        ([None, 5, "x", fragment("{}", name="f")], 1),
    ],
)
def test_a_chunk_may_hold_several_calls(fragments: list[JSON], expected: int) -> None:
    """Two names in one list are two calls, unless they have one id."""
    assert len(calls(calls_chunk(*fragments))) == expected


def test_one_call_need_not_stand_in_a_list() -> None:
    """It is taken for a list of one."""
    assert calls(chunk(tool_calls=fragment("{}", name="f"))) == [("new-1", "f", "{}")]


def test_a_made_up_id_is_one_of_its_own() -> None:
    """Not the same for all."""
    assert new_call_id() != new_call_id()
    assert len(new_call_id()) < 40


def test_arguments_without_a_name_are_a_failure() -> None:
    """Nobody can run them; where the token limit cut the answer nobody would."""
    nameless = calls_chunk(fragment("{}", index=0, id="a"))

    assert failure(nameless).kind is FailureKind.PROTOCOL
    _, outcome = assembled(chunk(content="x"), nameless, chunk("length"))
    assert outcome == Answer(AssistantMessage("x"), "length")


@pytest.mark.parametrize(
    "junk",
    [
        None,
        5,
        "text",
        [],
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None, 5]},
        {"choices": [{}]},
        {"choices": {"delta": {"content": "no"}}},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": {"content": 5, "tool_calls": "x", "reasoning": 1, "refusal": {}}}]},
        {"choices": [{"delta": {"content": [None, 5, {"text": 5}, {"image": "x"}]}}]},
        {"choices": [{"delta": {"tool_calls": [None, 5, {"function": 5}, {"function": {"arguments": 5}}]}}]},
        {"choices": [{"delta": {}, "finish_reason": 5}]},
        {"choices": [{"delta": {}, "finish_reason": {}}]},
        {"usage": "x"},
        {"usage": {"prompt_tokens": "x", "completion_tokens": -1, "prompt_tokens_details": 5}},
        {"usage": {"prompt_tokens": True, "completion_tokens": 1.5}},
        {"usage": {"prompt_tokens": 2**80, "completion_tokens": float("inf")}},
        {"error": None},
        {"x_groq": 5},
    ],
)
def test_what_makes_no_sense_is_passed_over(junk: JSON) -> None:
    """It adds nothing, and takes nothing away."""
    parts, outcome = assembled(junk, chunk(content="a"), junk, chunk(content="b"), junk)

    assert parts == [Delta("a"), Delta("b")]
    assert outcome == Answer(AssistantMessage("ab"))


@pytest.mark.parametrize("finish", [None, "stop", "end", "eos", "tool_calls", "a word of the future"])
def test_calls_are_there_whatever_the_finish_reason(finish: str | None) -> None:
    """The loop goes on because of them, never because of that word."""
    _, outcome = assembled(calls_chunk(fragment("{}", id="a", name="f")), chunk(finish))

    assert outcome == Answer(AssistantMessage(calls=(CallRequest("a", "f", "{}"),)), "tool_calls")


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS"])
def test_the_token_limit_is_told(finish: str) -> None:
    """The calls are shown as they stand; the loop runs none of them."""
    _, outcome = assembled(calls_chunk(fragment('{"a', id="a", name="f")), chunk(finish))

    assert outcome == Answer(AssistantMessage(calls=(CallRequest("a", "f", '{"a'),)), "length")


def test_an_answer_without_an_end_is_cut() -> None:
    """Its calls are nobody's, whole as they may look; its text is kept."""
    cut = failure(chunk(content="I"), calls_chunk(fragment("{}", id="a", name="f")), is_whole=False)

    assert (cut.kind, cut.is_retryable, cut.partial) == (FailureKind.NETWORK, True, AssistantMessage("I"))


def test_either_end_is_enough() -> None:
    """[DONE], or a finish_reason; they need not both come."""
    assert message(chunk(content="a"), is_whole=True).text == "a"
    assert message(chunk(content="a"), chunk("stop"), is_whole=False).text == "a"


@pytest.mark.parametrize(
    ("finish", "kind", "is_retryable"),
    [
        ("network_error", FailureKind.NETWORK, True),
        ("error", FailureKind.NETWORK, True),
        ("insufficient_system_resource", FailureKind.NETWORK, True),
        ("content_filter", FailureKind.CONTENT_FILTER, False),
        ("sensitive", FailureKind.CONTENT_FILTER, False),
    ],
)
def test_some_finish_reasons_are_failures(finish: str, kind: FailureKind, is_retryable: bool) -> None:
    """What had come is kept."""
    failed = failure(chunk(content="a"), chunk(finish))

    assert (failed.kind, failed.is_retryable, failed.partial.text) == (kind, is_retryable, "a")


@pytest.mark.parametrize("chunks", [[chunk("stop")], [chunk(content=" \n"), chunk("stop")], [chunk(reasoning="hm")]])
def test_an_answer_that_says_nothing_is_empty(chunks: list[JSON]) -> None:
    """Reasoning alone is no answer; it is worth another try."""
    empty = failure(*chunks)

    assert (empty.kind, empty.is_retryable) == (FailureKind.EMPTY, True)


def test_an_answer_whose_tokens_went_into_reasoning_is_not_tried_again() -> None:
    """The next one would cost as much, and end the same."""
    empty = failure(chunk(reasoning="hm"), chunk("length"))

    assert (empty.kind, empty.is_retryable) == (FailureKind.EMPTY, False)
    assert "max_tokens" in empty.text
    assert empty.partial.reasoning == "hm"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(9, 0, 4, 0)),
        ({"input_tokens": 9, "output_tokens": 4.0}, Usage(9, 0, 4, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(9, 5, 0, 0)),
        ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 5}, Usage(9, 5, 0, 0)),
        ({"prompt_tokens": 9, "cached_tokens": 5}, Usage(9, 5, 0, 0)),
        ({"prompt_tokens": 9, "cached_tokens": 50}, Usage(9, 9, 0, 0)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}}, Usage(0, 0, 9, 5)),
        ({"completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 5}}, Usage(0, 0, 3, 3)),
    ],
)
def test_usage_is_read_wherever_it_stands(usage: JSON, expected: Usage) -> None:
    """In the chunk, in the choice (Moonshot), or where Groq puts it; cached and reasoning tokens are parts."""
    inside = {"choices": [{"delta": {"content": "a"}, "usage": usage}]}
    for one in ({"choices": [], "usage": usage}, {"usage": usage}, inside, {"x_groq": {"usage": usage}}):
        parts, _ = assembled(one, chunk(content="b"))
        assert [part for part in parts if isinstance(part, UsageSeen)] == [UsageSeen(expected)]


def test_usage_that_says_nothing_new_is_no_part() -> None:
    """Some services repeat it with every chunk, and end with zeros."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    parts, _ = assembled({"usage": usage}, {"usage": usage}, {"usage": {"prompt_tokens": 0}}, {"usage": None})

    assert parts == [UsageSeen(Usage(1, 0, 2, 0))]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_has_three_names(name: str) -> None:
    """The name is kept, so that it can be sent back under it."""
    parts, outcome = assembled(chunk(**{name: "hm"}), chunk(content="a"))

    assert parts == [Delta("hm", "reasoning"), Delta("a")]
    assert outcome == Answer(AssistantMessage("a", reasoning="hm", reasoning_field=name))


def test_reasoning_that_comes_twice_counts_once() -> None:
    """The first name that is not empty."""
    both = chunk(reasoning_content="", reasoning="hm", reasoning_text="hm", content="a")

    assert message(both) == AssistantMessage("a", reasoning="hm", reasoning_field="reasoning")


def test_content_may_be_a_list_of_parts() -> None:
    """Or a refusal in a field of its own."""
    parts = [{"type": "text", "text": "a"}, "b", {"type": "thinking", "thinking": []}]

    assert message(chunk(content=parts)).text == "ab"
    assert message(chunk(content=None, refusal="I will not.")).text == "I will not."


def test_a_whole_message_is_read_where_no_delta_is() -> None:
    """What is not a stream is an answer as well; a message that repeats the deltas is not said twice."""
    whole = {"content": "a", "tool_calls": [fragment("{}", id="x", name="f")]}

    assert message({"choices": [{"message": whole}]}).calls == (CallRequest("x", "f", "{}"),)
    assert message({"choices": [{"delta": {}, "message": whole}]}).text == "a"
    assert message(chunk(content="a"), {"choices": [{"message": whole}]}) == AssistantMessage("a")


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "it broke", "type": "server_error"}},
        {"error": "it broke"},
        {"error": {"message": "it broke"}, "choices": [{"delta": {"content": "no"}}]},
        {"object": "error", "message": "it broke"},
        {"code": 500, "message": "it broke"},
        {"detail": "it broke"},
    ],
)
def test_an_error_in_the_stream_ends_it(error: JSON) -> None:
    """What follows is not heard any more."""
    assembler = Assembler()
    assembler.feed(chunk(content="a"))

    over = [assembler.is_over]
    assert assembler.feed(error) == []
    assert [*over, assembler.is_over] == [False, True]
    assert assembler.feed(chunk("stop", content="b")) == []
    failed = assembler.outcome(is_whole=True)
    assert isinstance(failed, ModelFailure)
    assert (failed.kind, failed.is_retryable, failed.partial.text) == (FailureKind.NETWORK, True, "a")
    assert "it broke" in failed.text


def test_a_message_that_is_no_error_is_none() -> None:
    """Some services greet first."""
    assert message({"code": 0, "message": "success"}, chunk(content="a")).text == "a"


def test_the_first_failure_counts() -> None:
    """Whoever breaks an answer off that has failed already changes nothing."""
    assembler = Assembler()
    assembler.break_off(FailureKind.TIMEOUT, "silence", is_retryable=True)
    assembler.break_off(FailureKind.NETWORK, "cut", is_retryable=False)

    assert assembler.outcome(is_whole=True) == ModelFailure(FailureKind.TIMEOUT, "silence", is_retryable=True)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(content="x" * 7000)] * 3,
        [chunk(reasoning="x" * 7000)] * 3,
        [calls_chunk(fragment("x" * 7000, index=0, name="f"))] * 3,
        [calls_chunk(fragment("{}", index=index, name="f")) for index in range(20)],
    ],
    ids=["text", "reasoning", "arguments", "calls"],
)
def test_an_answer_without_end_is_refused(chunks: list[JSON]) -> None:
    """Before it fills the memory."""
    failed = failure(*chunks)

    assert (failed.kind, failed.is_retryable) == (FailureKind.PROTOCOL, False)


def test_pieces_count_what_is_content() -> None:
    """So that silence can be told from an answer: a role, an empty text and usage are none."""
    assembler = Assembler()
    for one in (chunk(role="assistant", content=""), {"usage": {"prompt_tokens": 1}}, {}, None):
        assembler.feed(one)
    assert assembler.pieces == 0

    for one in (chunk(content="a"), chunk(reasoning="b"), calls_chunk(fragment("", index=0, name="f"))):
        assembler.feed(one)
    assert assembler.pieces == 3


def test_a_finish_reason_with_every_chunk_ends_nothing() -> None:
    """Who waits for the usage must not take the first for the last."""
    assembler = Assembler()
    finished = []
    for one in (chunk(content="a"), chunk("stop", content="a"), chunk("stop", content="b")):
        assembler.feed(one)
        finished.append(assembler.is_finished)

    assert finished == [False, True, False]
    assert assembler.outcome(is_whole=False) == Answer(AssistantMessage("aab"))


def test_half_a_character_waits_for_its_other_half() -> None:
    """Services cut JSON's escapes between two chunks; what remains a half can be written nowhere."""
    parts, outcome = assembled(chunk(content="a\ud83c"), chunk(content="\udf00"), chunk(content="b\udc00c\ud83c"))

    assert parts == [Delta("a"), Delta("🌀"), Delta("b\ufffdc")]
    assert outcome == Answer(AssistantMessage("a🌀b\ufffdc"))
    assert repaired("ü\ud83c\udf00") == "ü🌀"
    assert calls(calls_chunk(fragment('{"a":"\ud83c', index=0, name="f")), calls_chunk(fragment('\udf00"}', index=0)))[
        0
    ] == ("new-1", "f", '{"a":"🌀"}')


def test_half_a_character_alone_is_no_delta() -> None:
    """Deltas are never empty."""
    parts, _ = assembled(chunk(content="\ud83c"), chunk(reasoning="\ud83c"))

    assert parts == []
