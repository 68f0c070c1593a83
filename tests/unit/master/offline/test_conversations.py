"""What a sentence means after others: "and now off again", "turn it off", "and the humidity there?"."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Exchange
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import (
    DeviceSpec,
    Measure,
    Plan,
    Reply,
    State,
    Step,
    StepResult,
    ToolCall,
    WireError,
)
from tests.unit.master.offline.house import CLIMATE, HOUSE, KNOWN, SIMPLE, card, refusal, steps
from tests.unit.master.offline.talk import agent_exchange, call_exchange, exchange, refused, talk

FAN = "turn on the fan on worker-1"
BOTH = "turn on the fan and the lamp on worker-1"
WARM = "read the temperature on worker-2"
ON, OFF = ["worker-1 fan = ON"], ["worker-1 fan = OFF"]
BOTH_OFF = ["worker-1 fan = OFF", "worker-1 lamp = OFF"]
HUMIDITY = ["worker-2 sensor_read climate humidity"]
TEMPERATURE = ["worker-2 sensor_read climate temperature"]
T28 = "if s1.values.temperature above 28"

ENGLISH: list[tuple[str, str, list[str]]] = [
    # Without a word for the device
    (FAN, "and now off again", OFF),
    (FAN, "and off again", OFF),
    (FAN, "now off again", OFF),
    (FAN, "off again please", OFF),
    (FAN, "off", OFF),
    (FAN, "then off", OFF),
    (FAN, "and then off again", OFF),
    (FAN, "ok, off again", OFF),
    (FAN, "okay. now off again.", OFF),
    (FAN, "and back off", OFF),
    (FAN, "back to off", OFF),
    (FAN, "and on again", ON),
    (FAN, "and back on", ON),
    (FAN, "on again for 10 minutes", ["worker-1 fan = ON for 600"]),
    (FAN, "and to 30 percent", ["worker-1 fan = 30"]),
    (FAN, "at half speed", ["worker-1 fan = 50"]),
    (FAN, "now off again, then on", ["worker-1 fan = OFF", "worker-1 fan = ON after s1"]),
    ("turn off the fan on worker-1", "and now back on again", ON),
    # With one
    (FAN, "turn it off", OFF),
    (FAN, "turn it off again", OFF),
    (FAN, "turn it back off please", OFF),
    (FAN, "switch it back on", ON),
    (FAN, "switch it on again for 5 minutes", ["worker-1 fan = ON for 300"]),
    (FAN, "turn it on for ten minutes", ["worker-1 fan = ON for 600"]),
    (FAN, "turn off that", OFF),
    (FAN, "stop it", OFF),
    (FAN, "it off", OFF),
    (FAN, "dim it to 30", ["worker-1 fan = 30"]),
    (FAN, "set it to 50 percent", ["worker-1 fan = 50"]),
    (FAN, "set it back to 50 %", ["worker-1 fan = 50"]),
    (FAN, "can you turn it off again?", OFF),
    (FAN, "on worker-1, turn it off", OFF),
    ("turn on the kitchen lamp", "set the brightness to 40", ["worker-1 lamp = 40"]),
    # Several
    (BOTH, "turn them off", BOTH_OFF),
    (BOTH, "turn it off", BOTH_OFF),
    (BOTH, "and now off again", BOTH_OFF),
    (BOTH, "turn all of them off", BOTH_OFF),
    (BOTH, "dim them to 20", ["worker-1 fan = 20", "worker-1 lamp = 20"]),
    ("turn on the fan on worker-1 and worker-2", "turn those off", ["worker-1 fan = OFF", "worker-2 fan = OFF"]),
    ("turn on the kitchen fan and turn off the balcony lamp", "on", ["worker-1 fan = ON", "worker-2 lamp = ON"]),
    ("turn on the kitchen fan, then off", "and on again", ON),
    # A question or a reading before, an order after
    ("is the fan on worker-1 on?", "turn it off", OFF),
    ("turn on the fan on worker-1 and read the temperature on worker-2", "and off again", OFF),
    # A pronoun means what its own sentence has named before it
    (FAN, "turn on the lamp on worker-2 and then turn it off", ["worker-2 lamp = ON", "worker-2 lamp = OFF after s1"]),
    (FAN, "turn it off and turn on the lamp on worker-2", ["worker-1 fan = OFF", "worker-2 lamp = ON"]),
    (
        FAN,
        "turn it off, set the lamp on worker-2 to 30 and turn it off",
        ["worker-1 fan = OFF", "worker-2 lamp = 30", "worker-2 lamp = OFF after s2"],
    ),
    (FAN, "if the temperature on worker-2 is above 28, turn it off", [*TEMPERATURE, f"worker-1 fan = OFF {T28}"]),
    # Questions about what was switched
    (FAN, "is it on?", ["worker-1 output_get fan"]),
    (FAN, "is it still on?", ["worker-1 output_get fan"]),
    (FAN, "and is it on now?", ["worker-1 output_get fan"]),
    (BOTH, "are they on?", ["worker-1 output_get fan", "worker-1 output_get lamp"]),
    # The same reading, and another one at the same place
    (WARM, "read it again", TEMPERATURE),
    (WARM, "is it above 25?", TEMPERATURE),
    (WARM, "and the humidity?", HUMIDITY),
    (WARM, "and the humidity there?", HUMIDITY),
    (WARM, "what about the humidity?", HUMIDITY),
    (WARM, "how about the humidity there?", HUMIDITY),
    (WARM, "and the temperature and the humidity?", [*TEMPERATURE, *HUMIDITY]),
    (WARM, "what is the humidity there?", HUMIDITY),
    (WARM, "how humid is it there?", HUMIDITY),
    (WARM, "and the humidity on worker-1?", ["worker-1 sensor_read climate humidity"]),
    (WARM, "and all temperatures?", [f"worker-{n} sensor_read climate temperature" for n in (1, 2, 3)]),
    (WARM, "and the soil moisture?", ["worker-3 sensor_read soil soil_moisture"]),
    (WARM, "turn on the fan there", ["worker-2 fan = ON"]),
    (WARM, "turn on the fan and the lamp there", ["worker-2 fan = ON", "worker-2 lamp = ON"]),
    (WARM, "if it is above 28, turn on the kitchen fan", [*TEMPERATURE, f"worker-1 fan = ON {T28}"]),
    (
        WARM,
        "if the humidity there is above 60, turn on the kitchen fan",
        [*HUMIDITY, "worker-1 fan = ON if s1.values.humidity above 60"],
    ),
    (
        "read the soil probe",
        "if it is below 20, start the garden pump",
        ["worker-3 sensor_read soil soil_moisture", "worker-3 garden_pump = ON if s1.values.soil_moisture below 20"],
    ),
    ("read the temperature and humidity on worker-2", "read them again", ["worker-2 sensor_read climate"]),
    (
        "read the temperature on worker-1 and worker-2",
        "and the humidity?",
        [f"worker-{n} sensor_read climate humidity" for n in (1, 2)],
    ),
    ("read all sensors on worker-2", "and the humidity there?", HUMIDITY),
    ("status of worker-2", "turn on the fan there", ["worker-2 fan = ON"]),
    ("list the devices on worker-2", "turn on the fan there", ["worker-2 fan = ON"]),
    ("turn on the fans", "turn off the lamps there", [f"worker-{n} lamp = OFF" for n in (1, 2, 3)]),
    (FAN, "turn off everything there", BOTH_OFF),
    (FAN, "is there motion there?", ["worker-1 input_read motion"]),
]
CHINESE: list[tuple[str, str, list[str]]] = [
    ("打开厨房的风扇", "现在再关掉", OFF),
    ("打开厨房的风扇", "再关掉", OFF),
    ("打开厨房的风扇", "现在关掉吧", OFF),
    ("打开厨房的风扇", "好的，关掉", OFF),
    ("打开厨房的风扇", "那就关掉", OFF),
    ("打开厨房的风扇", "把它关掉", OFF),
    ("打开厨房的风扇", "把它再关掉", OFF),
    ("打开厨房的风扇", "请把它关掉。", OFF),
    ("打开厨房的风扇", "关掉它", OFF),
    ("打开厨房的风扇", "再次关掉", OFF),
    ("关闭厨房的风扇", "再打开", ON),
    ("关闭厨房的风扇", "重新打开", ON),
    ("关闭厨房的风扇", "把它重新打开", ON),
    ("关闭厨房的风扇", "再打开10分钟", ["worker-1 fan = ON for 600"]),
    ("打开厨房的风扇", "把它调到30%", ["worker-1 fan = 30"]),
    ("打开厨房的风扇", "调到30%", ["worker-1 fan = 30"]),
    ("打开厨房的灯", "亮度调到一半", ["worker-1 lamp = 50"]),
    ("打开厨房的灯和风扇", "把它们都关掉", ["worker-1 lamp = OFF", "worker-1 fan = OFF"]),
    ("打开厨房的风扇", "它还开着吗？", ["worker-1 output_get fan"]),
    ("打开厨房的风扇", "打开阳台的灯，再把它关掉", ["worker-2 lamp = ON", "worker-2 lamp = OFF after s1"]),
    ("打开厨房的风扇", "打开阳台的灯，再关掉", ["worker-2 lamp = ON", "worker-2 lamp = OFF after s1"]),
    ("读取阳台的温度", "湿度呢？", HUMIDITY),
    ("读取阳台的温度", "那湿度呢", HUMIDITY),
    ("读取阳台的温度", "那里的湿度呢？", HUMIDITY),
    ("读取阳台的温度", "那里的湿度是多少", HUMIDITY),
    ("读取阳台的湿度", "那边几度", TEMPERATURE),
    ("读取阳台的温度", "打开那里的风扇", ["worker-2 fan = ON"]),
    ("读取阳台的温度", "在那里打开风扇", ["worker-2 fan = ON"]),
    ("读取阳台的温度", "如果高于28，打开厨房的风扇", [*TEMPERATURE, f"worker-1 fan = ON {T28}"]),
    # The words of one language, after those of the other
    (FAN, "把它关掉", OFF),
    ("打开厨房的风扇", "turn it off", OFF),
]


@pytest.mark.parametrize(("before", "text", "expected"), [*ENGLISH, *CHINESE])
def test_a_text_goes_on_from_the_one_before(engine: OfflineEngine, before: str, text: str, expected: list[str]) -> None:
    """Every row of the tables; the language of the answer is that of the text."""
    plan = talk(engine, before, text)

    assert steps(plan) == expected
    assert isinstance(plan, Plan)
    assert plan.language == ("en" if text.isascii() else "zh-cn")


REFUSED: list[tuple[tuple[str, ...], ErrorCode, str]] = [
    # There was no device
    (("turn it off",), ErrorCode.NOT_UNDERSTOOD, "no device was named just before it"),
    (("and now off again",), ErrorCode.NOT_UNDERSTOOD, 'what is meant by "off"'),
    (("off",), ErrorCode.NOT_UNDERSTOOD, "Say which one"),
    (("is it on?",), ErrorCode.NOT_UNDERSTOOD, "no device was named"),
    (("现在再关掉",), ErrorCode.NOT_UNDERSTOOD, "没有提到任何设备"),
    (("turn on the lamp there",), ErrorCode.NOT_UNDERSTOOD, "which place is meant"),
    (("那里的湿度呢？",), ErrorCode.NOT_UNDERSTOOD, "没有提到任何地方"),
    (("and the humidity?",), ErrorCode.AMBIGUOUS, "Which humidity"),
    (("status", "turn it off"), ErrorCode.NOT_UNDERSTOOD, "no device was named"),
    (("status of worker-2", "turn it off"), ErrorCode.NOT_UNDERSTOOD, "no device was named"),
    (("if it is above 28, turn on the kitchen fan",), ErrorCode.AMBIGUOUS, "which reading"),
    # A question back that was not answered
    ((FAN, "turn on the lamp", "turn it off"), ErrorCode.NOT_UNDERSTOOD, "no device was named just before"),
    # It cannot be done with that device
    ((WARM, "turn it off"), ErrorCode.BAD_ARGUMENTS, "The climate on worker-2 is no output"),
    ((WARM, "and now off again"), ErrorCode.BAD_ARGUMENTS, "is no output"),
    (("turn on the garden pump", "dim it to 30"), ErrorCode.BAD_ARGUMENTS, "can only be on or off"),
    ((FAN, "dim it"), ErrorCode.NOT_UNDERSTOOD, "whether to switch the fan on or off"),
    ((FAN, "set the brightness to 40"), ErrorCode.AMBIGUOUS, "Which light"),
    ((FAN, "if it is above 28, turn on the kitchen lamp"), ErrorCode.AMBIGUOUS, "which reading"),
    (("read the climate sensor on worker-2", "if it is above 28, off"), ErrorCode.AMBIGUOUS, "which reading"),
    (("read all temperatures", "if it is above 28, turn on the kitchen fan"), ErrorCode.AMBIGUOUS, "which reading"),
    # It is not clear which device or place
    ((FAN, "turn it off on worker-2"), ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ((FAN, "turn it off there"), ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ((FAN, "on worker-2, turn it off"), ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ((FAN, "在那里把它关掉"), ErrorCode.NOT_UNDERSTOOD, "指的是什么"),
    ((FAN, "read the temperature on worker-2 and turn it off"), ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ((FAN, "turn the lamp off"), ErrorCode.AMBIGUOUS, "Which lamp"),
    ((FAN, "and turn on the lamp"), ErrorCode.AMBIGUOUS, "Which lamp"),
    (("turn on the fans", "turn on the lamp there"), ErrorCode.AMBIGUOUS, "worker-1, worker-2 or worker-3?"),
    (("turn on the fans", "if the humidity there is above 60, off"), ErrorCode.AMBIGUOUS, "which reading"),
    (("read the soil moisture", "and the temperature there?"), ErrorCode.NOT_UNDERSTOOD, "no temperature"),
    ((FAN, "turn the fan, else off"), ErrorCode.NOT_UNDERSTOOD, "There is no condition"),
    ((FAN, "for ten minutes"), ErrorCode.NOT_UNDERSTOOD, "I do not understand"),
    ((FAN, "off everywhere"), ErrorCode.NOT_UNDERSTOOD, "I do not understand"),
    ((FAN, "off on worker-2"), ErrorCode.NOT_UNDERSTOOD, "I do not understand"),
    ((FAN, "and again"), ErrorCode.NOT_UNDERSTOOD, "I do not understand"),
    # Negations and questions
    ((FAN, "don't turn it off"), ErrorCode.NOT_UNDERSTOOD, "negation"),
    ((FAN, "not off again"), ErrorCode.NOT_UNDERSTOOD, "negation"),
    ((FAN, "and now off again?"), ErrorCode.NOT_UNDERSTOOD, "question"),
    ((FAN, "turn it off?"), ErrorCode.NOT_UNDERSTOOD, "question"),
    ((FAN, "is it on? then off"), ErrorCode.NOT_UNDERSTOOD, "question"),
    ((FAN, "不要关掉它"), ErrorCode.NOT_UNDERSTOOD, "否定"),
    ((FAN, "别再关掉"), ErrorCode.NOT_UNDERSTOOD, "否定"),
    ((FAN, "把它关掉吗"), ErrorCode.NOT_UNDERSTOOD, "什么也没有做"),
]


@pytest.mark.parametrize(("texts", "code", "says"), REFUSED)
def test_what_is_not_clear_is_refused_in_words(
    engine: OfflineEngine, texts: tuple[str, ...], code: ErrorCode, says: str
) -> None:
    """Nothing is guessed, and nothing is done."""
    said = refusal(talk(engine, *texts))

    assert (said.code, says in said.text) == (code, True), said.text


GERMAN = """
language: de
intents:
  SetOutput: {data: [{sentences: ["schalte <der> {thing} auf {place} {state}", "schalte {it} [wieder] {state}"]}]}
  Read: {data: [{sentences: ["wie (warm|ist die) {thing} [{there}]"]}]}
  More: {data: [{sentences: ["[wieder] {state}"]}]}
