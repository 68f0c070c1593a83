"""What is wrong with reflexes, in words; and what is right with them, in words."""

from __future__ import annotations

import pytest

from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.config.source import format_path
from pibot_mesh.node.reflex_check import check_reflexes
from pibot_mesh.node.reflex_words import reflex_words
from pibot_mesh.protocol.messages import MAX_WORDS, DeviceSpec, Measure

CLIMATE = DeviceSpec(
    "climate", "sensor", "climate", "climate", measures={"temperature": Measure("°C"), "humidity": Measure("%")}
)
SOIL = DeviceSpec("soil", "sensor", "soil", "soil probe", measures={"moisture": Measure("%")}, events=("high",))
DOOR = DeviceSpec("door", "in", "contact", "door", events=("opened", "closed"))
KNOCK = DeviceSpec("knock", "in", "strange", "")
DIAL = DeviceSpec("dial", "in", "strange", "dial", unit="steps")
FAN = DeviceSpec("fan", "out", "fan", "fan", dimmable=True)
RELAY = DeviceSpec("relay", "out", "relay", "relay")
STRIP = DeviceSpec("strip", "out", "rgb", "strip", dimmable=True, color=True)
SPECS = (CLIMATE, SOIL, DOOR, KNOCK, DIAL, FAN, RELAY, STRIP)
WARM = Condition("climate", "temperature", above=28)
MEASURES = "temperature, humidity"
LOOKED_AT = "climate, soil, door, knock, dial"
FAN_ON = Action("fan", True)


def problems(when: Condition, *then: Action, otherwise: tuple[Action, ...] = ()) -> list[str]:
    """What is wrong, one line each."""
    found = check_reflexes([ReflexSettings("r", when, then or (FAN_ON,), otherwise)], SPECS)
    return [f"{format_path(problem.path[2:])}: {problem.text}" for problem in found]


@pytest.mark.parametrize(
    "when",
    [
        WARM,
        Condition("soil", below=20, hysteresis=5),
        Condition("soil", event="high"),
        Condition("door", state=False, for_s=10),
        Condition("knock", state=True),
        Condition("dial", above=3),
        Condition("door", event="opened"),
    ],
)
def test_what_can_be_is_not_refused(when: Condition) -> None:
    """Measures, numbers and states of inputs, events."""
    assert problems(when, FAN_ON, Action("fan", 40.0, 2.0), Action("strip", "#ff8800")) == []


@pytest.mark.parametrize(
    ("when", "says"),
    [
        (
            Condition("climat", "temperature", above=1),
            f"when: there is no sensor or input 'climat' (did you mean 'climate'?); there are: {LOOKED_AT}",
        ),
        (
            Condition("fan", state=True),
            f"when: there is no sensor or input 'fan'; there are: {LOOKED_AT}",
        ),
        (
            Condition("climate", "humidit", above=1),
            f"when.measure: climate does not measure 'humidit' (did you mean 'humidity'?); it has: {MEASURES}",
        ),
        (
            Condition("climate", above=1),
            "when.measure: is missing: climate has temperature, humidity; say which is meant",
        ),
        (
            Condition("dial", "turns", above=1),
            "when.measure: dial does not measure 'turns'; it has: no quantities by name",
        ),
        (Condition("climate", state=True), "when.state: climate gives numbers and has no state: use above or below"),
        (Condition("door", above=1), "when.above: door is on or off and gives no number: use state or event"),
        (Condition("door", below=1), "when.below: door is on or off and gives no number: use state or event"),
        (
            Condition("door", event="open"),
            "when.event: door sends no event 'open' (did you mean 'opened'?); it has: opened, closed",
        ),
        (Condition("climate", event="high"), "when.event: climate sends no event 'high'; it sends none"),
        (Condition("door"), "when: one of above, below, state, event is expected, not none"),
        (
            Condition("climate", "temperature", above=1, below=2),
            "when: one of above, below, state, event is expected, not above and below",
        ),
        (
            Condition("climate", "temperature", above=1, hysteresis=-1),
            "when.hysteresis: a number from 0 is expected, not -1",
        ),
        (Condition("door", state=True, hysteresis=1), "when.hysteresis: is for above and below only: leave it out"),
        (Condition("door", "temperature", event="opened"), "when.measure: is for above and below only: leave it out"),
        (
            Condition("door", event="opened", for_s=1),
            "when.for_s: an event is over at once: leave it out, or use a state",
        ),
    ],
)
def test_a_condition_that_cannot_be_is_refused(when: Condition, says: str) -> None:
    """With what is there instead."""
    assert problems(when) == [says]


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (
            Action("fann", True),
            "then.fann: there is no output 'fann' (did you mean 'fan'?); there are: fan, relay, strip",
        ),
        (Action("door", True), "then.door: there is no output 'door'; there are: fan, relay, strip"),
        (Action("relay", 40.0), "then.relay: relay can only be on or off, not 40 %"),
        (Action("relay", "#ff8800"), "then.relay: relay has no color: use on, off"),
        (Action("fan", "#ff8800"), "then.fan: fan has no color: use on, off or a level"),
        (Action("fan", 140.0), "then.fan: fan takes 0 to 100 percent, not 140"),
        (Action("fan", True, 0.0), "then.fan.for_s: a time is 0.001 to 604800 seconds, not 0"),
        (Action("fan", True, float("nan")), "then.fan.for_s: a time is 0.001 to 604800 seconds, not nan"),
    ],
)
def test_an_act_that_cannot_be_is_refused(action: Action, says: str) -> None:
    """In then as in else."""
    assert problems(WARM, action) == [says]
    assert problems(WARM, otherwise=(action,)) == [says.replace("then", "else", 1)]


