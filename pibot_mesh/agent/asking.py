"""Asks the model: makes the request fit, reads the stream, tries again where that helps."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from pibot_mesh.agent import context
from pibot_mesh.agent.events import Compacted, MessageEnd, MessageStart, Retry
from pibot_mesh.agent.limits import RunLimits, retry_delay
from pibot_mesh.agent.messages import AssistantMessage, Message, UserMessage
from pibot_mesh.agent.model import Answer, Delta, FailureKind, Model, ModelFailure, ModelRequest, UsageSeen
from pibot_mesh.agent.run_state import Run
from pibot_mesh.protocol.fit import cut_middle
from pibot_mesh.protocol.messages import ToolSpec, Usage

_log = logging.getLogger(__name__)
_CLOSE_S: Final = 0.2
"""How long a model's stream may take to close when the run is ended; then it is left to itself."""
_LEAST_SPACE: Final = 500
"""Tokens: where system prompt and tools leave less than that for messages, nothing is won by making those shorter."""


class Asker:
    """Gets answers from *model* to what stands in *messages*, the transcript, which it may shorten."""

    def __init__(self, model: Model, messages: list[Message], jitter: random.Random) -> None:
        self._model = model
        self._messages = messages
        self._jitter = jitter
        self._told: tuple[int, int] | None = None
        """The tokens of the last request, as the service told them, and how many messages it had."""
        self._summary: UserMessage | None = None
        """What stands for older turns, and in them was asked first and last."""
        self._asked = ("", "")

    async def ask(self, run: Run, system: str, tools: Sequence[ToolSpec], limits: RunLimits) -> Answer | None:
        """The model's answer. None where it gives none (`Run.failure` says why) or the run was ended meanwhile.

        What there was of an answer that broke off for good stands in the transcript as text; its calls do not.
        """
        overhead = context.overhead_tokens(system, tools)
        room = limits.context_tokens - (limits.answer_tokens or limits.context_tokens // 8)
        if self._request_tokens(overhead) > room:
            await self._compact(run, overhead, room)
        tries, empties, was_overflow = 0, 0, False
        while run.halted is None:
            request = ModelRequest(tuple(self._messages), system, tuple(tools), limits.answer_tokens)
            answer = await self._call(run, request)
            if not isinstance(answer, ModelFailure):
                if answer is not None:
                    return answer
                break
            if answer.kind is FailureKind.OVERFLOW and not was_overflow:
                was_overflow = True
                if await self._compact(run, overhead, min(room, self._request_tokens(overhead)) // 2):
                    continue
            is_empty = answer.kind is FailureKind.EMPTY
            tries, empties = tries + (not is_empty), empties + is_empty
            delay_s = retry_delay(answer, empties if is_empty else tries, limits, self._jitter)
            if delay_s is None:
                run.failure = answer
                break
            run.events.put(Retry, tries + empties + 1, round(delay_s, 3), answer.kind, answer.text)
            await asyncio.wait({run.halt}, timeout=delay_s)
        self._keep_what_came(run)
        return None

    def _keep_what_came(self, run: Run) -> None:
        text = "".join(run.pieces)
        if text.strip():
            run.text = text
            self._messages.append(AssistantMessage(text))

    async def _call(self, run: Run, request: ModelRequest) -> Answer | ModelFailure | None:
        """One call of the model, told as events. None where the run was ended meanwhile."""
        run.is_answering, run.pieces = False, []
        usage, answer = await self._listen(run, request, is_shown=True)
        self._count(run, request, usage, answer)
        if usage is not None and usage.input:
            self._told = usage.input, len(request.messages)
        if isinstance(answer, Answer):
            if not run.is_answering:
                run.events.put(MessageStart)
            run.events.put(MessageEnd, answer.message)
            run.text, run.pieces = answer.message.text or run.text, []
        elif run.is_answering:
            run.events.put(MessageEnd, AssistantMessage("".join(run.pieces)), is_whole=False)
        return answer

    async def _listen(
        self, run: Run, request: ModelRequest, *, is_shown: bool
    ) -> tuple[Usage | None, Answer | ModelFailure | None]:
        """Read one stream to its end, or until the run is ended: then there is no answer."""
        usage: Usage | None = None
        answer: Answer | ModelFailure | None = None

        async def read() -> None:
            nonlocal usage, answer
            async with aclosing(self._model.stream(request)) as parts:
                async for part in parts:
                    match part:
                        case Delta(text, kind):
                            if is_shown:
                                run.hear(text, kind)
                        case UsageSeen(seen):
                            usage = seen
                        case _:
                            answer = part

        reading = asyncio.ensure_future(read())
        await run.wait_for(reading)
        if run.halted is not None:
            reading.cancel()
            await asyncio.wait({reading}, timeout=_CLOSE_S)
            return usage, None
        if broken := _broken(reading):
            return usage, broken
        if answer is None:
            text = "the model's stream ended without an answer"
            answer = ModelFailure(FailureKind.PROTOCOL, text, is_retryable=True)
        return usage, answer

    # The context

    async def _compact(self, run: Run, overhead: int, room: int) -> bool:
        """Summarise older turns, then cut long results, so that a request has *room* tokens. Whether it helped.

        What is too large as a whole (one message, a thousand tools) stays so, and the service will refuse it.
        """
        told, estimated = self._request_tokens(overhead), overhead + context.tokens_of(self._messages)
        if told > estimated:  # the service counts more than we do
            room = room * estimated // told
        space = room - overhead
        if space < _LEAST_SPACE:
            return False
        cut = context.split(self._messages, space // 2)
        old, kept = self._messages[:cut], self._messages[cut:]
        if context.tokens_of(old) > space // 10:
            summary = await self._summarised(run, old, space)
            if run.halted is not None:
                return False
            kept = [summary, *kept]
        else:
            kept = [*old, *kept]
        kept = context.shrink(kept, space)
        after = overhead + context.tokens_of(kept)
        if after >= estimated:
            return False
        self._messages[:] = kept
        self._told = None
        run.events.put(Compacted, told, told * after // estimated)
        return True

    async def _summarised(self, run: Run, old: Sequence[Message], space: int) -> UserMessage:
        """The message that stands for *old*: what was asked, and a summary, by the model where it gives one."""
        request = ModelRequest((UserMessage(context.record(old, space // 2)),), context.SUMMARY_PROMPT)
        usage, answer = await self._listen(run, request, is_shown=False)
        self._count(run, request, usage, answer)
        said = answer.message.text if isinstance(answer, Answer) else ""
        summary = cut_middle(said or context.plain_summary(old), space // 4 * context.BYTES_PER_TOKEN)
        asked = [message.text for message in old if isinstance(message, UserMessage) and message is not self._summary]
        first, last = self._asked
        self._asked = first or next(iter(asked), ""), asked[-1] if asked else last
        self._summary = context.summary_message(summary, *self._asked)
        return self._summary

    def _count(
        self, run: Run, request: ModelRequest, usage: Usage | None, answer: Answer | ModelFailure | None
    ) -> None:
        answers = [answer.message] if isinstance(answer, Answer) else []
        is_used = bool(answers) or run.is_answering  # a refused connection has used nothing
        run.count(usage, lambda: context.tokens_of([*request.messages, *answers]) if is_used else 0)

    def _request_tokens(self, overhead: int) -> int:
        """About how many tokens the next request has: what the service told of the last one, and what came since."""
        if self._told is None:
            return overhead + context.tokens_of(self._messages)
        tokens, messages = self._told
        return tokens + context.tokens_of(self._messages[messages:])


def _broken(reading: asyncio.Future[None]) -> ModelFailure | None:
    """What a model's own code did wrong: it may be anybody's. A test's assertion goes on to the test."""
    error = asyncio.CancelledError("by itself") if reading.cancelled() else reading.exception()
    if error is None:
        return None
    if isinstance(error, AssertionError):
        raise error
    _log.error("a bug in the model", exc_info=error)
    return ModelFailure(FailureKind.PROTOCOL, f"the model broke: {type(error).__name__}: {error}")
