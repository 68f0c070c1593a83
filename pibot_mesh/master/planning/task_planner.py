"""The planner that asks a language model, and the one that asks it only for what no sentence says."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pibot_mesh.agent.limits import RunLimits
from pibot_mesh.agent.model import Model
from pibot_mesh.errors import ErrorCode, PlanError
from pibot_mesh.master.events import Refusal
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.master.offline.text import scripts
from pibot_mesh.master.planner import OfflinePlanner, Planning, Situation, Words
from pibot_mesh.master.planning import answers, writing
from pibot_mesh.master.planning.attempt import Attempt
from pibot_mesh.master.planning.plan_tool import Complexity
from pibot_mesh.master.planning.prompts import plan_prompt
from pibot_mesh.master.planning.soul import shipped_soul
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.messages import NodeCard, Plan, Request, Step, StepResult, WireError

_CONTEXT_TOKENS: Final = RunLimits().context_tokens
_NO_MODEL: Final = {
    "en": "No language model is configured, which might understand it: docs/models.md says how to set one up.",
    "zh-cn": "没有配置可以理解这句话的语言模型：docs/models.md 说明如何配置。",
}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What `TaskPlanner.analyze_task` found: a *plan*, and whether the master does all of it itself."""

    plan: Plan
    handle_locally: bool

    @property
    def subtasks(self) -> tuple[Step, ...]:
        """The steps, in order; `pibot_mesh.WorkerPool.execute_task` does one."""
        return self.plan.steps

    @property
    def complexity(self) -> Complexity:
        """``simple``, ``moderate`` or ``complex``."""
        return self.plan.complexity


class TaskPlanner:
    """Has *model* make plans for what people ask; a `pibot_mesh.master.planner.Planner`.

    *soul* is what the model is told about how to be the master (see docs/planning.md); None: the shipped one. *cards*
    are for `analyze_task` alone: those of the nodes, with the master's own under ``master``; None: those of the default
    worker pool. *context_tokens* is what the model can read at once.
    """

    def __init__(
        self,
        model: Model,
        *,
        soul: str | None = None,
        cards: Mapping[str, NodeCard] | None = None,
        context_tokens: int = _CONTEXT_TOKENS,
    ) -> None:
        self._model = model
        self._soul = shipped_soul() if soul is None else soul
        self._cards = cards
        self._context_tokens = context_tokens
        self._engine: OfflineEngine | None = None

    async def plan(self, request: Request, situation: Situation) -> Planning:
        """A plan for *request*, a question back, or why there is neither.

        A plan that does not fit goes back to the model with all its errors, twice at most.
        """
        system = plan_prompt(self._soul)
        return await Attempt(self._model, system, request, situation, context_tokens=self._context_tokens).run()

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """What happened, in words, from the results alone, without the model."""
        return answers.answer(plan, results, self._offline().answer)

    async def write(self, request: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        """What happened, in the model's words; those of `answer` where it gives none."""
        words = await self.compose(request, plan, results)
        return words if words.text else replace(words, text=self.answer(plan, results))

    async def compose(self, request: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        """What happened, in the model's words; an empty text where it gives none."""
        return await writing.write(self._model, self._soul, request, plan, results, context_tokens=self._context_tokens)

    def examples(self, language: str) -> list[str]:
        """Sentences to try: those of the offline engine, which any model understands too."""
        return self._offline().examples(language)

    def close(self) -> None:
        """Nothing is held. The model is its owner's."""

    async def analyze_task(self, text: str) -> Analysis:
        """The plan for *text*, as the first version gave it.

        Raises PlanError, in words, where there is none: the model failed, made none that fits, or has a question.
        """
        cards = dict(self._cards if self._cards is not None else _default_cards())
        own_card = cards.pop(MASTER, None) or NodeCard(MASTER, "", "")
        own_card = replace(own_card, agent=True)  # whoever has this model can do with it what is left to the master
        planning = await self.plan(Request(uuid.uuid4().hex, text), Situation(cards, own_card))
        if isinstance(planning.outcome, Refusal):
            raise PlanError([planning.outcome.error.message])
        return Analysis(planning.outcome, all(step.node == MASTER for step in planning.outcome.steps))

    def _offline(self) -> OfflineEngine:
        """The offline engine's words, for a planner that stands alone; loaded when they are needed."""
        self._engine = self._engine or OfflineEngine()
        return self._engine


def _default_cards() -> Mapping[str, NodeCard]:
    from pibot_mesh.master.worker_pool import create_default_worker_pool

    return create_default_worker_pool().cards


class AutoPlanner:
    """Asks *offline* first, and *llm* only for what that does not understand; a `pibot_mesh.master.planner.Planner`.

    A request with the mode ``offline`` goes to *offline* alone. So does every other one where *llm* is None; a refusal
    then says that no model is configured.
    """

    def __init__(self, offline: OfflinePlanner, llm: TaskPlanner | None) -> None:
        self._offline = offline
        self._llm = llm

    async def plan(self, request: Request, situation: Situation) -> Planning:
        """A plan for *request*, or why there is none.

        What no sentence says, negations and questions among it, goes to the model. Other refusals are precise, and
        stay: two devices fit, a node is offline, a lamp cannot be dimmed.
        """
        planning = await self._offline.plan(request, situation)
        refusal = planning.outcome
        if isinstance(refusal, Plan) or refusal.error.code != ErrorCode.NOT_UNDERSTOOD or request.mode == "offline":
            return planning
        if self._llm is None:
            return Planning(_with(refusal.error, _no_model(refusal.error.message)))
        planning = await self._llm.plan(request, situation)
        if isinstance(planning.outcome, Refusal) and planning.outcome.error.code in _MODELS_FAULT:
            error = planning.outcome.error
            return replace(planning, outcome=_with(error, f"{refusal.error.message} {_sentence(error.message)}"))
        return planning

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """What happened, in words, from the results, at once."""
        if plan.engine == "offline":
            return self._offline.answer(plan, results)
        return answers.answer(plan, results, self._offline.answer)

    async def write(self, request: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        """What happened, in the model's words where *plan* is a model's; those of `answer` else."""
        words = Words("")
        if plan.engine == "llm" and self._llm is not None:
            words = await self._llm.compose(request, plan, results)
        return words if words.text else replace(words, text=self.answer(plan, results))

    def examples(self, language: str) -> list[str]:
        """Sentences that the offline engine knows."""
        return self._offline.examples(language)

    def close(self) -> None:
        """Close both."""
        self._offline.close()
        if self._llm is not None:
            self._llm.close()


_MODELS_FAULT: Final = (ErrorCode.MODEL_FAILED, ErrorCode.NO_MODEL)


def _with(error: WireError, message: str) -> Refusal:
    return Refusal(replace(error, message=message))


def _no_model(refusal: str) -> str:
    """*refusal* and how to have a model, in the same language."""
    counts = scripts(refusal)
    language = "zh-cn" if counts.get("CJK", 0) > counts.get("LATIN", 0) else "en"
    return f"{refusal}{'' if language == 'zh-cn' else ' '}{_NO_MODEL[language]}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
