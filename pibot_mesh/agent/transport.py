"""What an HTTP path must do for the model client, whichever library it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from pibot_mesh.protocol.codec import JSON

Cause: TypeAlias = Literal["connect", "cut", "setup", "protocol"]


class TransportError(Exception):
    """No answer, or not the whole of it.

    *cause*: ``connect`` for no connection, ``cut`` for one that ended in the middle, ``protocol`` for bytes that are
    not HTTP, ``setup`` for what no second try can mend (a certificate, an address that is no web service, a proxy of a
    kind that is not known). The text may hold what libraries say, so it must be redacted before anybody sees it.
    """

    def __init__(self, cause: Cause, text: str) -> None:
        self.cause = cause
        super().__init__(text)

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may go well a little later."""
        return self.cause in ("connect", "cut")


class Reply(Protocol):
    """An HTTP answer whose body comes in pieces."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case."""
        ...

    async def read(self) -> bytes:
        """The next bytes of the body as soon as there are any; ``b""`` at its end. Raises TransportError."""
        ...

    def finish(self) -> None:
        """Say that the rest of the body does not matter, but would be short: its connection may serve again."""
        ...

    async def aclose(self) -> None:
        """End the exchange at once, whatever is still to come. May be called at any time, and twice."""
        ...


class Transport(Protocol):
    """Sends requests to one service. Cancelling who waits ends what it waits for at once."""

    @property
    def name(self) -> Literal["openai", "standard"]:
        """Which library it stands on."""
        ...

    async def open(self) -> None:
        """Load what must be loaded, without holding the loop up. Costs nothing later. Raises TransportError."""
        ...

    async def post(self, path: str, body: Mapping[str, JSON]) -> Reply:
        """POST *body* as JSON to *path* below the service's address. Raises TransportError.

        Returns as soon as status and headers are there, whatever they are: an error is a reply as well. There is no
        time limit but that for connecting.
        """
        ...

    async def aclose(self) -> None:
        """End everything that is open."""
        ...
