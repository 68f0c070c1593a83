"""One request on its way: its events as they come, then its reply."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from pibot_mesh.cli.absence import Absence
from pibot_mesh.client import Client, Reach
from pibot_mesh.protocol.messages import Control, Event, Reply

_HEARD_WITHIN_S: Final = 4.0


class Asking:
    """A request that *client* sends as soon as this is made. Iterate over its events; when they end, see `reply`.

    *tell* gets a line for people when the master or the broker goes away, and one when the request goes on, in their
    places between the events.

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
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._client = client
        self._tell = tell
        self._absence = Absence()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | str | None] = asyncio.Queue()
        self._task = asyncio.ensure_future(
            client.ask(
                text,
                node=node,
                mode=mode,
                timeout_s=timeout_s,
                session=session,
                request_id=self.id,
                heard_within_s=_HEARD_WITHIN_S,
                on_event=self._heard,
                on_reach=self._reached,
            )
        )
        self._task.add_done_callback(self._ended)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The events, until the reply is there."""
        while (told := await self._events.get()) is not None:
            if isinstance(told, str):
                self._tell(told)
            else:
                yield told

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

    def _heard(self, event: Event) -> None:
        self._note(self._absence.heard(event.boot))
        self._events.put_nowait(event)

    def _reached(self, reach: Reach) -> None:
        self._note(self._absence.reached(reach, self._loop.time()))
        due_at = self._absence.due_at
        if due_at is not None:
            self._loop.call_at(due_at, lambda: self._note(self._absence.due(due_at)))

    def _ended(self, asked: asyncio.Future[Reply]) -> None:
        if not asked.cancelled() and asked.exception() is None:
            self._note(self._absence.heard(asked.result().boot))
        self._events.put_nowait(None)

    def _note(self, line: str | None) -> None:
        if line is not None:
            self._events.put_nowait(line)

    def leave(self) -> None:
        """Wait no longer. Does nothing once the reply is there."""
        self._task.cancel()
