"""A model client that asks a FakeModelServer, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.model import Answer, Delta, Model, ModelFailure, ModelRequest, StreamPart, UsageSeen
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.protocol.messages import Usage
from pibot_mesh.testing import FakeModelServer, HttpAnswer, SeenRequest
from pibot_mesh.testing.model_server import Script
from pibot_mesh.testing.quirks import PLAIN
from tests.conformance.agent.agents import SETTINGS, Path


@asynccontextmanager
async def asking(
    path: Path, script: Script, settings: ModelSettings = SETTINGS, send_buffer: int = 0
) -> AsyncIterator[tuple[LLMClient, FakeModelServer]]:
    """A client over one of the two HTTP paths, with *script* at the other end."""
    async with (
        FakeModelServer(script, send_buffer=send_buffer) as server,
        LLMClient(replace(settings, base_url=server.base_url), transport=path) as client,
    ):
        yield client, server


def always(answer: HttpAnswer | Callable[[SeenRequest], HttpAnswer]) -> Script:
    """The same answer to every request."""
    return answer if callable(answer) else lambda _: answer


class Outcome:
    """The parts of one call: any number of deltas and usages, and one end."""

    def __init__(self, parts: list[StreamPart]) -> None:
        *before, end = parts
        assert all(isinstance(part, (Delta, UsageSeen)) for part in before), before
        assert isinstance(end, (Answer, ModelFailure)), end
        self.end: Answer | ModelFailure = end
        self.text = "".join(part.text for part in before if isinstance(part, Delta) and part.kind == "text")
        self.reasoning = "".join(part.text for part in before if isinstance(part, Delta) and part.kind == "reasoning")
        usages = [part.usage for part in before if isinstance(part, UsageSeen)]
        self.usage: Usage | None = usages[-1] if usages else None
        message = end.message if isinstance(end, Answer) else end.partial
        assert (message.text, message.reasoning) == (self.text, self.reasoning), "the end repeats what was streamed"
        if isinstance(end, ModelFailure):
            assert not end.partial.calls, "what failed has no calls that could be run"

    @property
    def answer(self) -> Answer:
        """The end, which is one that went well."""
        assert isinstance(self.end, Answer), self.end
        return self.end

    @property
    def failure(self) -> ModelFailure:
        """The end, which is a failure."""
        assert isinstance(self.end, ModelFailure), self.end
        return self.end


async def outcome(client: Model, request: ModelRequest = PLAIN, within_s: float = 10.0) -> Outcome:
    """What comes of *request*. Raises TimeoutError where it does not end *within_s*."""
    async with asyncio.timeout(within_s), aclosing(client.stream(request)) as stream:
        return Outcome([part async for part in stream])
