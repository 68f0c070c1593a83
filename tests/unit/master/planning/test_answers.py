"""What happened, said from results alone: by whom, how far, and what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.master.planning.answers import answer
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import (
    Condition,
    Output,
    Plan,
    State,
    Step,
    StepResult,
    ToolCall,
    WireError,
)

ENGINE = OfflineEngine()
FETCH = Step("s1", "agent", "attic", instruction="Fetch the weather, and note it.")
DONE = ToolCall("download", {"url": "http://weather/", "file": "weather.txt"}, True, "write")
FAILED = ToolCall("file_write", {"path": "notes.txt", "text": "sunny  and\nwarm " * 9}, False, "write")
OPEN = ToolCall("file_delete", {"path": "old.txt"}, None, "write")


def words(steps: Sequence[Step], results: Sequence[StepResult], language: str = "en") -> str:
    return answer(Plan("llm", tuple(steps), language, "moderate"), results, ENGINE.answer)


def read(value: float) -> StepResult:
    data = {"device": "climate", "name": "climate", "values": {"temperature": value}, "units": {"temperature": "°C"}}
    return StepResult("s1", State.COMPLETED, "balcony", output=Output("climate", data))


def test_devices_are_said_as_the_offline_engine_says_them() -> None:
    """In one piece, with the condition that was not met."""
    steps = (
        Step("s1", node="balcony", tool="sensor_read", args={"device": "climate"}),
        Step(
            "s2",
            node="kitchen",
            tool="output_set",
            args={"device": "fan", "value": "ON"},
            when=Condition("s1.values.temperature", "above", 28),
        ),
    )

    text = words(steps, [read(24.1), StepResult("s2", State.SKIPPED)])

    assert text == ("balcony: the temperature is 24.1 °C, which is not above 28, so kitchen's fan was left as it was.")


def test_an_agent_is_quoted_with_its_node() -> None:
    """And other tools with what they gave: words, else data, else that they are done."""
    steps = [Step(f"s{number}", tool="crunch") for number in (1, 2, 3)]
    results = [
        StepResult("s1", State.COMPLETED, "attic", output=Output("It is 42.")),
        StepResult("s2", State.COMPLETED, "garage", output=Output("", {"sum": 7})),
        StepResult("s3", State.COMPLETED, "garage"),
    ]

    assert words(steps, results) == 'attic: It is 42.\ngarage: {"sum": 7}\ngarage: crunch is done.'
    assert words(
        (FETCH, steps[1]), [StepResult("s1", State.COMPLETED, "attic", output=Output("Sunny.")), results[1]]
    ) == ('attic: Sunny.\ngarage: {"sum": 7}')


def test_an_agent_that_was_the_whole_plan_is_quoted_alone() -> None:
    """It answers the person; one that said nothing has at least done it."""
    assert words([FETCH], [StepResult("s1", State.COMPLETED, "attic", output=Output("Sunny.\n"))]) == "Sunny."
    assert words([FETCH], [StepResult("s1", State.COMPLETED, "attic")]) == "attic: the task is done."


@pytest.mark.parametrize(
    ("state", "error", "fact"),
    [
        (State.CANCELED, WireError(ErrorCode.CANCELED, "by a person"), "the task was cancelled."),
        (State.FAILED, WireError(ErrorCode.BUDGET, "no tokens left."), "the task did not succeed: no tokens left."),
        (State.REJECTED, None, "the task did not succeed: no reason was given."),
        (
            State.UNKNOWN,
            WireError(ErrorCode.INTERRUPTED, ""),
            "it is not known whether the task was done: the node restarted in the middle.",
        ),
        (State.WORKING, None, "it is not known whether the task was done: there is no result."),
    ],
)
def test_what_was_done_before_the_end_is_told(state: State, error: WireError | None, fact: str) -> None:
    """What went well, what failed, and what nobody knows."""
    result = StepResult("s1", state, "attic", error=error, tool_calls=(DONE, FAILED, OPEN, DONE))

    assert words([FETCH], [result]) == (
        f"attic: {fact} Done before that: download (url: http://weather/, file: weather.txt), "
        "download (url: http://weather/, file: weather.txt). "
        "Not done before that, since it failed: "
        "file_write (path: notes.txt, text: sunny and warm sunny and warm sunny …). "
        "Not known whether it happened: file_delete (path: old.txt)."
    )


def test_of_many_calls_the_first_are_named() -> None:
    """And it is said how many more there were."""
    calls = tuple(ToolCall("tick", {"n": number}, True) for number in range(12))

    text = words([FETCH], [StepResult("s1", State.CANCELED, "attic", tool_calls=calls)])

    assert text.endswith("tick (n: 9), and 2 more.")
    assert "tick (n: 10)" not in text


def test_what_had_no_calls_says_nothing_of_any() -> None:
    """And a tool is called by its name; without a node there is none to name."""
    result = StepResult("s1", State.FAILED, error=WireError("x", "no node could do it"), tool_calls=())
    call = ToolCall("crunch", {}, True)

    assert words([Step("s1", tool="crunch")], [result]) == "crunch did not succeed: no node could do it."
    assert words([FETCH], [StepResult("s1", State.CANCELED, "attic", tool_calls=(call,))]).endswith(": crunch.")


@pytest.mark.parametrize(
    ("when", "data", "said"),
    [
        (Condition("s1.count", "above", 3), {"count": 2}, "s1.count is 2, not above 3"),
        (Condition("s1.values.t", "at_least", 3), {"values": {"t": 2.5}}, "s1.values.t is 2.5, not at least 3"),
        (Condition("s1.state", "equals", text="open"), {"state": "closed"}, "s1.state is closed, not open"),
        (Condition("s1.state", "differs", text="open"), {"state": "open"}, "s1.state is open, not other than open"),
        (Condition("s1.gone", "below", 3), {}, "s1.gone is ?, not below 3"),
    ],
)
def test_a_condition_that_did_not_hold_is_told_with_what_was_found(when: Condition, data: JSON, said: str) -> None:
    """Where the offline engine has no words for it."""
    steps = (Step("s1", tool="crunch", node="attic"), Step("s2", "agent", "garage", instruction="Tell.", when=when))
    first = StepResult("s1", State.COMPLETED, "attic", output=Output("Counted.", data))

    text = words(steps, [first, StepResult("s2", State.SKIPPED, "garage")])

    assert text == f"attic: Counted.\ngarage: the task was not needed: {said}."


def test_a_switch_that_was_not_needed_is_told_whatever_it_waited_for() -> None:
    """Also for conditions that the offline engine does not make."""
    fan = Step("s2", tool="output_set", node="kitchen", when=Condition("s1.text", "equals", text="yes"))

    text = words((FETCH, fan), [StepResult("s1", State.COMPLETED, "attic", output=Output("no", {"text": "no"}))])
    skipped = words(
        (FETCH, fan),
        [
            StepResult("s1", State.COMPLETED, "attic", output=Output("no", {"text": "no"})),
            StepResult("s2", State.SKIPPED),
        ],
    )

    assert text == "attic: no\nkitchen: it is not known whether output_set was done: there is no result."
    assert skipped == "attic: no\nkitchen: output_set was not needed: s1.text is no, not yes."


def test_what_waited_in_vain_is_told() -> None:
    """With the reason that the master gives."""
    why = WireError(ErrorCode.CANCELED, "s1, which it waits for, was failed")

    text = words([FETCH], [StepResult("s1", State.SKIPPED, "attic", error=why)])

    assert text == "attic: the task was not begun: s1, which it waits for, was failed."


def test_steps_of_both_kinds_are_all_said() -> None:
    """The devices first; a tool of the master's own is its own word, but what it tells of the mesh is the engine's."""
    steps = (
        FETCH,
        Step("s2", tool="output_set", node="kitchen", args={"device": "fan", "value": "ON"}),
        Step("s3", tool="file_write", node="master"),
        Step("s4", tool="mesh_status", node="master"),
    )
    results = [
        StepResult("s1", State.CANCELED, "attic"),
        StepResult("s2", State.COMPLETED, "kitchen", output=Output("", {"name": "fan", "value": "ON"})),
        StepResult("s3", State.FAILED, "master", error=WireError("x", "the disk is full")),
        StepResult("s4", State.COMPLETED, "master", output=Output("", {"nodes": {}})),
    ]

    assert words(steps, results).splitlines() == [
        "kitchen: the fan is on. There are no nodes.",
        "attic: the task was cancelled.",
        "master: file_write did not succeed: the disk is full.",
    ]


def test_where_nothing_was_needed_there_is_nothing_to_say() -> None:
    """It is said, so that the reply is no empty text."""
    when = Condition("s1.values.temperature", "above", 28)
    fan = Step("s2", tool="output_set", node="kitchen", args={"device": "fan"}, when=when)
    sensor = Step("s1", tool="sensor_read", node="balcony", args={"device": "climate"})

    assert words((fan,), [StepResult("s2", State.SKIPPED)]).startswith("kitchen: output_set was not needed")
    assert words((sensor,), [StepResult("s1", State.SKIPPED)]) == "There is nothing to say."


def test_chinese_is_answered_in_chinese_and_other_languages_in_english() -> None:
    """Both kinds of words are."""
    steps = (FETCH, Step("s2", tool="output_set", node="kitchen", args={"device": "fan", "value": "ON"}))
    results = [
        StepResult("s1", State.UNKNOWN, "attic", error=WireError(ErrorCode.INTERRUPTED, ""), tool_calls=(DONE, OPEN)),
        StepResult("s2", State.COMPLETED, "kitchen", output=Output("", {"name": "fan", "value": "ON"})),
    ]

    devices, agent = words(steps, results, "zh-cn").splitlines()

    assert devices == "kitchen：风扇已打开。"
    assert agent == (
        "attic：不知道 任务 是否已完成：节点在中途重启。"
        "此前已完成：download (url: http://weather/, file: weather.txt)。"
        "不知道是否已发生：file_delete (path: old.txt)。"
    )
    assert words(steps, results, "de").startswith("kitchen: the fan is on.")
