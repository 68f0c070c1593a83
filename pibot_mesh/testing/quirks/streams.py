"""How answers stream, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pibot_mesh.agent.messages import CallRequest
from pibot_mesh.agent.model import FailureKind
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing.answers import KEEP_ALIVE, chunk, fragment, fragments, say, stream
from pibot_mesh.testing.quirks.quirk import ATTIC, HALL, Quirk, look


def _text(word: str) -> dict[str, JSON]:
    return chunk({"content": word})


_END: Final = chunk({}, finish="stop")
_CALLED: Final = chunk({}, finish="tool_calls")
_BOTH: Final = (look("call_a"), look("call_b", HALL))

CALLS: Final[Mapping[str, Quirk]] = {
    "fragments of two calls take turns": Quirk(
        "The pieces of parallel calls are told apart by their index.",
        stream(
            fragments(fragment(0, "call_a", "look", '{"room"')),
            fragments(fragment(1, "call_b", "look", '{"ro')),
            fragments(fragment(0, None, None, ': "attic"}'), fragment(1, None, None, 'om": "hall"}')),
            _CALLED,
        ),
        calls=_BOTH,
    ),
    "no call ids (Ollama, NVIDIA)": Quirk(
        "A call comes without an id: one is made up.",
        stream(fragments(fragment(0, None, "look", ATTIC)), fragments(fragment(1, None, "wait", "{}")), _CALLED),
        calls=(look(), CallRequest("", "wait", "{}")),
    ),
    "empty call ids on continuations (DashScope)": Quirk(
        'The id and the name are "" after the first piece: it is still the same call.',
        stream(
            fragments(fragment(0, "call_a", "look", "")),
            fragments(fragment(0, "", "", '{"room":')),
            fragments(fragment(0, "", "", ' "attic"}')),
            _CALLED,
        ),
        calls=(look("call_a"),),
    ),
    "call ids change in the middle (Kimi)": Quirk(
        "Every piece has an id of its own: the index counts, and the first id stays.",
        stream(
            fragments(fragment(0, "look:0", "look", "")),
            fragments(fragment(0, "call_x", None, '{"room":')),
            fragments(fragment(0, "call_y", None, ' "attic"}')),
            _CALLED,
        ),
        calls=(look("look:0"),),
    ),
    "no call ids after the first call (sglang)": Quirk(
        "Only the call with index 0 has an id.",
        stream(
            fragments(fragment(0, "call_a", "look", '{"room":')),
            fragments(fragment(0, None, None, ' "attic"}')),
            fragments(fragment(1, None, "look", '{"room":')),
            fragments(fragment(1, None, None, ' "hall"}')),
            _CALLED,
        ),
        calls=(look("call_a"), look("", HALL)),
    ),
    "no indices for parallel calls (Gemini)": Quirk(
        "Whole calls in one event, with ids and without indices.",
        stream(fragments(fragment(None, "call_a", "look", ATTIC), fragment(None, "call_b", "look", HALL)), _CALLED),
        calls=_BOTH,
    ),
    "neither indices nor ids for parallel calls (Gemini)": Quirk(
        "Whole calls one after another, with nothing but their names: each is a call.",
        stream(
            fragments(fragment(None, "", "look", ATTIC)), fragments(fragment(None, "", "wait", "{}")), chunk({}), _END
        ),
        calls=(look(), CallRequest("", "wait", "{}")),
    ),
    "always index 0 for parallel calls (Gemini)": Quirk(
        "The same index, a new id and name, and the call before is complete: it is a new call.",
        stream(
            fragments(fragment(0, "call_a", "look", ATTIC)), fragments(fragment(0, "call_b", "wait", "{}")), _CALLED
        ),
        calls=(look("call_a"), CallRequest("call_b", "wait", "{}")),
    ),
    "always index 0 for parallel calls of one tool (Gemini)": Quirk(
        "The same index and the same tool with a new id, and the call before is complete: it is a new call.",
        stream(
            fragments(fragment(0, "call_a", "look", ATTIC)), fragments(fragment(0, "call_b", "look", HALL)), _CALLED
        ),
        calls=_BOTH,
    ),
    "neither index nor id on continuations": Quirk(
        "A piece with arguments alone belongs to the call before it.",
        stream(
            fragments(fragment(None, "call_a", "look", '{"room":')),
            fragments(fragment(None, None, None, ' "attic"}')),
            _CALLED,
        ),
        calls=(look("call_a"),),
    ),
    "the first index is 1 (LiteLLM)": Quirk(
        "Indices tell calls apart; they count nothing.",
        stream(
            fragments(fragment(1, "call_a", "look", '{"room":')),
            fragments(fragment(1, None, None, ' "attic"}')),
            fragments(fragment(2, "call_b", "look", HALL)),
            _CALLED,
        ),
        calls=_BOTH,
    ),
    "id and name on every fragment": Quirk(
        "The id and the name are said again with every piece: it is still the same call.",
        stream(
            fragments(fragment(0, "call_a", "look", '{"room":')),
            fragments(fragment(0, "call_a", "look", ' "attic"}')),
            _CALLED,
        ),
        calls=(look("call_a"),),
    ),
    "a call without arguments": Quirk(
        'The arguments are "" or not there at all.',
        stream(fragments(fragment(0, "call_a", "wait", "")), fragments(fragment(1, "call_b", "wait", None)), _CALLED),
        calls=(CallRequest("call_a", "wait"), CallRequest("call_b", "wait")),
    ),
}

CHUNKS: Final[Mapping[str, Quirk]] = {
    "a null event": Quirk("An event is null.", stream(None, _text("Yes."), None, _END), text="Yes."),
    "an event without choices": Quirk(
        "An event has no choices, or null for them.",
        stream({"id": "x"}, {"choices": None}, _text("Yes."), {"object": "ping"}, _END),
        text="Yes.",
    ),
    "a null delta": Quirk(
        "The delta, or what is in it, is null.",
        stream(chunk(None), chunk({"content": None, "tool_calls": None}), _text("Yes."), chunk(None, finish="stop")),
        text="Yes.",
    ),
    "empty choices and only usage": Quirk(
        "The usage comes in an event of its own, behind the finish.",
        stream(_text("Yes."), _END, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}),
        text="Yes.",
        usage=Usage(9, 0, 2),
    ),
    "usage inside the choice (Moonshot)": Quirk(
        "The usage stands in the choice.",
        stream(_text("Yes."), chunk({}, finish="stop", usage={"prompt_tokens": 9, "completion_tokens": 2})),
        text="Yes.",
        usage=Usage(9, 0, 2),
    ),
    "usage in every event": Quirk(
        "Each event has the usage so far: the last one counts, they are not added up.",
        stream(
            {**_text("Ye"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}},
            {**_text("s."), "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
            _END,
        ),
        text="Yes.",
        usage=Usage(9, 0, 2),
    ),
    "text and calls interleaved": Quirk(
        "Text comes between the pieces of a call.",
        stream(
            _text("I "),
            fragments(fragment(0, "call_a", "look", '{"room":')),
            _text("look"),
            chunk({"content": ".", "tool_calls": [fragment(0, None, None, ' "attic"}')]}),
            _CALLED,
        ),
        text="I look.",
        calls=(look("call_a"),),
    ),
    "keep-alive comments": Quirk(
        "Comments come between the events: they are nothing.",
        stream(KEEP_ALIVE, _text("Yes."), KEEP_ALIVE, b": OPENROUTER PROCESSING\n\n", _END),
        text="Yes.",
    ),
    "no space behind data:": Quirk(
        "The colon is followed by the value at once, and there are fields that nobody asked for.",
        stream(b'event: message\nid: 1\ndata:{"choices":[{"delta":{"content":"Yes."}}]}\n\n', _END),
        text="Yes.",
    ),
    "a body that stays open behind [DONE]": Quirk(
        "The answer is over at [DONE], whenever the connection ends.", say("Yes.").held_open(), text="Yes."
    ),
    "no [DONE]": Quirk(
        "The body ends behind the finish: the answer is complete.", stream(_text("Yes."), _END, done=False), text="Yes."
    ),
    "CRLF": Quirk("Lines end in CR and LF.", stream(_text("Yes."), _END, newline="\r\n"), text="Yes."),
    "a character cut between two reads": Quirk(
        "A read ends in the middle of a character.",
        stream(_text("Grüße, 你好, 🌡"), _END).in_writes(1),
        text="Grüße, 你好, 🌡",
    ),
}

FINISHES: Final[Mapping[str, Quirk]] = {
    "no finish_reason": Quirk("The stream ends with [DONE] alone: it is complete.", stream(_text("Yes.")), text="Yes."),
    "an empty finish_reason": Quirk(
        'The finish_reason is "" until it is "stop".',
        stream(chunk({"content": "Ye"}, finish=""), chunk({"content": "s."}, finish=""), _END),
        text="Yes.",
    ),
    "stop despite tool calls": Quirk(
        "There are calls and it says stop: the calls count.",
        say(look("call_a"), finish="stop"),
        calls=(look("call_a"),),
    ),
    "no finish_reason behind tool calls": Quirk(
        "There are calls and [DONE] alone.", say(look("call_a"), finish=None), calls=(look("call_a"),)
    ),
    "finish_reason end": Quirk("It says end for stop.", say("Yes.", finish="end"), text="Yes.", finish="stop"),
    "finish_reason network_error": Quirk(
        "The service broke off: it is worth another try.",
        say("Ye", finish="network_error"),
        text="Ye",
        failure=FailureKind.NETWORK,
        is_retryable=True,
    ),
    "an unknown finish_reason": Quirk(
        "Nobody knows the word.", say("Yes.", finish="eos_token"), text="Yes.", finish="stop"
    ),
    "finish_reason length": Quirk(
        "The token limit cut the answer.", say("Yes and", finish="length"), text="Yes and", finish="length"
    ),
    "finish_reason content_filter": Quirk(
        "The service will not say more.",
        say("Ye", finish="content_filter"),
        text="Ye",
        failure=FailureKind.CONTENT_FILTER,
    ),
    "no finish at all": Quirk(
        "The body ends and nothing has said that the answer is complete.",
        stream(_text("Ye"), done=False),
        text="Ye",
        failure=FailureKind.NETWORK,
        is_retryable=True,
    ),
    "neither text nor a call": Quirk(
        "The answer is complete and empty.", say(), failure=FailureKind.EMPTY, is_retryable=True
    ),
    "reasoning alone": Quirk(
        "Reasoning is no answer.", say(reasoning="Hm."), reasoning="Hm.", failure=FailureKind.EMPTY, is_retryable=True
    ),
}

USAGES: Final[Mapping[str, Quirk]] = {
    name: Quirk(says, stream(_text("Yes."), _END, {"choices": [], "usage": told}), text="Yes.", usage=usage)
    for name, says, told, usage in (
        (
            "cached tokens in prompt_tokens_details",
            "The input includes what was cached.",
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(9, 4, 2),
        ),
        (
            "cached tokens in prompt_cache_hit_tokens (DeepSeek)",
            "The input includes what was cached.",
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5},
            Usage(9, 4, 2),
        ),
        (
            "cached tokens in cached_tokens (Moonshot)",
            "The input includes what was cached.",
            {"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4, "prompt_tokens_details": None},
            Usage(9, 4, 2),
        ),
        (
            "reasoning tokens inside completion tokens",
            "The output includes what was reasoned.",
            {"prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 5}},
            Usage(9, 0, 7, 5),
        ),
    )
}

REASONING: Final[Mapping[str, Quirk]] = {
    **{
        f"reasoning in {name}": Quirk(
            "The reasoning is kept, and its field's name.",
            say("Four.", reasoning="2 and 2.", reasoning_field=name, split=3),
            text="Four.",
            reasoning="2 and 2.",
            reasoning_field=name,
        )
        for name in ("reasoning_content", "reasoning", "reasoning_text")
    },
    "the first field of reasoning is empty": Quirk(
        "The first that is not empty counts.",
        stream(chunk({"reasoning_content": "", "reasoning": None, "reasoning_text": "Hm."}), _text("Four."), _END),
        text="Four.",
        reasoning="Hm.",
        reasoning_field="reasoning_text",
    ),
    "the same reasoning in two fields": Quirk(
        "It is counted once.",
        stream(chunk({"reasoning_content": "Hm.", "reasoning": "Hm."}), _text("Four."), _END),
        text="Four.",
        reasoning="Hm.",
        reasoning_field="reasoning_content",
    ),
}
