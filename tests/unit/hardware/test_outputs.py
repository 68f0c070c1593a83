"""The rules for outputs, without pins."""

from __future__ import annotations

import math

import pytest

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.changes import OutputChanged
from pibot_mesh.hardware.outputs import OutputRule, Outputs, Write, rule_of, value_words
from pibot_mesh.protocol.messages import Cause, OutputValue

FAN = OutputRule("fan", "fan", is_dimmable=False, initial=False, safe=False)
LAMP = OutputRule("lamp", "ceiling lamp", is_dimmable=True, initial=20.0, safe=0.0)
FRIDGE = OutputRule("fridge", "fridge", is_dimmable=False, initial=True, safe=True)
TASK = Cause(by="task", id="t1")


def outputs() -> Outputs:
    """A fan, a lamp and a fridge."""
    return Outputs([FAN, LAMP, FRIDGE])


def values(writes: list[Write]) -> dict[str, OutputValue]:
    """What is written where."""
    return {write.device: write.value for write in writes}


def test_at_the_start_every_output_gets_its_initial_value() -> None:
    """And the cause says so."""
    writes = outputs().begin()
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
    core = outputs()
    core.set("fan", True, cause=TASK, for_s=10, now=100)
    assert core.wake_at() == 110
    assert core.expire(109.9) == []
    [write] = core.expire(110)
    assert (write.device, write.value, write.cause.by) == ("fan", False, "timer")
    assert core.expire(111) == []
    assert core.wake_at() is None


def test_an_output_that_is_safe_when_on_comes_back_on() -> None:
    """A fridge that is off for a while."""
    core = outputs()
    core.set("fridge", False, cause=TASK, for_s=10, now=0)
    assert values(core.expire(10)) == {"fridge": True}


@pytest.mark.parametrize("for_s", [None, 60.0])
def test_setting_again_forgets_the_earlier_time(for_s: float | None) -> None:
    """The last order counts."""
    core = outputs()
    core.set("lamp", 50, cause=TASK, for_s=10, now=0)
    core.set("lamp", 60, cause=TASK, for_s=for_s, now=5)
    assert core.expire(11) == []
    assert core.wake_at() == (None if for_s is None else 65)


def test_a_refused_order_leaves_the_earlier_time_alone() -> None:
    """A slip of the pen must not leave a heater on."""
    core = outputs()
    core.set("lamp", 50, cause=TASK, for_s=10, now=0)
    with pytest.raises(ToolError):
        core.set("lamp", 101, cause=TASK, now=5)
    assert values(core.expire(10)) == {"lamp": 0.0}


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
    core, stop = outputs(), Cause(by="stop", reason="emergency stop")
    core.set("fan", True, cause=TASK, for_s=10, now=0)
    writes = core.hold(True, stop)
    assert values(writes) == {"fan": False, "lamp": 0.0, "fridge": True}
    assert {write.cause for write in writes} == {stop}
    assert core.is_held
    assert core.wake_at() is None
    with pytest.raises(ToolError, match="fan was not changed: the emergency stop holds") as caught:
        core.set("fan", True, cause=TASK, now=1)
    assert caught.value.code == ErrorCode.STOPPED

    assert core.hold(False, stop) == []
    assert values(core.set("fan", True, cause=TASK, now=2)) == {"fan": True}


def test_a_node_that_starts_while_the_stop_holds_starts_safe() -> None:
    """Its journal remembers the stop before the first pin is taken."""
    core = outputs()
    core.hold(True, Cause(by="stop"))
    writes = core.begin()
    assert values(writes) == {"fan": False, "lamp": 0.0, "fridge": True}
    assert {write.cause.by for write in writes} == {"stop"}


def test_the_state_is_what_the_pin_reads() -> None:
    """Not what was asked for."""
    core = outputs()
    [write] = core.set("lamp", 41, cause=TASK, now=0)
    assert core.states == {}
    assert core.confirm(write, 40.0) == OutputChanged("lamp", 40.0, TASK)
    assert core.states == {"lamp": (40.0, TASK)}


@pytest.mark.parametrize(
    ("kind", "options", "rule"),
    [
        ("switch", {}, OutputRule("x", "x", False, False, False)),
        ("relay", {"initial": True, "safe": True}, OutputRule("x", "x", False, True, True)),
        ("light", {}, OutputRule("x", "x", True, 0.0, 0.0)),
        ("light", {"initial": True, "safe": 5}, OutputRule("x", "x", True, 100.0, 5.0)),
        ("fan", {"initial": False}, OutputRule("x", "x", True, 0.0, 0.0)),
    ],
)
def test_the_rule_comes_from_the_configuration(kind: str, options: dict[str, object], rule: OutputRule) -> None:
    """With the kind's defaults."""
    made = rule_of(DeviceSettings("x", kind, 4, options=options))
    assert made == rule
    assert isinstance(made.initial, bool) != made.is_dimmable


@pytest.mark.parametrize(
    ("value", "words"), [(True, "on"), (False, "off"), (0.0, "off"), (40.0, "40 %"), (33.33, "33.33 %")]
)
def test_a_value_in_words(value: OutputValue, words: str) -> None:
    """As a person would say it."""
    assert value_words(value) == words