expansion_rules: {der: "[der|die|das|den]"}
lists:
  state: {values: [{in: ein, out: "on"}, {in: aus, out: "off"}]}
  it: {values: [es, sie, ihn]}
  there: {values: [dort]}
skip_words: [jetzt]
measures: {temperature: [Temperatur]}
words: {and: [und], negation: [nicht, kein]}
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("und jetzt wieder aus", OFF),
        ("schalte ihn wieder aus", OFF),
        ("wie ist die Temperatur dort", ["worker-1 sensor_read climate temperature"]),
    ],
)
def test_a_language_of_ones_own_can_go_on_too(tmp_path: Path, text: str, expected: list[str]) -> None:
    """With a list "it", a list "there", and a sentence for a state alone."""
    (tmp_path / "de.yaml").write_text(GERMAN, encoding="utf-8")
    engine = OfflineEngine([tmp_path])

    assert steps(talk(engine, "schalte den fan auf worker-1 ein", text)) == expected


def test_a_long_conversation_stays_with_its_device(engine: OfflineEngine) -> None:
    """From answer to answer, in two languages, past what was not understood and what was about no device."""
    texts = (
        FAN,
        "and now off again",
        "再打开",
        "is it on?",
        "status",
        "make me a coffee",
        "what can you do",
        "turn it off",
    )

    assert steps(talk(engine, *texts)) == OFF


