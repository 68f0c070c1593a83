"""The rules for outputs, without pins."""

from __future__ import annotations

import math

import pytest

from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.changes import OutputChanged
from pibot_mesh.hardware.output_values import OutputRule
from pibot_mesh.hardware.outputs import Outputs, Write, value_words
from pibot_mesh.protocol.messages import Cause, OutputValue
from tests.unit.hardware.output_orders import TASK, carried, order, started, values

FAN = OutputRule("fan", "fan", initial=False, safe=False, on_lost=False)
LAMP = OutputRule("lamp", "ceiling lamp", initial=20.0, safe=0.0, on_lost=0.0, is_dimmable=True)
FRIDGE = OutputRule("fridge", "fridge", initial=True, safe=True, on_lost=True)


def outputs() -> Outputs:
    """A fan, a lamp and a fridge, before their start."""
    return Outputs([FAN, LAMP, FRIDGE])


def running() -> Outputs:
    """The same, after it."""
    return started(FAN, LAMP, FRIDGE)


def test_at_the_start_every_output_gets_its_initial_value() -> None:
    """And the cause says so."""
    writes = outputs().begin(0)
    assert values(writes) == {"fan": False, "lamp": 20.0, "fridge": True}
    assert {write.cause.by for write in writes} == {"start"}


@pytest.mark.parametrize(
    ("device", "asked", "written"),
    [
        ("fan", True, True),
        ("fan", False, False),
        ("lamp", 40, 40.0),
        ("lamp", 0, 0.0),
        ("lamp", 100, 100.0),
        ("lamp", True, 100.0),
        ("lamp", False, 0.0),
    ],
)
def test_a_value_that_fits_is_written(device: str, asked: OutputValue, written: OutputValue) -> None:
    """ON is 100 percent for what can be dimmed."""
    [write] = outputs().set(device, asked, cause=TASK, now=0)
    assert write == Write(device, written, TASK)
    assert type(write.value) is type(written)


