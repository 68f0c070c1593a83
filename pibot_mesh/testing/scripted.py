"""A model that says what the test wants, without sockets and the same way each time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pibot_mesh.agent.messages import AssistantMessage, CallRequest
from pibot_mesh.agent.model import Answer, Delta, FailureKind, ModelFailure, ModelRequest, StreamPart, UsageSeen
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Usage


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds before the next step."""

    for_s: float


Step: TypeAlias = str | Delta | CallRequest | Usage | Pause | asyncio.Event | Answer | ModelFailure
"""One piece of a turn: text, a call, what was used, something to wait for, or the turn's end."""

Turn: TypeAlias = (
    str | CallRequest | AssistantMessage | Answer | ModelFailure | Sequence[Step] | Callable[[ModelRequest], "Turn"]
)
"""What a model does when it is asked once; a function of the ModelRequest gives one when the time has come."""


def call(name: str, /, **arguments: JSON) -> CallRequest:
    """A call of the tool *name*. The ScriptedModel gives it an id: ``call_1``, ``call_2`` and so on.

    For an id of your own, or arguments that are no JSON, write ``CallRequest("my id", "add", "{not JSON")``.
    """
    return CallRequest("", name, json.dumps(arguments, ensure_ascii=False) if arguments else "")


class ScriptedModel:
    """A `pibot_mesh.agent.model.Model` that plays a script: one turn each time it is asked.

    A turn is

    - a str: an answer of this text;
    - a `CallRequest` (see `call`), or an AssistantMessage: an answer that asks for these calls;
    - an `Answer`: as it stands, for example cut by the token limit: ``Answer(AssistantMessage("I wou"), "length")``;
    - a `ModelFailure`;
    - a list of steps, one after another: str or `Delta` (pieces of text or reasoning), CallRequest, `Usage`, `Pause`,
      an `asyncio.Event` to wait for, and as the last one, if you like, an Answer or a ModelFailure. Without one the
      answer is what the steps before have said; a failure without a *partial* keeps it as that;
    - a function that takes the `ModelRequest` and returns one of these.

    What says nothing and calls nothing ends as real clients end it: ``ModelFailure(FailureKind.EMPTY)``.

        model = ScriptedModel(
            [call("add", a=2, b=2), call("add", a=3, b=3)],
            ModelFailure(FailureKind.RATE_LIMIT, "slow down", is_retryable=True, retry_after_s=0.01),
            lambda request: f"The tool said {request.messages[-1].text}.",
            ["Let me ", asyncio.Event(), "think."],  # says two words, then waits until it is closed
        )

    `requests` is what it was asked, oldest first. Asked more often than there are turns, it raises AssertionError.
    """

    def __init__(self, *script: Turn) -> None:
        self.requests: list[ModelRequest] = []
        self.open_calls = 0
        """How many streams are neither at their end nor closed."""
        self._script = script
        self._calls = 0

    @property
    def turns_left(self) -> int:
        """How many turns nobody has asked for yet."""
        return max(0, len(self._script) - len(self.requests))

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """Play the next turn. Raises AssertionError where there is none."""
        self.requests.append(request)
        turn = self._next(request)
        self.open_calls += 1
        try:
            async with aclosing(self._play(_steps(turn))) as parts:
                async for part in parts:
                    yield part
        finally:
            self.open_calls -= 1

    def _next(self, request: ModelRequest) -> Turn:
        number = len(self.requests)
        if number > len(self._script):
            last = request.messages[-1] if request.messages else "nothing"
            raise AssertionError(
                f"the ScriptedModel was asked {number} times, but its script has {len(self._script)} turns: "
                f"add one, or find out why the loop went on after {last!r}"
            )
        turn = self._script[number - 1]
        while callable(turn):
            turn = turn(request)
        return turn

    async def _play(self, steps: Iterable[Step]) -> AsyncGenerator[StreamPart, None]:
        said = _Said()
        for step in steps:
            match step:
                case Pause(for_s):
                    await asyncio.sleep(for_s)
                case asyncio.Event():
                    await step.wait()
                case CallRequest():
                    said.calls.append(self._with_id(step))
                case Usage():
                    yield UsageSeen(step)
                case str() | Delta():
                    delta = Delta(step) if isinstance(step, str) else step
                    if delta.text:
                        said.add(delta)
                        yield delta
                case Answer(message, finish):
                    calls = tuple(map(self._with_id, message.calls))
                    yield Answer(replace(message, calls=calls), finish)
                    return
                case ModelFailure():
                    yield step if step.partial != AssistantMessage() else replace(step, partial=said.message())
                    return
        yield _end(said.message())

    def _with_id(self, request: CallRequest) -> CallRequest:
        self._calls += 1
        return request if request.id else replace(request, id=f"call_{self._calls}")


@dataclass(slots=True)
class _Said:
    """What the steps of a turn add up to."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[CallRequest] = field(default_factory=list)

    def add(self, delta: Delta) -> None:
        (self.text if delta.kind == "text" else self.reasoning).append(delta.text)

    def message(self) -> AssistantMessage:
        field_name = "reasoning_content" if self.reasoning else ""
        return AssistantMessage("".join(self.text), tuple(self.calls), "".join(self.reasoning), field_name)


def _steps(turn: Turn) -> Iterable[Step]:
    match turn:
        case str() | CallRequest() | ModelFailure():
            return [turn]
        case AssistantMessage():
            return [*_deltas(turn), _end(turn)]
        case Answer(message):
            return [*_deltas(message), turn]
        case Sequence():
            return turn
    raise TypeError(f"no turn of a ScriptedModel: {turn!r}")


def _deltas(message: AssistantMessage) -> list[Step]:
    return [Delta(message.reasoning, "reasoning"), Delta(message.text)]


def _end(message: AssistantMessage) -> Answer | ModelFailure:
    if message.is_empty:
        return ModelFailure(FailureKind.EMPTY, "the answer is empty", is_retryable=True, partial=message)
    return Answer(message, "tool_calls" if message.calls else "stop")
