"""The tools for what a node does by itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, Measure, Output, ReflexSpec
from pibot_mesh.skills.reflexes import reflex_tools

CLIMATE = DeviceSpec(
    "climate", "sensor", "climate", "climate", measures={"temperature": Measure("°C"), "humidity": Measure("%")}
)
BUTTON = DeviceSpec("button", "in", "button", "button", room="hall", events=("pressed", "released"))
FAN = DeviceSpec("fan", "out", "fan", "fan", dimmable=True)
CHIME = DeviceSpec("chime", "out", "switch", "chime")
STRIP = DeviceSpec("strip", "out", "rgb", "strip", color=True)


class Kept:
    """Reflexes that are kept in memory, whatever they say."""

    def __init__(self) -> None:
        self.reflexes: dict[str, ReflexSettings] = {}

    def specs(self) -> tuple[ReflexSpec, ...]:
        return tuple(ReflexSpec(id_, f"words of {id_}", True) for id_ in self.reflexes)

    def states(self) -> Mapping[str, bool]:
        return {id_: reflex.is_on for id_, reflex in self.reflexes.items()}

    def learned(self) -> Mapping[str, ReflexSettings]:
        return self.reflexes

    async def learn(self, reflex: ReflexSettings) -> ReflexSpec:
        self.reflexes[reflex.id] = reflex
        return self.specs()[-1]

    async def forget(self, id_: str) -> None:
        if self.reflexes.pop(id_, None) is None:
            raise ToolError(f"no {id_}", code=ErrorCode.BAD_ARGUMENTS)


class Node:
    """A node's tools, and what it has learned by them."""

    def __init__(self, *devices: DeviceSpec) -> None:
        self.kept = Kept()
        self.tools = ToolRegistry(reflex_tools(self.kept, devices or (CLIMATE, BUTTON, FAN, CHIME, STRIP)))

    async def call(self, name: str, **args: JSON) -> Output:
        return await self.tools.call(name, args)

    async def learn(self, **args: JSON) -> ReflexSettings:
        output = await self.call("reflex_add", **args)
        return self.kept.reflexes[output.data["id"]]


async def test_a_rule_is_learned_from_flat_arguments() -> None:
    """All of them; the answer says it as the node does."""
    node = Node()
    args = {
        "id": "cool",
        "device": "climate",
        "measure": "temperature",
        "above": 28,
        "hysteresis": 1,
        "for_s": 60,
        "then_device": "fan",
        "then_value": "ON",
        "then_for_s": 600,
        "else_value": 20,
    }

    output = await node.call("reflex_add", **args)

    assert output.text == "the reflex cool is kept from now on: words of cool"
    assert output.data == {"id": "cool", "says": "words of cool"}
    when = Condition("climate", "temperature", above=28, hysteresis=1, for_s=60)
    assert node.kept.reflexes["cool"] == ReflexSettings(
        "cool", when, (Action("fan", True, 600),), (Action("fan", 20.0),)
    )


async def test_events_and_states_are_said_in_words() -> None:
    """And values as states are written elsewhere."""
    node = Node()

    ring = await node.learn(device="button", event="pressed", then_device="chime", then_value="ON", then_for_s=0.5)
    shut = await node.learn(device="button", state="OFF", then_device="strip", then_value="#FF8800")
    cold = await node.learn(device="climate", measure="humidity", below=40, then_device="fan", then_value=0)

    assert (ring.when, ring.then) == (Condition("button", event="pressed"), (Action("chime", True, 0.5),))
    assert (shut.when, shut.then) == (Condition("button", state=False), (Action("strip", "#ff8800"),))
    assert (cold.when, cold.then) == (Condition("climate", "humidity", below=40), (Action("fan", 0.0),))


async def test_a_rule_without_a_name_gets_one_of_its_own() -> None:
    """That fits a topic, however long the devices' names are."""
    long = DeviceSpec("a-sensor-with-a-very-long-name", "in", "button", "x")
    node = Node(long, CHIME)

    names = [(await node.learn(device=long.id, state="ON", then_device="chime", then_value="ON")).id for _ in range(3)]

    assert names == [
        "a-sensor-with-a-very-long-name-c",
        "a-sensor-with-a-very-long-name-2",
        "a-sensor-with-a-very-long-name-3",
    ]


