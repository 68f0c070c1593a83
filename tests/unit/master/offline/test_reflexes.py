"""Rules that are to hold from now on, said in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import (
    DeviceSpec,
    NodeCard,
    Output,
    Plan,
    ReflexSpec,
    State,
    StepResult,
    ToolSpec,
    WireError,
)
from tests.unit.master.offline.house import HOUSE, refusal, steps
from tests.unit.master.offline.talk import exchange

TOOLS = tuple(ToolSpec(name) for name in ("reflex_add", "reflex_remove", "reflex_list"))
BUTTON = DeviceSpec("button", "in", "button", "button", events=("pressed", "released", "held"))
DOOR = DeviceSpec("door", "in", "contact", "door", events=("opened", "closed"))
DIAL = DeviceSpec("dial", "in", "encoder", "dial", unit="steps")


def _with_reflexes(card: NodeCard, *reflexes: str) -> NodeCard:
    devices = (*(device for device in card.devices if device.id != "button"), BUTTON, DOOR, DIAL)
    specs = tuple(ReflexSpec(id_, "words", is_learned=True) for id_ in reflexes)
    return replace(card, tools=TOOLS, devices=devices, reflexes=specs)


HOME: Mapping[str, NodeCard] = {
    "worker-1": _with_reflexes(HOUSE["worker-1"], "cool", "porch-light"),
    "worker-2": _with_reflexes(HOUSE["worker-2"], "cool"),
    "worker-3": HOUSE["worker-3"],
}


def taught(engine: OfflineEngine, text: str) -> list[tuple[str | None, str | None, dict[str, JSON]]]:
    """The steps of the plan: node, tool and arguments."""
    plan = engine.plan(text, HOME)
    assert isinstance(plan, Plan), plan.text
    return [(step.node, step.tool, dict(step.args)) for step in plan.steps]


WARM = {"device": "climate", "measure": "temperature", "above": 28, "then_device": "fan", "then_value": "ON"}
RING = {"device": "button", "event": "pressed", "then_device": "lamp", "then_value": "ON"}
OPEN = {"device": "door", "state": "ON", "then_device": "lamp", "then_value": 40}
SEEN = {"device": "motion", "state": "ON", "then_device": "lamp", "then_value": "ON"}


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("whenever the temperature on worker-1 is above 28 turn on the fan on worker-1", WARM),
        ("when the kitchen temperature rises above 28 °C, turn on the kitchen fan", WARM),
        ("turn on the fan in the kitchen whenever the temperature in the kitchen is over 28 degrees", WARM),
        ("every time the temperature on worker-1 exceeds 28 then switch the fan on worker-1 on", WARM),
        ("could you turn on the kitchen fan whenever the kitchen temperature is above 28?", WARM),
        (
            "whenever the temperature on worker-1 is above 28, turn on the fan on worker-1, else turn it off",
            {**WARM, "else_value": "OFF"},
        ),
        (
            "whenever the kitchen temperature is above 28 for 5 minutes, turn on the kitchen fan for half an hour",
            {**WARM, "for_s": 300, "then_for_s": 1800},
        ),
        (
            "when the temperature on worker-1 falls below minus 3, turn off the fan on worker-1",
            {"device": "climate", "measure": "temperature", "below": -3, "then_device": "fan", "then_value": "OFF"},
        ),
        (
            "whenever the dial on worker-1 is above 3, set the lamp on worker-1 to 40 %",
            {"device": "dial", "above": 3, "then_device": "lamp", "then_value": 40},
        ),
        ("whenever the button on worker-1 is pressed, turn on the lamp on worker-1", RING),
        ("turn on the lamp on worker-1 whenever the button on worker-1 is pushed", RING),
        (
            "each time the button on worker-1 is held down, turn on the lamp on worker-1 for 10 seconds",
            {**RING, "event": "held", "then_for_s": 10},
        ),
        (
            "whenever the door on worker-1 is open, set the lamp on worker-1 to 40 %, otherwise turn it off",
            {**OPEN, "else_value": "OFF"},
        ),
        ("whenever the door on worker-1 is open for a minute set the lamp on worker-1 to 40 %", {**OPEN, "for_s": 60}),
        (
            "whenever the door on worker-1 is closed, turn on the lamp on worker-1",
            {**SEEN, "device": "door", "state": "OFF"},
        ),
        (
            "whenever the door on worker-1 opens, turn on the lamp on worker-1",
            {**RING, "device": "door", "event": "opened"},
        ),
        ("whenever there is motion in the kitchen, turn on the kitchen lamp", SEEN),
        ("每当worker-1的温度高于28度，就打开worker-1的风扇", WARM),
        ("每当厨房的温度超过28度持续5分钟，就打开厨房的风扇，否则关闭它", {**WARM, "for_s": 300, "else_value": "OFF"}),
        ("每次worker-1的按钮被按下，就打开worker-1的灯", RING),
        ("只要worker-1有动静，就打开worker-1的灯", SEEN),
    ],
)
def test_a_rule_is_taught_to_its_node(engine: OfflineEngine, text: str, args: Mapping[str, JSON]) -> None:
    """As one call, in which the node is told all of it."""
    assert taught(engine, text) == [("worker-1", "reflex_add", args)]


def test_each_output_has_a_rule_of_its_own(engine: OfflineEngine) -> None:
    """And what is "else" about one belongs to that."""
    text = (
        "whenever the temperature on worker-1 is above 28, turn on the fan and the lamp on worker-1, else turn them off"
    )

    assert [args["then_device"] for _, _, args in taught(engine, text)] == ["fan", "lamp"]
    assert [args["else_value"] for _, _, args in taught(engine, text)] == ["OFF", "OFF"]


def test_what_holds_once_stays_as_it_was(engine: OfflineEngine) -> None:
    """ "If" looks now and acts once."""
    text = "read the temperature on worker-1 and, if it is above 28, turn on the fan on worker-1"

    assert steps(engine.plan(text, HOME)) == [
        "worker-1 sensor_read climate temperature",
        "worker-1 fan = ON if s1.values.temperature above 28",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "whenever the temperature on the balcony is above 28, turn on the fan in the kitchen",
            "the climate on worker-2 and the fan on worker-1 are on two",
        ),
        ("whenever the temperature is above 28, turn on the fan on worker-1", "Which temperature: worker-1, worker-2"),
        ("whenever the temperature on worker-1 is above 28, read the humidity on worker-1", "only outputs can be set"),
        ("whenever the temperature on worker-1 is above 28", "It is not clear what depends on"),
        ("whenever the temperature on worker-1 is at least 28, turn on the fan on worker-1", "I do not understand"),
        ("whenever the button on worker-1 is above 28, turn on the fan on worker-1", "which reading"),
        ("whenever all sensors on worker-1 are above 28, turn on the fan on worker-1", "which reading"),
        ("whenever it is above 28, turn on the fan on worker-1", "which reading"),
        ("whenever the button on worker-1 is opened, turn on the fan on worker-1", "is nothing that the button on"),
        ("whenever the fan on worker-1 is on, turn on the lamp on worker-1", "is nothing that the fan on"),
        ("whenever the dial on worker-1 is on, turn on the lamp on worker-1", "is nothing that the dial on"),
        ("whenever the button on worker-1 is pressed for 5 minutes, turn on the fan on worker-1", "is nothing that"),
        (
            "whenever the kitchen temperature is above 28, turn on the kitchen fan, else turn on the kitchen lamp",
            "can only be about the output that was named before it",
        ),
        (
            "whenever the kitchen temperature is above 28, turn on the kitchen fan, else turn it on for 5 minutes",
            "and not for a time",
        ),
        ("whenever the temperature on worker-3 is above 28, turn on the fan on worker-3", "worker-3 keeps no reflexes"),
        ("never turn on the fan on worker-1 whenever the temperature on worker-1 is above 28", "a negation"),
        ("whenever the temperature on worker-1 is above 28, turn on the fan on worker-1?", "a question never switches"),
        ("when is the fan on worker-1 on", "I do not understand"),
        ("do not remove the reflex porch-light", "a negation"),
        ("remove the reflex cool", "Which cool: worker-1 or worker-2?"),
        ("remove the reflex porch-light on worker-2", "There is no reflex porch-light on worker-2"),
        ("remove the reflex warm", "I do not understand"),
        ("list the reflexes on worker-3", "worker-3 keeps no reflexes"),
        ("每当阳台的温度高于28度，就打开厨房的风扇", "在两个节点上"),
        ("不要删除worker-1的规则cool", "否定"),
    ],
)
def test_what_no_node_could_keep_is_refused(engine: OfflineEngine, text: str, says: str) -> None:
    """Nothing is guessed, and nothing is taught."""
    assert says in refusal(engine.plan(text, HOME)).text


def test_rules_are_listed(engine: OfflineEngine) -> None:
    """Of every node that keeps some, or of one."""
    everywhere: list[tuple[str | None, str | None, dict[str, JSON]]]
    everywhere = [("worker-1", "reflex_list", {}), ("worker-2", "reflex_list", {})]

    assert taught(engine, "list the reflexes") == everywhere
    assert taught(engine, "which rules are there") == everywhere
    assert taught(engine, "what rules does the balcony have") == everywhere[1:]
    assert taught(engine, "worker-1有哪些规则") == everywhere[:1]
    assert refusal(engine.plan("list the reflexes", HOUSE)).text == "No node that is online keeps reflexes."


def test_a_rule_is_removed_where_it_is(engine: OfflineEngine) -> None:
    """By its id; with its node where several have it."""
    assert taught(engine, "remove the reflex porch-light") == [("worker-1", "reflex_remove", {"id": "porch-light"})]
    assert taught(engine, "forget the cool rule on worker-2") == [("worker-2", "reflex_remove", {"id": "cool"})]
    assert taught(engine, "删除worker-1的规则cool") == [("worker-1", "reflex_remove", {"id": "cool"})]
    assert taught(engine, "delete the rule cool in the kitchen") == [("worker-1", "reflex_remove", {"id": "cool"})]


def test_a_rule_goes_on_from_what_was_read(engine: OfflineEngine) -> None:
    """ "It" is that temperature, and what was taught is not what "it" is next."""
    text = "read the temperature on worker-1"
    said = [exchange(text, engine.plan(text, HOME))]
    rule = engine.plan("whenever it is above 28, turn on the fan there", HOME, conversation=said)
    assert isinstance(rule, Plan)
    assert dict(rule.steps[0].args) == WARM
    said.append(exchange("…", rule))

    again = engine.plan("and the humidity?", HOME, conversation=said)

    assert steps(again) == ["worker-1 sensor_read climate humidity"]


def test_a_place_that_may_be_two_is_none(engine: OfflineEngine) -> None:
    """A rule looks at one sensor."""
    text = "turn on the fan on worker-1 and worker-2"
    said = [exchange(text, engine.plan(text, HOME))]

    plan = engine.plan("whenever the temperature there is above 28, turn on the kitchen fan", HOME, conversation=said)

    assert "which reading" in refusal(plan).text


def answer(engine: OfflineEngine, text: str, data: JSON, error: WireError | None = None) -> str:
    """What is said of the one step of the plan for *text*, where it gave *data* or an error."""
    plan = engine.plan(text, HOME)
    assert isinstance(plan, Plan)
    state = State.FAILED if error else State.COMPLETED
    return engine.answer(plan, [StepResult("s1", state, "worker-1", output=Output("…", data), error=error)])


def test_what_was_taught_is_said_as_the_node_says_it(engine: OfflineEngine) -> None:
    """In the request's language as far as that goes."""
    teach = "whenever the temperature on worker-1 is above 28, turn on the fan on worker-1"
    data = {"id": "cool", "says": "when it is so: fan on"}

    assert answer(engine, teach, data) == "worker-1: from now on it keeps the reflex cool: when it is so: fan on."
    assert answer(engine, "删除worker-1的规则cool", data) == "worker-1：规则 cool 已删除，输出保持原样。"
    assert answer(engine, teach, None, WireError(ErrorCode.DENIED, "not approved")) == (
        "worker-1: the reflex was not kept: not approved."
    )


def test_a_list_says_which_are_off(engine: OfflineEngine) -> None:
    """And that there are none."""
    reflexes = [{"id": "a", "says": "words", "is_on": True}, {"id": "b", "says": "more", "is_on": False}]
    text = "list the rules on worker-1"

    assert (
        answer(engine, text, {"reflexes": reflexes}) == "worker-1: it keeps these reflexes: a (words), b (off; more)."
    )
    assert answer(engine, text, {"reflexes": []}) == "worker-1: it keeps no reflexes."
    assert answer(engine, text, None, WireError("timeout", "no answer")) == (
        "worker-1: its reflexes could not be read: no answer."
    )
