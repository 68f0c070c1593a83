"""The blueprint for Assist, in a real Home Assistant: what is said there is asked here, and the answer is spoken."""

from __future__ import annotations

import pytest

from tests.homeassistant.home_assistant import HomeAssistant

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_assist_speaks_the_answer_of_the_mesh(home: HomeAssistant) -> None:
    """To the very request, in full."""
    answer = await home.say("ask the house to read the humidity in the kitchen")

    assert "kitchen" in answer
    assert "%" in answer


async def test_assist_says_what_was_not_understood(home: HomeAssistant) -> None:
    """In the words of the mesh."""
    answer = await home.say("pibot colorless green ideas sleep furiously")

    assert "colorless" in answer


async def test_assist_says_that_a_person_must_approve(home: HomeAssistant) -> None:
    """And which call it is; a later answer is not waited for."""
    answer = await home.say("ask the house to turn on the socket on kitchen")

    assert "approve" in answer
    assert "socket" in answer
    await home.until(lambda states: states["button.master_deny"].is_available, "it can be denied")
    await home.call("button", "press", "button.master_deny")
    await home.until(lambda states: states["sensor.master_state"].state == "idle", "nothing is open")
