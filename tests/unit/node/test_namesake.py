"""Which of two processes with one node's id stays, as each of them decides it for itself."""

from __future__ import annotations

import itertools
import random

import pytest

from pibot_mesh.node.namesake import CONTESTED_S, READ_BACK_WITHIN_S, SEEN_AT_MOST, GiveWay, Namesakes


class Broker:
    """One card, retained; one client at a time, as all have one id."""

    def __init__(self) -> None:
        self.card: tuple[str, int] | None = None
        self.is_online = False
        self.now = 0.0
        self.inside: Process | None = None

    def let_in(self, process: Process, *, is_slow: bool = False) -> None:
        """Throw out who is in; *process* reads what stands there, and shows its own card. If *is_slow*, it reads
        nothing before it is thrown out."""
        if self.inside is not None:
            self.inside.names.disconnected()
        self.inside = process
        process.names.tick(self.now)
        process.names.connected(self.now)
        if self.card is not None and not is_slow:
            if not self.is_online:
                process.names.stood_offline()
            process.read(*self.card)
        if process.gone is None and not process.names.is_contested:
            process.show(is_read=not is_slow)


class Process:
    """A node's process, which gives way where it must."""

    def __init__(self, boot: str, broker: Broker, earlier: tuple[str, ...] = ()) -> None:
        self.names = Namesakes(boot, earlier)
        self.boot = boot
        self.broker = broker
        self.seq = 0
        self.gone: GiveWay | None = None

    def read(self, boot: str, seq: int) -> None:
        verdict = self.names.card_seen(boot, seq, self.broker.now)
        if isinstance(verdict, GiveWay):
            self.gone = verdict

    def show(self, *, is_read: bool = True) -> None:
        self.seq += 1
        self.broker.card, self.broker.is_online = (self.boot, self.seq), True
        if is_read:
            self.read(self.boot, self.seq)


def test_a_node_alone_takes_orders_once_it_has_read_its_own_card() -> None:
    """Before, nobody knows what stood there."""
    names = Namesakes("b1", ())
    names.connected(0.0)
    before = names.is_ours
    assert names.card_seen("b1", 1, 0.0) == "known"
    assert (before, names.is_ours, names.wake_at()) == (False, True, None)


def test_where_it_cannot_read_its_own_card_it_takes_orders_after_a_while() -> None:
    """The broker's rules are those of an older version."""
    names = Namesakes("b1", ())
    names.connected(5.0)
    names.tick(5.0 + READ_BACK_WITHIN_S - 0.1)
    assert not names.is_ours
    names.tick(5.0 + READ_BACK_WITHIN_S)
    assert names.is_ours


def test_a_node_that_starts_again_is_no_stranger_to_itself() -> None:
    """However often, and however quickly: its journal knows who it was. It takes orders at once."""
    broker = Broker()
    earlier: tuple[str, ...] = ()
    for number in range(5):
        process = Process(f"b{number}", broker, earlier)
        broker.let_in(process)
        assert process.names.is_ours
        broker.let_in(process)
        assert process.gone is None
        earlier = (*earlier, process.boot)


def test_a_node_with_a_new_journal_waits_for_a_sign_of_the_stranger_and_then_takes_its_place() -> None:
    """Its card was changed for an empty one, and the old process is not there to object."""
    broker = Broker()
    broker.let_in(Process("old", broker))
    new = Process("new", broker)
    broker.let_in(new)
    assert new.names.is_contested
    assert not new.names.is_ours

    assert new.names.wake_at() == CONTESTED_S
    new.names.tick(CONTESTED_S - 0.1)
    assert new.names.is_contested
    new.names.tick(CONTESTED_S)
    assert new.names.is_ours


def test_a_stranger_that_had_said_goodbye_is_not_waited_for() -> None:
    """Its card stands there still."""
    broker = Broker()
    broker.let_in(Process("old", broker))
    broker.is_online = False
    new = Process("new", broker)
    broker.let_in(new)
    assert new.names.is_ours


def test_the_wait_for_a_sign_begins_anew_with_each_connection() -> None:
    """So long as it is not connected it cannot read any."""
    broker = Broker()
    broker.let_in(Process("old", broker))
    new = Process("new", broker)
    broker.let_in(new)
    new.names.disconnected()
    assert new.names.wake_at() is None
    broker.now = 100.0
    new.names.connected(broker.now)
    assert new.names.wake_at() == 100.0 + CONTESTED_S
    assert not new.names.is_ours


