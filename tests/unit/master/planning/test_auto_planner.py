"""The offline engine first, and the model only for what that does not understand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pibot_mesh.agent.model import FailureKind, ModelFailure
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Refusal
from pibot_mesh.master.planner import OfflinePlanner, Planning
from pibot_mesh.master.planning.task_planner import AutoPlanner, TaskPlanner
from pibot_mesh.protocol.messages import Output, Plan, Request, State, Step, StepResult, Usage, WireError
from pibot_mesh.testing import ScriptedModel, call
from pibot_mesh.testing.scripted import Turn
from tests.unit.master.planning.meshes import situation

SPENT = Usage(input=900, output=30)
NOTE = {"id": "s1", "work": "files", "tool": "file_write", "args": {"path": "a.txt", "text": "hot"}}
PLANNED: Turn = [SPENT, call("make_plan", complexity="simple", language="en", steps=[NOTE])]
NO_MODEL = " No language model is configured, which might understand it: docs/models.md says how to set one up."


@pytest.fixture(scope="module")
def offline() -> Iterator[OfflinePlanner]:
    planner = OfflinePlanner()
    yield planner
    planner.close()


async def planned(planner: AutoPlanner, text: str, **fields: object) -> Planning:
    async with asyncio.timeout(10):
        return await planner.plan(Request("r1", text, **fields), situation(offline=["cellar"]))  # type: ignore[arg-type]


def error_of(planning: Planning) -> WireError:
    assert isinstance(planning.outcome, Refusal)
    return planning.outcome.error


async def test_a_sentence_that_is_known_asks_no_model(offline: OfflinePlanner) -> None:
    """Nor uses anything."""
    planning = await planned(AutoPlanner(offline, TaskPlanner(ScriptedModel())), "turn on the fan in the kitchen")

    assert isinstance(planning.outcome, Plan)
    assert (planning.outcome.engine, planning.usage) == ("offline", Usage())


@pytest.mark.parametrize(
    "text",
    [
        "note that it is hot",
        "don't turn on the fan in the kitchen, note that it is hot",
        "would you say that it is too hot?",
        "turn on the sprinkler",
    ],
)
@pytest.mark.parametrize("mode", ["auto", "plan_only"])
async def test_what_no_sentence_says_goes_to_the_model(offline: OfflinePlanner, text: str, mode: str) -> None:
    """Negations, questions and things that are not there too: a model can say what is meant."""
    planning = await planned(AutoPlanner(offline, TaskPlanner(ScriptedModel(PLANNED))), text, mode=mode)

    assert isinstance(planning.outcome, Plan)
    assert (planning.outcome.engine, planning.usage) == ("llm", SPENT)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("turn on the lamp", ErrorCode.AMBIGUOUS),
        ("turn on the fan on cellar", ErrorCode.OFFLINE),
        ("set the fan in the kitchen to 40 %", ErrorCode.BAD_ARGUMENTS),
    ],
)
async def test_a_refusal_that_is_precise_stays(offline: OfflinePlanner, text: str, code: ErrorCode) -> None:
    """The model is not asked to guess."""
    planning = await planned(AutoPlanner(offline, TaskPlanner(ScriptedModel())), text)

    assert error_of(planning).code == code


async def test_a_request_for_the_offline_engine_asks_no_model(offline: OfflinePlanner) -> None:
    """And its refusal is that engine's own."""
    for llm in (TaskPlanner(ScriptedModel()), None):
        error = error_of(await planned(AutoPlanner(offline, llm), "write a poem", mode="offline"))

        assert error.code == ErrorCode.NOT_UNDERSTOOD
        assert "model" not in error.message


async def test_without_a_model_the_refusal_says_so(offline: OfflinePlanner) -> None:
    """In the language of the request."""
    english = error_of(await planned(AutoPlanner(offline, None), "write a poem"))
    chinese = error_of(await planned(AutoPlanner(offline, None), "写一首诗"))

    assert english.code == ErrorCode.NOT_UNDERSTOOD
    assert english.message.startswith('I do not understand "write a poem", so nothing was done.')
    assert english.message.endswith(NO_MODEL)
    assert chinese.message.endswith("没有配置可以理解这句话的语言模型：docs/models.md 说明如何配置。")
    assert error_of(await planned(AutoPlanner(offline, None), "turn on the lamp")).code == ErrorCode.AMBIGUOUS


async def test_a_model_that_is_down_leaves_what_the_offline_engine_said(offline: OfflinePlanner) -> None:
    """So that a person sees what would work without it."""
    failure = ModelFailure(FailureKind.QUOTA, "no credit is left")

    error = error_of(await planned(AutoPlanner(offline, TaskPlanner(ScriptedModel(failure))), "write a poem"))

    assert error.code == ErrorCode.MODEL_FAILED
    assert error.message.startswith('I do not understand "write a poem", so nothing was done.')
    assert error.message.endswith(" The language model failed: no credit is left.")


async def test_a_question_of_the_model_is_passed_on_as_it_is(offline: OfflinePlanner) -> None:
    """It is the answer."""
    model = ScriptedModel(call("ask_back", question="About what?"))

    error = error_of(await planned(AutoPlanner(offline, TaskPlanner(model)), "write a poem"))

    assert error == WireError(ErrorCode.AMBIGUOUS, "About what?")


# Words at the end


STEP = Step("s1", node="kitchen", tool="output_set", args={"device": "fan", "value": "ON"})
LOOK = Step("s2", "agent", "attic", instruction="Look.")
RESULTS = (
    StepResult("s1", State.COMPLETED, "kitchen", output=Output("fan is on", {"name": "fan", "value": "ON"})),
    StepResult("s2", State.COMPLETED, "attic", output=Output("Nobody is there.")),
)
REQUEST = Request("r1", "fan on, and look who is there")


async def test_a_plan_of_the_offline_engine_is_answered_by_it(offline: OfflinePlanner) -> None:
    """At once, and without the model."""
    planner, plan = AutoPlanner(offline, TaskPlanner(ScriptedModel())), Plan("offline", (STEP,))

    assert planner.answer(plan, RESULTS[:1]) == "kitchen: the fan is on."
    assert (await planner.write(REQUEST, plan, RESULTS[:1])).text == "kitchen: the fan is on."


async def test_a_models_plan_is_answered_in_its_words_or_plain_ones(offline: OfflinePlanner) -> None:
    """Plain ones where it fails, where it is not there any more, and where they must be there at once."""
    plan = Plan("llm", (STEP, LOOK), complexity="moderate")
    plain = "kitchen: the fan is on.\nattic: Nobody is there."
    model = ScriptedModel([SPENT, "The fan is on, and nobody is there."], ModelFailure(FailureKind.QUOTA, "no credit"))
    planner = AutoPlanner(offline, TaskPlanner(model))

    written = await planner.write(REQUEST, plan, RESULTS)

    assert (written.text, written.usage) == ("The fan is on, and nobody is there.", SPENT)
    assert (await planner.write(REQUEST, plan, RESULTS)).text == plain
    assert (await AutoPlanner(offline, None).write(REQUEST, plan, RESULTS)).text == plain
    assert planner.answer(plan, RESULTS) == plain


def test_examples_are_those_that_need_no_model() -> None:
    """And both planners are closed together."""
    offline = OfflinePlanner()
    planner = AutoPlanner(offline, TaskPlanner(ScriptedModel()))

    assert planner.examples("en") == offline.examples("en")
    planner.close()
    AutoPlanner(OfflinePlanner(), None).close()
