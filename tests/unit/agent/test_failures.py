"""What services say when they refuse, to kinds and plain words."""

from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from pibot_mesh.agent.failures import (
    MAX_WORDS,
    Redactor,
    Service,
    from_response,
    from_stream,
    looks_like_error,
    read_body,
    retry_after_s,
)
from pibot_mesh.agent.model import FailureKind, ModelFailure
from pibot_mesh.protocol.codec import JSON

SERVICE = Service("https://models.example/v1/chat/completions", "small", "check VOLC_API_KEY")
NOW = 1_700_000_000.0


def refused(status: int, body: JSON = "", **headers: str) -> ModelFailure:
    """The failure of a reply; a *body* that is not text goes out as JSON."""
    payload = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return from_response(status, names, payload.encode(), SERVICE, now_s=NOW)


def openai(message: str, code: str | None = None, type: str = "invalid_request_error") -> JSON:  # noqa: A002
    """An error as OpenAI words it."""
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "is_retryable"),
    [
        (401, openai("Incorrect API key provided", "invalid_api_key"), FailureKind.AUTH, False),
        (401, "", FailureKind.AUTH, False),
        (403, "Forbidden", FailureKind.AUTH, False),
        (400, [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}],
         FailureKind.AUTH, False),
        (407, "Proxy Authentication Required", FailureKind.AUTH, False),
        (402, {"error": {"message": "Insufficient Balance"}}, FailureKind.QUOTA, False),
        (402, "", FailureKind.QUOTA, False),
        (429, openai("You exceeded your current quota, please check your plan", "insufficient_quota"),
         FailureKind.QUOTA, False),
        (429, {"error": {"message": "quota", "type": "exceeded_current_quota_error"}}, FailureKind.QUOTA, False),
        (403, {"error": {"code": "AccountOverdueError", "message": "Your account has an overdue balance."}},
         FailureKind.QUOTA, False),
        (429, {"error": {"code": "SetLimitExceeded", "message": "You have set a limit."}}, FailureKind.QUOTA, False),
        (400, {"code": "Arrearage", "message": "Access denied"}, FailureKind.QUOTA, False),
        (429, {"error": {"code": "1113", "message": "您的账户已欠费"}}, FailureKind.QUOTA, False),
        (400, {"error": {"message": "Your credit balance is too low"}}, FailureKind.QUOTA, False),
        (429, openai("Rate limit reached: 3 requests per minute", "rate_limit_exceeded"), FailureKind.RATE_LIMIT, True),
        (429, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message":
         "You exceeded your current quota. Please retry in 5s."}}], FailureKind.RATE_LIMIT, True),
        (429, {"error": {"code": "ServerOverloaded", "message": "busy"}}, FailureKind.RATE_LIMIT, True),
        (429, "", FailureKind.RATE_LIMIT, True),
        (429, openai("Request too large: tokens exceed the limit per minute of tokens"), FailureKind.RATE_LIMIT, True),
        (400, openai("too long", "context_length_exceeded"), FailureKind.OVERFLOW, False),
        (400, openai("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."),
         FailureKind.OVERFLOW, False),
        (400, openai("'max_tokens' or 'max_completion_tokens' is too large: 9. This maximum context length is "
         "4096 tokens."), FailureKind.PROTOCOL, False),
        (400, openai("max_tokens is too large: 9000. This model supports at most 4096 completion tokens."),
         FailureKind.PROTOCOL, False),
        (400, openai("Input token length 9000 exceeds the maximum length 8000"), FailureKind.OVERFLOW, False),
        (400, openai("Total tokens of image and text exceed max message tokens"), FailureKind.OVERFLOW, False),
        (400, openai("prompt is too long: 9000 tokens > 8000 maximum"), FailureKind.OVERFLOW, False),
        (400, {"error": {"message": "the request exceeds the available context size", "type":
         "exceed_context_size_error"}}, FailureKind.OVERFLOW, False),
        (400, {"message": "Range of input length should be [1, 30720]"}, FailureKind.OVERFLOW, False),
        (422, {"detail": "Input is too long: reduce the length of the messages"}, FailureKind.OVERFLOW, False),
        (500, {"error": "input exceeds the model's maximum context length"}, FailureKind.OVERFLOW, False),
        (413, "", FailureKind.OVERFLOW, False),
        (400, openai("filtered", "content_filter"), FailureKind.CONTENT_FILTER, False),
        (400, {"error": {"code": "InputTextSensitiveContentDetected", "message": "no"}},
         FailureKind.CONTENT_FILTER, False),
        (400, {"error": {"message": "Content Exists Risk"}}, FailureKind.CONTENT_FILTER, False),
        (400, {"code": "data_inspection_failed", "message": "no"}, FailureKind.CONTENT_FILTER, False),
        (400, openai("Unrecognized request argument supplied: x"), FailureKind.PROTOCOL, False),
        (404, openai("The model `x` does not exist", "model_not_found"), FailureKind.PROTOCOL, False),
        (404, "404 page not found", FailureKind.PROTOCOL, False),
        (405, "", FailureKind.PROTOCOL, False),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "Extra inputs are not permitted"}]},
         FailureKind.PROTOCOL, False),
        (301, "", FailureKind.PROTOCOL, False),
        (408, "", FailureKind.TIMEOUT, True),
        (409, "", FailureKind.NETWORK, True),
        (500, openai("The server had an error", type="server_error"), FailureKind.NETWORK, True),
        (502, "<html>Bad Gateway</html>", FailureKind.NETWORK, True),
        (503, "", FailureKind.NETWORK, True),
        (504, "", FailureKind.TIMEOUT, True),
        (500, {"error": "the request timed out"}, FailureKind.TIMEOUT, True),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
         FailureKind.NETWORK, True),
    ],
)  # fmt: skip
def test_a_refusal_has_its_kind(status: int, body: JSON, kind: FailureKind, is_retryable: bool) -> None:
    """By rules 9 and 10: what passes by itself is tried again, and nothing else."""
    failure = refused(status, body)

    assert (failure.kind, failure.is_retryable) == (kind, is_retryable), failure.text


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, openai("Wrong API key"), "answered 401 “Wrong API key”: the key was refused, or may not use small"),
        (403, "", "may not use small: check VOLC_API_KEY"),
        (402, "", "answered 402: the account has no credit or allowance left: top it up at the provider"),
        (404, openai("The model `x` does not exist"), "there is no model 'small' for this key: set model.model"),
        (404, {"error": {"code": "InvalidEndpointOrModel.NotFound", "message": "no"}}, "there is no model 'small'"),
        (404, {"error": "model \"x\" not found, try pulling it first"}, "there is no model 'small'"),
        (404, "404 page not found", "check model.base_url (does it lack /v1?)"),
        (400, "<html><body>nginx", "answered 400: this is not the address of a chat completions service"),
        (413, "", "longer than the model can read"),
        (503, "try\nlater", "answered 503 “try later”"),
        (500, "", "https://models.example/v1/chat/completions answered 500"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do(status: int, body: JSON, says: str) -> None:
    """In the service's own words, and in ours."""
    assert says in refused(status, body).text


def test_a_service_that_moved_is_told() -> None:
    """With the new address."""
    assert (
        "has moved “https://new.example/v1”: set model.base_url" in refused(308, location="https://new.example/v1").text
    )


def test_long_words_are_cut() -> None:
    """A page of them helps nobody."""
    text = refused(500, "x" * 100_000).text

    assert len(text) < MAX_WORDS + 100
    assert text.endswith("x…”")


@pytest.mark.parametrize(
    ("body", "message", "name"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, "m", "t c"),
        ({"error": "m"}, "m", ""),
        ({"message": "m", "code": 5}, "m", "5"),
        ({"detail": [{"loc": ["body", "x"], "msg": "m"}]}, "m", "body x"),
        ({"error": {"error": {"message": "m"}}}, "m", ""),
        ([{"error": {"message": "m"}}], "m", ""),
        ({"errors": ["m", "n"]}, "m", ""),
        ({"unknown": "m"}, '{"unknown": "m"}', ""),
        (["m"], "m", ""),
        ("m", "m", ""),
        ({}, "", ""),
        (None, "", ""),
        (
            {"a": {"b": {"c": {"d": {"e": {"message": "m"}}}}}},
            '{"a": {"b": {"c": {"d": {"e": {"message": "m"}}}}}}',
            "",
        ),
        ([[[[[["m"]]]]]], '[[[[[["m"]]]]]]', ""),
    ],
)
def test_an_error_is_read_in_many_shapes(body: JSON, message: str, name: str) -> None:
    """Outer words go before inner ones."""
    error = read_body(json.dumps(body).encode())

    assert (error.message, error.name) == (message, name)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 100_000, b"<p>", b"plain words", b""])
