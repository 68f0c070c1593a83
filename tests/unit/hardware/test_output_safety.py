"""The safety contract of outputs, without pins."""

from __future__ import annotations

import pytest

from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.output_values import OutputRule
from pibot_mesh.hardware.outputs import AGAIN_S, Outputs, Write
from pibot_mesh.protocol.messages import Cause, OutputValue
from tests.unit.hardware.output_orders import TASK, carried, order, started, values

PERSON = Cause(by="person", id="p1")
RULE = Cause(by="rule", id="too-hot")
SAFETY = Cause(by="safety", reason="the task failed")


def switch(name: str, *, safe: bool = False, on_lost: bool | None = False, **limits: float) -> OutputRule:
    """An output that is on or off."""
    numbers = {key: int(value) if key == "max_per_minute" else value for key, value in limits.items()}
    return OutputRule(name, name, initial=safe, safe=safe, on_lost=on_lost, **numbers)  # type: ignore[arg-type]


def refusal(core: Outputs, device: str, value: OutputValue, now: float) -> ToolError:
    """Why it cannot be set."""
    with pytest.raises(ToolError) as caught:
        core.set(device, value, cause=PERSON, now=now)
    assert caught.value.code == ErrorCode.UNSAFE
    return caught.value


# Broker or master gone


def test_without_a_master_each_output_goes_to_its_value_after_its_own_time() -> None:
    """The cause says what was missing, and for how long."""
    core = started(
        switch("heater"),
        OutputRule("lamp", "lamp", initial=0.0, safe=0.0, on_lost=30.0, is_dimmable=True, lost_after_s=300),
        switch("valve", on_lost=None),
    )
    for device in ("heater", "lamp", "valve"):
        order(core, device, True, 0)
    core.reach(False, "no master", 1000)

    assert carried(core, core.expire(1119)) == []
    [heater] = carried(core, core.expire(1120))
    assert heater == Write("heater", False, Cause(by="safety", reason="no master for 120 s"))
    [lamp] = carried(core, core.expire(1300))
    assert lamp == Write("lamp", 30.0, Cause(by="safety", reason="no master for 300 s"))
    assert core.wake_at() is None
    assert core.states["valve"] == (True, TASK)


def test_until_the_first_connection_the_time_counts_from_the_start() -> None:
    """A node that never finds its broker does not leave on what it turned on."""
    core = Outputs([OutputRule("fan", "fan", initial=True, safe=False, on_lost=False)])
    carried(core, core.begin(50))
    assert values(carried(core, core.expire(170))) == {"fan": False}


def test_who_is_reached_before_the_start_is_so_after_it() -> None:
    """A start does not forget it."""
    core = started(switch("fan"))
    assert core.wake_at() is None
    carried(core, core.begin(1000))
    assert core.wake_at() is None


def test_coming_back_in_time_changes_nothing() -> None:
    """And what comes back later is not undone."""
    core = started(switch("fan"))
    order(core, "fan", True, 0)
    core.reach(False, "no master", 0)
    core.reach(True, "", 119)
    assert carried(core, core.expire(500)) == []

    core.reach(False, "no broker", 600)
    assert values(carried(core, core.expire(720))) == {"fan": False}
    core.reach(True, "", 800)
    assert core.states["fan"][0] is False


def test_hearing_again_that_the_master_is_gone_does_not_prolong_the_time() -> None:
    """A broker that goes too makes nothing better."""
    core = started(switch("fan"))
    order(core, "fan", True, 0)
    core.reach(False, "no master", 0)
    core.reach(False, "no broker", 100)
    [write] = carried(core, core.expire(120))
    assert write.cause.reason == "no master for 120 s"


def test_what_is_set_after_its_time_gets_a_new_one() -> None:
    """A person may still turn on a lamp through the broker; before it is over, the time is not prolonged."""
    core = started(switch("fan"))
    core.reach(False, "no master", 0)
    order(core, "fan", True, 100, PERSON)
    assert values(carried(core, core.expire(120))) == {"fan": False}
    order(core, "fan", True, 200, PERSON)
    assert core.wake_at() == 320
    assert values(carried(core, core.expire(320))) == {"fan": False}
    assert core.wake_at() is None


