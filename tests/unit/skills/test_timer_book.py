"""Timers by name, and what a restart makes of them."""

from __future__ import annotations

import json

import pytest

from pibot_mesh.errors import ErrorCode, StoreError, ToolError
from pibot_mesh.skills.timer_book import MAX_S, MAX_TIMERS, Finished, TimerBook

NOON = 1_700_000_000.0


def book_with(**lengths: float) -> TimerBook:
    book = TimerBook()
    for name, length_s in lengths.items():
        book.set(name, length_s, f"{name} is ready", now=0)
    return book


def after_restart(text: str, *, now: float, wall: float) -> TimerBook:
    book = TimerBook()
    book.load(text, now=now, wall=wall)
    return book


def test_timers_end_in_their_order() -> None:
    """Each once, and with what was to be said."""
    book = book_with(eggs=300, tea=120)

    assert book.next_at() == 120
    assert book.pop_due(119.9) == []
    assert book.pop_due(301) == [
        Finished("tea", "tea is ready", 120, 181),
        Finished("eggs", "eggs is ready", 300, 1),
    ]
    assert book.pop_due(999) == []
    assert book.next_at() is None
    assert len(book) == 0


def test_a_name_has_one_timer() -> None:
    """Set again, it begins anew."""
    book = book_with(tea=120)
    book.set("tea", 60, "", now=100)

    assert [(timer.name, timer.due) for timer in book.running()] == [("tea", 160)]
    assert book.get("tea") is not None
    assert book.get("eggs") is None


def test_one_that_is_cancelled_does_not_end() -> None:
    """And is told back."""
    book = book_with(tea=120)

    assert book.cancel("tea").due == 120
    assert book.pop_due(999) == []


@pytest.mark.parametrize(("lengths", "words"), [({}, "none runs"), ({"tea": 5.0, "eggs": 5.0}, "there are eggs, tea")])
def test_cancelling_what_is_not_there_names_what_is(lengths: dict[str, float], words: str) -> None:
    """A model can then choose."""
    with pytest.raises(ToolError, match=f"no timer is named 'rice': {words}") as caught:
        book_with(**lengths).cancel("rice")
    assert caught.value.code == ErrorCode.BAD_ARGUMENTS


def test_there_is_an_end_to_the_number_of_timers() -> None:
    """But one that is there can always be set anew."""
    book = book_with(**{f"t{number}": 60.0 for number in range(MAX_TIMERS)})
    with pytest.raises(ToolError, match="50 timers run already"):
        book.set("one more", 60, "", now=0)

    book.set("t0", 90, "", now=0)

    assert len(book) == MAX_TIMERS


def test_a_change_that_was_not_kept_is_undone() -> None:
    """A new timer goes, a changed one is as it was, a cancelled one is there again."""
    book = book_with(tea=120)
    tea = book.get("tea")

    book.set("eggs", 60, "", now=0)
    book.put_back("eggs", old=None, new=book.get("eggs"))
    book.set("tea", 5, "", now=0)
    book.put_back("tea", old=tea, new=book.get("tea"))
    assert book.running() == [tea]

    book.cancel("tea")
    book.put_back("tea", old=tea, new=None)
    assert book.running() == [tea]


def test_a_change_upon_a_change_is_not_undone() -> None:
    """Somebody else was faster."""
    book = book_with(tea=120)
    first = book.get("tea")
    book.set("tea", 60, "", now=0)

    book.put_back("tea", old=None, new=first)

    assert book.next_at() == 60


def test_the_time_off_counts() -> None:
    """Two of five minutes had gone, and one went by while the node was off: two are left."""
    text = book_with(eggs=300).dump(now=120, wall=NOON)

    assert after_restart(text, now=7, wall=NOON + 60).next_at() == 7 + 120


def test_what_ended_while_nobody_looked_is_due_at_once() -> None:
    """And says how late it is."""
    text = book_with(eggs=300).dump(now=0, wall=NOON)

    assert after_restart(text, now=7, wall=NOON + 3900).pop_due(7) == [Finished("eggs", "eggs is ready", 300, 3600)]


def test_a_clock_that_went_back_makes_no_timer_longer_than_it_is() -> None:
    """A Pi without a battery wakes up in the past."""
    text = book_with(eggs=300).dump(now=0, wall=NOON)

    assert after_restart(text, now=7, wall=NOON - 86_400).next_at() == 7 + 300


def test_a_clock_that_was_set_is_noticed() -> None:
    """What is written down would be wrong by as much; without a timer it does not matter."""
    book = book_with(eggs=300)
    assert not book.is_written_wrong(now=0, wall=NOON), "nothing is written down"
    book.dump(now=0, wall=NOON)

    assert not book.is_written_wrong(now=100, wall=NOON + 101)
    assert book.is_written_wrong(now=100, wall=NOON + 86_400)
    book.cancel("eggs")
    assert not book.is_written_wrong(now=100, wall=NOON + 86_400)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"timers": [{"name": "x"}]}',
        '{"timers": [{"name": "x", "text": "", "for_s": "soon", "ends_at": 1}]}',
        '{"timers": [{"name": "x", "text": "", "for_s": 5, "ends_at": NaN}]}',
        '{"timers": [{"name": "x", "text": "", "for_s": 5, "ends_at": -Infinity}]}',
        '{"timers": [{"name": "x", "text": "", "for_s": 1e9, "ends_at": 1}]}',
        "[" * 100_000,
    ],
)
def test_what_was_not_written_here_is_not_taken_in(text: str) -> None:
    """Neither half of it."""
    book = TimerBook()
    with pytest.raises(StoreError, match="these are no timers"):
        book.load(text, now=0, wall=NOON)
    assert len(book) == 0


def test_too_many_in_a_file_are_cut() -> None:
    """And so are texts that no tool would have taken."""
    timer = {"name": "n" * 1000, "text": "t" * 1000, "for_s": MAX_S, "ends_at": NOON + 5}
    many = [{**timer, "name": f"{number}"} for number in range(MAX_TIMERS + 5)]

    assert len(after_restart(json.dumps({"timers": many}), now=0, wall=NOON)) == MAX_TIMERS
    [cut] = after_restart(json.dumps({"timers": [timer]}), now=0, wall=NOON).running()
    assert (len(cut.name), len(cut.text)) == (64, 500)
