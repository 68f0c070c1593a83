"""Requests as services want them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage, UserMessage
from pibot_mesh.agent.model import ModelRequest
from pibot_mesh.agent.providers import Dialect
from pibot_mesh.agent.wire import Body, call_id, learned, request_body
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import ToolSpec

SCHEMA = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
FAN = ToolSpec("fan", "Switch the fan.", SCHEMA)
TALK: tuple[Message, ...] = (
    UserMessage("on"),
    AssistantMessage("", (CallRequest("a", "fan", '{"on": true}'),), "hm", "reasoning"),
    ToolMessage("a", "fan", "done"),
    AssistantMessage("It is on."),
)


def body(*messages: Message, dialect: Dialect = Dialect(), tools: tuple[ToolSpec, ...] = (FAN,)) -> Body:  # noqa: B008
    """The body of a request."""
    return request_body(ModelRequest(messages, tools=tools), "m", dialect)


def sent(*messages: Message, dialect: Dialect = Dialect(), tools: tuple[ToolSpec, ...] = (FAN,)) -> list[JSON]:  # noqa: B008
    """The messages of a request."""
    found: list[JSON] = body(*messages, dialect=dialect, tools=tools)["messages"]
    return found


def test_a_request_is_what_most_services_take() -> None:
    """Word for word."""
    request = ModelRequest((UserMessage("Hello"),), "Be short.", (FAN,), max_tokens=7)

    assert request_body(request, "m", Dialect(), temperature=0.5) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "temperature": 0.5,
        "tools": [
            {"type": "function", "function": {"name": "fan", "description": "Switch the fan.", "parameters": SCHEMA}}
        ],
    }


def test_what_nobody_asked_for_is_not_sent() -> None:
    """Some services refuse `tools: []`, and any field that they do not know."""
    plain = request_body(ModelRequest((UserMessage("Hello"),)), "m", Dialect(has_stream_options=False))

    assert plain == {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


def test_the_same_request_gives_the_same_bytes() -> None:
    """And a longer one begins with those of the shorter, so that the caches of the providers find it."""
    short = json.dumps(sent(*TALK))

    assert json.dumps(sent(*TALK)) == short
    assert json.dumps(sent(*TALK, UserMessage("off"))).startswith(short[:-1])


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        (Dialect(), {"max_tokens": 5, "temperature": 0.0}),
        (Dialect(max_tokens_field="max_completion_tokens"), {"max_completion_tokens": 5, "temperature": 0.0}),
        (Dialect(max_tokens_field=""), {"temperature": 0.0}),
        (Dialect(has_temperature=False), {"max_tokens": 5}),
        (Dialect(parallel_tool_calls=False), {"max_tokens": 5, "temperature": 0.0, "parallel_tool_calls": False}),
    ],
)
def test_a_dialect_says_how_fields_are_named(dialect: Dialect, fields: Body) -> None:
    """Or that they are not sent."""
    request = ModelRequest((UserMessage("Hello"),), tools=(FAN,))
    made = request_body(request, "m", dialect, max_tokens=5, temperature=0.0)

    rest = {key: value for key, value in made.items() if key not in ("model", "messages", "stream", "tools")}
    assert rest == {"stream_options": {"include_usage": True}, **fields}


def test_a_requests_own_limit_goes_first() -> None:
    """The settings' one is for those that have none."""
    request = ModelRequest((UserMessage("Hello"),), max_tokens=3)

    assert request_body(request, "m", Dialect(), max_tokens=5)["max_tokens"] == 3


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_the_system_prompt_has_the_dialects_role(role: str) -> None:
    """It is always the first message."""
    request = ModelRequest((UserMessage("Hello"),), "Be short.")
    made = request_body(request, "m", Dialect(system_role=role))  # type: ignore[arg-type]  # one of its three

    assert made["messages"][0] == {"role": role, "content": "Be short."}


