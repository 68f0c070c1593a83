"""What reflexes answer to what is measured and what happens."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings, strategies as st

from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent, OutputChanged, SensorRead
from pibot_mesh.node.reflex_rule import TRY_AGAIN_S, Act
from pibot_mesh.node.reflexes import SILENT_AFTER_S, Reflexes
from pibot_mesh.protocol.messages import Cause, DeviceSpec, Measure, OutputValue, ReflexSpec

CLIMATE = DeviceSpec(
    "climate", "sensor", "climate", "climate", measures={"temperature": Measure("°C"), "humidity": Measure("%")}
)
DOOR = DeviceSpec("door", "in", "contact", "door", events=("opened", "closed"))
BUTTON = DeviceSpec("button", "in", "button", "button", events=("pressed", "released"))
DIAL = DeviceSpec("dial", "in", "encoder", "dial", unit="steps")
FAN = DeviceSpec("fan", "out", "fan", "fan", dimmable=True)
CHIME = DeviceSpec("chime", "out", "switch", "chime")
SPECS = (CLIMATE, DOOR, BUTTON, DIAL, FAN, CHIME)

COOL = ReflexSettings(
    "cool",
    Condition("climate", "temperature", above=28, hysteresis=1, for_s=60),
    (Action("fan", True),),
    (Action("fan", False),),
)
AT_ONCE = replace(COOL, when=replace(COOL.when, for_s=0.0))
BELL = ReflexSettings("bell", Condition("button", event="pressed"), (Action("chime", True, 0.5),))
NIGHT = ReflexSettings("night", Condition("door", state=True), (Action("fan", 40.0),))


class Room:
    """Reflexes, and outputs that do what they are told, or refuse."""

    def __init__(self, *reflexes: ReflexSettings, silent_after_s: dict[str, float] | None = None) -> None:
        self.now = 0.0
        self.reflexes = Reflexes(SPECS, silent_after_s or {})
        self.outputs: dict[str, OutputValue] = {}
        self.refuses = False
        self.news: list[bool] = []
        for reflex in reflexes:
            self.do(self.reflexes.add(reflex, self.now))

    def do(self, acts: list[Act]) -> list[str]:
        """Do them, and say each as ``fan = True``."""
        for act in acts:
            if self.refuses:
                self.news.append(self.reflexes.refused(act, self.now))
            else:
                self.outputs[act.device] = act.value
                self.reflexes.obeyed(act)
        return [f"{act.device} = {act.value}" + (f" for {act.for_s:g}" if act.for_s else "") for act in acts]

    def hear(self, change: Change) -> list[str]:
        return self.do(self.reflexes.hear(change, self.now))

    def reads(self, temperature: float, after_s: float = 0.0) -> list[str]:
        self.now += after_s
        return self.hear(SensorRead("climate", {"temperature": temperature, "humidity": 50.0}))

    def passes(self, seconds: float) -> list[str]:
        """Let time go by, waking whenever the reflexes want it."""
        end, said = self.now + seconds, list[str]()
        while (wake_at := self.reflexes.wake_at()) is not None and wake_at <= end:
            self.now = max(self.now, wake_at)
            said += self.do(self.reflexes.tick(self.now))
        self.now = end
        return said


def test_the_first_reading_decides() -> None:
    """Before it nothing is set; then what the rule says, where it holds and where it does not."""
    assert Room(AT_ONCE).passes(10) == []
    assert Room(AT_ONCE).reads(29) == ["fan = True"]
    assert Room(AT_ONCE).reads(20) == ["fan = False"]


def test_each_turn_is_acted_on_once() -> None:
    """However many readings say the same."""
    room = Room(AT_ONCE)

    assert [room.reads(value, 10) for value in (29, 30, 31, 20, 19)] == [["fan = True"], [], [], ["fan = False"], []]


def test_what_is_above_is_so_until_it_is_the_hysteresis_under() -> None:
    """And what lies between decides nothing; at the number itself it is not above."""
    room = Room(AT_ONCE)

    said = [room.reads(value, 10) for value in (28, 28.1, 27.5, 27.01, 27, 27.5, 28, 28.1)]

    assert said == [["fan = False"], ["fan = True"], [], [], ["fan = False"], [], [], ["fan = True"]]


def test_below_is_the_same_upside_down() -> None:
    """A heater."""
    heat = replace(AT_ONCE, when=Condition("climate", "temperature", below=18, hysteresis=1))
    room = Room(heat)

    said = [room.reads(value, 10) for value in (18, 17.9, 18.9, 19, 18.5)]

    assert said == [["fan = False"], ["fan = True"], [], ["fan = False"], []]


def test_a_condition_must_hold_long_enough() -> None:
    """It acts when the time is over, without a reading in that moment; a break in between begins it anew."""
    room = Room(COOL)

    assert room.reads(29) == []
    assert room.passes(30) == []
    assert room.reads(20) == ["fan = False"]
    assert room.reads(29) == []
    assert room.passes(59) == []
    assert room.passes(1) == ["fan = True"]


def test_a_break_before_the_time_is_over_does_not_say_its_end_again() -> None:
    """What did not hold before does not end."""
    room = Room(COOL)
    room.reads(20)

    assert [room.reads(29, 10), room.reads(20, 10), room.passes(120)] == [[], [], []]


def test_a_reading_that_comes_late_is_in_time() -> None:
    """Where nobody woke in between."""
    room = Room(COOL)
    room.reads(29)

    assert room.reads(29, 61) == ["fan = True"]


def test_silence_ends_what_a_sensor_holds() -> None:
    """A heater must not go on by a sensor that is gone; the next reading decides again, and silence is said once."""
    room = Room(AT_ONCE)
    room.reads(29)

    assert room.passes(SILENT_AFTER_S - 1) == []
    [act] = room.reflexes.tick(SILENT_AFTER_S)
    assert (
        act.reason
        == "climate is silent; when climate temperature is above 28 °C (until it is 27 °C): fan on; else fan off"
    )
    assert (act.device, act.value) == ("fan", False)
    assert room.passes(10_000) == []
    assert room.reads(29) == ["fan = True"]


def test_a_sensor_that_never_speaks_is_silent_as_well() -> None:
    """Its outputs may be on from the start."""
    assert Room(AT_ONCE).passes(SILENT_AFTER_S) == ["fan = False"]


def test_a_slow_sensor_may_be_silent_for_longer() -> None:
    """As long as it is told."""
    room = Room(AT_ONCE, silent_after_s={"climate": 3600.0})
    room.reads(29)

    assert room.passes(3599) == []
    assert room.passes(1) == ["fan = False"]


def test_a_reading_without_the_measure_is_none() -> None:
    """A sensor may lose one of its quantities."""
    room = Room(AT_ONCE)
    room.reads(29)
    room.now += 200

    assert room.hear(SensorRead("climate", {"humidity": 40.0})) == []
    assert room.passes(SILENT_AFTER_S - 200) == ["fan = False"]


def test_an_input_holds_as_long_as_it_is_so() -> None:
    """However long that is: an input has no readings that could be missing."""
    room = Room(NIGHT)

    assert room.hear(InputChanged("door", False)) == []
    assert room.hear(InputChanged("door", True)) == ["fan = 40.0"]
    assert room.passes(10 * SILENT_AFTER_S) == []
    assert room.hear(InputChanged("door", False)) == []
    assert room.hear(InputChanged("door", True)) == ["fan = 40.0"]


def test_an_input_that_counts_is_compared_as_a_sensor_is() -> None:
    """And what is no number is not above one."""
    turn = replace(NIGHT, id="turn", when=Condition("dial", above=10))
    room = Room(turn)

    assert [room.hear(InputChanged("dial", value)) for value in (5.0, 11.0, "#ffffff")] == [[], ["fan = 40.0"], []]


def test_each_event_is_acted_on() -> None:
    """Also the second one; no other event is, nor the state of the button."""
    room = Room(BELL)

    said = [room.hear(InputEvent("button", event)) for event in ("pressed", "released", "pressed")]

    assert said == [["chime = True for 0.5"], [], ["chime = True for 0.5"]]
    assert room.hear(InputChanged("button", True)) == []
    assert room.reflexes.wake_at() is None


def test_what_was_refused_is_tried_again_while_it_is_wanted() -> None:
    """A compressor that rests; that it waits is news once."""
    room = Room(AT_ONCE)
    room.refuses = True
    room.reads(29)

    assert room.passes(2 * TRY_AGAIN_S) == ["fan = True"] * 2
    room.refuses = False
    assert room.passes(TRY_AGAIN_S) == ["fan = True"]
    assert room.passes(100) == []
    assert room.news == [True, False, False]
    room.refuses = True
    assert room.reads(20) == ["fan = False"]
    assert room.news[3:] == [True]


def test_only_what_was_refused_is_tried_again() -> None:
    """Not all that a reflex does."""
    room = Room()
    both = replace(AT_ONCE, then=(Action("fan", True), Action("chime", True)))
    room.reflexes.add(both, 0)
    [fan, chime] = room.reflexes.hear(SensorRead("climate", {"temperature": 29.0}), 0)

    room.reflexes.obeyed(fan)
    assert room.reflexes.refused(chime, 0)
    assert room.passes(TRY_AGAIN_S) == ["chime = True"]


def test_what_is_not_wanted_any_more_is_not_tried() -> None:
    """The temperature fell before the compressor had rested."""
    room = Room(AT_ONCE)
    room.refuses = True
    room.reads(29)
    room.refuses = False

    assert room.reads(20, 1) == ["fan = False"]
    assert room.passes(100) == []


def test_an_event_that_was_refused_is_over() -> None:
    """A bell does not ring by itself later."""
    room = Room(BELL)
    room.refuses = True
    room.hear(InputEvent("button", "pressed"))
    room.refuses = False

    assert room.news == [True]
    assert room.passes(100) == []


def test_after_the_emergency_stop_it_is_as_the_reflex_has_it() -> None:
    """The stop set the output; until it is released every try is refused."""
    room = Room(AT_ONCE, NIGHT)
    room.reads(29)

    room.hear(OutputChanged("fan", False, Cause("stop")))
    room.refuses = True
    assert room.passes(TRY_AGAIN_S) == ["fan = True"]
    room.refuses = False
    assert room.passes(TRY_AGAIN_S) == ["fan = True"]


def test_what_anybody_else_sets_stays() -> None:
    """What changed last counts; and so does the safety contract."""
    room = Room(AT_ONCE)
    room.reads(29)

    for by in ("person", "safety", "task", "timer"):
        assert room.hear(OutputChanged("fan", False, Cause(by))) == []
    assert room.passes(100) == []


def test_after_the_emergency_stop_nothing_that_was_over_is_done_again() -> None:
    """A pulse, an event, or what was never begun."""
    pulse = replace(AT_ONCE, id="pulse", then=(Action("chime", True, 2.0),))
    room = Room(pulse, BELL, COOL)
    room.hear(InputEvent("button", "pressed"))
    room.reads(29)

    for device in ("chime", "fan"):
        room.hear(OutputChanged(device, False, Cause("stop")))

    assert room.passes(TRY_AGAIN_S) == []


def test_one_that_is_switched_off_sets_nothing_and_forgets() -> None:
    """Switched on, it decides anew, by what was heard meanwhile; switched on twice, it does nothing more."""
    room = Room(AT_ONCE)
    room.reads(29)

    assert room.do(room.reflexes.switch("cool", False, room.now)) == []
    assert room.reads(20) == []
    assert room.passes(1000) == []
    assert room.reflexes.states() == {"cool": False}
    room.reads(30)
    assert room.do(room.reflexes.switch("cool", True, room.now)) == ["fan = True"]
    assert room.do(room.reflexes.switch("cool", True, room.now)) == []


def test_an_old_reading_decides_nothing() -> None:
    """Switched on after its sensor fell silent, a reflex waits for a reading."""
    room = Room(replace(AT_ONCE, is_on=False))
    room.reads(29)
    room.passes(SILENT_AFTER_S)

    assert room.do(room.reflexes.switch("cool", True, room.now)) == []


def test_the_state_of_an_input_decides_at_once() -> None:
    """Also for a reflex that comes long after the input changed."""
    room = Room()
    room.hear(InputChanged("door", True))
    room.passes(10 * SILENT_AFTER_S)

    assert room.do(room.reflexes.add(NIGHT, room.now, is_learned=True)) == ["fan = 40.0"]
    assert room.reflexes.specs() == (ReflexSpec("night", "when door is open: fan 40 %", True),)


def test_one_that_is_gone_sets_nothing() -> None:
    """And what comes of its last act matters to nobody."""
    room = Room(AT_ONCE)
    acts = room.reflexes.hear(SensorRead("climate", {"temperature": 29.0}), 0)
    room.reflexes.remove("cool")

    room.reflexes.obeyed(acts[0])
    assert not room.reflexes.refused(acts[0], 0)
    assert room.reads(20) == []
    assert room.reflexes.states() == {}


readings = st.lists(st.tuples(st.floats(20, 36), st.floats(0.1, 400), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=300, deadline=None)
@given(readings, st.floats(0, 3), st.floats(0, 120))
def test_no_readings_leave_an_output_on_against_its_rule(
    said: list[tuple[float, float, bool]], hysteresis: float, for_s: float
) -> None:
    """Whatever is read, in whatever time, and whatever is refused for a while."""
    when = Condition("climate", "temperature", above=28, hysteresis=hysteresis, for_s=for_s)
    room = Room(replace(COOL, when=when))
    held_since: float | None = None
    heard_at = 0.0
    for value, wait_s, is_refusing in said:
        room.refuses = is_refusing
        room.passes(wait_s)
        if heard_at + SILENT_AFTER_S <= room.now:
            held_since = None
        holds = value > 28 - (hysteresis if held_since is not None else 0)
        held_since = (room.now if held_since is None else held_since) if holds else None
        room.reads(value)
        heard_at = room.now
        room.refuses = False
        room.passes(TRY_AGAIN_S)  # what was refused has been done by then
        must_be_on = held_since is not None and room.now >= held_since + for_s
        assert room.outputs.get("fan", False) is must_be_on