def test_what_a_rule_of_the_node_set_is_left_to_it() -> None:
    """A reflex goes on without anybody; what a person set afterwards is not its own any more."""
    core = started(switch("fan"))
    core.reach(False, "no master", 0)
    order(core, "fan", True, 60, RULE)
    assert carried(core, core.expire(120)) == []
    order(core, "fan", True, 130, RULE)
    assert core.wake_at() is None
    order(core, "fan", True, 200, PERSON)
    assert values(carried(core, core.expire(320))) == {"fan": False}


def test_what_is_as_it_should_be_keeps_its_cause() -> None:
    """Who turned it off is told, not who would have."""
    core = started(switch("fan"))
    order(core, "fan", False, 0, PERSON)
    core.reach(False, "no master", 0)
    assert carried(core, core.expire(120)) == []


def test_an_emergency_stop_goes_before_a_missing_master() -> None:
    """Nothing goes on while it holds."""
    core = started(switch("lamp", on_lost=True))
    core.reach(False, "no master", 0)
    carried(core, core.hold(True, Cause(by="stop")))
    assert carried(core, core.expire(120)) == []


# The longest time on


@pytest.mark.parametrize(
    ("is_dimmable", "has_color", "on", "other", "off"),
    [(False, False, True, True, False), (True, False, 40.0, 90.0, 0.0), (False, True, "#ff0000", "#00ff00", "#000000")],
)
def test_on_too_long_is_off(
    is_dimmable: bool, has_color: bool, on: OutputValue, other: OutputValue, off: OutputValue
) -> None:
    """Setting it on again, or to another level, does not prolong it."""
    rule = OutputRule("x", "x", off, off, off, is_dimmable, has_color, max_on_s=60)
    core = started(rule)
    order(core, "x", on, 100)
    order(core, "x", other, 150)
    order(core, "x", other, 155, for_s=100)

    [write] = carried(core, core.expire(160))
    assert (write.value, write.cause.by) == (off, "safety")
    assert write.cause.reason == "it was on for 60 s, as long as it may be"
    assert core.wake_at() is None


def test_the_longest_time_counts_from_when_it_went_on_last() -> None:
    """And a shorter time of an order goes before it."""
    core = started(switch("pump", max_on_s=60))
    order(core, "pump", True, 0)
    order(core, "pump", False, 50)
    order(core, "pump", True, 55, for_s=10)
    [write] = carried(core, core.expire(65))
    assert write.cause.by == "timer"
    order(core, "pump", True, 70)
    assert core.wake_at() == 130


def test_what_is_on_from_the_start_is_on_too_long_as_well() -> None:
    """It counts from there."""
    core = started(OutputRule("pump", "pump", initial=True, safe=False, on_lost=None, max_on_s=60))
    assert values(carried(core, core.expire(60))) == {"pump": False}


def test_late_everything_due_is_done_in_order_and_once() -> None:
    """After a suspend: what its own time has turned off needs no safety any more."""
    core = started(switch("pump", max_on_s=60), switch("fan"))
    order(core, "pump", True, 0, for_s=50)
    order(core, "fan", True, 0, for_s=40)
    assert [(write.device, write.cause.by) for write in carried(core, core.expire(9000), 9000)] == [
        ("fan", "timer"),
        ("pump", "timer"),
    ]


def test_an_output_that_cannot_be_turned_off_is_tried_each_second_and_not_turned_on_meanwhile() -> None:
    """Nobody may begin a new stretch for it."""
    core = started(switch("pump", max_on_s=60))
    order(core, "pump", True, 0)
    for now in (60, 61, 62):
        [write] = core.expire(now)
        core.doubt(write, now)
        core.again(write, now)
        assert core.wake_at() == now + AGAIN_S
        error = refusal(core, "pump", True, now)
        assert str(error) == "pump was not turned on: it could not be turned off, and that is tried until it is"
        assert error.retryable
    assert values(carried(core, core.expire(63), 63)) == {"pump": False}
    order(core, "pump", True, 64)


