"""Who may ask the model, and who is next."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.agent.model import FailureKind
from pibot_mesh.config.settings import GatewaySettings
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.admission import MINUTE_S, FairQueue, NodeMeter, TaskMeter

DAY = "2025-03-01"


def meter(requests: int = 3, tokens: int = 1000, used: int = 0) -> NodeMeter:
    """The meter of the node attic."""
    return NodeMeter("attic", GatewaySettings(requests, tokens), day=DAY, tokens=used)


def test_a_minute_has_so_many_calls_and_no_more() -> None:
    """The refusal says how long to wait, and that is long enough."""
    attic = meter()
    assert [attic.ask(now=now, day=DAY) for now in (100.0, 110.0, 120.0)] == [None] * 3

    refused = attic.ask(now=130.0, day=DAY)

    assert refused is not None
    assert (refused.code, refused.kind, refused.is_retryable) == (ErrorCode.OVERLOADED, FailureKind.RATE_LIMIT, True)
    assert refused.retry_after_s == 30
    assert "attic has asked the model 3 times within a minute" in refused.text
    assert "gateway.requests_per_minute" in refused.text
    assert attic.ask(now=130.0 + refused.retry_after_s, day=DAY) is None


def test_calls_that_were_refused_do_not_count() -> None:
    """Who asks too often gets as many calls as who waits."""
    attic = meter(requests=1)
    made = [now for now in range(0, 600, 5) if attic.ask(now=float(now), day=DAY) is None]

    assert made == list(range(0, 600, 60))


@given(st.lists(st.integers(0, 1000), max_size=60).map(sorted), st.integers(1, 5))
def test_no_minute_ever_has_more(times: list[int], limit: int) -> None:
    """Wherever it begins: the window slides."""
    attic = meter(requests=limit)
    made = [now for now in times if attic.ask(now=now, day=DAY) is None]

    assert all(sum(begin <= now < begin + MINUTE_S for now in made) <= limit for begin in made)


def test_a_limit_of_no_calls_is_kept() -> None:
    """There is no oldest call to wait for."""
    refused = meter(requests=0).ask(now=5.0, day=DAY)

    assert refused is not None
    assert refused.retry_after_s == MINUTE_S


def test_a_day_has_so_many_tokens() -> None:
    """The refusal names the limit and its end; the next day all of them are there again."""
    attic = meter(tokens=1000, used=400)
    assert attic.ask(now=0.0, day=DAY) is None
    attic.use(599, day=DAY)
    assert attic.ask(now=1.0, day=DAY) is None
    attic.use(1, day=DAY)

    refused = attic.ask(now=2.0, day=DAY)

    assert refused is not None
    assert (refused.code, refused.kind, refused.is_retryable) == (ErrorCode.BUDGET, FailureKind.QUOTA, False)
    assert refused.retry_after_s is None
    assert "1000 tokens of the model for today (gateway.tokens_per_day" in refused.text
    assert "after midnight" in refused.text
    assert attic.tokens("2025-03-02") == 0
    assert attic.ask(now=100.0, day="2025-03-02") is None


def test_tokens_count_for_the_day_on_which_they_were_told() -> None:
    """A call that goes on over midnight counts for the new day."""
    attic = meter()
    attic.use(10, day=DAY)
    attic.use(20, day="2025-03-02")
    attic.use(30, day="2025-03-02")

    assert attic.tokens("2025-03-02") == 50


def test_a_task_has_what_its_calls_have_left() -> None:
    """Also where the ledger has not counted them yet; and what it has counted is not counted twice."""
    task = TaskMeter()
    assert task.left(1000) == 1000
    task.use(300)
    assert task.left(1000) == 700
    task.use(200)
    assert task.left(700) == 500
    assert task.left(500) == 500


def test_a_task_with_a_new_share_has_all_of_that() -> None:
    """It is begun anew, and the ledger has counted what was before."""
    task = TaskMeter()
    task.left(1000)
    task.use(1200)
    assert task.left(-200) == -200

    assert task.left(800) == 800


def taken(queue: FairQueue[str]) -> list[str]:
    """All that waits, in its turn."""
    found: list[str] = []
    while (call := queue.next(lambda _: True)) is not None:
        found.append(call)
    return found


def test_nodes_take_turns() -> None:
    """However many calls one of them has; those of one node stay in order."""
    queue: FairQueue[str] = FairQueue(10)
    for call in ("a1", "a2", "a3", "b1", "b2", "c1"):
        assert queue.put(call[0], call) is None

    assert len(queue) == 6
    assert taken(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(queue) == 0


def test_who_had_a_turn_stands_behind_who_had_none() -> None:
    """Also with calls that come later."""
    queue: FairQueue[str] = FairQueue(10)
    for call in ("a1", "a2", "b1"):
        queue.put(call[0], call)
    assert queue.next(lambda _: True) == "a1"
    queue.put("c", "c1")

    assert taken(queue) == ["b1", "a2", "c1"]


def test_who_may_not_begin_keeps_the_place() -> None:
    """Those behind go on meanwhile, also of the same node."""
    queue: FairQueue[str] = FairQueue(10)
    for call in ("a1", "a2", "b1"):
        queue.put(call[0], call)

    assert queue.next(lambda call: call != "a1") == "a2"
    assert queue.next(lambda call: call != "a1") == "b1"
    assert queue.next(lambda call: call != "a1") is None
    assert taken(queue) == ["a1"]


def test_the_longest_line_gives_way() -> None:
    """A flood from one node leaves room for the others; its own last call is the one that goes."""
    queue: FairQueue[str] = FairQueue(4)
    assert [queue.put("a", f"a{number}") for number in range(6)] == [None, None, None, None, "a4", "a5"]

    assert queue.put("b", "b0") == "a3"
    assert queue.put("b", "b1") == "a2"
    assert queue.put("b", "b2") == "b2", "of lines of the same length one's own"
    assert taken(queue) == ["a0", "b0", "a1", "b1"]


def test_a_call_can_be_taken_out() -> None:
    """Wherever it stands, and none that is not there."""
    queue: FairQueue[str] = FairQueue(10)
    for call in ("a1", "a2", "b1"):
        queue.put(call[0], call)
    queue.remove("a", "a2")
    queue.remove("b", "b1")
    queue.remove("b", "b1")
    queue.remove("a", "a9")

    assert taken(queue) == ["a1"]


@pytest.mark.parametrize("seed", range(20))
def test_nobody_waits_for_longer_than_one_turn_of_all_others(seed: int) -> None:
    """Whatever comes and goes: between two turns of others a waiting node has had its own."""
    chance = random.Random(seed)
    queue: FairQueue[str] = FairQueue(30)
    waiting: dict[str, list[str]] = {node: [] for node in "abcd"}
    turns: list[tuple[str, set[str]]] = []
    for number in range(500):
        if chance.random() < 0.6:
            node = chance.choice("aaaaabcd")
            gone = queue.put(node, f"{node}{number}")
            waiting[node].append(f"{node}{number}")
            if gone is not None:
                waiting[gone[0]].remove(gone)
        elif (call := queue.next(lambda _: True)) is not None:
            assert call == waiting[call[0]].pop(0), "in order"
            turns.append((call[0], {node for node, calls in waiting.items() if calls}))
    for at in range(len(turns) - 4):
        window = turns[at : at + 5]
        for node in "abcd":
            if all(node in others for _, others in window):
                assert node in [turn for turn, _ in window]
