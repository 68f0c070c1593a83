"""What is typed goes to the agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import AgentEvent, MessageTaken, RunEnd, RunState
from pibot_mesh.agent.model import FailureKind, ModelFailure
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.cli.chat_session import ChatSession
from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.story import Line
from pibot_mesh.testing.scripted import ScriptedModel, Turn


class Talk:
    """A session over a script, with lines that come when the test wants."""

    def __init__(self, *script: Turn, waits: bool = False) -> None:
        self.model = ScriptedModel(*script)
        self.events: list[AgentEvent] = []
        self.said: list[Line] = []
        self.typed: asyncio.Queue[str | None] = asyncio.Queue()
        registry = ToolRegistry()

        @registry.tool
        def look() -> str:
            """Look."""
            return "dark"

        self.session = ChatSession(
            lambda: AgentCore(self.model, registry), self.events.append, self.said.append, waits=waits
        )

    async def lines(self) -> AsyncIterator[str]:
        """What was typed, until None."""
        while (line := await self.typed.get()) is not None:
            yield line

    async def until_turn(self) -> None:
        """Wait until the model is asked."""
        async with asyncio.timeout(5):
            while not any(event.type == "turn_start" for event in self.events):
                await asyncio.sleep(0)

    def ends(self) -> list[tuple[RunState, str]]:
        """How the runs ended."""
        return [(event.outcome.state, event.outcome.text) for event in self.events if isinstance(event, RunEnd)]


async def test_each_line_is_a_run_and_the_conversation_goes_on() -> None:
    """With what was said before."""
    talk = Talk("Hello.", "Again.", waits=True)
    for line in ("hi", "and?", None):
        talk.typed.put_nowait(line)

    await talk.session.talk(talk.lines())

    assert talk.ends() == [(RunState.COMPLETED, "Hello."), (RunState.COMPLETED, "Again.")]
    assert len(talk.model.requests[1].messages) == 3
    assert talk.session.code == 0


async def test_what_is_typed_while_it_runs_steers() -> None:
    """It is read before the next step."""
    gate = asyncio.Event()
    talk = Talk(["I look", gate, "."], "Left.")
    task = asyncio.ensure_future(talk.session.talk(talk.lines()))
    talk.typed.put_nowait("look")
    await talk.until_turn()
    talk.typed.put_nowait("to the left")
    talk.typed.put_nowait(None)
    while not talk.typed.empty():
        await asyncio.sleep(0)
    gate.set()
    await task

    assert [event.text for event in talk.events if isinstance(event, MessageTaken)] == ["to the left"]
    assert talk.ends() == [(RunState.COMPLETED, "Left.")]
    assert [line.text for line in talk.said] == [
        "(read before the next step)",
        "Leaving when this is done; Ctrl-C leaves now.",
    ]


async def test_what_was_typed_for_a_run_that_was_ended_is_not_done_later() -> None:
    """It is shown, and forgotten: nobody may be surprised by it in the next run."""
    talk = Talk(["So", asyncio.Event()], "Done.")
    task = asyncio.ensure_future(talk.session.talk(talk.lines()))
    talk.typed.put_nowait("go")
    await talk.until_turn()
    talk.typed.put_nowait("delete everything")
    while not talk.said:
        await asyncio.sleep(0)
    talk.session.interrupt()
    await talk.session.finish()
    talk.typed.put_nowait("something harmless")
    talk.typed.put_nowait(None)
    await task

    assert "! the model was not told: delete everything" in [line.text for line in talk.said]
    assert "delete everything" not in str(talk.model.requests[1].messages)


async def test_ctrl_c_ends_the_run_and_at_rest_it_leaves() -> None:
    """The first one is for what runs."""
    talk = Talk(["So", asyncio.Event()])
    task = asyncio.ensure_future(talk.session.talk(talk.lines()))
    talk.typed.put_nowait("go")
    await talk.until_turn()

    assert talk.session.interrupt()
    assert not talk.session.interrupt(), "a second one leaves, also before the run has ended"
    await talk.session.finish()
    assert not talk.session.interrupt()
    talk.typed.put_nowait(None)
    await task

    assert talk.ends() == [(RunState.CANCELED, "So")]
    assert talk.session.code == FAILED


async def test_who_leaves_aborts_what_runs() -> None:
    """Nothing goes on behind their back."""
    talk = Talk(["So", asyncio.Event()])
    task = asyncio.ensure_future(talk.session.talk(talk.lines()))
    talk.typed.put_nowait("go")
    await talk.until_turn()
    task.cancel()
    await asyncio.wait({task})

    assert talk.ends() == [(RunState.CANCELED, "So")]
    assert talk.model.open_calls == 0


async def test_a_run_that_fails_gives_the_exit_code() -> None:
    """The last one counts."""
    talk = Talk(ModelFailure(FailureKind.AUTH, "no key"), waits=True)
    for line in ("go", None):
        talk.typed.put_nowait(line)
    await talk.session.talk(talk.lines())
    assert talk.session.code == FAILED


async def test_commands_are_answered_by_the_chat_itself() -> None:
    """And the model does not hear of them."""
    talk = Talk("Hello.", "New.", waits=True)
    for line in ("/tools", "/help", "/nonsense x", "hi", "/new", "hi", None):
        talk.typed.put_nowait(line)
    await talk.session.talk(talk.lines())

    texts = [line.text for line in talk.said]
    assert texts[0] == "look (read): Look."
    assert "/new" in texts[1]
    assert texts[2] == "There is no /nonsense; /help shows what there is."
    assert len(talk.model.requests[1].messages) == 1


async def test_a_conversation_is_not_forgotten_while_it_runs() -> None:
    """That would be an abort in disguise."""
    talk = Talk(["So", asyncio.Event()])
    task = asyncio.ensure_future(talk.session.talk(talk.lines()))
    talk.typed.put_nowait("go")
    await talk.until_turn()
    talk.typed.put_nowait("/new")
    while not talk.said:
        await asyncio.sleep(0)
    assert "Ctrl-C" in talk.said[0].text
    talk.session.interrupt()
    talk.typed.put_nowait(None)
    await task