def test_a_pin_that_stays_on_is_counted_on() -> None:
    """Whatever was written."""
    core = started(switch("pump", max_on_s=60))
    order(core, "pump", True, 0)
    [write] = core.set("pump", False, cause=TASK, now=30)
    core.confirm(write, True, 30)
    assert values(core.expire(60)) == {"pump": False}


def test_what_may_be_on_is_made_safe() -> None:
    """A driver that breaks while it turns something on leaves nobody in doubt for longer than a second."""
    core = started(switch("heater", max_on_s=60), switch("fan"), interlocks=[("heater", "fan")])
    [write] = core.set("heater", True, cause=TASK, now=0)
    core.doubt(write, 0)
    assert str(refusal(core, "fan", True, 0)).startswith("fan was not turned on: heater is on")

    [again] = carried(core, core.expire(AGAIN_S))
    assert (again.device, again.value, again.cause.by) == ("heater", False, "safety")
    order(core, "fan", True, 2)
    assert core.wake_at() is None


# The rest


def test_a_compressor_rests_before_it_is_turned_on_again() -> None:
    """The refusal says for how long; off it can be at any time."""
    core = started(switch("compressor", min_off_s=180))
    order(core, "compressor", True, 200)
    order(core, "compressor", True, 210)
    order(core, "compressor", False, 300)
    order(core, "compressor", False, 310)

    error = refusal(core, "compressor", True, 340)
    assert str(error) == "compressor was not turned on: it can be turned on again in 140 s"
    assert error.retryable
    order(core, "compressor", True, 480)


def test_after_a_start_a_compressor_rests() -> None:
    """Nobody knows how long it was off."""
    core = started(switch("compressor", min_off_s=180))
    assert "in 180 s" in str(refusal(core, "compressor", True, 0))
    assert "in 1 s" in str(refusal(core, "compressor", True, 179.5))
    order(core, "compressor", True, 180)
    carried(core, core.begin(200))
    assert "in 180 s" in str(refusal(core, "compressor", True, 200))


def test_a_compressor_that_may_have_gone_off_rests() -> None:
    """A driver that broke while it turned it off may have done so."""
    core = started(switch("compressor", min_off_s=180))
    order(core, "compressor", True, 200)
    [write] = core.set("compressor", False, cause=TASK, now=300)
    core.doubt(write, 300)
    assert "that is tried until it is" in str(refusal(core, "compressor", True, 300))
    carried(core, core.expire(301), 301)
    assert "in 180 s" in str(refusal(core, "compressor", True, 301))


def test_an_order_to_go_off_that_the_driver_refused_is_tried_until_it_is_done() -> None:
    """Whoever gave it: nobody else would."""
    core = started(switch("heater"))
    order(core, "heater", True, 0)
    [write] = core.set("heater", False, cause=PERSON, now=10)
    core.doubt(write, 10)
    [again] = core.expire(11)
    core.doubt(again, 11)

    assert [again.value for again in core.expire(12)] == [False]


def test_a_pin_that_does_not_go_off_is_told_again() -> None:
    """It took the order, and reads on."""
    core = started(switch("heater"))
    order(core, "heater", True, 0)
    [write] = core.set("heater", False, cause=PERSON, now=10)
    core.confirm(write, True, 10)

    assert [again.value for again in core.expire(11)] == [False]


def test_what_a_reflex_set_that_is_off_now_is_left_to_nobody() -> None:
    """Its time without broker and master counts from then, where it is over already."""
    core = started(switch("heater"), switch("lamp"))
    order(core, "heater", True, 0, Cause("rule", "warm"))
    order(core, "lamp", True, 0, Cause("rule", "night"))
    core.reach(False, "no broker", 10)
    assert carried(core, core.expire(1_000), 1_000) == [], "each is left to its reflex"

    core.let_go("warm", 2_000)
    assert carried(core, core.expire(2_119), 2_119) == []
    assert values(carried(core, core.expire(2_120), 2_120)) == {"heater": False}


