"""What is wrong with the safety options of outputs, and with interlocks."""

from __future__ import annotations

import pytest

from pibot_mesh.config.settings import DeviceSettings, SafetySettings
from pibot_mesh.config.words import schema_problems
from pibot_mesh.hardware.kind import options_schema
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.safety_check import check_safety
from pibot_mesh.hardware.safety_rules import SAFETY_OPTIONS, check_output


def device(id_: str, kind: str, **options: object) -> DeviceSettings:
    """A device."""
    return DeviceSettings(id_, kind, 4, options=options)


def against(kind: str, **options: object) -> list[str]:
    """What the options of an output contradict."""
    problems = check_output(device("x", kind, **options), KINDS[kind])
    assert {problem.path[:2] for problem in problems} <= {("devices", "x")}
    return [f"{problem.path[2]}: {problem.text}" for problem in problems]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.direction == "out"])
def test_every_kind_of_output_takes_the_safety_options(kind: str) -> None:
    """With their defaults."""
    assert SAFETY_OPTIONS.items() <= KINDS[kind].options.items()
    assert against(kind, **{key: schema["default"] for key, schema in SAFETY_OPTIONS.items()}) == []


@pytest.mark.parametrize(
    "options",
    [
        {"on_lost": False},
        {"on_lost": True},
        {"on_lost": "off"},
        {"on_lost": "keep"},
        {"on_lost": 30.5},
        {"on_lost": "#FF8800"},
        {"lost_after_s": 5},
        {"max_on_s": 0.1},
        {"max_on_s": 604800},
        {"min_off_s": 180},
        {"max_per_minute": 6000},
        {"on_failure": "keep"},
    ],
)
def test_what_the_options_may_be(options: dict[str, object]) -> None:
    """Their schemas let it pass."""
    assert (
        schema_problems(options_schema(KINDS["rgb_led"]), {"pins": {"red": 1, "green": 2, "blue": 3}, **options}) == []
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_lost": "maybe"}, "off, keep, or a value as for safe is expected, not 'maybe'"),
        ({"on_lost": 101}, "a number from 0 to 100 is expected, not 101"),
        ({"lost_after_s": 4}, "a number from 5 to 86400 is expected, not 4"),
        ({"max_on_s": 604801}, "a number from 0.1 to 604800 is expected, not 604801"),
        ({"max_per_minute": 1.5}, "a whole number from 1 to 6000 is expected, not 1.5"),
        ({"max_per_minute": 0}, "a number from 1 to 6000 is expected, not 0"),
        ({"on_failure": "off"}, "safe or keep is expected, not 'off'"),
    ],
)
def test_what_the_options_may_not_be(options: dict[str, object], says: str) -> None:
    """In words."""
    [problem] = schema_problems(options_schema(KINDS["relay"]), options)
    assert problem.text == says


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (
            "relay",
            {"max_on_s": 60, "safe": True},
            "max_on_s: contradicts safe, by which it stays on: leave out one of the two",
        ),
        (
            "light",
            {"max_on_s": 60, "on_lost": 5},
            "max_on_s: contradicts on_lost, by which it stays on: leave out one of the two",
        ),
        (
            "relay",
            {"min_off_s": 60, "initial": True, "safe": True},
            "min_off_s: contradicts initial, by which it goes on by itself, without a rest: leave out one of the two",
        ),
        (
            "rgb_led",
            {"min_off_s": 60, "safe": "#000001"},
            "min_off_s: contradicts safe, by which it goes on by itself, without a rest: leave out one of the two",
        ),
        (
            "relay",
            {"min_off_s": 60, "on_lost": True},
            "min_off_s: contradicts on_lost, by which it goes on by itself, without a rest: leave out one of the two",
        ),
        ("relay", {"on_lost": 30}, "on_lost: a relay can only be on or off, not 30 %: use off, keep or on"),
        ("light", {"on_lost": "#ff8800"}, "on_lost: a light has no color: use off, keep or on"),
        ("servo", {"max_on_s": 60}, "max_on_s: a servo is neither on nor off: leave it out"),
        ("servo", {"min_off_s": 60, "initial": 50}, "min_off_s: a servo is neither on nor off: leave it out"),
    ],
)
def test_options_that_contradict_each_other(kind: str, options: dict[str, object], says: str) -> None:
    """Each is said once, with what to do."""
    assert against(kind, **options) == [says]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("relay", {"max_on_s": 60, "initial": True}),
        ("relay", {"max_on_s": 60, "on_lost": "keep"}),
        ("relay", {"max_on_s": 60, "min_off_s": 60}),
        ("light", {"on_lost": 30, "safe": True}),
        ("rgb_led", {"on_lost": "#ff8800"}),
        ("rgb_led", {"max_on_s": 60, "safe": "#000000"}),
    ],
)
def test_options_that_go_together(kind: str, options: dict[str, object]) -> None:
    """What is on at the start is off in time; what is kept is looked after by its longest time."""
    assert against(kind, **options) == []


HEATER, FAN = device("heater", "relay"), device("fan", "fan")
BUTTON, VENT = device("button", "button"), device("vent", "servo")


def wrong(*devices: DeviceSettings, interlocks: tuple[tuple[str, ...], ...] = (("heater", "fan"),)) -> list[str]:
    """What is wrong with the interlocks of *devices*."""
    problems = check_safety(devices, SafetySettings(interlocks=interlocks))
    return [f"{'.'.join(map(str, problem.path))}: {problem.text}" for problem in problems]


def test_an_interlock_is_of_outputs() -> None:
    """All that is wrong is said at once."""
    interlocks = (("heater", "fan"), ("heater", "fna"), ("button", "vent"))
    assert wrong(HEATER, FAN, BUTTON, VENT, interlocks=interlocks) == [
        "safety.interlocks.1: there is no device 'fna' (did you mean 'fan'?): name outputs that stand under devices",
        "safety.interlocks.2: button is no output, but a device of kind button: take it out",
        "safety.interlocks.2: vent is a servo, which is neither on nor off: take it out",
    ]


def test_what_one_output_contradicts_is_said_with_the_rest() -> None:
    """At its own place in the file."""
    assert wrong(device("heater", "relay", max_on_s=60, safe=True), FAN) == [
        "devices.heater.max_on_s: contradicts safe, by which it stays on: leave out one of the two"
    ]


def test_what_another_check_says_is_not_said_again() -> None:
    """A kind that is not known is one thing wrong, not two."""
    assert wrong(HEATER, device("fan", "fna")) == []


@pytest.mark.parametrize(
    ("heater", "fan", "key"),
    [
        ({"initial": True}, {"initial": 40}, "initial"),
        ({"safe": True}, {"safe": 40}, "safe"),
        ({"on_lost": True}, {"on_lost": 40}, "on_lost"),
        ({"on_lost": True}, {"safe": 40}, "on_lost"),
    ],
)
def test_two_that_would_be_on_together_by_themselves_are_refused(
    heater: dict[str, object], fan: dict[str, object], key: str
) -> None:
    """At the start, in an emergency, or without a master."""
    assert wrong(device("heater", "relay", **heater), device("fan", "fan", **fan)) == [
        f"safety.interlocks.0: heater and fan would both be on by their {key!r}, and must never be: change one"
    ]


def test_one_of_an_interlock_may_be_on_by_itself() -> None:
    """Another at another time."""
    assert wrong(device("heater", "relay", initial=True), device("fan", "fan", safe=True)) == []
