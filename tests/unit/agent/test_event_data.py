"""What a run tells, small enough for a message."""

from __future__ import annotations

from pibot_mesh.agent.event_data import TEXT_BYTES, bounded, event_data
from pibot_mesh.agent.events import MessageEnd, Outcome, RunEnd, RunState, ToolEnd, TurnEnd
from pibot_mesh.agent.messages import AssistantMessage, CallRequest
from pibot_mesh.agent.model import FailureKind
from pibot_mesh.protocol.codec import dumps
from pibot_mesh.protocol.messages import ToolCall, Usage


def test_the_fields_of_an_event_are_flat_and_its_run_is_the_meshs_own() -> None:
    """The turn stays."""
    assert event_data(ToolEnd("run", 2, 7, "c1", "look", "clouds", is_error=True)) == {
        "turn": 2,
        "call": "c1",
        "name": "look",
        "text": "clouds",
        "is_error": True,
        "is_left_behind": False,
    }
    assert event_data(TurnEnd("run", 1, 3, Usage(1, 2, 3, 4)))["usage"]["reasoning"] == 4


def test_an_outcome_is_told_without_its_calls() -> None:
    """Each was told when it ended."""
    outcome = Outcome(RunState.FAILED, "", "no key", FailureKind.AUTH, calls=(ToolCall("look"),))

    told = event_data(RunEnd("run", 0, 9, outcome))["outcome"]

    assert (told["state"], told["reason"], told["failure"]) == ("failed", "no key", "auth")
    assert "calls" not in told


def test_a_long_text_is_cut_in_the_middle() -> None:
    """It says how much was left out."""
    text = event_data(ToolEnd("run", 1, 0, "c1", "look", "x" * 60_000))["text"]

    assert len(text) <= TEXT_BYTES
    assert "of 60000 bytes left out" in text


def test_many_long_texts_are_cut_shorter() -> None:
    """So that all of them fit together."""
    calls = tuple(CallRequest(f"c{number}", "write", "\x01" * 20_000) for number in range(300))

    data = event_data(MessageEnd("run", 1, 0, AssistantMessage("x" * 20_000, calls, "y" * 20_000)))

    assert len(dumps(data)) < 100 * 1024
    assert len(data["message"]["calls"]) == 100


def test_half_a_character_is_made_readable() -> None:
    """A model can write one, and UTF-8 cannot carry it."""
    assert bounded({"text": "a\ud800", "n": 1, "deep": [{"b": "\ud800"}]}) == {
        "text": "a\\ud800",
        "n": 1,
        "deep": [{"b": "\\ud800"}],
    }