def test_calls_and_results_stand_as_services_want_them() -> None:
    """A message with calls alone has no text."""
    assert sent(*TALK) == [
        {"role": "user", "content": "on"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "fan", "arguments": '{"on": true}'}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
        {"role": "assistant", "content": "It is on."},
    ]
    assert sent(*TALK, dialect=Dialect(empty_content="text"))[1]["content"] == ""


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (ToolMessage("a", "f", ""), "(no output)"),
        (ToolMessage("a", "f", " \n"), "(no output)"),
        (ToolMessage("a", "f", "boom", is_error=True), "Error: boom"),
        (ToolMessage("a", "f", "error: boom", is_error=True), "error: boom"),
        (ToolMessage("a", "f", "", is_error=True), "Error: (no output)"),
        (ToolMessage("a", "f", "x\ud83cy"), "x\ufffdy"),
        (UserMessage("x\udc00y"), "x\ufffdy"),
        (AssistantMessage("x\udc00y"), "x\ufffdy"),
    ],
)
def test_every_text_can_be_sent(message: Message, content: str) -> None:
    """An empty one is refused by some, half a character by all."""
    assert sent(message)[0]["content"] == content


@pytest.mark.parametrize("message", [AssistantMessage(), AssistantMessage(" "), AssistantMessage(reasoning="hm")])
def test_a_message_that_says_nothing_is_left_out(message: AssistantMessage) -> None:
    """Services refuse it."""
    assert sent(UserMessage("a"), message) == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("arguments", "goes_out"),
    [
        ('{"on": true}', '{"on": true}'),
        ("", "{}"),
        ("{broken", "{}"),
        ("[1]", "{}"),
        ("5", "{}"),
        ("[" * 100_000, "{}"),
        ('{"a": "x\udc00"}', "{}"),
        ('{"a": NaN}', "{}"),
    ],
)
def test_arguments_that_go_back_are_json_objects(arguments: str, goes_out: str) -> None:
    """Services that read them refuse what they cannot."""
    message = AssistantMessage(calls=(CallRequest("a", "fan", arguments),))

    assert sent(message)[0]["tool_calls"][0]["function"]["arguments"] == goes_out


@pytest.mark.parametrize("id_", ["functions.fan:0", "x" * 41, "ü", "", "a b", "call_1\n"])
def test_an_odd_id_is_made_plain_for_call_and_result_alike(id_: str) -> None:
    """Some services refuse long ones, and letters that are not ASCII."""
    call, result = sent(AssistantMessage(calls=(CallRequest(id_, "fan"),)), ToolMessage(id_, "fan", "done"))

    made = call["tool_calls"][0]["id"]
    assert made == result["tool_call_id"] == call_id(id_)
    assert made != id_
    assert 1 <= len(made) <= 40
    assert made.isascii()
    assert made.replace("_", "").replace("-", "").isalnum()


def test_plain_ids_stay_and_odd_ones_stay_apart() -> None:
    """However much they resemble each other."""
    assert call_id("call_abc-1") == "call_abc-1"
    assert len({call_id(id_) for id_ in ("a.b", "a:b", "a_b", "x" * 50, "x" * 51)}) == 5


@pytest.mark.parametrize(
    ("name", "goes_out"),
    [("fan", "fan"), ("weird name!", "weird_name_"), ("", "_"), ("风扇", "__"), ("x" * 90, "x" * 64)],
)
def test_a_name_that_a_model_made_up_can_go_back(name: str, goes_out: str) -> None:
    """Services refuse odd ones in the history, too."""
    [message] = sent(AssistantMessage(calls=(CallRequest("a", name),)))

    assert message["tool_calls"][0]["function"]["name"] == goes_out


