"""One request on its way: its events as they come, then its reply."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Final, Literal

from pibot_mesh.client import Client
from pibot_mesh.protocol.messages import Control, Event, Reply

_HEARD_WITHIN_S: Final = 4.0


class Asking:
    """A request that *client* sends as soon as this is made. Iterate over its events; when they end, see `reply`.

    Leave the iteration early only after `leave`.
    """

    def __init__(
        self,
        client: Client,
        text: str,
        *,
        node: str | None = None,
        mode: Literal["auto", "plan_only"] = "auto",
        timeout_s: float = 120.0,
        session: str | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._client = client
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._task = asyncio.ensure_future(
            client.ask(
                text,
                node=node,
                mode=mode,
                timeout_s=timeout_s,
                session=session,
                request_id=self.id,
                heard_within_s=_HEARD_WITHIN_S,
                on_event=self._events.put_nowait,
            )
        )
        self._task.add_done_callback(lambda _: self._events.put_nowait(None))

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The events, until the reply is there."""
        while (event := await self._events.get()) is not None:
            yield event

    @property
    def reply(self) -> Reply | None:
        """The reply, once the events have ended; None after `leave`. Raises what `Client.ask` raises."""
        return None if self._task.cancelled() else self._task.result()

    def cancel(self, reason: str) -> None:
        """Have the master cancel the request. Its reply still comes."""
        self._client.cancel(self.id, reason)

    def control(self, control: Control) -> None:
        """Give an order about the request."""
        self._client.control(self.id, control)

    async def cancelled_within(self, timeout_s: float, reason: str) -> None:
        """Have the master cancel the request, and wait for its reply for at most *timeout_s* seconds."""
        self.cancel(reason)
        await asyncio.wait([self._task], timeout=timeout_s)
        self.leave()

    def leave(self) -> None:
        """Wait no longer. Does nothing once the reply is there."""
        self._task.cancel()
