"""A request on its way through the model gateway: nothing that a model sees is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.agent.chat_json import read_calls, read_request, write_calls, write_request
from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from pibot_mesh.agent.model import ModelRequest
from pibot_mesh.agent.providers import Dialect
from pibot_mesh.agent.wire import request_body
from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, decode, encode
from pibot_mesh.protocol.messages import LLMRequest, ToolSpec

SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
TALK: tuple[Message, ...] = (
    UserMessage("把风扇打开 😀"),
    AssistantMessage(
        "I do.", (CallRequest("c1", "fan", '{"on": true}'), CallRequest("c2", "look", "{}")), "hm", "reasoning"
    ),
    ToolMessage("c1", "fan", "done"),
    ToolMessage("c2", "look", "Error: it is dark", is_error=True),
    AssistantMessage("It is on."),
    UserMessage("off"),
)
WHOLE = ModelRequest(TALK, "You switch fans.", (ToolSpec("fan", "Switch the fan.", SCHEMA),), 70)

DIALECTS = (
    Dialect(),
    Dialect(reasoning_back="always"),
    Dialect(reasoning_back="with_tools", reasoning_field="reasoning", empty_content="text", system_role="developer"),
)

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=8) | st.sampled_from(
    ["", " ", "error: x", "Error: x"]
)
calls = st.builds(
    CallRequest,
    st.sampled_from(["c1", "c2", "functions.fan:0", "x" * 60]),
    st.sampled_from(["fan", "风扇"]),
    texts | st.just('{"a": 1}'),
)
said = st.builds(
    lambda text, calls, reasoning: AssistantMessage(
        text, tuple(calls), reasoning, "reasoning_text" if reasoning else ""
    ),
    texts,
    st.lists(calls, max_size=2),
    texts,
)
results = st.builds(ToolMessage, st.sampled_from(["c1", "functions.fan:0"]), st.just("fan"), texts, st.booleans())
requests = st.builds(
    ModelRequest,
    st.lists(st.builds(UserMessage, texts) | said | results, min_size=1, max_size=6).map(tuple),
    texts,
    st.sampled_from([(), (ToolSpec("fan", "Switch.", SCHEMA), ToolSpec("look"))]),
    st.none() | st.integers(1, 9000),
)


def over_the_wire(request: ModelRequest) -> ModelRequest:
    """What the gateway reads of what a node writes."""
    return read_request(decode(LLMRequest, encode(write_request(request, id="r", task="t"))))


def test_a_request_comes_out_as_it_went_in() -> None:
    """Text, calls, reasoning under its own name, results and which of them are errors, tools, the answer's limit."""
    assert over_the_wire(WHOLE) == WHOLE


def test_it_is_written_as_openai_writes_it() -> None:
    """With a mark at the results of calls that failed, and no empty fields."""
    written = write_request(WHOLE, id="r1", task="t1")

    assert (written.id, written.task, written.max_tokens, written.cancel) == ("r1", "t1", 70, False)
    assert [message["role"] for message in written.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "assistant",
        "user",
    ]
    assert written.messages[3] == {"role": "tool", "tool_call_id": "c1", "content": "done"}
    assert written.messages[4] == {
        "role": "tool",
        "tool_call_id": "c2",
        "content": "Error: it is dark",
        "is_error": True,
    }
    assert written.messages[5] == {"role": "assistant", "content": "It is on."}
    assert written.tools == (
        {"type": "function", "function": {"name": "fan", "description": "Switch the fan.", "parameters": SCHEMA}},
    )


@given(requests)
def test_a_service_sees_what_it_would_see_without_the_gateway(request_: ModelRequest) -> None:
    """Byte for byte, whatever its dialect, for whatever stands in a transcript."""
    if not any(not isinstance(one, AssistantMessage) or not one.is_empty for one in request_.messages):
        return
    came = over_the_wire(request_)

    for dialect in DIALECTS:
        assert request_body(came, "m", dialect) == request_body(request_, "m", dialect)


def test_results_of_calls_with_the_same_id_keep_their_own_mark() -> None:
    """Services give an id again in the next turn."""
    turn = AssistantMessage(calls=(CallRequest("c1", "fan"),))
    messages = (
        UserMessage("on"),
        turn,
        ToolMessage("c1", "fan", "broken", True),
        turn,
        ToolMessage("c1", "fan", "done"),
    )

    came = over_the_wire(ModelRequest(messages))

    assert [one.is_error for one in came.messages if isinstance(one, ToolMessage)] == [True, False]


def user(content: JSON = "hi") -> JSON:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("messages", "tools", "problem"),
    [
        ([user(None)], [], "messages[0]: content: is missing"),
        ([user(["hi"])], [], "messages[0].content: text is expected"),
        ([{"role": "god", "content": "hi"}], [], "messages[0].role: one of system, user, assistant, tool is expected"),
        ([user(), {"role": "system", "content": "x"}], [], "messages[1].role: 'system' stands only first"),
        ([user(), {"role": "tool", "content": "x"}], [], "messages[1]: tool_call_id: is missing"),
        (
            [user(), {"role": "assistant", "tool_calls": [{"id": "a"}]}],
            [],
            "messages[1].tool_calls[0].function: is missing",
        ),
        ([user()], [{"type": "function"}], "tools[0].function: is missing"),
        ([user()], [{"function": {"name": 5}}], "tools[0].function.name: text is expected"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(messages: list[JSON], tools: list[JSON], problem: str) -> None:
    """A node may be of another version, or not a node at all."""
    with pytest.raises(ProtocolError) as caught:
        read_request(LLMRequest("r1", "t1", tuple(messages), tuple(tools)))

    assert problem in str(caught.value)
    assert str(caught.value).startswith("LLMRequest: ")
    assert caught.value.id == "r1"


def test_what_is_missing_is_empty() -> None:
    """A message with calls alone, a tool without a schema, no system prompt, keys that nobody knows."""
    call = {"id": "a", "type": "function", "function": {"name": "fan"}}
    asked = (
        user(),
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "b", "content": "x"},
    )
    read = read_request(LLMRequest("r1", "t1", asked, ({"type": "function", "function": {"name": "fan"}},)))

    assert read == ModelRequest(
        (UserMessage("hi"), AssistantMessage("", (CallRequest("a", "fan"),)), ToolMessage("b", "", "x")),
        "",
        (ToolSpec("fan"),),
    )


@pytest.mark.parametrize("arguments", ['{"on": true}', "", "{broken", "[1]"])
def test_the_calls_of_an_answer_keep_the_models_own_words(arguments: str) -> None:
    """Whoever runs them must see that they are malformed."""
    calls = (CallRequest("functions.fan:0", "fan", arguments), CallRequest("c2", "风扇"))

    assert read_calls(write_calls(calls)) == calls


@pytest.mark.parametrize(
    "value", [None, "x", [5], [{"id": "a"}], [{"id": "a", "function": {"name": "f", "arguments": {}}}]]
)
def test_calls_that_cannot_be_read_are_refused(value: JSON) -> None:
    """They come from another machine."""
    with pytest.raises(ProtocolError, match="LLMChunk: tool_calls"):
        read_calls(value)
