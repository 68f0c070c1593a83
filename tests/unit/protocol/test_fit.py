"""Whatever there is to say, it fits into a message, and what is left out is named."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings, strategies as st

from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.fit import cut_middle, fit_event, fit_reply, fit_result
from pibot_mesh.protocol.messages import (
    Event,
    Output,
    Plan,
    Reply,
    Result,
    State,
    Step,
    StepResult,
    ToolCall,
    WireError,
)

BIG = "x" * 70_000
WORST = "\x00" * 70_000
"""JSON needs six bytes for each of these."""


def result(**fields: object) -> Result:
    return Result("t1", "r1", 1, State.COMPLETED, **fields)  # type: ignore[arg-type]


def test_what_fits_stays_as_it_is() -> None:
    """Not even copied."""
    small = result(output=Output("ok", [1]), tool_calls=(ToolCall("read"),))
    reply, event = Reply("r1", State.COMPLETED, "ok"), Event("r1", "x", "b", 0, data={"a": [1]})

    assert fit_result(small) is small
    assert fit_reply(reply) is reply
    assert fit_event(event) is event


@pytest.mark.parametrize("text", [BIG, WORST, "é" * 40_000, "\ud800" * 10, "😀" * 20_000])
def test_a_result_with_too_long_a_text_is_cut_in_its_middle(text: str) -> None:
    """Beginning and end remain; its calls go, the state stays."""
    cut = fit_result(result(output=Output(text), tool_calls=(ToolCall("read"),)))

    encode(cut)
    assert (cut.state, cut.tool_calls, cut.output.data) == (State.COMPLETED, (), None)
    if len(text) > 20_000:
        assert "bytes left out" in cut.output.text


@pytest.mark.parametrize(
    ("data", "says"),
    [(BIG, "65536"), (math.nan, "not JSON compliant"), ({1, 2}, "not JSON serializable"), ("\ud800", "surrogate")],
)
def test_data_that_no_message_can_carry_is_left_out_with_the_reason(data: JSON, says: str) -> None:
    """The words stay."""
    cut = fit_result(result(output=Output("the words", data)))

    encode(cut)
    assert cut.output.text == "the words"
    assert says in cut.output.data["left_out"]


def test_a_text_that_is_none_is_written_as_one() -> None:
    """A tool is anybody's code."""
    cut = fit_result(result(output=Output(5)))  # type: ignore[arg-type]

    encode(cut)
    assert cut.output.text == "5"


@pytest.mark.parametrize("message", [BIG, WORST])
def test_an_error_with_too_many_words_is_cut(message: str) -> None:
    """Its code stays."""
    cut = fit_result(result(error=WireError("tool_failed", message), output=Output(WORST, WORST)))

    encode(cut)
    assert cut.error is not None
    assert cut.error.code == "tool_failed"
    assert "bytes left out" in cut.error.message


def test_a_reply_with_too_much_output_keeps_its_steps() -> None:
    """Each is cut, its state stays, and the plan with it."""
    steps = tuple(
        StepResult(f"s{i}", State.FAILED, output=Output("y" * 20_000, [1]), error=WireError("x", "no"))
        for i in range(5)
    )
    plan = Plan("offline", (Step("s1", tool="read"),))

    cut = fit_reply(Reply("r1", State.FAILED, "all of it", plan=plan, results=steps))

    encode(cut)
    assert (cut.text, cut.plan) == ("all of it", plan)
    assert [step.state for step in cut.results] == [State.FAILED] * 5
    assert all("left_out" in step.output.data for step in cut.results)


def test_a_reply_with_too_large_a_plan_keeps_its_words() -> None:
    """Plan and steps go."""
    plan = Plan("llm", tuple(Step(f"s{i}", tool="t", args={"text": "y" * 1000}) for i in range(1, 100)))
    steps = tuple(StepResult(f"s{i}", State.COMPLETED) for i in range(1, 100))

    cut = fit_reply(Reply("r1", State.COMPLETED, WORST, plan=plan, results=steps, error=WireError("x", WORST)))

    encode(cut)
    assert (cut.plan, cut.results, cut.state) == (None, (), State.COMPLETED)
    assert "bytes left out" in cut.text


def test_an_event_that_is_too_large_keeps_its_short_fields() -> None:
    """Twenty at most, and says why the others are gone."""
    event = Event("r1", "x", "b", 7, data={"node": "n1", "n": 3, "text": BIG, "k" * 100: 1, "list": [1]})

    cut = fit_event(event)

    encode(cut)
    assert {key: cut.data[key] for key in ("node", "n")} == {"node": "n1", "n": 3}
    assert set(cut.data) == {"node", "n", "left_out"}
    many = fit_event(Event("r1", "x", "b", 7, data={f"k{i}": "\x00" * 64 for i in range(1000)}))
    encode(many)
    assert len(many.data) == 21


def test_a_text_is_cut_between_letters() -> None:
    """Never within one; and it says how much is gone."""
    assert cut_middle("short", 100) == "short"
    cut = cut_middle("é" * 1000, 161)
    assert cut.startswith("é" * 25 + " … [")
    assert cut.endswith("] … " + "é" * 25)
    assert "1900 of 2000 bytes left out" in cut
    assert "100 of 100 bytes left out" in cut_middle("x" * 100, 10)


JUNK = st.recursive(
    st.text() | st.floats() | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(), max_size=50), st.integers(1, 5000), JUNK)
def test_whatever_a_tool_gives_can_be_sent(text: str, times: int, data: JSON) -> None:
    """Also where the letters are odd."""
    encode(fit_result(result(output=Output(text * times, data))))
    encode(fit_reply(Reply("r1", State.COMPLETED, text * times)))
