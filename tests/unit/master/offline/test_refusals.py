"""What is refused, why, and that nothing acts by mistake."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given, settings, strategies as st

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard, Plan
from tests.unit.master.offline.house import CLIMATE, HOUSE, KNOWN, PUMP, SIMPLE, card, refusal, steps

REFUSED: list[tuple[str, ErrorCode, str]] = [
    # Ambiguous: asked back
    ("turn on the fan", ErrorCode.AMBIGUOUS, "Which fan: worker-1, worker-2 or worker-3?"),
    ("set the brightness to 40", ErrorCode.AMBIGUOUS, "Which light: worker-1, worker-2 or worker-3?"),
    ("turn on the fan on worker-1 and turn on the lamp", ErrorCode.AMBIGUOUS, "Which lamp: "),
    ("turn on the fan on worker-1 and the lamp", ErrorCode.AMBIGUOUS, "Which lamp: "),
    ("turn on the fan and turn off the lamp on worker-1", ErrorCode.AMBIGUOUS, "Which fan: "),
    ("read the temperature", ErrorCode.AMBIGUOUS, "Which temperature: worker-1, worker-2 or worker-3?"),
    ("read the sensor on worker-3", ErrorCode.AMBIGUOUS, "Which sensor: climate or soil probe?"),
    ("if the temperature is above 28, turn on the kitchen fan", ErrorCode.AMBIGUOUS, "Which temperature: "),
    ("if it is above 28, turn on the kitchen fan", ErrorCode.AMBIGUOUS, "name the measure and the place"),
    ("if the climate sensor on worker-1 is above 28, turn on the kitchen fan", ErrorCode.AMBIGUOUS, "name the measure"),
    ("if all temperatures are above 28, turn on the kitchen fan", ErrorCode.AMBIGUOUS, "name the measure"),
    ("if the fan on worker-1 is above 28, turn on the kitchen fan", ErrorCode.AMBIGUOUS, "name the measure"),
    (
        "read the temperature on worker-1 and worker-2 and if it is above 28, turn on the kitchen fan",
        ErrorCode.AMBIGUOUS,
        "name the measure",
    ),
    (
        "read the button on worker-1 and if it is above 28, turn on the kitchen fan",
        ErrorCode.AMBIGUOUS,
        "which reading",
    ),
    (
        "turn on the kitchen fan, if the temperature on worker-2 is above 28, turn on the kitchen lamp",
        ErrorCode.AMBIGUOUS,
        "put the condition first",
    ),
    (
        "turn on the kitchen fan if the temperature on worker-2 is above 28 and turn on the kitchen lamp",
        ErrorCode.AMBIGUOUS,
        "put the condition first",
    ),
    (
        "turn on the kitchen fan and turn on the kitchen lamp if the temperature on worker-2 is above 28",
        ErrorCode.AMBIGUOUS,
        "put the condition first",
    ),
    ("打开风扇", ErrorCode.AMBIGUOUS, "是哪个风扇：worker-1，worker-2还是worker-3？"),
    # Offline
    ("turn on the fan on worker-4", ErrorCode.OFFLINE, "worker-4 is offline, so nothing was done."),
    ("turn on the fan on worker-1 and worker-4", ErrorCode.OFFLINE, "worker-4 is offline"),
    ("turn on the fan and the lamp on worker-4", ErrorCode.OFFLINE, "worker-4 is offline"),
    ("is worker-4 online?", ErrorCode.OFFLINE, "worker-4 is offline"),
    ("list the devices on worker-4", ErrorCode.OFFLINE, "worker-4 is offline"),
    ("关闭worker-4的灯", ErrorCode.OFFLINE, "worker-4 离线"),
    # Not possible
    ("set the garden pump to 40%", ErrorCode.BAD_ARGUMENTS, "The garden pump on worker-3 can only be on or off"),
    ("set the lamp on worker-1 to 140", ErrorCode.BAD_ARGUMENTS, "A value is 0 to 100 percent, not 140."),
    ("set the lamp on worker-1 to -5", ErrorCode.BAD_ARGUMENTS, "not -5"),
    ("set the lamp on worker-1 to minus five", ErrorCode.BAD_ARGUMENTS, "not -5"),
    ("turn on the button on worker-1", ErrorCode.BAD_ARGUMENTS, "it can be read, not switched"),
    ("turn on the temperature on worker-1", ErrorCode.BAD_ARGUMENTS, "it can be read, not switched"),
    ("turn on the fan on worker-1 for 0 minutes", ErrorCode.BAD_ARGUMENTS, "at most 7 days"),
    ("turn on the fan on worker-1 for 8 days", ErrorCode.BAD_ARGUMENTS, "at most 7 days"),
    ("把花园的开关调到40%", ErrorCode.BAD_ARGUMENTS, "不能调到 40%"),
    # Not there
    ("turn on the garden pump on worker-1", ErrorCode.NOT_UNDERSTOOD, "There is no garden pump on worker-1"),
    ("turn on the garden pump in the kitchen", ErrorCode.NOT_UNDERSTOOD, "There is: fan, lamp, button"),
    ("turn on the relay", ErrorCode.NOT_UNDERSTOOD, "There is no relay, so nothing was done. There is: fan,"),
    ("read the pressure", ErrorCode.NOT_UNDERSTOOD, "There is no pressure"),
    ("turn on the fan in the kitchen on worker-2", ErrorCode.NOT_UNDERSTOOD, "There is nothing in kitchen on worker-2"),
    # Not said
    ("turn the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, "whether to switch the fan on or off"),
    ("dim the lamp on worker-1", ErrorCode.NOT_UNDERSTOOD, "whether to switch the lamp on or off"),
    ("turn on worker-1", ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ("turn it off", ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ("turn on worker-1 and the fan", ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ("turn on the fan on worker-1 and worker-2 and the kitchen lamp", ErrorCode.NOT_UNDERSTOOD, "what is meant"),
    ("turn off the lamp on worker-1 at 40%", ErrorCode.NOT_UNDERSTOOD, "says two things at once"),
    ("turn on the lamp on worker-1 at 40% at 50%", ErrorCode.NOT_UNDERSTOOD, "says two things at once"),
    ("turn on the lamp on worker-1 for 5 minutes, for 10 minutes", ErrorCode.NOT_UNDERSTOOD, "two things at once"),
    ("else turn on the kitchen fan", ErrorCode.NOT_UNDERSTOOD, "There is no condition"),
    ("turn on the kitchen fan else the kitchen lamp", ErrorCode.NOT_UNDERSTOOD, "There is no condition"),
    ("if the soil moisture is above 5, else turn on the kitchen fan", ErrorCode.AMBIGUOUS, "what depends"),
    (
        "if the soil moisture is above 5, if the soil moisture is below 9, turn on the kitchen fan",
        ErrorCode.NOT_UNDERSTOOD,
        "Only one condition",
    ),
    # Not understood
    ("make me a coffee", ErrorCode.NOT_UNDERSTOOD, 'I do not understand "make me a coffee", so nothing was done.'),
    ("turn on the fan on worker-1 and make me a coffee", ErrorCode.NOT_UNDERSTOOD, '"make me a coffee"'),
    ("turn on the fan on worker-1 quickly and silently", ErrorCode.NOT_UNDERSTOOD, "quickly"),
    ('"turn on the fan on worker-1"', ErrorCode.NOT_UNDERSTOOD, "so nothing was done"),
    ("he said turn on the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, '"he said turn on the fan on worker 1"'),
    ("turn on the fan on worker-1 and", ErrorCode.NOT_UNDERSTOOD, "so nothing was done"),
    ("if the temperature on worker-1 is above 28", ErrorCode.AMBIGUOUS, "what depends"),
    (
        "if the temperature on worker-1 is above 28 and the humidity is below 40, turn on the kitchen fan",
        ErrorCode.NOT_UNDERSTOOD,
        '"the humidity is below 40"',
    ),
    ("if the temperature on worker-1 is above 82 °F, turn on the kitchen fan", ErrorCode.NOT_UNDERSTOOD, "82"),
    ("if the temperature on worker-1 is above 28 make coffee", ErrorCode.NOT_UNDERSTOOD, "make coffee"),
    ("the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, '"the fan on worker 1"'),
    ("status of worker-1 and the fan", ErrorCode.NOT_UNDERSTOOD, '"the fan"'),
    ("what can you do and the fan", ErrorCode.NOT_UNDERSTOOD, '"the fan"'),
    ("read the temperature on worker-1 for 10 minutes", ErrorCode.NOT_UNDERSTOOD, "10 minutes"),
    ("read the temperature on worker-1 and for 10 minutes", ErrorCode.NOT_UNDERSTOOD, "10 minutes"),
    ("turn on the fan on worker-1, then for 10 minutes", ErrorCode.NOT_UNDERSTOOD, "10 minutes"),
    ("worker-1", ErrorCode.NOT_UNDERSTOOD, "worker 1"),
    ("", ErrorCode.NOT_UNDERSTOOD, "There was nothing to understand"),
    ("?!.,", ErrorCode.NOT_UNDERSTOOD, "There was nothing to understand"),
    ("please", ErrorCode.NOT_UNDERSTOOD, "so nothing was done"),
    ("打开咖啡机", ErrorCode.NOT_UNDERSTOOD, "没听懂“打开咖啡机”"),
    # Negations
    ("don't turn on the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, 'a sentence with a negation ("don\'t") never'),
    ("do not turn on the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, "negation"),
    ("never turn on the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, "negation"),
    ("turn on the fan on worker-1 but not the lamp", ErrorCode.NOT_UNDERSTOOD, "negation"),
    ("turn off everything except the fan", ErrorCode.NOT_UNDERSTOOD, "negation"),
    ("别打开worker-1的风扇", ErrorCode.NOT_UNDERSTOOD, "否定（“别”）"),
    ("不要打开厨房的灯", ErrorCode.NOT_UNDERSTOOD, "否定"),
    ("请勿打开厨房的灯", ErrorCode.NOT_UNDERSTOOD, "否定"),
    # Questions
    ("turn on the fan on worker-1?", ErrorCode.NOT_UNDERSTOOD, "a question never switches anything"),
    ("is the fan on worker-1 on? turn off the kitchen lamp", ErrorCode.NOT_UNDERSTOOD, "a question never"),
    ("what is the temperature on worker-1, then turn on the kitchen fan", ErrorCode.NOT_UNDERSTOOD, "a question never"),
    ("should I turn on the fan on worker-1?", ErrorCode.NOT_UNDERSTOOD, "so nothing was done"),
    ("did you turn on the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, "so nothing was done"),
    ("why turn on the fan on worker-1", ErrorCode.NOT_UNDERSTOOD, "so nothing was done"),
    ("打开厨房的灯吗", ErrorCode.NOT_UNDERSTOOD, "什么也没有做"),
    ("应该打开厨房的灯吗", ErrorCode.NOT_UNDERSTOOD, "什么也没有做"),
    ("厨房的灯开着吗？打开厨房的灯", ErrorCode.NOT_UNDERSTOOD, "问句从不执行操作"),
]


@pytest.mark.parametrize(("sentence", "code", "says"), REFUSED)
def test_a_sentence_is_refused_in_words(engine: OfflineEngine, sentence: str, code: ErrorCode, says: str) -> None:
    """With its code, with what was the matter, and in the language of the sentence."""
    refused = refusal(engine.plan(sentence, HOUSE, known=KNOWN))

    assert (refused.code, says in refused.text) == (code, True), refused.text
    assert refused.language == ("zh-cn" if any("一" <= char <= "鿿" for char in sentence) else "en")


def test_a_strange_sentence_is_answered_with_the_nearest_ones(engine: OfflineEngine) -> None:
    """With the names that are really there; each of them works."""
    refused = refusal(engine.plan("turn on teh gardn pump on worker-3", HOUSE))

    assert refused.suggestions[0] == "turn on the garden pump on worker-3"
    assert len(refused.suggestions) == 3
    assert all(f"“{suggestion}”" in refused.text for suggestion in refused.suggestions)
    assert all(steps(engine.plan(suggestion, HOUSE)) for suggestion in refused.suggestions)
    assert "I can switch outputs" in refused.text


def test_a_long_strange_clause_is_not_repeated_whole(engine: OfflineEngine) -> None:
    """The refusal stays readable."""
    assert len(refusal(engine.plan("x" * 7000, HOUSE)).text) < 800


def test_without_a_mesh_there_is_still_an_answer(engine: OfflineEngine) -> None:
    """No node online: nothing can be named, and that is said."""
    assert "There are no devices" in refusal(engine.plan("turn on the fan", {})).text
    assert refusal(engine.plan("blah", {})).suggestions
    assert steps(engine.plan("mesh status", {})) == ["master mesh_status"]


@pytest.mark.parametrize(
    ("sentence", "code", "says"),
    [
        (
            "turn on the fan on worker-1",
            ErrorCode.NOT_UNDERSTOOD,
            "This request is for worker-2 only, and it names worker-1",
        ),
        ("status of worker-1", ErrorCode.NOT_UNDERSTOOD, "for worker-2 only"),
        ("list the devices on worker-1", ErrorCode.NOT_UNDERSTOOD, "for worker-2 only"),
        ("turn on the garden pump", ErrorCode.NOT_UNDERSTOOD, "There is no garden pump on worker-2"),
    ],
)
def test_a_pin_and_another_place_do_not_go_together(
    engine: OfflineEngine, sentence: str, code: ErrorCode, says: str
) -> None:
    """What is not on the pinned node is not done elsewhere."""
    refused = refusal(engine.plan(sentence, HOUSE, node="worker-2"))

    assert (refused.code, says in refused.text) == (code, True), refused.text


def test_a_pin_to_a_node_that_is_away_is_offline(engine: OfflineEngine) -> None:
    """Nothing is looked for elsewhere."""
    assert refusal(engine.plan("turn on the fan", HOUSE, node="worker-4")).code == ErrorCode.OFFLINE


def test_candidates_are_told_apart_by_what_differs() -> None:
    """By node, by name, by both, by room, and at last by id; of many, only some are listed."""
    engine = OfflineEngine()

    def asked(**cards: list[DeviceSpec]) -> str:
        mesh = {node: card(node, *devices) for node, devices in cards.items()}
        return refusal(engine.plan("turn on the light", mesh)).text

    def lamp(device: str, name: str, room: str = "") -> DeviceSpec:
        return DeviceSpec(device, "out", "lamp", name, room)

    assert asked(a=[lamp("l", "one")], b=[lamp("l", "one")]) == "Which light: a or b?"
    assert asked(a=[lamp("l", "one"), lamp("m", "two")]) == "Which light: one or two?"
    assert asked(a=[lamp("l", "one"), lamp("m", "two")], b=[lamp("l", "one")]).endswith("the two on a or the one on b?")
    assert "the one in the x on a or the one in the y on a" in asked(a=[lamp("l", "one", "x"), lamp("m", "one", "y")])
    assert asked(a=[lamp("l", "one"), lamp("m", "one")]) == "Which light: the l on a or the m on a?"
    assert asked(**{f"n{index}": [lamp("l", "one")] for index in range(14)}).endswith("n9 or 4 more?")


def test_names_that_are_there_are_listed_up_to_ten() -> None:
    """A node with many devices does not make a long refusal."""
    pumps = [DeviceSpec(f"p{index}", "out", "relay", f"pump {index}") for index in range(14)]

    assert refusal(OfflineEngine().plan("turn on the fan", {"a": card("a", *pumps)})).text.endswith("pump 9, 4 more.")


def test_a_plan_has_at_most_a_hundred_steps(engine: OfflineEngine) -> None:
    """More is refused, with both numbers."""
    mesh = {f"n{index}": card(f"n{index}", *SIMPLE) for index in range(51)}

    assert "That makes 102 steps, more than 100" in refusal(engine.plan("turn off everything", mesh)).text


# --- Nothing acts by mistake, and nothing makes it slow ---

WORDS = """
turn switch set on off the all every fan lamp garden pump everything it temperature read status list if else then and or
, . ? ! is are did should please can you could not don't never no above below 28 -5 40% to for 10 minutes in at worker-1
worker-2 worker-4 kitchen balcony everywhere degrees half an hour brightness what how hey pibot
打开 关闭 灯 风扇 厨房 的 如果 高于 度 就 否则 和 然后 ， 。 吗 别 不要 读取 温度 把 调到 在
""".split()  # noqa: SIM905 - each word in quotes would hide the words
SALAD = st.lists(st.sampled_from(WORDS), min_size=1, max_size=30).map(" ".join)
ORDERS = st.sampled_from(
    [
        "turn on the fan on worker-1",
        "turn off everything",
        "set the lamp on worker-1 to 40 %",
        "turn on the kitchen fan for 10 minutes",
    ]
)
ENGINE = OfflineEngine()


def acts(text: str) -> bool:
    """Whether *text* gives a plan that switches something."""
    outcome = ENGINE.plan(text, HOUSE, known=KNOWN)
    return isinstance(outcome, Plan) and any(step.tool == "output_set" for step in outcome.steps)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_gets_an_outcome(text: str) -> None:
    """Whatever is typed: a plan or a refusal, never an exception, and never an action."""
    assert not acts(text)


@given(SALAD)
@settings(max_examples=300, deadline=None)
def test_a_salad_of_words_gets_an_outcome(text: str) -> None:
    """Known words in any order raise nothing."""
    outcome = ENGINE.plan(text, HOUSE, known=KNOWN)

    assert outcome.steps if isinstance(outcome, Plan) else outcome.text


@given(SALAD, ORDERS, st.sampled_from(["not", "don't", "never", "no", "without", "isn't", "DON’T"]), st.data())
@settings(max_examples=200, deadline=None)
def test_a_negation_anywhere_never_acts(salad: str, order: str, negation: str, data: st.DataObject) -> None:
    """Wherever the word stands, in an order or in a salad of words."""
    for text in (salad, order, f"{order}, {order}"):
        words = text.split()
        words.insert(data.draw(st.integers(0, len(words))), negation)

        assert not acts(" ".join(words))


@given(st.sampled_from(["is", "are", "did", "does", "should", "why", "what", "when", "how", "have"]), SALAD, ORDERS)
@settings(max_examples=200, deadline=None)
def test_a_question_never_acts(start: str, salad: str, order: str) -> None:
    """What begins like a question and ends with its mark switches nothing, whatever is between."""
    for middle in (
        salad,
        order,
        f"it. {order}",
        f"the fan on worker-1 on? {order}",
        f"the fan on worker-1 on and {order}",
    ):
        assert not acts(f"{start} {middle}?")


@given(
    st.sampled_from(["打开厨房的灯", "关闭所有灯", "把厨房的灯调到40%"]),
    st.sampled_from(["别", "不要", "请勿", "没有", "不"]),
)
@settings(deadline=None)
def test_a_chinese_negation_never_acts(order: str, negation: str) -> None:
    """Before or after the order."""
    assert acts(order)
    assert not acts(negation + order)
    assert not acts(f"{order}，{negation}{order}")


@given(ORDERS, st.text(alphabet=string.ascii_lowercase + " ", min_size=3, max_size=20))
@settings(deadline=None)
def test_an_order_with_garbage_around_it_never_acts(order: str, garbage: str) -> None:
    """The whole clause must match; a word before or after it that is not known spoils it."""
    assert not acts(f"xq{garbage} {order}")
    assert not acts(f"{order} xq{garbage}")


def mesh(nodes: int) -> dict[str, NodeCard]:
    """A mesh with eight devices on each node, each with a name of its own."""
    names = ("lamp", "fan", "pump", "valve", "heater", "button", "climate")
    return {
        f"node-{node}": card(
            f"node-{node}",
            *(DeviceSpec(f"{name}-{node}", "out", "relay", f"{name} {node}") for name in names[:-1]),
            DeviceSpec("climate", "sensor", "climate", "climate", measures=CLIMATE),
            PUMP,
        )
        for node in range(nodes)
    }


def seconds(text: str, cards: dict[str, NodeCard]) -> float:
    """The shortest of several times for one text, after a first one that fills the caches."""
    ENGINE.plan(text, cards)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        ENGINE.plan(text, cards)
        times.append(time.perf_counter() - started)
    return min(times)


def test_a_larger_mesh_hardly_makes_a_sentence_slower() -> None:
    """Sixteen times the devices cost less than eight times the time: only names in the text are matched."""
    text = "turn on lamp 1 and read the temperature on node-2"

    assert seconds(text, mesh(64)) < 8 * max(seconds(text, mesh(4)), 0.001)


@pytest.mark.parametrize(
    "unit",
    [
        "and turn on the fan ",
        "turn on ",
        "the ",
        "if it is above 28 ",
        "打开灯和",
        "a",
        ",",
        "?",
        "-5 ",
        "ﷺ",
        "on in ",
        "please ",
        "can you please ",
        "n't ",
        "a, ",
    ],
)
def test_the_longest_text_takes_time_in_proportion(unit: str) -> None:
    """8,000 characters cost less than ten times what 2,000 cost (four are fair, sixteen would be a square)."""
    cards = mesh(4)
    short, long = ((unit * size)[:size] for size in (2000, 8000))

    assert seconds(long, cards) < 10 * max(seconds(short, cards), 0.01)
    refusal(ENGINE.plan(long, cards))


def test_many_clauses_are_read_in_proportion() -> None:
    """Forty clauses that need no neighbours take less than ten times what ten take."""
    cards = mesh(4)
    clauses = [f"turn on lamp {index % 4} for {index + 1} minutes" for index in range(40)]

    assert seconds(" and ".join(clauses), cards) < 10 * seconds(" and ".join(clauses[:10]), cards)
    assert len(steps(ENGINE.plan(" and ".join(clauses), cards))) == 40
    assert "more than 40 clauses" in refusal(ENGINE.plan(" and ".join([*clauses, *clauses]), cards)).text
