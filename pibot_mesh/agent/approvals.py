"""Calls that a person must approve, each by itself, before they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from pibot_mesh.agent.paced import Tell
from pibot_mesh.agent.run_clock import RunClock
from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, dumps
from pibot_mesh.protocol.messages import ToolSpec

ARGS_BYTES: Final = 16 * 1024
"""Arguments that are longer than that are not asked about: nobody approves what they cannot see whole."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was said about one call, and why."""

    is_granted: bool
    reason: str


class Approvals:
    """Asks about calls, and holds those that nobody has answered yet.

    *words* are names and effects of tools that must be asked about; *within_s* is how long an answer is waited for, and
    *clock* stands still meanwhile. A grant is for the call with that id alone, and is used up by it.
    """

    def __init__(self, words: Collection[str], within_s: float, tell: Tell, clock: RunClock) -> None:
        self._words = frozenset(words)
        self._within_s = within_s
        self._tell = tell
        self._clock = clock
        self._open: dict[str, asyncio.Future[Verdict]] = {}

    def must_ask(self, spec: ToolSpec) -> bool:
        """Whether a call of this tool needs a person."""
        return spec.approval == "ask" or spec.name in self._words or spec.effect in self._words

    async def ask(self, call: str, spec: ToolSpec, args: Mapping[str, JSON]) -> Verdict:
        """Tell that *call* waits, and return what was answered; who does not answer in time has denied it."""
        if problem := _hidden(args):
            return Verdict(False, problem)
        answer = self._open[call] = asyncio.get_running_loop().create_future()
        self._clock.hold()
        asked = {"call": call, "tool": spec.name, "effect": spec.effect, "args": args, "within_s": self._within_s}
        self._tell("approval_required", asked)
        verdict = Verdict(False, "the run was ended")
        try:
            async with asyncio.timeout(self._within_s):
                verdict = await answer
        except TimeoutError:
            verdict = Verdict(False, f"nobody approved it within {self._within_s:g} s")
        finally:
            del self._open[call]
            self._clock.go_on()
            said = {"call": call, "tool": spec.name, "granted": verdict.is_granted, "reason": verdict.reason}
            self._tell("approval_answered", said)
        return verdict

    def answer(self, call: str, is_granted: bool, reason: str) -> None:
        """What a person says about *call*. The first word counts; one about a call that does not wait is nothing."""
        waits = self._open.get(call)
        if waits is not None and not waits.done():
            waits.set_result(Verdict(is_granted, reason))


def _hidden(args: Mapping[str, JSON]) -> str:
    """Why nobody could see these arguments whole, or nothing."""
    try:
        size = len(dumps({"args": args}))  # as deep as they stand in an event
    except ProtocolError as error:
        return f"its arguments cannot be shown to anybody: {error}"
    if size > ARGS_BYTES:
        return f"its arguments are {size} bytes long, and a person is shown at most {ARGS_BYTES}: make them shorter"
    return ""