@pytest.mark.parametrize(
    ("device", "value", "says"),
    [
        ("fan", 40.0, "fan can only be on or off, not 40 %"),
        ("fan", 1.0, "fan can only be on or off, not 1 %"),
        ("lamp", 100.5, "ceiling lamp takes 0 to 100 percent, not 100.5"),
        ("lamp", -1.0, "ceiling lamp takes 0 to 100 percent, not -1"),
        ("lamp", math.nan, "ceiling lamp takes 0 to 100 percent, not nan"),
        ("lmap", True, "there is no output 'lmap' (did you mean 'lamp'?); there are: fan, lamp, fridge"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_words(device: str, value: OutputValue, says: str) -> None:
    """And nothing is written."""
    with pytest.raises(ToolError) as caught:
        outputs().set(device, value, cause=TASK, now=0)
    assert (str(caught.value), caught.value.code) == (says, ErrorCode.BAD_ARGUMENTS)


def test_a_node_without_outputs_says_so() -> None:
    """Instead of an empty list."""
    with pytest.raises(ToolError, match="there is no output 'fan'; this node has no outputs"):
        Outputs([]).set("fan", True, cause=TASK, now=0)


def test_after_its_time_an_output_goes_to_its_safe_value() -> None:
    """Not before, and once."""
    core = running()
    order(core, "fan", True, 100, for_s=10)
    assert core.wake_at() == 110
    assert carried(core, core.expire(109.9)) == []
    [write] = carried(core, core.expire(110))
    assert (write.device, write.value, write.cause.by) == ("fan", False, "timer")
    assert carried(core, core.expire(111)) == []
    assert core.wake_at() is None


def test_an_output_that_is_safe_when_on_comes_back_on() -> None:
    """A fridge that is off for a while."""
    core = running()
    order(core, "fridge", False, 0, for_s=10)
    assert values(core.expire(10)) == {"fridge": True}


@pytest.mark.parametrize("for_s", [None, 60.0])
def test_setting_again_forgets_the_earlier_time(for_s: float | None) -> None:
    """The last order counts."""
    core = running()
    order(core, "lamp", 50, 0, for_s=10)
    order(core, "lamp", 60, 5, for_s=for_s)
    assert carried(core, core.expire(11)) == []
    assert core.wake_at() == (None if for_s is None else 65)


def test_a_refused_order_leaves_the_earlier_time_alone() -> None:
    """A slip of the pen must not leave a heater on."""
    core = running()
    order(core, "lamp", 50, 0, for_s=10)
    with pytest.raises(ToolError):
        core.set("lamp", 101, cause=TASK, now=5)
    assert values(core.expire(10)) == {"lamp": 0.0}


@pytest.mark.parametrize(("for_s", "ends_at"), [(None, 10), (2.0, 7), (60.0, 10)])
@pytest.mark.parametrize("fails", ["raises", "reads otherwise"])
def test_an_order_that_a_pin_does_not_follow_leaves_the_earlier_time_running(
    fails: str, for_s: float | None, ends_at: float
) -> None:
    """Of two times, the one that ends first."""
    core = running()
    order(core, "lamp", 50, 0, for_s=10)
    [write] = core.set("lamp", 60, cause=TASK, for_s=for_s, now=5)
    if fails == "raises":
        core.doubt(write, 5)
    else:
        core.confirm(write, 50.0, 5)
    assert core.wake_at() == ends_at


@pytest.mark.parametrize("for_s", [0.0, -1.0, math.nan, math.inf, 8 * 86400.0])
def test_a_time_out_of_range_is_refused(for_s: float) -> None:
    """A millisecond to a week."""
    with pytest.raises(ToolError, match=r"fan: a time is 0.001 to 604800 seconds, not"):
        outputs().set("fan", True, cause=TASK, for_s=for_s, now=0)


def test_a_time_that_would_change_nothing_at_its_end_is_refused() -> None:
    """Off for ten minutes would stay off for ever."""
    with pytest.raises(ToolError, match="fan cannot be off for a time: off is what it goes back to"):
        outputs().set("fan", False, cause=TASK, for_s=600, now=0)
    with pytest.raises(ToolError, match="fridge cannot be on for a time"):
        outputs().set("fridge", True, cause=TASK, for_s=600, now=0)


def test_the_emergency_stop_makes_all_safe_and_refuses_until_released() -> None:
    """Its end sets nothing: a person decides what moves again."""
    core, stop = running(), Cause(by="stop", reason="emergency stop")
    order(core, "fan", True, 0, for_s=10)
    writes = carried(core, core.hold(True, stop))
    assert values(writes) == {"fan": False, "lamp": 0.0, "fridge": True}
    assert {write.cause for write in writes} == {stop}
    assert core.is_held
    assert core.wake_at() is None
    with pytest.raises(ToolError, match="fan was not changed: the emergency stop holds") as caught:
        core.set("fan", True, cause=TASK, now=1)
    assert caught.value.code == ErrorCode.STOPPED

    assert core.hold(False, stop) == []
    assert values(core.set("fan", True, cause=TASK, now=2)) == {"fan": True}


def test_what_is_made_safe_goes_off_before_anything_goes_on() -> None:
    """Whatever the order of the configuration."""
    core = started(FRIDGE, LAMP, FAN)
    writes = core.make_safe(Cause(by="safety"))
    assert [write.device for write in writes] == ["lamp", "fan", "fridge"]


def test_a_node_that_starts_while_the_stop_holds_starts_safe() -> None:
    """Its journal remembers the stop before the first pin is taken."""
    core = outputs()
    core.hold(True, Cause(by="stop"))
    writes = core.begin(0)
    assert values(writes) == {"fan": False, "lamp": 0.0, "fridge": True}
    assert {write.cause.by for write in writes} == {"stop"}


def test_the_state_is_what_the_pin_reads() -> None:
    """Not what was asked for."""
    core = outputs()
    [write] = core.set("lamp", 41, cause=TASK, now=0)
    assert core.states == {}
    assert core.confirm(write, 40.0, 0) == OutputChanged("lamp", 40.0, TASK)
    assert core.states == {"lamp": (40.0, TASK)}


@pytest.mark.parametrize(
    ("value", "words"),
    [(True, "on"), (False, "off"), (0.0, "off"), (40.0, "40 %"), (33.33, "33.33 %"), ("#ff8800", "#ff8800")],
)
def test_a_value_in_words(value: OutputValue, words: str) -> None:
    """As a person would say it."""
    assert value_words(value) == words