def test_the_last_device_counts(engine: OfflineEngine) -> None:
    """Not the one before it."""
    assert steps(talk(engine, FAN, "turn on the lamp on worker-2", "and off again")) == ["worker-2 lamp = OFF"]


def test_a_device_whose_node_has_gone_offline_is_refused_as_ever(engine: OfflineEngine) -> None:
    """Whatever is to be done with it, and wherever else such a device may be; when it is back, it is meant again."""
    left = {node: each for node, each in HOUSE.items() if node != "worker-1"}
    for before, text in (
        (FAN, "turn it off"),
        (FAN, "is it on?"),
        (BOTH, "and now off again"),
        ("turn on the kitchen lamp", "set the brightness to 40"),
        (FAN, "and the humidity?"),
        (FAN, "turn on the lamp there"),
        ("read the temperature on worker-1", "if it is above 28, turn on the fan on worker-2"),
    ):
        said = refusal(talk(engine, before, text, cards=left))
        assert (said.code, said.text) == (ErrorCode.OFFLINE, "worker-1 is offline, so nothing was done."), text

    away = exchange("turn it off", talk(engine, FAN, "turn it off", cards=left))
    switched = exchange(FAN, engine.plan(FAN, HOUSE))
    assert steps(engine.plan("turn it off", HOUSE, conversation=[switched, away])) == OFF


