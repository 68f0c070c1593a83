"""A model whose calls have ids of our own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from pibot_mesh.agent.messages import AssistantMessage, CallRequest, Message, ToolMessage
from pibot_mesh.agent.model import Answer, Model, ModelFailure, ModelRequest, StreamPart


class FreshIds:
    """*model*, with each call under a fresh id of 12 hex digits; the service goes on seeing its own.

    Services give the same id again in the next turn, or what a model makes up. A person who approves a call names it by
    its id, so that must not be the model's to choose.
    """

    def __init__(self, model: Model) -> None:
        self.failure: ModelFailure | None = None
        """The last failure."""
        self._model = model
        self._theirs: dict[str, str] = {}

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamPart, None]:
        """See `Model.stream`."""
        theirs = replace(request, messages=tuple(map(self._as_theirs, request.messages)))
        async with aclosing(self._model.stream(theirs)) as parts:
            async for part in parts:
                if isinstance(part, ModelFailure):
                    self.failure = part
                yield self._named_anew(part) if isinstance(part, Answer) else part

    def _named_anew(self, answer: Answer) -> Answer:
        calls = tuple(replace(call, id=self._fresh(call)) for call in answer.message.calls)
        return replace(answer, message=replace(answer.message, calls=calls))

    def _fresh(self, call: CallRequest) -> str:
        ours = uuid.uuid4().hex[:12]
        self._theirs[ours] = call.id
        return ours

    def _as_theirs(self, message: Message) -> Message:
        match message:
            case ToolMessage(call=ours):
                return replace(message, call=self._theirs.get(ours, ours))
            case AssistantMessage(calls=calls) if calls:
                theirs = tuple(replace(call, id=self._theirs.get(call.id, call.id)) for call in calls)
                return replace(message, calls=theirs)
        return message
