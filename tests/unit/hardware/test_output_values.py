"""The values of outputs, and the rule for each from its configuration."""

from __future__ import annotations

import math

import pytest

from pibot_mesh.config.settings import DeviceSettings, SafetySettings
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.output_values import OutputRule, is_near, rule_of
from pibot_mesh.protocol.messages import OutputValue

FAN = OutputRule("fan", "fan", False, False, False)
LAMP = OutputRule("lamp", "lamp", 0.0, 0.0, 0.0, is_dimmable=True)
GLOW = OutputRule("glow", "glow", "#000000", "#000000", "#000000", has_color=True)
VENT = OutputRule("vent", "vent", 0.0, 0.0, 0.0, is_dimmable=True, is_position=True)


def made(kind: str, **options: object) -> OutputRule:
    """The rule for an output of *kind*, on a node that waits 90 s for its master."""
    return rule_of(DeviceSettings("x", kind, 4, options=options), SafetySettings(lost_after_s=90))


@pytest.mark.parametrize(
    ("kind", "options", "initial", "safe"),
    [
        ("switch", {}, False, False),
        ("relay", {"initial": True, "safe": True}, True, True),
        ("light", {}, 0.0, 0.0),
        ("light", {"initial": True, "safe": 5}, 100.0, 5.0),
        ("fan", {"initial": False}, 0.0, 0.0),
        ("rgb_led", {}, "#000000", "#000000"),
        ("rgb_led", {"initial": "#FF8800", "safe": True}, "#ff8800", "#ffffff"),
        ("servo", {"initial": 50}, 50.0, 0.0),
    ],
)
def test_the_rule_comes_from_the_configuration(
    kind: str, options: dict[str, object], initial: OutputValue, safe: OutputValue
) -> None:
    """With the kind's defaults, and values as the kind has them; without a master it goes to its safe one."""
    rule = made(kind, **options)
    for value, expected in ((rule.initial, initial), (rule.safe, safe), (rule.on_lost, safe)):
        assert value == expected
        assert type(value) is type(expected)
    assert (rule.lost_after_s, rule.max_on_s, rule.min_off_s, rule.max_per_minute) == (90, None, None, None)
    assert not rule.is_kept_on_failure


def test_limits_come_from_the_configuration() -> None:
    """A device's own goes before the node's."""
    rule = made("relay", lost_after_s=5, max_on_s=0.5, min_off_s=180, max_per_minute=6, on_failure="keep")
    assert (rule.lost_after_s, rule.max_on_s, rule.min_off_s, rule.max_per_minute) == (5, 0.5, 180, 6)
    assert rule.is_kept_on_failure


@pytest.mark.parametrize(
    ("kind", "on_lost", "value"),
    [
        ("relay", "keep", None),
        ("relay", "off", True),
        ("relay", False, True),
        ("relay", True, True),
        ("light", 0, 0.0),
        ("light", 30, 30.0),
        ("rgb_led", "#FF0000", "#ff0000"),
    ],
)
def test_what_an_output_does_without_a_master(kind: str, on_lost: object, value: OutputValue | None) -> None:
    """Off is its safe value, which is on here; YAML reads a plain off as false."""
    assert made(kind, safe=True, on_lost=on_lost).on_lost == value


@pytest.mark.parametrize(
    ("rule", "value", "fits"),
    [
        (LAMP, True, 100.0),
        (LAMP, 40, 40.0),
        (GLOW, "#FF8800", "#ff8800"),
        (GLOW, True, "#ffffff"),
        (GLOW, False, "#000000"),
        (GLOW, 50, "#808080"),
    ],
)
def test_a_value_as_its_output_takes_it(rule: OutputRule, value: OutputValue, fits: OutputValue) -> None:
    """A percentage of a color is so much white."""
    assert rule.fit(value) == fits
    assert type(rule.fit(value)) is type(fits)


@pytest.mark.parametrize(
    ("rule", "value", "says"),
    [
        (FAN, 40.0, "fan can only be on or off, not 40 %"),
        (FAN, "#ff8800", "fan has no color, and cannot be #ff8800"),
        (LAMP, "#ff8800", "lamp has no color, and cannot be #ff8800"),
        (GLOW, "red", "glow takes a color such as #ff8800, not 'red'"),
        (GLOW, "#ff88001", "glow takes a color such as #ff8800, not '#ff88001'"),
        (GLOW, 101.0, "glow takes 0 to 100 percent, not 101"),
        (LAMP, math.nan, "lamp takes 0 to 100 percent, not nan"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(rule: OutputRule, value: OutputValue, says: str) -> None:
    """In words."""
    with pytest.raises(ToolError) as caught:
        rule.fit(value)
    assert (str(caught.value), caught.value.code) == (says, ErrorCode.BAD_ARGUMENTS)


@pytest.mark.parametrize(
    ("rule", "off", "on"), [(FAN, False, True), (LAMP, 0.0, 0.5), (GLOW, "#000000", "#000001"), (VENT, 0.0, None)]
)
def test_on_is_whatever_is_not_off(rule: OutputRule, off: OutputValue, on: OutputValue | None) -> None:
    """But a position is neither."""
    assert rule.off == off
    assert not rule.is_on(off)
    assert rule.is_on(100.0 if on is None else on) == (on is not None)


@pytest.mark.parametrize(
    ("one", "other", "are_near"),
    [
        (True, True, True),
        (True, False, False),
        (40.0, 40.9, True),
        (40.0, 41.1, False),
        ("#ff8800", "#fd8900", True),
        ("#ff8800", "#ff8804", False),
        ("#ffffff", 100.0, True),
        ("#000000", False, True),
    ],
)
def test_values_are_near_but_for_what_a_driver_rounds(one: OutputValue, other: OutputValue, are_near: bool) -> None:
    """In each channel."""
    assert is_near(one, other) == is_near(other, one) == are_near