def test_a_reading_of_a_node_that_is_away_does_not_stand_in_the_way(engine: OfflineEngine) -> None:
    """The only light that is there is the light, though the sensor that was read last is not."""
    left = {"worker-1": HOUSE["worker-1"]}

    assert steps(talk(engine, WARM, "set the brightness to 40", cards=left)) == ["worker-1 lamp = 40"]


def test_a_device_that_was_taken_away_is_not_replaced(engine: OfflineEngine) -> None:
    """The node has a fan under another id now: that is not the one that was named."""
    other = {"worker-1": card("worker-1", DeviceSpec("big_fan", "out", "fan", "fan"))}

    said = refusal(talk(engine, FAN, "turn it off", cards=other))
    assert (said.code, said.text) == (
        ErrorCode.NOT_UNDERSTOOD,
        "There is no fan on worker-1 any more, so nothing was done.",
    )
    assert refusal(talk(engine, WARM, "if it is above 28, turn on the fan", cards={"worker-2": card("worker-2")}))
    assert refusal(talk(engine, "turn on the kitchen lamp", "set the brightness to 40", cards=other)).code


def test_a_sensor_that_has_lost_its_measure_is_read_whole(engine: OfflineEngine) -> None:
    """It gives humidity alone now; that is all that can be read again."""
    dry = DeviceSpec("climate", "sensor", "climate", "climate", measures={"humidity": Measure("%")})

    assert steps(talk(engine, WARM, "read it again", cards={"worker-2": card("worker-2", dry)})) == [
        "worker-2 sensor_read climate"
    ]


