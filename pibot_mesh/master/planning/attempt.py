"""One request put to a model, until there is a plan, a question, or enough of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

from pibot_mesh.agent.core import AgentCore
from pibot_mesh.agent.events import AgentEvent, MessageEnd, Outcome, RunState, ToolEnd
from pibot_mesh.agent.fresh_ids import FreshIds
from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.model import FailureKind, Model
from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, PlanError, ToolError
from pibot_mesh.master.events import Refusal
from pibot_mesh.master.planner import Planning, Situation
from pibot_mesh.master.planning.assignment import Mesh, assign
from pibot_mesh.master.planning.plan_tool import ASK_BACK, MAKE_PLAN, read_draft
from pibot_mesh.master.planning.prompts import plan_message
from pibot_mesh.master.plans import check_plan
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, Plan, Request, WireError

TRIES: Final = 3
"""How often a model may hand in a plan: the first, and two that mend it."""
PLAN_S: Final = 120.0
"""Seconds for all tries together, where the request has no more time itself."""
PLAN_TOKENS: Final = 200_000
"""Tokens for all tries together, where the request has no limit itself."""
RETRIES: Final = 3
"""How often one call of the model is tried again where the service is in trouble: a person waits."""
_CALL_ONE: Final = "call make_plan or ask_back: an answer in text is read by nobody"


class Attempt:
    """Has *model*, which is told *system*, plan *request* in *situation*."""

    def __init__(
        self, model: Model, system: str, request: Request, situation: Situation, *, context_tokens: int
    ) -> None:
        self._request = request
        self._situation = situation
        self._model = FreshIds(model)
        self._outcome: Plan | Refusal | None = None
        self._problem = ""
        self._agent = AgentCore(
            self._model,
            _PlanTools([Tool(MAKE_PLAN, self._make_plan, True), Tool(ASK_BACK, self._ask_back, True)]),
            system_prompt=system,
            limits=_limits_of(request, context_tokens),
        )

    async def run(self) -> Planning:
        """The plan, the question back, or why there is neither, with what it took. Once."""
        if self._request.limits.tokens == 0:
            return Planning(_refused(ErrorCode.BUDGET, "the request may use no tokens of a language model"))
        for _ in range(TRIES - 1):
            self._agent.follow_up(_CALL_ONE)  # said only where an answer calls nothing
        async with aclosing(self._agent.run(plan_message(self._request, self._situation))) as events:
            async for event in events:
                self._hear(event)
        outcome = self._agent.outcome
        return Planning(self._outcome or self._failed(outcome), outcome.usage)

    def _hear(self, event: AgentEvent) -> None:
        """Remember what was wrong with the last try."""
        match event:
            case ToolEnd(text=text, is_error=True):
                self._problem = text
            case MessageEnd(message=message, is_whole=True) if not message.calls:
                self._problem = "the model answered in text, and made no plan"

    def _failed(self, outcome: Outcome) -> Refusal:
        match outcome.state:
            case RunState.FAILED if outcome.failure is FailureKind.AUTH:
                return _refused(ErrorCode.NO_MODEL, f"the language model cannot be asked: {outcome.reason}")
            case RunState.FAILED:
                is_retryable = self._model.failure is not None and self._model.failure.is_retryable
                return _refused(ErrorCode.MODEL_FAILED, f"the language model failed: {outcome.reason}", is_retryable)
            case RunState.STOPPED if _is_out_of_budget(outcome):
                return _refused(ErrorCode.BUDGET, f"there is no plan yet, and {outcome.reason}")
            case RunState.STOPPED if outcome.reason.endswith(" s are over"):
                return _refused(ErrorCode.MODEL_FAILED, f"the language model made no plan: {outcome.reason}", True)
        return _refused(
            ErrorCode.BAD_PLAN, f"the language model made no plan that fits: {self._problem or outcome.reason}"
        )

    # What the model can call

    async def _make_plan(self, args: Mapping[str, JSON], _: ToolContext) -> Output:
        """Take the plan, or tell all that is wrong with it."""
        situation = self._situation
        draft = read_draft(args)
        mesh = Mesh(situation.cards, situation.own_card, self._request.node)
        plan, misplaced = assign(draft, mesh, self._request.text, is_going_on=bool(situation.conversation))
        problems = [*draft.problems, *misplaced]
        try:
            cards = {**situation.cards, MASTER: situation.own_card}
            check_plan(plan, cards, pin=self._request.node, others=draft.unread)
        except PlanError as error:
            problems += error.problems
        if problems:
            raise ToolError("; ".join(dict.fromkeys(problems)), code=ErrorCode.BAD_PLAN)
        self._end(plan)
        return Output("the plan is taken")

    async def _ask_back(self, args: Mapping[str, JSON], _: ToolContext) -> Output:
        question = args.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ToolError("question: a text is expected, and is missing", code=ErrorCode.BAD_ARGUMENTS)
        self._end(_refused(ErrorCode.AMBIGUOUS, question.strip()[:2000]))
        return Output("it is asked")

    def _end(self, outcome: Plan | Refusal) -> None:
        """There is nothing more to ask the model."""
        self._outcome = outcome
        self._agent.abort("there is a plan")


class _PlanTools(ToolRegistry):
    """Leaves the check of arguments to the tools: they name at once what the schema refuses and what does not fit."""

    def violations(self, name: str, args: Mapping[str, JSON]) -> list[str]:  # noqa: ARG002 - the signature above
        return []


def _is_out_of_budget(outcome: Outcome) -> bool:
    """Whether the request's own limits ended it: fewer turns than tries, or tokens."""
    return outcome.turns < TRIES and outcome.reason.startswith("the limit of ") and "tool calls" not in outcome.reason


def _limits_of(request: Request, context_tokens: int) -> RunLimits:
    limits = request.limits
    return RunLimits(
        turns=min(TRIES, limits.turns or TRIES),
        tool_calls=2 * TRIES,
        tokens=PLAN_TOKENS if limits.tokens is None else limits.tokens,
        wall_s=min(PLAN_S, request.timeout_s or PLAN_S),
        same_calls=2 * TRIES,
        retries=RETRIES,
        context_tokens=context_tokens,
    )


def _refused(code: ErrorCode, text: str, is_retryable: bool = False) -> Refusal:
    return Refusal(WireError(code, text, is_retryable))
