"""Whether a master is there."""

from __future__ import annotations

from pibot_mesh.node.master_watch import MasterWatch


def test_a_master_is_there_while_it_says_how_it_is() -> None:
    """Three words of its health may be missing."""
    watch = MasterWatch()
    assert not watch.is_there(0)

    watch.status(True, False, 0)
    assert watch.is_there(30)
    assert not watch.is_there(31)
    watch.health({"interval_s": 20.0}, False, 31)
    assert watch.is_there(91)
    assert not watch.is_there(92)


def test_what_the_broker_kept_is_no_sign_of_life() -> None:
    """It only tells how often a word may be expected; the first word of a master that lives decides."""
    watch = MasterWatch()
    watch.status(True, True, 0)
    watch.health({"interval_s": 5.0}, True, 1)
    assert not watch.is_there(1)

    watch.health({"interval_s": 5.0}, False, 2)
    assert watch.is_there(17)
    assert not watch.is_there(18)
    watch.status(True, True, 19)
    assert not watch.is_there(19), "a broker that comes and goes makes nobody alive"


def test_a_master_that_says_so_is_gone() -> None:
    """And so it is without a broker, until it is heard of again."""
    watch = MasterWatch()
    watch.status(True, False, 0)
    watch.status(False, False, 1)
    watch.health({}, False, 2)
    assert not watch.is_there(2)

    watch.status(True, False, 3)
    watch.gone()
    watch.status(True, True, 4)
    assert not watch.is_there(4)
    watch.health({}, False, 5)
    assert watch.is_there(5)