def test_a_pin_holds_in_a_conversation_too(engine: OfflineEngine) -> None:
    """What was named on another node is not switched."""
    assert steps(talk(engine, FAN, "turn it off", node="worker-1")) == OFF
    said = refusal(talk(engine, FAN, "turn it off", node="worker-2"))
    assert (said.code, "for worker-2 only" in said.text) == (ErrorCode.NOT_UNDERSTOOD, True)
    assert "which reading" in refusal(talk(engine, WARM, "if it is above 28, fan on", node="worker-1")).text
    assert "for worker-1 only" in refusal(talk(engine, WARM, "turn on the fan there", node="worker-1")).text


def test_of_two_branches_the_one_that_ran_is_meant(engine: OfflineEngine) -> None:
    """ "If ..., turn on the fan, else the lamp": off again is what was switched on; if nothing was, it is both."""
    text = "if the temperature on worker-2 is above 28, turn on the kitchen fan, else turn on the kitchen lamp"
    plan = engine.plan(text, HOUSE)

    def off_again(*skipped: str) -> list[str]:
        return steps(engine.plan("and off again", HOUSE, conversation=[exchange(text, plan, *skipped)]))

    assert off_again("s3") == OFF
    assert off_again("s2") == ["worker-1 lamp = OFF"]
    assert off_again("s2", "s3") == BOTH_OFF