def test_no_body_is_too_odd(body: bytes) -> None:
    """What is not JSON is taken as it is, and a web page for nothing."""
    error = read_body(body)

    assert error.message == ("" if body == b"<p>" else body[: 64 * 1024].decode(errors="replace"))


@pytest.mark.parametrize(
    ("error", "kind", "is_retryable"),
    [
        ({"error": {"message": "it broke"}}, FailureKind.NETWORK, True),
        ({"error": {"message": "it broke", "code": 502}}, FailureKind.NETWORK, True),
        ({"error": {"message": "slow down", "code": 429}}, FailureKind.RATE_LIMIT, True),
        ({"error": {"message": "Rate limit reached", "type": "requests"}}, FailureKind.RATE_LIMIT, True),
        ({"error": {"message": "no", "type": "invalid_request_error"}}, FailureKind.PROTOCOL, False),
        ({"error": {"message": "no", "code": "context_length_exceeded"}}, FailureKind.OVERFLOW, False),
        ({"error": {"message": "no", "code": "insufficient_quota"}}, FailureKind.QUOTA, False),
        ({"error": {"message": "Invalid API key"}}, FailureKind.AUTH, False),
        ({"error": {"message": "model not found"}}, FailureKind.PROTOCOL, False),
        ({"error": {"message": "no", "code": "content_filter"}}, FailureKind.CONTENT_FILTER, False),
        ({"error": {"message": "the engine timed out"}}, FailureKind.TIMEOUT, True),
        ({"error": True}, FailureKind.NETWORK, True),
    ],
)
def test_an_error_in_a_stream_has_its_kind(error: JSON, kind: FailureKind, is_retryable: bool) -> None:
    """The request was accepted, so what is not known is the service's own trouble."""
    failure = from_stream(error)

    assert (failure.kind, failure.is_retryable) == (kind, is_retryable)