def test_all_is_said_at_once() -> None:
    """Of the condition and of the acts; of a node without outputs too."""
    assert len(problems(Condition("x", state=True), Action("y", True), Action("z", True))) == 3
    [_, problem] = check_reflexes([ReflexSettings("r", WARM, (FAN_ON,))], ())
    assert problem.text == "there is no output 'fan'; this node has no output"


def test_a_reflex_does_something_and_an_event_has_no_end() -> None:
    """What is over at once has no else."""
    [problem] = check_reflexes([ReflexSettings("r", WARM, ())], SPECS)
    assert problem.text == "says nothing to do: name an output and its value"
    [said] = problems(Condition("door", event="opened"), otherwise=(FAN_ON,))
    assert said == "else: an event is over at once: say with for_s under then how long, or use a state"


@pytest.mark.parametrize(
    ("when", "says"),
    [
        (Condition("climate", "temperature", above=28, for_s=60), "climate temperature is above 28 °C for 1 minute"),
        (Condition("soil", below=20, hysteresis=2.5), "soil probe moisture is below 20 % (until it is 22.5 %)"),
        (Condition("dial", above=3), "dial is above 3 steps"),
        (Condition("door", state=True, for_s=2), "door is open for 2 seconds"),
        (Condition("door", state=False), "door is closed"),
        (Condition("knock", state=True), "knock is on"),
        (Condition("knock", state=False), "knock is off"),
        (Condition("door", event="opened"), "door sends opened"),
    ],
)
def test_a_reflex_is_said_in_words(when: Condition, says: str) -> None:
    """For its card."""
    reflex = ReflexSettings("r", when, (FAN_ON, Action("strip", "#ff8800", 0.5)), (Action("fan", 40.0),))
    devices = {spec.id: spec for spec in SPECS}

    assert reflex_words(reflex, devices) == f"when {says}: fan on, strip #ff8800 for 0.5 seconds; else fan 40 %"


def test_words_are_cut_to_what_a_card_holds() -> None:
    """However much a reflex does."""
    names = [f"output-number-{number:02}-with-a-long-id" for number in range(20)]
    devices = {name: DeviceSpec(name, "out", "switch") for name in names} | {"door": DOOR}
    reflex = ReflexSettings("r", Condition("door", state=True), tuple(Action(name, True) for name in names))

    words = reflex_words(reflex, devices)

    assert len(words) == MAX_WORDS
    assert words.endswith("…")
