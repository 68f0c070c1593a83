"""Whether a master is there."""

from __future__ import annotations

from pibot_mesh.node.master_watch import MasterWatch


def test_a_master_is_there_while_it_says_how_it_is() -> None:
    """Three words of its health may be missing."""
    watch = MasterWatch()
    assert not watch.is_there(0)

    watch.status(True, 0)
    assert watch.is_there(30)
    assert not watch.is_there(31)
    watch.health({"interval_s": 20.0}, False, 31)
    assert watch.is_there(91)
    assert not watch.is_there(92)


def test_what_the_broker_kept_is_no_sign_of_life() -> None:
    """It only tells how often a word may be expected."""
    watch = MasterWatch()
    watch.status(True, 0)
    watch.health({"interval_s": 5.0}, True, 14)

    assert watch.is_there(15)
    assert not watch.is_there(16)


def test_a_master_that_says_so_is_gone() -> None:
    """And so it is without a broker, until it is heard of again."""
    watch = MasterWatch()
    watch.status(True, 0)
    watch.status(False, 1)
    watch.health({}, False, 2)
    assert not watch.is_there(2)

    watch.status(True, 3)
    watch.gone()
    assert not watch.is_there(3)
    watch.status(True, 4)
    assert watch.is_there(4)