def test_an_error_in_a_stream_is_quoted() -> None:
    """With its name."""
    failure = from_stream({"error": {"message": "it broke", "type": "server_error"}})

    assert failure.text == "the service broke off with an error (server_error) “it broke”"


@pytest.mark.parametrize(
    ("chunk", "is_error"),
    [
        ({"error": {"message": "m"}}, True),
        ({"error": None, "choices": []}, False),
        ({"error": ""}, False),
        ({"message": "m", "code": "busy"}, True),
        ({"detail": "m"}, True),
        ({"message": "ok", "code": 200}, False),
        ({"message": {"content": "m"}}, False),
        ({"message": "m", "choices": []}, False),
        ({}, False),
    ],
)
def test_an_error_is_told_from_a_chunk(chunk: dict[str, JSON], is_error: bool) -> None:
    """Not every service wraps it."""
    assert looks_like_error(chunk) is is_error


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW + 90).replace("-0000", "")}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "2"}, 2.0),
        ({"retry-after": "Mon, 99 Foo 2023 99:99:99 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 99999999 22:13:20 GMT"}, None),
    ],
)
def test_the_wish_to_wait_is_read(headers: dict[str, str], expected: float | None) -> None:
    """In seconds, as a date, or in milliseconds."""
    assert retry_after_s(headers, now_s=NOW) == expected


def test_the_wish_to_wait_is_in_the_failure() -> None:
    """So that the loop can honour it."""
    assert refused(429, retry_after="7").retry_after_s == 7


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("your key s3cr3t-k3y is wrong", "your key *** is wrong"),
        ("Authorization: Bearer abcdefgh", "Authorization: Bearer ***"),
        ('{"Authorization": "Basic dXNlcjpwYXNz=="}', '{"Authorization": "Basic ***"}'),
        ("Incorrect API key provided: sk-abc***xyz.", "Incorrect API key provided: sk-***."),
        ("api_key=abcdefgh&x=1", "api_key=***&x=1"),
        ('"x-api-key": "abcdefgh"', '"x-api-key": "***"'),
        ("https://me:pass@host/v1", "https://***@host/v1"),
        ("http://token@host/v1", "http://***@host/v1"),
        ("max_tokens: 1000000 is too large", "max_tokens: 1000000 is too large"),
        ("https://models.example/v1 answered 401", "https://models.example/v1 answered 401"),
    ],
)
def test_keys_are_taken_out_of_texts(text: str, clean: str) -> None:
    """Ours, and whatever looks like one."""
    assert Redactor(["s3cr3t-k3y", ""]).clean(text) == clean
