"""The model client: one way to speak with every OpenAI-compatible service, over either HTTP library."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import math
import time
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypeVar

from pibot_mesh.agent.failures import MAX_BODY, Redactor, Service, from_response, read_body
from pibot_mesh.agent.model import Answer, FailureKind, ModelFailure, ModelRequest, StreamPart
from pibot_mesh.agent.providers import base_url_of, model_of, profile_of
from pibot_mesh.agent.reading import AnswerReader
from pibot_mesh.agent.transport import Reply, Transport, TransportError
from pibot_mesh.agent.wire import Body, learned, request_body
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.errors import ConfigError

T = TypeVar("T")

_log = logging.getLogger(__name__)

TransportName: TypeAlias = Literal["auto", "openai", "standard"]

PATH: Final = "/chat/completions"
LINGER_S: Final = 3.0
"""Seconds for the usage and the end of an answer to come behind its finish_reason."""
_MUCH: Final = 16 * 1024
"""Bytes of one read that say that more is waiting."""
_MAX_LEARNED: Final = 8
"""Requests that one call may send again, each without one more field that was refused."""


class LLMClient:
    """A language model behind an OpenAI-compatible service; fulfils `pibot_mesh.agent.model.Model`.

    *transport* is the library for HTTP: ``openai`` for the package of that name, ``standard`` for the standard library
    alone, ``auto`` for what *settings* say, which by default is the package where it is installed. Used in one event
    loop, by any number of calls at a time. What a service refuses by name is left out from then on.

    Raises ConfigError for settings that name no service, or a package that is not there. A key that is missing is told
    by the calls.
    """

    def __init__(self, settings: ModelSettings, *, transport: TransportName = "auto") -> None:
        profile = profile_of(settings)
        self._settings = settings
        self._dialect = profile.dialect
        self._base_url = base_url_of(settings)
        self._model = model_of(settings)
        key = (settings.api_key or "").strip()
        self._redactor = Redactor([key])
        self._service = Service(self._base_url + PATH, self._model, f"check {profile.key_variable}")
        self._unready = _key_problem(key, profile.key_variable, needs_key=profile.needs_key)
        self._transport = _make_transport(settings, transport, self._base_url, key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.provider}, {self._model!r}, {self._transport!r})"

    @property
    def model(self) -> str:
        """The model's name."""
        return self._model

    @property
    def base_url(self) -> str:
        """The address of the service."""
        return self._base_url

    @property
    def transport_name(self) -> Literal["openai", "standard"]:
        """The library for HTTP that is used."""
        return self._transport.name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is open, within 0.1 s: calls that still run end with a failure."""
        await self._transport.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """See `Model.stream`."""
        if self._unready is not None:
            yield self._unready
            return
        asked = 0
        while True:
            asked += 1
            body = self._body(request)
            patience = _Patience(self._settings.first_content_s)
            reply = await self._post(body, patience)
            if isinstance(reply, ModelFailure):
                yield self._redacted(reply)
                return
            try:
                if not 200 <= reply.status < 300:
                    refusal = await self._refusal(reply, patience)
                    if asked <= _MAX_LEARNED and self._learn(refusal, body):
                        continue
                    yield self._redacted(refusal.failure)
                    return
                reader = AnswerReader()
                is_last = False
                while not (is_last or reader.is_over):
                    pieces = reader.pieces
                    parts, is_last = await self._next(reply, reader, patience)
                    if reader.pieces != pieces:
                        patience = _Patience(self._settings.between_s)
                    for part in parts:
                        yield part
                if reader.is_done:
                    reply.finish()
                outcome = reader.outcome()
                yield outcome if isinstance(outcome, Answer) else self._redacted(outcome)
                return
            finally:
                await reply.aclose()

    def _body(self, request: ModelRequest) -> Body:
        return request_body(
            request,
            self._model,
            self._dialect,
            max_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature,
        )

    async def _post(self, body: Body, patience: _Patience) -> Reply | ModelFailure:
        try:
            await self._transport.open()
            return await patience.wait(self._transport.post(PATH, body))
        except TimeoutError:
            return ModelFailure(FailureKind.TIMEOUT, self._silence(is_begun=False), is_retryable=True)
        except TransportError as error:
            return ModelFailure(FailureKind.NETWORK, str(error), error.is_retryable)

    async def _next(self, reply: Reply, reader: AnswerReader, patience: _Patience) -> tuple[list[StreamPart], bool]:
        """What comes next, and whether it is the last."""
        try:
            piece = await patience.wait(reply.read(), LINGER_S if reader.is_finished else math.inf)
        except (TimeoutError, TransportError) as error:
            if not reader.is_finished:
                reader.break_off(*self._why_broken(error, is_begun=reader.pieces > 0))
            return [], True
        if len(piece) >= _MUCH:
            # What comes as fast as it is read never lets the loop run, and so nobody could end it.
            await asyncio.sleep(0)
        return (reader.feed(piece), False) if piece else (reader.end(), True)

    def _why_broken(self, error: TimeoutError | TransportError, *, is_begun: bool) -> tuple[FailureKind, str, bool]:
        if isinstance(error, TransportError):
            return FailureKind.NETWORK, f"the answer was cut: {error}", error.is_retryable
        return FailureKind.TIMEOUT, self._silence(is_begun=is_begun), True

    def _silence(self, *, is_begun: bool) -> str:
        if is_begun:
            return f"{self._service.url} said nothing for {self._settings.between_s:g} s in the middle of its answer"
        return f"{self._service.url} gave no answer within {self._settings.first_content_s:g} s"

    async def _refusal(self, reply: Reply, patience: _Patience) -> _Refusal:
        body = b""
        with contextlib.suppress(TimeoutError, TransportError):  # what came of the explanation must do
            while len(body) < MAX_BODY and (piece := await patience.wait(reply.read(), LINGER_S)):
                body += piece
        error = read_body(body)
        failure = from_response(reply.status, reply.headers, body, self._service, now_s=time.time())
        return _Refusal(failure, reply.status, f"{error.name} {error.message}")

    def _learn(self, refusal: _Refusal, sent: Body) -> bool:
        """Whether the request may go better now: a field that was refused by its name will not be sent again."""
        if refusal.status not in (400, 422) or refusal.failure.kind is not FailureKind.PROTOCOL:
            return False
        dialect = learned(self._dialect, sent, refusal.words)
        if dialect is None:
            return False
        self._dialect = dialect
        _log.info("%s refuses a field of the request: it is left out from now on", self._service.url)
        return True

    def _redacted(self, failure: ModelFailure) -> ModelFailure:
        return replace(failure, text=self._redactor.clean(failure.text))


class _Patience:
    """How long the service may go on saying nothing. Only the time counts in which we wait for it."""

    def __init__(self, limit_s: float) -> None:
        self._left_s = limit_s

    async def wait(self, what: Awaitable[T], at_most_s: float = math.inf) -> T:
        """What *what* gives. Raises TimeoutError where the time is up before, or *at_most_s* are over."""
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(min(self._left_s, at_most_s)):
                return await what
        finally:
            self._left_s -= time.monotonic() - begun_s


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An answer other than 2xx, and the service's own *words* for it."""

    failure: ModelFailure
    status: int
    words: str


def _key_problem(key: str, variable: str, *, needs_key: bool) -> ModelFailure | None:
    if not key and needs_key:
        return ModelFailure(FailureKind.AUTH, f"there is no key for the model: set {variable}, or model.api_key_file")
    if not (key.isascii() and key.isprintable()) or " " in key:
        text = f"the key for the model holds characters that no key has: copy it again ({variable}, model.api_key_file)"
        return ModelFailure(FailureKind.AUTH, text)
    return None


def _make_transport(settings: ModelSettings, choice: TransportName, base_url: str, key: str) -> Transport:
    if choice == "auto":
        choice = settings.transport
    has_package = importlib.util.find_spec("openai") is not None
    if choice == "openai" and not has_package:
        text = "the openai package is not installed: pip install 'pibot-mesh[llm]', or say standard"
        raise ConfigError([f"model.transport: {text}"])
    if choice == "openai" or (choice == "auto" and has_package):
        from pibot_mesh.agent.http_openai import OpenAITransport

        return OpenAITransport(base_url, key, connect_s=settings.connect_s)
    from pibot_mesh.agent.http_standard import StandardTransport

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return StandardTransport(base_url, headers, connect_s=settings.connect_s)
