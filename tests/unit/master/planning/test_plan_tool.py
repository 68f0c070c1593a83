"""What a model hands in is read strictly, and all that is wrong with it is named at once."""

from __future__ import annotations

import dataclasses

import pytest

from pibot_mesh.agent.arguments import checked_validator
from pibot_mesh.master.planning.plan_tool import ASK_BACK, MAKE_PLAN, DraftStep, language_code, read_draft
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition

LOOK = {"id": "s1", "work": "device", "node": "kitchen", "tool": "sensor_read", "args": {"device": "climate"}}


def handed_in(*steps: JSON, **head: JSON) -> dict[str, JSON]:
    return {"complexity": "moderate", "language": "en", "steps": list(steps), **head}


def test_a_draft_says_what_the_model_wrote() -> None:
    """Both kinds of steps, with everything that they may have."""
    judge = {
        "id": "s2",
        "work": "network",
        "labels": ["strong"],
        "instruction": "Look whether that is usual.",
        "tools": ["download"],
        "after": ["s1"],
        "when": {"ref": "s1.values.temperature", "op": "above", "value": 28},
        "timeout_s": 60,
    }

    draft = read_draft(handed_in(LOOK, judge, complexity="complex", language="zh-Hans"))

    assert (draft.complexity, draft.language, draft.problems) == ("complex", "zh-cn", ())
    assert draft.steps == (
        DraftStep("s1", "device", "kitchen", tool="sensor_read", args={"device": "climate"}),
        DraftStep(
            "s2",
            "network",
            labels=("strong",),
            instruction="Look whether that is usual.",
            tools=("download",),
            after=("s1",),
            when=Condition("s1.values.temperature", "above", 28),
            timeout_s=60,
        ),
    )
    assert [step.wanted for step in draft.steps] == [("sensor_read",), ("download",)]


def test_what_is_empty_counts_as_left_out() -> None:
    """Models fill in fields that they have no use for."""
    draft = read_draft(handed_in({**LOOK, "instruction": "", "tools": [], "after": [], "labels": None, "when": {}}))

    assert draft.problems == ()
    assert draft.steps[0].tool == "sensor_read"


@pytest.mark.parametrize(
    ("args", "problems"),
    [
        (
            {"steps": [LOOK], "why": "so"},
            (
                "why: there is no such field; there are complexity, language, steps",
                "complexity: is missing",
                "language: is missing",
            ),
        ),
        (handed_in(), ("steps: 1 to 100 characters or items are allowed, not 0",)),
        (handed_in(steps="s1"), ("steps: a list is expected, not 's1'",)),
        (handed_in("look"), ("step 1: an object is expected",)),
        (handed_in({**LOOK, "work": "magic"}), ("step s1: work: one of files, query, system, network, device,",)),
        (handed_in({"work": "query", "tool": "help"}), ("step 1: id: is missing",)),
        (
            handed_in({**LOOK, "argz": 1, "node": "The Kitchen"}),
            ("step s1: argz: there is no such field; there are id, work,", "step s1: node: a node id of 1 to 32 small"),
        ),
        (
            handed_in({"id": "s1", "work": "query"}),
            ("step s1: either tool or instruction is needed, and only one of them",),
        ),
        (
            handed_in({**LOOK, "instruction": "look"}),
            ("step s1: either tool or instruction is needed, and only one of them",),
        ),
        (
            handed_in({"id": "s1", "work": "query", "instruction": "look", "args": {"a": 1}}),
            ("step s1: args: are for a tool, and this is an instruction",),
        ),
        (
            handed_in({**LOOK, "tools": ["download"]}),
            ("step s1: tools: are for an instruction, and this is a call of one tool",),
        ),
        (
            handed_in({**LOOK, "when": {"ref": "s1", "op": "above"}}),
            ("step s1: when: a condition compares with a value or with a text, with one of them",),
        ),
    ],
)
def test_all_that_is_wrong_is_named(args: JSON, problems: tuple[str, ...]) -> None:
    """By step and field; what could be read is read all the same."""
    found = read_draft(args).problems

    assert len(found) == len(problems)
    for one, start in zip(found, problems, strict=True):
        assert one.startswith(start)


def test_a_step_that_cannot_be_read_does_not_hide_the_others() -> None:
    """Its id is known, so that steps which need it are not blamed."""
    draft = read_draft(handed_in({"id": "s1", "work": "?"}, {**LOOK, "id": "s2", "after": ["s1"]}, 3))

    assert [step.id for step in draft.steps] == ["s2"]
    assert draft.unread == {"s1", "3"}


@pytest.mark.parametrize(
    ("said", "code"), [("en-US", "en"), ("EN", "en"), ("zh", "zh-cn"), ("zh_CN", "zh-cn"), ("Chinese", "zh-cn")]
)
def test_languages_are_named_as_the_sentence_files_name_them(said: str, code: str) -> None:
    """Whatever a model calls them."""
    assert language_code(said) == code


def test_the_schema_knows_the_same_fields_as_the_reader() -> None:
    """And is a JSON Schema that takes what the reader takes."""
    fields = {one.name for one in dataclasses.fields(DraftStep)}
    step = MAKE_PLAN.parameters["properties"]["steps"]["items"]

    assert set(step["properties"]) == fields
    assert not list(checked_validator(MAKE_PLAN.parameters).iter_errors(handed_in(LOOK)))
    assert list(checked_validator(ASK_BACK.parameters).iter_errors({}))
