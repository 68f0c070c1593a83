"""A mesh of three nodes, and steps as lines of text, for the offline engine's tests."""

from __future__ import annotations

from collections.abc import Mapping

from pibot_mesh.master.offline import Refusal
from pibot_mesh.protocol.messages import DeviceSpec, Measure, NodeCard, Plan, Step

CLIMATE = {"temperature": Measure("°C", "temperature"), "humidity": Measure("%", "humidity")}
SIMPLE = (
    DeviceSpec("fan", "out", "fan", "fan", dimmable=True),
    DeviceSpec("lamp", "out", "lamp", "lamp", dimmable=True),
    DeviceSpec("button", "in", "button", "button"),
    DeviceSpec("motion", "in", "motion", "motion sensor"),
    DeviceSpec("climate", "sensor", "climate", "climate", measures=CLIMATE),
)
PUMP = DeviceSpec("garden_pump", "out", "switch", "garden pump", room="garden")
SOIL = DeviceSpec("soil", "sensor", "soil", "soil probe", room="garden", measures={"soil_moisture": Measure("%")})


def card(node: str, *devices: DeviceSpec, labels: tuple[str, ...] = ()) -> NodeCard:
    """A card with nothing on it that the engine does not read."""
    return NodeCard(node, boot="b", version="1", labels=labels, devices=devices)


HOUSE: Mapping[str, NodeCard] = {
    "worker-1": card("worker-1", *SIMPLE, labels=("kitchen",)),
    "worker-2": card("worker-2", *SIMPLE, labels=("balcony", "upstairs")),
    "worker-3": card("worker-3", *SIMPLE, PUMP, SOIL, labels=("garage",)),
}
KNOWN = ("worker-1", "worker-2", "worker-3", "worker-4")


def show(step: Step) -> str:
    """A step as one line: ``worker-1 fan = ON for 600 after s1 if s1.values.temperature above 28``."""
    args = dict(step.args)
    device, value, for_s = args.pop("device", None), args.pop("value", None), args.pop("for_s", None)
    what = f"{device} = {value}" if step.tool == "output_set" else f"{step.tool} {device}" if device else f"{step.tool}"
    parts = [f"{step.node} {what}", *(str(args[name]) for name in args)]
    if for_s is not None:
        parts.append(f"for {for_s}")
    if step.after:
        parts.append(f"after {','.join(step.after)}")
    if step.when is not None:
        parts.append(f"if {step.when.ref} {step.when.op} {step.when.value}")
    return " ".join(parts)


def steps(outcome: Plan | Refusal) -> list[str]:
    """The steps of a plan, each as one line; fails with the refusal's text where there is no plan."""
    assert isinstance(outcome, Plan), outcome.text
    assert [step.id for step in outcome.steps] == [f"s{index}" for index in range(1, len(outcome.steps) + 1)]
    return [show(step) for step in outcome.steps]


def refusal(outcome: Plan | Refusal) -> Refusal:
    """The refusal; fails with the steps where there is a plan."""
    assert isinstance(outcome, Refusal), steps(outcome)
    return outcome