@pytest.mark.parametrize(("first", "second"), [("b1", "b2"), ("b2", "b1")])
def test_of_two_the_first_stays(first: str, second: str) -> None:
    """Whatever their boots. The second has taken no order."""
    broker = Broker()
    one, two = Process(first, broker), Process(second, broker)
    for process in (one, two, one, two):
        assert not two.names.is_ours or broker.inside is not two
        broker.let_in(process)

    assert two.gone == GiveWay(first, is_first=True)
    assert one.gone is None
    assert one.names.is_ours


def test_the_first_does_not_go_because_the_second_cannot_read() -> None:
    """It is slow, and is thrown out five times before it knows: both must never go."""
    broker = Broker()
    one, two = Process("b2", broker), Process("b1", broker)
    broker.let_in(one)
    for _ in range(5):
        broker.let_in(two, is_slow=True)
        broker.let_in(one)
    broker.let_in(two)
    broker.let_in(one)
    broker.let_in(two)

    assert two.gone == GiveWay("b2", is_first=True)
    assert one.gone is None


def test_a_copy_of_a_memory_card_gives_way_too() -> None:
    """Its journal calls the other an earlier self; but who is dead shows no new card."""
    broker = Broker()
    one = Process("b1", broker)
    copy = Process("b2", broker, earlier=("b1",))
    for process in (one, copy, one, copy):
        broker.let_in(process)

    assert copy.gone == GiveWay("b1", is_first=True)
    assert one.gone is None


@pytest.mark.parametrize("boots", [("b1", "b2"), ("b2", "b1")])
def test_where_neither_was_clearly_first_one_goes_all_the_same(boots: tuple[str, str]) -> None:
    """The broker forgot the card between the two; the greater boot goes."""
    broker = Broker()
    one, two = (Process(boot, broker) for boot in boots)
    broker.let_in(one)
    broker.card = None
    for process in itertools.islice(itertools.cycle((two, one)), 2 * SEEN_AT_MOST + 2):
        if process.gone is None:
            broker.let_in(process)

    assert [process.boot for process in (one, two) if process.gone] == ["b2"]


def test_what_was_shown_before_says_nothing_of_who_lives() -> None:
    """The session brings what the process before it did not take: older cards, and the same again."""
    names = Namesakes("b2", ())
    names.connected(0.0)
    names.stood_offline()
    for seq in (3, 7):
        assert names.card_seen("b1", seq, 0.0) == "known"
    names.card_seen("b2", 1, 0.0)
    for seq in (3, 7):
        assert names.card_seen("b1", seq, 0.0) == "known"
    assert names.is_ours


def test_an_own_earlier_card_that_comes_late_is_no_stranger() -> None:
    """Not every broker sends first what stood there first."""
    names = Namesakes("b2", ("b1",))
    names.connected(0.0)
    names.card_seen("b2", 1, 0.0)
    assert names.card_seen("b1", 7, 0.0) == "known"
    assert names.card_seen("b1", 7, 0.0) == "known"


def test_without_eviction_the_first_shows_itself_to_the_second() -> None:
    """Two brokers with a bridge between them let in both."""
    broker = Broker()
    one, two = Process("b2", broker), Process("b1", broker)
    broker.let_in(one)
    broker.inside = None
    broker.let_in(two)
    assert one.names.card_seen("b1", 1, 0.0) == "show"
    one.show()
    two.read(*(broker.card or ("", 0)))

    assert two.gone == GiveWay("b2", is_first=True)


def test_two_strangers_that_wait_for_a_third_do_not_wait_for_ever() -> None:
    """It had gone, and they throw each other out."""
    broker = Broker()
    broker.let_in(Process("old", broker))
    one, two = Process("b1", broker), Process("b2", broker)
    broker.let_in(one)
    broker.card = ("old", 1)
    for process in itertools.islice(itertools.cycle((two, one)), 60):
        broker.now += 3.0
        if process.gone is None:
            broker.let_in(process)

    assert [process.gone is None for process in (one, two)].count(True) == 1


@pytest.mark.parametrize("seed", range(200))
def test_in_whatever_order_they_come_exactly_one_stays(seed: int) -> None:
    """Two or three, thrown out and let in at random, often before they could read anything."""
    chance = random.Random(seed)
    broker = Broker()
    processes = [Process(f"b{number}", broker) for number in range(chance.choice((2, 3)))]
    chance.shuffle(processes)
    for _ in range(200):
        there = [process for process in processes if process.gone is None]
        broker.now += chance.uniform(0, 3)
        broker.let_in(chance.choice(there), is_slow=chance.random() < 0.3)

    assert len([process for process in processes if process.gone is None]) == 1
