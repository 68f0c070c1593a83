"""HTTP with the ``openai`` package, which knows more proxies and keeps its connections in one place.

Only its transport is used: the body goes out as it is, and the raw bytes of the answer come back, so that one piece of
code reads every service whatever the library. 1.40 and later will do, on httpx or httpx2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pibot_mesh.agent.failures import Redactor
from pibot_mesh.agent.transport import TransportError
from pibot_mesh.protocol.codec import JSON

if TYPE_CHECKING:
    from openai import AsyncAPIResponse, AsyncOpenAI

_LIBRARIES: Final = ("openai", "httpx", "httpcore")
"""What logs here: the package and what it stands on, each with its loggers below it."""
_FINISH_S: Final = 0.25
"""Seconds that a body may stay open behind what mattered of it."""


class OpenAITransport:
    """Sends requests to the service at *base_url* with *api_key*; *connect_s* limits each step of connecting."""

    name: Final = "openai"

    def __init__(self, base_url: str, api_key: str | None, *, connect_s: float = 10.0) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._connect_s = connect_s
        self._client: AsyncOpenAI | None = None
        self._is_closed = False
        self._silencer = _Silencer(Redactor([api_key or ""]))
        self._open: set[_Reply] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r})"

    async def open(self) -> None:
        """See `Transport.open`: the package takes a second on a small machine."""
        if self._client is None and not self._is_closed:
            try:
                client = await asyncio.to_thread(self._make_client)
            except Exception as error:  # noqa: BLE001 - foreign code, which reads the environment: proxies, certificates
                raise TransportError("setup", f"the openai package cannot be used: {error}") from None
            if not self._adopt(client):
                await client.close()

    async def post(self, path: str, body: Mapping[str, JSON]) -> _Reply | _Refusal:
        """See `Transport.post`; *path* is that of chat completions, the only one that the package is used for."""
        assert path == "/chat/completions", path
        if self._client is None:
            raise TransportError("setup", "the model client is closed, or was not opened")
        from openai import APIConnectionError, APIStatusError

        create = self._client.chat.completions.with_streaming_response.create
        try:
            response = await create(model=body["model"], messages=[], extra_body=dict(body)).__aenter__()
        except APIStatusError as error:
            return _Refusal(error.status_code, _lower(error.response.headers), error.response.content)
        except APIConnectionError as error:
            raise self._error(error.__cause__ or error) from None
        except Exception as error:  # noqa: BLE001 - foreign code: httpx or httpx2, whichever the package stands on
            raise self._error(error) from None
        reply = _Reply(response, self)
        self._open.add(reply)
        return reply

    async def aclose(self) -> None:
        """Close the client and its connections."""
        self._is_closed = True
        client, self._client = self._client, None
        for reply in list(self._open):
            await reply.end()
        if client is not None:
            await client.close()
        self._silencer.leave()

    def _adopt(self, client: AsyncOpenAI) -> bool:
        """Use *client*, unless another call was first, or all was closed meanwhile."""
        if self._is_closed or self._client is not None:
            return False
        self._client = client
        self._silencer.enter()
        return True

    def _make_client(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

        timeout = Timeout(None, connect=self._connect_s)
        client = AsyncOpenAI(
            api_key=self._api_key or "none",  # it insists on one, also where the service needs none
            base_url=self._base_url,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False),
        )
        if urlsplit(self._base_url).hostname != "api.openai.com":
            # Read from the environment, and nobody else's business.
            client.organization = client.project = None
        return client

    def _error(self, error: BaseException) -> TransportError:
        return _transport_error(error, self._base_url, self._connect_s)


class _Silencer(logging.Filter):
    """Takes keys out of what the libraries log at DEBUG: they write down all that a service says."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor
        self._loggers: list[logging.Logger] = []

    def enter(self) -> None:
        """Stand at every logger of the libraries, which are loaded by now."""
        names = [name for name in list(logging.Logger.manager.loggerDict) if name.startswith(_LIBRARIES)]
        self._loggers = [logging.getLogger(name) for name in names]
        for logger in self._loggers:
            logger.addFilter(self)

    def leave(self) -> None:
        """Stand there no more."""
        for logger in self._loggers:
            logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean *record*, and let it through."""
        record.msg, record.args = self._redactor.clean(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = self._redactor.clean(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return True


class _Reply:
    """A reply in the making."""

    def __init__(self, response: AsyncAPIResponse[Any], transport: OpenAITransport) -> None:
        self.status = response.status_code
        self.headers = _lower(response.headers)
        self._response = response
        self._transport = transport
        self._pieces = response.iter_bytes()
        self._rest: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        """See `Reply.read`."""
        try:
            return await anext(self._pieces, b"")
        except Exception as error:  # noqa: BLE001 - foreign code: httpx or httpx2, whichever the package stands on
            raise self._transport._error(error) from None

    def finish(self) -> None:
        """See `Reply.finish`."""
        if self._rest is None:
            self._rest = asyncio.create_task(self._read_rest())

    async def aclose(self) -> None:
        """See `Reply.aclose`. What is left of a finished body is read in a task of its own, for a short time."""
        if self._rest is None:
            await self.end()

    async def end(self) -> None:
        """Close the response, whatever is left of it."""
        if self._rest is not None and self._rest is not asyncio.current_task():
            self._rest.cancel()
        self._transport._open.discard(self)
        with contextlib.suppress(Exception):  # what fails in closing is closed
            await self._response.close()

    async def _read_rest(self) -> None:
        try:
            async with asyncio.timeout(_FINISH_S):
                while await self.read():
                    pass
        except (TimeoutError, TransportError):
            pass
        finally:
            await self.end()


class _Refusal:
    """A reply other than 2xx, which the package has read already."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def read(self) -> bytes:
        """See `Reply.read`."""
        body, self._body = self._body, b""
        return body

    def finish(self) -> None:
        """See `Reply.finish`."""

    async def aclose(self) -> None:
        """See `Reply.aclose`."""


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _transport_error(error: BaseException, at: str, connect_s: float) -> TransportError:
    """By the names of the classes, which httpx and httpx2 share, and no import is needed to ask for them."""
    names = {cls.__name__ for cls in type(error).__mro__}
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return TransportError("setup", f"the certificate of {at} is not to be trusted: {text}")
    if "ConnectError" in names and "SSL" in text:
        return TransportError("setup", f"{at} does not speak TLS as it should ({text}): is it http://?")
    if names & {"ConnectTimeout", "PoolTimeout"}:
        return TransportError("connect", f"no connection to {at} within {connect_s:g} s")
    if "ConnectError" in names:
        return TransportError("connect", f"no connection to {at}: {text}")
    if names & {"ProxyError", "UnsupportedProtocol", "InvalidURL", "ImportError", "ValueError"}:
        return TransportError("setup", f"no connection to {at}: {text}")
    is_broken = "RemoteProtocolError" in names and "disconnected" not in text and "closed" not in text
    return TransportError("protocol" if is_broken else "cut", f"the connection to {at} broke: {text}")