def test_what_a_model_did_is_remembered_as_well(engine: OfflineEngine) -> None:
    """Its calls, on the node that took them, and the calls of its agents."""
    fan: dict[str, JSON] = {"device": "fan", "value": "ON"}
    for said in (
        call_exchange(Step("s1", node="worker-1", tool="output_set", args=fan)),
        call_exchange(Step("s1", labels=("kitchen",), tool="output_set", args=fan), "worker-1"),
        agent_exchange(ToolCall("read_file", {"path": "x"}), ToolCall("output_set", fan, True, "actuate")),
    ):
        assert steps(engine.plan("and now off again", HOUSE, conversation=[said])) == OFF
    read = agent_exchange(
        ToolCall("sensor_read", {"device": "climate", "measure": "temperature"}, True), node="worker-2"
    )
    assert steps(engine.plan("read it again", HOUSE, conversation=[read])) == TEMPERATURE


def test_what_a_model_did_without_a_device_stands_in_nobodys_way(engine: OfflineEngine) -> None:
    """A call that names none, a reference instead of a name, a node that nobody knows: the device before is meant."""
    before = exchange(FAN, engine.plan(FAN, HOUSE))
    for said in (
        agent_exchange(ToolCall("shell_exec", {"command": "ls"})),
        agent_exchange(node=None),
        call_exchange(Step("s1", node="worker-2", tool="output_set", args={"device": {"$ref": "s0.device"}})),
        call_exchange(Step("s1", node="master", tool="read_file", args={"device": "fan"}), "master"),
        refused(ErrorCode.NOT_UNDERSTOOD),
        refused(ErrorCode.OFFLINE),
        Exchange("x", Reply("r", State.COMPLETED, "well")),
    ):
        assert steps(engine.plan("turn it off", HOUSE, conversation=[before, said])) == OFF


def test_a_plan_that_was_only_shown_names_its_devices(engine: OfflineEngine) -> None:
    """It has no results."""
    plan = engine.plan(FAN, HOUSE)
    assert isinstance(plan, Plan)
    shown = Exchange(FAN, Reply("r", State.COMPLETED, "s1: ...", plan=plan))

    assert steps(engine.plan("turn it on", HOUSE, conversation=[shown])) == ON


def test_there_is_the_room_of_a_device_that_has_one(engine: OfflineEngine) -> None:
    """A node may hold devices of several rooms."""
    rooms = [
        DeviceSpec(f"{kind}_{room}", "out", kind, kind, room) for room in ("hall", "attic") for kind in ("fan", "lamp")
    ]
    cards = {"a": card("a", *rooms)}
    before = exchange("x", engine.plan("turn on the hall fan", cards))

    assert steps(engine.plan("turn on the lamp there", cards, conversation=[before])) == ["a lamp_hall = ON"]


def test_there_can_be_asked_of_more_than_one_sensor(engine: OfflineEngine) -> None:
    """Two of them at one place are asked back, as ever."""
    twins = [DeviceSpec(f"air_{n}", "sensor", "climate", f"air {n}", measures=CLIMATE) for n in (1, 2)]
    cards = {"a": card("a", *twins, SIMPLE[0])}
    before = exchange("x", engine.plan("turn on the fan", cards))

    assert "air 1 or air 2" in refusal(engine.plan("and the humidity?", cards, conversation=[before])).text


# --- Nothing that was said before makes it fail, slow, or acting by mistake ---

