"""What went wrong with a model call, by kind and in words. Pure: status, headers and body in, a failure out.

Which kinds are worth a retry is rule 9 of the agent core: connection errors, 408, 409, 429, 5xx and what resembles
them; never authentication, quota or a bad request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from pibot_mesh.agent.model import FailureKind, ModelFailure

MAX_WORDS: Final = 400
"""Characters of a service's own words in a failure's text."""
MAX_BODY: Final = 64 * 1024
"""Bytes of an error's body that are worth reading."""


@dataclass(frozen=True, slots=True)
class Service:
    """Whom a failure's text speaks of: *url* is where the request went, without any key."""

    url: str
    model: str
    key_advice: str
    """What to do about a key that is refused: ``set VOLC_API_KEY``."""


@dataclass(frozen=True, slots=True)
class ServiceError:
    """What a service said of its own error. *name* holds its code, type and status words."""

    message: str
    name: str = ""
    status: int | None = None


class Redactor:
    """Takes keys out of texts: the *secrets* themselves, and whatever stands where keys stand."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret for secret in secrets if secret]

    def clean(self, text: str) -> str:
        """*text* with ``***`` in the place of every key."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
        return text


_SECRETS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/*-]{4,}=*"), r"\1 ***"),
    (
        re.compile(
            r"""(?i)(authorization|api[-_ ]?key|token|secret)(["']?\s*[:=]\s*["']?)(?!bearer|basic)[^\s"',;&]{6,}"""
        ),
        r"\1\2***",
    ),
    (re.compile(r"\b(sk|ak|ark|pk)-[\w*-]{6,}"), r"\1-***"),
    (re.compile(r"(//)[^/\s@]+@"), r"\1***@"),
)


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_QUOTA: Final = _any(
    "insufficient[ _]?(quota|balance|funds|credit)",
    "exceeded[ _]your[ _]current[ _]quota",
    "exceeded_current_quota",
    "(credit|account) balance",
    "overdue",
    "arrearage",
    "SetLimitExceeded",
    "out of credit",
    "(free )?(credits?|quota|allocation) (is |are |has been )?(exhausted|used up)",
    "payment.required",
    "billing[ _](hard[ _]limit|not[ _]active)",
    "余额不足",
    "欠费",
)
_PACE: Final = _any("per.?(minute|second|hour|day)", r"(retry|again) (in|after)\b", "retryDelay", r"\b[RT]PM\b")
_OVERFLOW: Final = _any(
    "context_length_exceeded",
    "exceed_context_size",
    "(maximum|max|model'?s?) (context|prompt|input|sequence) ?(length|size|window|tokens)",
    "(context|prompt|input|token)[^.]{0,80}(exceeds?|exceeded|longer than|larger than|greater than|too long|too many)"
    "[^.]{0,60}(context|token|length|window|limit|maximum)",
    "(exceeds?|exceeded|larger than|longer than|greater than|overflows?)[^.]{0,60}(context|max_?model_?len|"
    "(maximum|input|prompt)[ _]?(number of )?tokens|token limit|(maximum|max)[ _](input|prompt))",
    "(prompt|input|request|conversation)( text)? (is |has )?too (long|large|many tokens)",
    "too many (input |prompt )?tokens",
    "Range of input length should be",
    "reduce the length of the (messages|prompt|input)",
    "string_above_max_length",
    "上下文.{0,12}(超|过长)|输入.{0,8}过长",
)
_LIMIT_REFUSED: Final = _any(r"max_(completion_)?tokens\W{0,3}(or \W?max_completion_tokens\W?)? ?(is|are) too")
_FILTERED: Final = _any(
    "content[_ ]?filter",
    "content[_ ]?policy",
    "content management policy",
    "SensitiveContentDetected",
    "data_inspection_failed",
    "content exists risk",
    "considered high risk",
    "ResponsibleAIPolicy",
    "(flagged|blocked)[^.]{0,40}(safety|moderation|policy)",
    "敏感",
)
_KEY_REFUSED: Final = _any(
    "(invalid|incorrect|wrong|missing|expired|no)[ _](api[ _]?key|token|credential)",
    "api[ _]?key[^.]{0,40}(not valid|invalid|incorrect|missing|expired|format)",
    "API_KEY_INVALID",
    "authentication",
    "unauthori[sz]ed",
    "didn't provide an api key",
)
_NO_MODEL: Final = _any(
    "model[_ ]?not[_ ]?(found|open|exist)",
    "InvalidEndpointOrModel",
    "no such model",
    "model\\b[^.]{0,120}(not found|does not exist|not exist|not activated|no access|unknown)",
    "try pulling it",
)
_BAD_REQUEST: Final = _any("invalid[_ ]?request", "bad[_ ]?request", "invalid[_ ]?(parameter|argument)", "not support")
_BUSY: Final = _any("rate.?limit", "too many requests", "overload", "concurren", "throttl", "RESOURCE_EXHAUSTED")
_LIKELY: Final = ((_KEY_REFUSED, 401), (_NO_MODEL, 404), (_BAD_REQUEST, 400), (_BUSY, 429))
"""The status that an error in a stream would have had, by its words; first come, first served."""
_OUT_OF_TIME: Final = _any("time[d]?.?out", "deadline")


def read_body(body: bytes) -> ServiceError:
    """What the body of an error says, whatever its shape: JSON of several fashions, plain text, or a web page."""
    text = body[:MAX_BODY].decode("utf-8", "replace").strip()
    try:
        return read_error(json.loads(text))
    except (ValueError, RecursionError):
        return ServiceError("" if text.startswith("<") else text, "html" if text.startswith("<") else "")


def read_error(value: object) -> ServiceError:
    """What a decoded error says: an object, ``{"error": ...}`` in any depth, a list of them, or bare text."""
    message, names, status = "", list[str](), None
    for key, item in _leaves(value, 0):
        if key in ("message", "detail", "msg", "error", "error_msg", "errors", "") and not message:
            message = str(item)
        elif key in ("code", "type", "status", "param", "reason", "retryDelay", "loc", "metadata"):
            names.append(str(item))
            if key in ("code", "status") and _is_status(item):
                status = int(str(item))
    if not message and not names and value:
        message = json.dumps(value, ensure_ascii=False)
    return ServiceError(message.strip(), " ".join(names), status)


def _leaves(value: object, depth: int, key: str = "") -> Iterator[tuple[str, object]]:
    """The scalars of an error, outer ones first, each with the key it stands under; nothing below four levels."""
    if isinstance(value, dict):
        scalars = [(str(name), item) for name, item in value.items() if not isinstance(item, (dict, list))]
        yield from ((name, item) for name, item in scalars if item not in (None, ""))
        below = [(str(name), item) for name, item in value.items() if isinstance(item, (dict, list))]
        for name, item in below if depth < 4 else ():
            yield from _leaves(item, depth + 1, name)
    elif isinstance(value, list):
        for item in value[:20] if depth < 4 else ():
            yield from _leaves(item, depth + 1, key)
    elif value not in (None, ""):
        yield key, value


def _is_status(value: object) -> bool:
    return not isinstance(value, bool) and re.fullmatch("[45][0-9][0-9]", str(value)) is not None


def looks_like_error(chunk: Mapping[str, object]) -> bool:
    """Whether what stands where a chunk of the answer should is a service's error."""
    if chunk.get("error"):
        return True
    if "choices" in chunk or "usage" in chunk:
        return False
    has_words = any(isinstance(chunk.get(key), str) and chunk[key] for key in ("message", "detail", "msg"))
    return has_words and chunk.get("code") not in (0, "0", 200, "200")


def from_response(
    status: int, headers: Mapping[str, str], body: bytes, service: Service, *, now_s: float
) -> ModelFailure:
    """The failure that an HTTP answer tells, other than 2xx. *headers* have lower-case names; *now_s* is Unix time."""
    error = read_body(body)
    kind = _kind(status, error)
    advice = _advice(kind, status, error, headers, service)
    words = f"{service.url} answered {status}{_quoted(error.message)}{advice}"
    return ModelFailure(kind, words, _is_retryable(kind, status), retry_after_s(headers, now_s=now_s))


def from_stream(value: object) -> ModelFailure:
    """The failure that an error in the middle of a stream tells. The service had accepted the request before."""
    error = read_error(value)
    text = f"{error.name} {error.message}"
    status = error.status
    if status is None:
        status = next((likely for pattern, likely in _LIKELY if pattern.search(text)), 500)
    kind = _kind(status, error)
    named = f" ({error.name})" if error.name else ""
    return ModelFailure(
        kind, f"the service broke off with an error{named}{_quoted(error.message)}", _is_retryable(kind, status)
    )


def _kind(status: int, error: ServiceError) -> FailureKind:
    text = f"{error.name} {error.message}"
    if status == 402:
        return FailureKind.QUOTA
    if status != 401 and _QUOTA.search(text) and ("insufficient" in text.lower() or not _PACE.search(text)):
        return FailureKind.QUOTA
    if status not in (401, 403, 404, 408, 429) and _OVERFLOW.search(text) and not _LIMIT_REFUSED.search(text):
        return FailureKind.OVERFLOW
    if status not in (401, 408, 429) and _FILTERED.search(text):
        return FailureKind.CONTENT_FILTER
    if status in (401, 403) or (status in (400, 407) and _KEY_REFUSED.search(text)):
        return FailureKind.AUTH
    if status == 413:
        return FailureKind.OVERFLOW
    if status == 429:
        return FailureKind.RATE_LIMIT
    if status in (408, 504) or (status >= 500 and _OUT_OF_TIME.search(text)):
        return FailureKind.TIMEOUT
    return FailureKind.NETWORK if status == 409 or status >= 500 else FailureKind.PROTOCOL


def _is_retryable(kind: FailureKind, status: int) -> bool:
    passing = (FailureKind.NETWORK, FailureKind.RATE_LIMIT, FailureKind.TIMEOUT)
    return kind in passing and (status in (408, 409, 429) or status >= 500)


def _advice(kind: FailureKind, status: int, error: ServiceError, headers: Mapping[str, str], service: Service) -> str:
    text = f"{error.name} {error.message}"
    if kind is FailureKind.AUTH:
        return f": the key was refused, or may not use {service.model}: {service.key_advice}"
    if kind is FailureKind.QUOTA:
        return ": the account has no credit or allowance left: top it up at the provider"
    if kind is FailureKind.OVERFLOW:
        return ": the conversation is longer than the model can read"
    if 300 <= status < 400:
        return f": the service has moved{_quoted(headers.get('location', ''))}: set model.base_url to its new address"
    if status in (400, 404) and _NO_MODEL.search(text):
        return f": there is no model {service.model!r} for this key: set model.model (or MODEL_NAME) to one that it has"
    if status in (404, 405) or error.name == "html":
        return ": this is not the address of a chat completions service: check model.base_url (does it lack /v1?)"
    return ""


def _quoted(words: str) -> str:
    words = " ".join(words.split())
    return f" “{words if len(words) <= MAX_WORDS else words[: MAX_WORDS - 1] + '…'}”" if words else ""


def retry_after_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """How many seconds the service asks to wait: ``retry-after-ms``, or Retry-After as seconds or as an HTTP date."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