def test_a_tool_without_arguments_has_a_schema() -> None:
    """An empty one is refused."""
    made = body(UserMessage("a"), tools=(ToolSpec("stop"),))["tools"][0]["function"]

    assert made["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("reasoning_back", "tools", "expected"),
    [
        ("never", (FAN,), [{}, {}]),
        ("with_tools", (), [{}, {}]),
        ("with_tools", (FAN,), [{"reasoning": "hm"}, {"reasoning_content": ""}]),
        ("always", (), [{"reasoning": "hm"}, {"reasoning_content": ""}]),
    ],
)
def test_reasoning_goes_back_where_it_is_wanted(
    reasoning_back: str, tools: tuple[ToolSpec, ...], expected: list[Body]
) -> None:
    """Under its own name, and then with every message of the model."""
    dialect = Dialect(reasoning_back=reasoning_back)  # type: ignore[arg-type]  # one of its three
    answers = [one for one in sent(*TALK, dialect=dialect, tools=tools) if one["role"] == "assistant"]

    assert [{key: one[key] for key in one if "reasoning" in key} for one in answers] == expected


REASONING = AssistantMessage("a", reasoning="hm", reasoning_field="reasoning_content")


@pytest.mark.parametrize(
    ("dialect", "words", "expected"),
    [
        (
            Dialect(),
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            Dialect(max_tokens_field="max_completion_tokens", refused_fields=frozenset({"max_tokens"})),
        ),
        (
            Dialect(max_tokens_field="max_completion_tokens", refused_fields=frozenset({"max_tokens"})),
            "unknown field max_completion_tokens",
            Dialect(max_tokens_field="", refused_fields=frozenset({"max_tokens", "max_completion_tokens"})),
        ),
        (Dialect(), "Extra inputs are not permitted: stream_options", Dialect(has_stream_options=False)),
        (Dialect(), "include_usage is not known", Dialect(has_stream_options=False)),
        (Dialect(parallel_tool_calls=True), "`parallel_tool_calls` is not supported", Dialect()),
        (Dialect(), "'temperature' does not support 0.5 with this model", Dialect(has_temperature=False)),
        (Dialect(system_role="developer"), "developer is not one of ['system', 'user']", Dialect()),
        (
            Dialect(),
            "The `reasoning_content` in the thinking mode must be passed back",
            Dialect(reasoning_back="always"),
        ),
        (
            Dialect(),
            "messages[1]: reasoning is required",
            Dialect(reasoning_back="always", reasoning_field="reasoning"),
        ),
        (
            Dialect(reasoning_back="always"),
            "reasoning_content is not permitted",
            Dialect(reasoning_back="never", refused_fields=frozenset({"reasoning"})),
        ),
        (Dialect(refused_fields=frozenset({"reasoning"})), "reasoning_content must be passed back", None),
        (Dialect(), "messages.1.content: Input should be a valid string", Dialect(empty_content="text")),
        (Dialect(), "you said something wrong", None),
        (Dialect(has_stream_options=False), "stream_options is not known", None),
        (Dialect(), "parallel_tool_calls and developer are not known", None),
    ],
)
def test_what_a_refusal_names_is_learned(dialect: Dialect, words: str, expected: Dialect | None) -> None:
    """Only what was sent, and nothing twice."""
    request = ModelRequest((UserMessage("a"), REASONING, *TALK), "Be short.", (FAN,))
    body = request_body(request, "m", dialect, max_tokens=5, temperature=0.5)

    assert learned(dialect, body, words) == expected


def test_reasoning_is_not_learned_where_nothing_could_be_sent_back() -> None:
    """A first request has none; one without any message has nothing at all."""
    for messages in ((UserMessage("a"),), ()):
        first = request_body(ModelRequest(messages), "m", Dialect())
        assert learned(Dialect(), first, "reasoning_content must be passed back") is None


def test_a_limit_is_given_up_in_the_end() -> None:
    """Under either name it is refused: the service's own limit holds."""
    dialect, request = Dialect(), ModelRequest((UserMessage("a"),), max_tokens=5)
    for words in ("max_tokens is too large", "max_completion_tokens is too large"):
        changed = learned(dialect, request_body(request, "m", dialect), words)
        assert changed is not None
        dialect = changed

    assert dialect == replace(dialect, max_tokens_field="")
    assert "max_tokens" not in request_body(request, "m", dialect)
