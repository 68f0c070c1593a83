"""An agent's events as lines for people."""

from __future__ import annotations

import pytest

from pibot_mesh.agent.events import (
    AgentEvent,
    Compacted,
    MessageDelta,
    MessageEnd,
    MessageTaken,
    Outcome,
    Retry,
    RunEnd,
    RunState,
    ToolEnd,
    ToolStart,
    ToolUpdate,
    TurnStart,
)
from pibot_mesh.agent.messages import AssistantMessage
from pibot_mesh.agent.model import FailureKind
from pibot_mesh.cli.chat_view import ChatView
from pibot_mesh.cli.story import Line
from pibot_mesh.protocol.messages import Usage

AT = ("r", 1, 0)


def shown(*events: AgentEvent, view: ChatView | None = None) -> list[Line]:
    """All lines of *events*."""
    view = view or ChatView()
    return [line for event in events for line in view.lines(event)]


def test_text_comes_line_by_line_and_the_rest_is_partial() -> None:
    """Until the message ends."""
    view = ChatView()
    assert shown(MessageDelta(*AT, "one\ntw"), view=view) == [Line("one")]
    assert view.partial == "tw"
    assert shown(MessageDelta(*AT, "o"), view=view) == []
    assert shown(MessageEnd(*AT, AssistantMessage("one\ntwo")), view=view) == [Line("two")]
    assert view.partial == ""


def test_what_was_dropped_on_the_way_is_shown_at_the_end() -> None:
    """The message that ends an answer has all of it."""
    events = (MessageDelta(*AT, "one\ntw"), MessageEnd(*AT, AssistantMessage("one\ntwo\nthree")))
    assert [line.text for line in shown(*events)] == ["one", "tw", "o", "three"]
    events = (MessageDelta(*AT, "ne\n"), MessageEnd(*AT, AssistantMessage("one\ntwo")))
    assert [line.text for line in shown(*events)] == ["ne", "one", "two"]


def test_reasoning_is_shown_only_on_demand() -> None:
    """And dimmed."""
    events = (
        MessageDelta(*AT, "hm", "reasoning"),
        MessageDelta(*AT, "Four."),
        MessageEnd(*AT, AssistantMessage("Four.")),
    )
    assert shown(*events) == [Line("Four.")]
    assert shown(*events, view=ChatView(shows_reasoning=True)) == [Line("hm", dim=True), Line("Four.")]


def test_an_answer_that_broke_off_is_marked() -> None:
    """What was shown of it counts for nothing."""
    events = (MessageDelta(*AT, "It is"), MessageEnd(*AT, AssistantMessage("It is"), is_whole=False))
    assert [line.text for line in shown(*events)] == ["It is", "! the answer broke off here"]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ToolStart(*AT, "c", "file_read", '{"path": "a.txt", "limit": 5}'),
            Line("→ file_read path=a.txt, limit=5", "key"),
        ),
        (ToolStart(*AT, "c", "look", ""), Line("→ look", "key")),
        (ToolStart(*AT, "c", "look", "{not"), Line("→ look {not", "key")),
        (ToolStart(*AT, "c", "look", "[1]"), Line("→ look [1]", "key")),
        (ToolUpdate(*AT, "c", "half"), Line("  half", dim=True)),
        (ToolEnd(*AT, "c", "look", "dark\nand cold\nhere"), Line("← look: dark (+2 lines)", dim=True)),
        (ToolEnd(*AT, "c", "look", ""), Line("← look: done", dim=True)),
        (ToolEnd(*AT, "c", "look", "x" * 200, True), Line(f"← look: {'x' * 99}…", "bad")),
        (Retry(*AT, 2, 1.26, FailureKind.NETWORK, "cut"), Line("! cut; again in 1.3 s", "odd")),
        (Compacted(*AT, 9, 1), Line("! the conversation grew long: older turns were summarised", "odd")),
        (MessageTaken(*AT, "left", "steer"), Line("> left", dim=True)),
    ],
)
def test_what_happens_is_told_in_one_line(event: AgentEvent, line: Line) -> None:
    """Short, with the tone that it has."""
    assert shown(event) == [line]


def test_the_end_says_what_is_not_as_it_should_be() -> None:
    """And what was used, where the service told."""
    assert shown(TurnStart(*AT), RunEnd(*AT, Outcome(RunState.COMPLETED))) == []
    used = Outcome(RunState.FAILED, reason="no key", usage=Usage(90, 80, 5))
    assert shown(RunEnd(*AT, used)) == [
        Line("failed: no key", "bad"),
        Line("90 (80 cached) tokens in, 5 out", dim=True),
    ]
    stopped = Outcome(RunState.CANCELED, usage=Usage(9, 0, 1))
    assert shown(RunEnd(*AT, stopped)) == [Line("canceled", "odd"), Line("9 tokens in, 1 out", dim=True)]