async def test_rules_are_listed_with_whether_they_are_on() -> None:
    """And it is said where there are none."""
    node = Node()
    assert (await node.call("reflex_list")).text == "this node has no reflexes"
    when, then = Condition("button", state=True), (Action("fan", True),)
    node.kept.reflexes = {"a": ReflexSettings("a", when, then), "b": ReflexSettings("b", when, then, is_on=False)}

    output = await node.call("reflex_list")

    assert output.text == "a: words of a\nb (off): words of b"
    assert output.data["reflexes"][1] == {"id": "b", "says": "words of b", "is_learned": True, "is_on": False}


async def test_a_rule_is_removed() -> None:
    """One that is not there is refused by the node, in its words."""
    node = Node()
    await node.learn(id="cool", device="climate", measure="humidity", above=1, then_device="fan", then_value="ON")

    assert (await node.call("reflex_remove", id="cool")).text == "the reflex cool is gone; the outputs are as they were"

    with pytest.raises(ToolError, match="no cool"):
        await node.call("reflex_remove", id="cool")


def settled(node: Node, name: str, **args: JSON) -> Settled:
    """What is found, after a restart, of a call that was cut off."""
    settle = node.tools[name].settle
    assert settle is not None
    found = settle(args)
    assert found is not None
    return found


async def test_a_rule_whose_call_was_cut_off_is_looked_for() -> None:
    """The very rule: with its id where it was named, and under any where not."""
    node = Node()
    args: Mapping[str, JSON] = {"device": "button", "state": "ON", "then_device": "fan", "then_value": "ON"}
    await node.learn(id="other", **{**args, "else_value": "OFF"})
    assert settled(node, "reflex_add", **args) == Settled(Output("no such reflex is kept", {}))

    kept = await node.learn(**args)

    found = settled(node, "reflex_add", **args)
    assert found.is_done
    assert found.output.text == f"the reflex {kept.id} is kept: words of {kept.id}"
    assert settled(node, "reflex_add", id=kept.id, **args).is_done
    assert not settled(node, "reflex_add", id="mine", **args).is_done


async def test_a_removal_that_was_cut_off_is_looked_for() -> None:
    """What is gone is gone, whoever removed it."""
    node = Node()
    kept = await node.learn(device="button", state="ON", then_device="fan", then_value="ON")

    assert settled(node, "reflex_remove", id=kept.id) == Settled(
        Output(f"the reflex {kept.id} is still kept", {"id": kept.id})
    )
    assert settled(node, "reflex_remove", id="cool") == Settled(
        Output("the reflex cool is gone", {"id": "cool"}), is_done=True
    )


def test_a_person_approves_each_change() -> None:
    """A model cannot teach a node anything by itself; and the emergency stop holds for it."""
    specs = {spec.name: spec for spec in Node().tools.specs()}

    assert {name: (spec.effect, spec.approval, spec.safe_to_retry) for name, spec in specs.items()} == {
        "reflex_list": ("read", "auto", True),
        "reflex_add": ("actuate", "ask", False),
        "reflex_remove": ("write", "ask", False),
    }


@pytest.mark.parametrize(
    "args",
    [
        {"device": "attic"},
        {"then_device": "climate"},
        {"then_value": "on"},
        {"then_value": 140},
        {"measure": "pressure"},
        {"event": "held"},
        {"state": "open"},
        {"for_s": -1},
        {"hysteresis": -1},
        {"then_for_s": 0},
        {"id": "Not An Id"},
        {"else_value": "#ff"},
        {"why": "because"},
    ],
)
def test_arguments_that_no_rule_can_have_do_not_fit(args: Mapping[str, JSON]) -> None:
    """By the schema already, that a model sees."""
    whole = {"device": "climate", "above": 1, "then_device": "fan", "then_value": "ON", **args}

    assert Node().tools.violations("reflex_add", whole)


def test_the_schema_says_what_this_node_has() -> None:
    """Only devices, quantities, events and values that there are."""
    [schema] = [spec.parameters for spec in Node(BUTTON, CHIME).tools.specs() if spec.name == "reflex_add"]
    properties = schema["properties"]

    assert properties["device"]["description"] == "The sensor or input that the rule is about: button (button in hall)."
    assert "measure" not in properties
    assert properties["event"]["enum"] == ["pressed", "released"]
    assert properties["then_value"]["description"] == "What it is set to when the rule comes to hold: ON, OFF."
    assert "event" not in Node(CLIMATE, CHIME).tools["reflex_add"].spec.parameters["properties"]


@pytest.mark.parametrize("devices", [(CLIMATE,), (FAN,)])
def test_a_node_that_can_have_no_rule_has_no_tools(devices: tuple[DeviceSpec, ...]) -> None:
    """Nothing to look at, or nothing to set."""
    assert reflex_tools(Kept(), devices) == []