def test_a_reflex_that_is_switched_off_while_all_is_well_leaves_its_output_to_the_master() -> None:
    """What counts later is the loss."""
    core = started(switch("heater"))
    order(core, "heater", True, 0, Cause("rule", "warm"))
    core.let_go("warm", 5)
    core.reach(False, "no master", 10)

    assert values(carried(core, core.expire(130), 130)) == {"heater": False}


# Interlocks


def test_two_of_an_interlock_are_never_on_together() -> None:
    """The refusal names both."""
    core = started(switch("heater"), switch("fan"), switch("lamp"), interlocks=[("heater", "fan")])
    order(core, "fan", True, 0)
    error = refusal(core, "heater", True, 1)
    assert str(error) == "heater was not turned on: fan is on, and heater and fan must never be on together"
    assert not error.retryable
    order(core, "lamp", True, 2)
    order(core, "heater", False, 3)
    order(core, "fan", True, 3)
    order(core, "fan", False, 4)
    order(core, "heater", True, 5)


def test_an_output_may_be_in_several_interlocks() -> None:
    """Each counts."""
    core = started(switch("a"), switch("b"), switch("c"), interlocks=[("a", "b"), ("b", "c"), ("a", "b", "c")])
    order(core, "b", True, 0)
    for other in ("a", "c"):
        refusal(core, other, True, 1)


def test_what_must_be_on_to_be_safe_turns_the_others_off_first() -> None:
    """A cooling fan whose time off is over, while a heater has been turned on."""
    core = started(switch("fan", safe=True, on_lost=True), switch("heater"), interlocks=[("heater", "fan")])
    order(core, "fan", False, 0, for_s=10)
    order(core, "heater", True, 5)
    [fan] = core.expire(10)

    with pytest.raises(ToolError, match="fan was not turned on: heater is on"):
        core.check_interlocks("fan", fan.value)
    [heater] = carried(core, core.giving_way(fan))
    assert heater == Write(
        "heater", False, Cause(by="safety", reason="fan goes on, and fan and heater must never be on together")
    )
    core.check_interlocks("fan", fan.value)
    assert core.giving_way(fan) == []


def test_what_goes_off_needs_nobody_to_give_way() -> None:
    """Only what goes on does."""
    core = started(switch("fan"), switch("heater"), interlocks=[("heater", "fan")])
    order(core, "heater", True, 0)
    assert core.giving_way(Write("fan", False, SAFETY)) == []


# The rate


def test_more_changes_than_allowed_within_a_minute_are_refused() -> None:
    """The refusal says for how long; what changes nothing counts nothing, and off is never refused."""
    core = started(switch("valve", max_per_minute=3))
    for now, value in ((0, True), (1, True), (10, False), (20, True)):
        order(core, "valve", value, now)
    order(core, "valve", True, 25)
    order(core, "valve", False, 30)

    error = refusal(core, "valve", True, 35)
    assert str(error) == "valve was not changed: it may change 3 times a minute, and can again in 35 s"
    assert error.retryable
    order(core, "valve", True, 70)


def test_a_level_is_a_change_too() -> None:
    """But not what a driver rounds."""
    core = started(OutputRule("lamp", "lamp", 0.0, 0.0, 0.0, is_dimmable=True, max_per_minute=1))
    order(core, "lamp", 50, 0)
    order(core, "lamp", 50.4, 1)
    refusal(core, "lamp", 60, 2)
    order(core, "lamp", 60, 60)
    order(core, "lamp", 0, 61)


# Failures of tasks


def test_what_a_failed_task_set_last_is_made_safe() -> None:
    """Not what another task or a person set since, nor what is to be kept."""
    kept = OutputRule("valve", "valve", False, False, False, is_kept_on_failure=True)
    core = started(switch("heater"), switch("fan"), switch("lamp"), switch("pump"), kept)
    task = Cause(by="task", id="t1", request="r1")
    for device in ("heater", "fan", "valve"):
        order(core, device, True, 0, task)
    order(core, "pump", False, 0, task)
    order(core, "fan", True, 1, PERSON)
    order(core, "lamp", True, 1, Cause(by="task", id="t2"))

    [write] = core.task_failed("t1", SAFETY)
    assert write == Write("heater", False, Cause(by="safety", request="r1", reason="the task failed"))