NAMES = st.sampled_from(["fan", "lamp", "climate", "garden_pump", "{x}", "", "none such"])
VALUES = st.one_of(
    NAMES, st.none(), st.integers(), st.lists(NAMES, max_size=2), st.dictionaries(NAMES, NAMES, max_size=2)
)
ARGS = st.dictionaries(st.sampled_from(["device", "measure", "node", "value", "x"]), VALUES, max_size=4)
NODES = st.sampled_from(["worker-1", "worker-2", "worker-4", "master", "gone", None])
TOOLS = st.sampled_from(["output_set", "output_get", "sensor_read", "input_read", "delegate", "{}"])
STEPS = st.builds(lambda node, tool, args: Step("s1", node=node, tool=tool, args=args), NODES, TOOLS, ARGS) | st.builds(
    lambda node: Step("s2", "agent", node, instruction="x"), NODES
)
RESULTS = st.builds(
    lambda step, state, node, calls: StepResult(step, state, node, tool_calls=tuple(calls)),
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from(list(State)),
    NODES,
    st.lists(st.builds(ToolCall, TOOLS, ARGS), max_size=3),
)
PLANS = st.lists(STEPS, min_size=1, max_size=4).map(lambda made: Plan("llm", tuple(made)))
ERRORS = st.builds(WireError, st.sampled_from([*map(str, ErrorCode), "?"]), st.text(max_size=5))
EXCHANGES = st.builds(
    lambda text, state, plan, results, error: Exchange(
        text, Reply("r", state, text, plan=plan, results=tuple(results), error=error)
    ),
    st.text(max_size=20),
    st.sampled_from(list(State)),
    st.none() | PLANS,
    st.lists(RESULTS, max_size=4),
    st.none() | ERRORS,
)
FOLLOW_UPS = sorted({text for _, text, _ in (*ENGLISH, *CHINESE)} | {texts[-1] for texts, _, _ in REFUSED})
ENGINE = OfflineEngine()


@given(st.lists(EXCHANGES, max_size=6), st.sampled_from(FOLLOW_UPS), st.sampled_from([None, "worker-1", "worker-4"]))
@settings(max_examples=150, deadline=None)
def test_any_conversation_gets_an_outcome(said: list[Exchange], text: str, node: str | None) -> None:
    """Whatever a model planned and whatever came of it: a plan or a refusal, and it acts on what is there alone."""
    outcome = ENGINE.plan(text, HOUSE, node=node, known=KNOWN, conversation=said)

    assert outcome.steps if isinstance(outcome, Plan) else outcome.text
    for step in outcome.steps if isinstance(outcome, Plan) else ():
        if step.tool == "output_set":
            assert step.node is not None
            assert step.args["device"] in {
                device.id for device in HOUSE[step.node].devices if device.direction == "out"
            }


@given(
    st.lists(EXCHANGES, max_size=4),
    st.sampled_from(["turn it off", "and now off again", "off", "dim them to 30"]),
    st.data(),
)
@settings(max_examples=80, deadline=None)
def test_a_negation_or_a_question_mark_never_acts_in_a_conversation(
    said: list[Exchange], order: str, data: st.DataObject
) -> None:
    """Wherever the word stands."""
    words = order.split()
    words.insert(data.draw(st.integers(0, len(words))), data.draw(st.sampled_from(["not", "don't", "never", "no"])))
    before = [exchange(FAN, ENGINE.plan(FAN, HOUSE))]

    for text in (" ".join(words), f"{order}?"):
        outcome = ENGINE.plan(text, HOUSE, known=KNOWN, conversation=[*said, *before])
        assert not isinstance(outcome, Plan), text


def test_a_conversation_hardly_makes_a_sentence_slower() -> None:
    """Ten requests of a hundred steps each, looked through for every "it"."""
    mesh = {f"n{index}": card(f"n{index}", *SIMPLE) for index in range(50)}
    everything = ENGINE.plan("turn on everything", mesh)
    said = [exchange("turn on everything", everything)] * 10

    def seconds(text: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            outcome = ENGINE.plan(text, mesh, conversation=said)
            times.append(time.perf_counter() - started)
            assert len(outcome.steps if isinstance(outcome, Plan) else ()) == 100
        return min(times)

    assert seconds("turn them off") < 3 * seconds("turn off everything")
