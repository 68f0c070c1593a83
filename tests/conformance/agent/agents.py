"""An AgentCore that talks to a real HTTP server on loopback, for the tests of its rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import AgentEvent, Outcome, ToolEnd
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.messages import AssistantMessage, Message, ToolMessage
from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.testing import FakeModelServer
from pibot_mesh.testing.model_server import Script

Path: TypeAlias = Literal["standard", "openai"]
QUICK = RunLimits(retry_base_s=0.01)
"""The usual limits, with retries that a test can wait for."""
SETTINGS = ModelSettings("custom", model="m", api_key="not-a-real-key", first_content_s=20, between_s=20)


@dataclass(slots=True)
class Bench:
    """A server that plays a script, and the agent that asks it."""

    server: FakeModelServer
    agent: AgentCore
    events: list[AgentEvent]

    async def run(self, instruction: str = "do it", on: Callable[[AgentEvent], None] | None = None) -> Outcome:
        """Do *instruction*; *on* sees each event as it comes."""
        async with asyncio.timeout(20):
            async for event in self.agent.run(instruction):
                self.events.append(event)
                if on is not None:
                    on(event)
        assert_valid(self.agent.messages)
        return self.agent.outcome

    def types(self) -> list[str]:
        """The types of all events so far, deltas merged."""
        types = [event.type for event in self.events]
        return [one for place, one in enumerate(types) if one != "message_delta" or types[place - 1] != one]

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    def results(self) -> list[tuple[str, bool]]:
        """The texts of the results that the model was told, and whether each is an error; from the transcript."""
        return [(m.text, m.is_error) for m in self.agent.messages if isinstance(m, ToolMessage)]

    def ended(self) -> list[str]:
        """The ids of the calls, in the order in which they ended."""
        return [event.call for event in self.of(ToolEnd)]


@asynccontextmanager
async def bench(
    path: Path,
    script: Script,
    tools: ToolRegistry | Iterable[Tool] = (),
    *,
    settings: ModelSettings = SETTINGS,
    limits: RunLimits = QUICK,
    **options: Any,
) -> AsyncIterator[Bench]:
    """An agent over one of the two HTTP paths, with *script* at the other end."""
    async with (
        FakeModelServer(script) as server,
        LLMClient(replace(settings, base_url=server.base_url), transport=path) as client,
    ):
        yield Bench(server, AgentCore(client, tools, limits=limits, **options), [])


def assert_valid(messages: Iterable[Message]) -> None:
    """Each call has exactly one result, right behind the answer that asked for it, in the order of the calls."""
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            assert waiting, f"a result that nobody asked for: {message}"
            assert message.call == waiting.pop(0)
        else:
            assert not waiting, f"no result for {waiting}"
            if isinstance(message, AssistantMessage):
                waiting = [call.id for call in message.calls]
    assert not waiting, f"no result for {waiting}"


class Clock:
    """How long something took."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def restart(self) -> None:
        """Count from now."""
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begun
