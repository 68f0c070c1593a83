"""A conversation with an agent: what is typed goes in, lines or events come out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import AgentEvent, RunState
from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.story import Line

HELP: Final = """\
Type what you want. While the model works, what you type steers it: it is read before its next step.
Ctrl-C ends what runs; at an empty prompt it leaves.
  /tools   the tools that the model may use
  /new     forget what was said, and begin again
  /help    this
  exit     leave"""


class ChatSession:
    """Gives lines to an agent, one run at a time, and its events to *show*; *say* prints what the chat itself says.

    *make* makes the agent, again for each ``/new``; *before* is called before each run. *waits*: a line is taken only
    when the run before it has ended, for input that is no terminal.
    """

    def __init__(
        self,
        make: Callable[[], AgentCore],
        show: Callable[[AgentEvent], None],
        say: Callable[[Line], None],
        *,
        before: Callable[[], None] = lambda: None,
        waits: bool = False,
    ) -> None:
        self.code = 0
        """The exit code: 0, or `FAILED` where the last run did not complete."""
        self._make = make
        self._agent = make()
        self._show = show
        self._say = say
        self._before = before
        self._waits = waits
        self._run: asyncio.Task[None] | None = None
        self._is_aborted = False

    @property
    def is_running(self) -> bool:
        """Whether the model works on something."""
        return self._run is not None and not self._run.done()

    async def talk(self, lines: AsyncIterator[str]) -> None:
        """Take *lines* until they end, and wait for the last run then. Who cancels this aborts the run."""
        try:
            async for line in lines:
                self._take(line)
                if self._waits:
                    await self.finish()
            if self.is_running and not self._waits:
                self._say(Line("Leaving when this is done; Ctrl-C leaves now.", dim=True))
            await self.finish()
        finally:
            if self._run is not None:
                self._agent.abort("the chat was left")
                await asyncio.wait({self._run})

    async def finish(self) -> None:
        """Wait for the end of the run. Raises what a bug in it raised."""
        if self._run is not None:
            await self._run

    def interrupt(self) -> bool:
        """Ctrl-C: abort the run. False where none runs, or it is being aborted already: then it is time to leave."""
        if not self.is_running or self._is_aborted:
            return False
        self._is_aborted = True
        self._agent.abort("Ctrl-C")
        return True

    def _take(self, line: str) -> None:
        if line.startswith("/"):
            self._command(line)
        elif self.is_running:
            self._agent.steer(line)
            self._say(Line("(read before the next step)", dim=True))
        else:
            self._before()
            self._is_aborted = False
            self._run = asyncio.get_running_loop().create_task(self._do(line))

    def _command(self, line: str) -> None:
        match line:
            case "/tools":
                for tool in self._agent.tools.specs():
                    self._say(Line(f"{tool.name} ({tool.effect}): {tool.description}"))
            case "/new" if self.is_running:
                self._say(Line("Something runs: end it with Ctrl-C first.", "odd"))
            case "/new":
                self._agent = self._make()
                self._say(Line("Begun again.", dim=True))
            case "/help":
                self._say(Line(HELP))
            case _:
                self._say(Line(f"There is no {line.split(maxsplit=1)[0]}; /help shows what there is.", "odd"))

    async def _do(self, line: str) -> None:
        lines = [line]
        while lines:
            async with aclosing(self._agent.run(lines.pop(0))) as events:
                async for event in events:
                    self._show(event)
            late = self._agent.take_back()
            if self._agent.outcome.state is RunState.COMPLETED:
                self.code = 0
                lines += late  # typed when the answer was there already
                continue
            self.code = FAILED
            for text in late:
                self._say(Line(f"! the model was not told: {text}", "odd"))
