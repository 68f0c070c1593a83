"""What ``pibot routines`` makes of what it hears."""

from __future__ import annotations

import pytest

from pibot_mesh.cli.routines import Heard, _is_done, _local, _unknown
from pibot_mesh.errors import ProtocolError
from pibot_mesh.mqtt.client import Message
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Event, RoutineState
from pibot_mesh.protocol.topics import Address, Kind

BELL = RoutineState("bell", "trigger", "When button of porch sends 'pressed'", "ring", True)


def message(payload: bytes, *, is_retained: bool = False) -> Message:
    return Message("t", payload, qos=1, retain=is_retained)


def hear(heard: Heard, state: RoutineState, *, is_retained: bool = False) -> None:
    heard.see(Address(Kind.ROUTINE, id=state.id), message(encode(state), is_retained=is_retained))


def accept(heard: Heard, request: str, *, what: str = "request_accepted") -> None:
    event = Event(request, what, "m1", 1)
    heard.see(Address(Kind.REQUEST_EVENT, id=request), message(encode(event)))


def test_only_what_is_told_from_now_on_is_an_answer() -> None:
    """What the broker kept is how it was before the order."""
    heard = Heard()
    hear(heard, BELL, is_retained=True)
    assert heard.states == {"bell": BELL}
    assert not _is_done(heard, "on", "bell")

    hear(heard, BELL)

    assert _is_done(heard, "on", "bell")
    assert not _is_done(heard, "off", "bell")


@pytest.mark.parametrize(
    ("request_id", "is_ours"),
    [
        ("run-bell-0123456789ab", True),
        ("run-bell-2-0123456789ab", False),
        ("run-bell-0123456789abc", False),
        ("trg-bell-b1-1", False),
    ],
)
def test_a_run_is_known_by_its_id(request_id: str, is_ours: bool) -> None:
    """Exactly: another routine's name may begin with this one's."""
    heard = Heard()
    accept(heard, request_id, what="request_planned")
    assert not _is_done(heard, "run", "bell")

    accept(heard, request_id)

    assert _is_done(heard, "run", "bell") is is_ours


def test_a_routine_that_is_cleared_is_gone() -> None:
    """From the list, too."""
    heard = Heard()
    hear(heard, BELL, is_retained=True)
    heard.see(Address(Kind.ROUTINE, id="bell"), message(b""))

    assert heard.states == {}


def test_the_master_s_presence_is_heard() -> None:
    """Also that it is cleared."""
    heard = Heard()
    heard.see(Address(Kind.MASTER_STATUS), message(b"online"))
    assert heard.is_master_online
    heard.see(Address(Kind.MASTER_STATUS), message(b""))
    assert not heard.is_master_online


def test_garbage_is_refused() -> None:
    """The link counts it."""
    with pytest.raises(ProtocolError):
        Heard().see(Address(Kind.ROUTINE, id="bell"), message(b"ON"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """Or with all; or with the word that there is none."""
    assert _unknown("bel", ["bell", "morning"]) == "the master has no routine 'bel': did you mean 'bell'?"
    assert _unknown("x", ["morning", "bell"]) == "the master has no routine 'x': there are: bell, morning"
    assert _unknown("x", []) == "the master has no routine 'x': there are: none"


def test_a_time_beyond_all_calendars_is_shown_all_the_same() -> None:
    """It may come from anywhere."""
    assert (_local(None), _local(1e30)) == ("", "?")
