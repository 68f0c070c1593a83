"""Asks the model: makes the request fit, reads the stream, tries again where that helps."""

from __future__ import annotations

import asyncio
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
from pibot_mesh.protocol.messages import ToolSpec, Usage

_CLOSE_S: Final = 0.2
"""How long a model's stream may take to close when the run is ended; then it is left to itself."""


class Asker:
    """Gets answers from *model* to what stands in *messages*, the transcript, which it may shorten."""

    def __init__(self, model: Model, messages: list[Message], jitter: random.Random) -> None:
        self._model = model
        self._messages = messages
        self._jitter = jitter
        self._told: tuple[int, int] | None = None
        """The tokens of the last request, as the service told them, and how many messages it had."""

    async def ask(self, run: Run, system: str, tools: Sequence[ToolSpec], limits: RunLimits) -> Answer | None:
        """The model's answer. None where it gives none (`Run.failure` says why) or the run was ended meanwhile.

        What there was of an answer that broke off for good stands in the transcript as text; its calls do not.
        """
        overhead = context.overhead_tokens(system, tools)
        room = limits.context_tokens - (limits.answer_tokens or limits.context_tokens // 8)
        if self._request_tokens(overhead) > room:
            await self._compact(run, overhead, room)
        tries, was_overflow = 0, False
        while run.halted is None:
            request = ModelRequest(tuple(self._messages), system, tuple(tools), limits.answer_tokens)
            answer = await self._call(run, request)
            if not isinstance(answer, ModelFailure):
                if answer is not None:
                    return answer
                break
            if answer.kind is FailureKind.OVERFLOW and not was_overflow:
                was_overflow = True
                if await self._compact(run, overhead, room // 2):
                    continue
            tries += 1
            delay_s = retry_delay(answer, tries, limits, self._jitter)
            if delay_s is None:
                run.failure = answer
                break
            run.events.put(Retry, tries + 1, round(delay_s, 3), answer.kind, answer.text)
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
        reading.result()
        if answer is None:
            text = "the model's stream ended without an answer"
            answer = ModelFailure(FailureKind.PROTOCOL, text, is_retryable=True)
        return usage, answer

    # The context

    async def _compact(self, run: Run, overhead: int, room: int) -> bool:
        """Summarise older turns, then cut long results, so that a request has *room* tokens. Whether it helped.

        What is too large as a whole (one message, a thousand tools) stays so, and the service will refuse it.
        """
        before = self._request_tokens(overhead)
        room = max(0, room - overhead)
        cut = context.split(self._messages, room // 2)
        old, kept = self._messages[:cut], self._messages[cut:]
        if context.tokens_of(old) > room // 10:
            summary = await self._summary(run, old, room)
            if run.halted is not None:
                return False
            kept = [context.summary_message(summary, old[0]), *kept]
        else:
            kept = [*old, *kept]
        self._messages[:] = context.shrink(kept, room)
        self._told = None
        after = self._request_tokens(overhead)
        if after < before:
            run.events.put(Compacted, before, after)
        return after < before

    async def _summary(self, run: Run, old: Sequence[Message], room: int) -> str:
        request = ModelRequest((UserMessage(context.record(old, room // 2)),), context.SUMMARY_PROMPT)
        usage, answer = await self._listen(run, request, is_shown=False)
        self._count(run, request, usage, answer)
        if isinstance(answer, Answer) and answer.message.text:
            return answer.message.text
        return context.plain_summary(old)

    def _count(
        self, run: Run, request: ModelRequest, usage: Usage | None, answer: Answer | ModelFailure | None
    ) -> None:
        answers = [answer.message] if isinstance(answer, Answer) else []
        run.count(usage, lambda: context.tokens_of([*request.messages, *answers]))

    def _request_tokens(self, overhead: int) -> int:
        """About how many tokens the next request has: what the service told of the last one, and what came since."""
        if self._told is None:
            return overhead + context.tokens_of(self._messages)
        tokens, messages = self._told
        return tokens + context.tokens_of(self._messages[messages:])
