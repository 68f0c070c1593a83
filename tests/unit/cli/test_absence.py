"""A master or a broker that goes away: one line when it goes, one when it is back."""

from __future__ import annotations

from pibot_mesh.cli.absence import NOTICED_AFTER_S, Absence

LONG = NOTICED_AFTER_S + 0.5
MASTER_GONE = "the master went away; the request stands in its ledger, waiting for it to come back"
MASTER_BACK = "the master is back, and goes on with the request"
BROKER_GONE = "the broker went away; waiting for it to come back"
BROKER_BACK = "the broker is back, and the master with it"
ANEW = "the master was gone for a moment; the request goes on from its ledger"


def heard_of(boot: str = "b1") -> Absence:
    """A request that a master has taken."""
    absence = Absence()
    assert absence.heard(boot) is None
    return absence


def test_a_master_that_goes_and_comes_back_is_told_twice() -> None:
    """Its first event, of another boot, says nothing more."""
    absence = heard_of()

    assert absence.reached("broker", 10.0) is None
    assert absence.due_at == 10.0 + NOTICED_AFTER_S
    assert absence.due(10.0 + LONG) == MASTER_GONE
    assert absence.due(10.0 + 2 * LONG) is None
    assert absence.reached("master", 20.0) == MASTER_BACK
    assert absence.heard("b2") is None
    assert absence.reached("master", 21.0) is None


def test_a_broker_is_told_in_other_words() -> None:
    """It is back once the master is there, too."""
    absence = heard_of()
    absence.reached("nobody", 10.0)

    assert absence.due(10.0 + LONG) == BROKER_GONE
    assert absence.reached("master", 20.0) == BROKER_BACK


def test_a_broker_that_comes_back_without_the_master_is_followed_by_the_master() -> None:
    """It kept the word that the master is offline."""
    absence = heard_of()
    absence.reached("nobody", 10.0)
    absence.due(10.0 + LONG)
    absence.reached("broker", 20.0)

    assert absence.due(20.0 + LONG) == MASTER_GONE
    assert absence.reached("master", 30.0) == MASTER_BACK


def test_a_blink_is_not_worth_a_word() -> None:
    """What is back within a second; a word that the status is said again is none either."""
    absence = heard_of()
    absence.reached("broker", 10.0)
    assert absence.due(10.0 + NOTICED_AFTER_S / 2) is None
    assert absence.reached("master", 10.6) is None
    assert absence.due(10.0 + LONG) is None
    assert absence.heard("b1") is None


def test_the_same_word_twice_does_not_begin_the_second_anew() -> None:
    """A broker may say `offline` for each of two wills."""
    absence = heard_of()
    absence.reached("broker", 10.0)
    absence.reached("broker", 10.0 + NOTICED_AFTER_S / 2)

    assert absence.due_at == 10.0 + NOTICED_AFTER_S


def test_a_master_that_is_back_before_the_broker_noticed_is_told_once() -> None:
    """Its events have another boot."""
    absence = heard_of()

    assert absence.heard("b2") == ANEW
    assert absence.heard("b2") is None
    assert absence.reached("master", 20.0) is None


def test_a_word_about_the_request_shows_the_return_as_well() -> None:
    """Another master may go on with it, and the reply may come first; whichever process sends it."""
    for boot in ("b1", "b2", ""):
        absence = heard_of()
        absence.reached("broker", 10.0)
        absence.due(10.0 + LONG)
        assert absence.heard(boot) == MASTER_BACK
        assert absence.heard(boot) is None


def test_before_the_request_was_heard_of_nothing_is_told() -> None:
    """No ledger may have it: whoever asks gives up soon, and says so."""
    absence = Absence()
    absence.reached("broker", 10.0)

    assert absence.due_at is None
    assert absence.due(10.0 + LONG) is None
    assert absence.reached("master", 20.0) is None
