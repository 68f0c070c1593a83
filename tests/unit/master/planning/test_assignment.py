"""Each kind of work goes where the rules say, and what has no place is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pibot_mesh.master.planning.assignment import Mesh, assign
from pibot_mesh.master.planning.plan_tool import Draft, DraftStep
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.messages import Condition, NodeCard, Step, ToolSpec
from tests.unit.master.planning.meshes import CARDS, OWN

MESH = Mesh(CARDS, OWN)


def placed(step: DraftStep, mesh: Mesh = MESH) -> tuple[Step, list[str]]:
    """*step* among others, so that it is no simple plan."""
    other = DraftStep("s9", "query", tool="mesh_status")
    plan, problems = assign(Draft("moderate", "en", (step, other)), mesh, "do it")
    return plan.steps[0], problems


@pytest.mark.parametrize(
    ("step", "node"),
    [
        (DraftStep("s1", "files", tool="file_write"), MASTER),
        (DraftStep("s1", "query", tool="mesh_status"), MASTER),
        (DraftStep("s1", "query", instruction="What do you know of it?"), MASTER),
        (DraftStep("s1", "system", tool="system_status"), MASTER),
        (DraftStep("s1", "device", tool="output_set", args={"device": "fan"}), "kitchen"),
        (DraftStep("s1", "device", tool="output_set", args={"device": "lamp"}, labels=("backup",)), "attic"),
        (DraftStep("s1", "query", tool="sensor_read", args={"device": "climate"}, labels=("balcony",)), "balcony"),
        (DraftStep("s1", "compute", tool="output_set", args={"device": "heater"}), "attic"),
        (DraftStep("s1", "device", tool="sensor_read_all"), None),
        (DraftStep("s1", "device", instruction="Air the room.", labels=("kitchen",)), None),
        (DraftStep("s1", "network", tool="download"), None),
        (DraftStep("s1", "compute", tool="crunch"), None),
        (DraftStep("s1", "code", tool="shell_exec"), None),
        (DraftStep("s1", "code", instruction="Try the script.", tools=("shell_exec",)), None),
    ],
)
def test_work_goes_where_its_rule_says(step: DraftStep, node: str | None) -> None:
    """To the master, to the node that has the device, or wherever the load is least at that moment."""
    found, problems = placed(step)

    assert (found.node, problems) == (node, [])
    assert found.labels == (step.labels if node is None else ())


@pytest.mark.parametrize("work", ["files", "query", "system", "network", "device", "compute", "code"])
def test_a_node_that_is_named_on_purpose_is_taken(work: str) -> None:
    """Whatever the rule; whether it can, the check of the plan says."""
    found, problems = placed(DraftStep("s1", work, "garage", tool="system_status"))  # type: ignore[arg-type]

    assert (found.node, problems) == ("garage", [])


@pytest.mark.parametrize(
    ("step", "node"),
    [
        (DraftStep("s1", "files", tool="crunch"), None),
        (DraftStep("s1", "query", MASTER, tool="crunch"), None),
        (DraftStep("s1", "files", tool="file_list", labels=("strong",)), None),
        (DraftStep("s1", "network", tool="mesh_status"), MASTER),
        (DraftStep("s1", "compute", tool="mesh_status"), MASTER),
        (DraftStep("s1", "code", instruction="Ask around.", tools=("delegate",)), MASTER),
        (DraftStep("s1", "device", tool="mesh_list"), MASTER),
        (DraftStep("s1", "network", MASTER, tool="file_list"), MASTER),
        (DraftStep("s1", "compute", tool="fly"), None),
    ],
)
def test_a_step_goes_to_where_its_tools_are(step: DraftStep, node: str | None) -> None:
    """Where the rule leads elsewhere: from the master to the nodes, and the other way round."""
    found, problems = placed(step)

    assert (found.node, problems) == (node, [])


def test_the_master_computes_where_no_node_can() -> None:
    """All nodes may be away."""
    alone = Mesh({}, replace(OWN, tools=(*OWN.tools, ToolSpec("crunch"))))

    assert placed(DraftStep("s1", "compute", tool="crunch"), alone)[0].node == MASTER


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (
            DraftStep("s1", "device", tool="output_set", args={"device": "lamp"}),
            "step s1: the device 'lamp' is on garage, attic: name the node that is meant, or ask_back",
        ),
        (
            DraftStep("s1", "device", tool="output_set", args={"device": "sprinkler"}),
            "step s1: no node that is online has a device 'sprinkler' for output_set",
        ),
        (
            DraftStep("s1", "device", tool="output_set", args={"device": {"$ref": "s0.device"}}),
            "step s1: its device is a reference, so the node must be named",
        ),
    ],
)
def test_a_device_that_is_not_clear_is_told(step: DraftStep, problem: str) -> None:
    """Nothing is guessed: a wrong relay is worse than a question."""
    found, problems = placed(step)

    assert (found.node, problems) == (None, [problem])


def test_a_device_by_reference_is_found_where_only_one_node_can() -> None:
    """There is nothing to confuse it with."""
    mesh = Mesh({"kitchen": CARDS["kitchen"]}, OWN)
    step = DraftStep("s1", "device", tool="output_set", args={"device": {"$ref": "s0.device"}})

    assert placed(step, mesh)[0].node == "kitchen"


@pytest.mark.parametrize("parameters", [{}, {"properties": {"device": {"type": "string"}}}, {"properties": 7}])
def test_a_tool_with_a_device_of_its_own_meaning_is_left_open(parameters: dict[str, object]) -> None:
    """Only tools that list their node's devices are known to have no others."""
    camera = NodeCard("porch", "b", "1", tools=(ToolSpec("snap", parameters=parameters),))
    step = DraftStep("s1", "device", tool="snap", args={"device": "/dev/video0"})

    assert placed(step, Mesh({"porch": camera}, OWN)) == (
        Step("s1", tool="snap", args={"device": "/dev/video0"}),
        [],
    )


@pytest.mark.parametrize(
    ("step", "node"),
    [
        (DraftStep("s1", "files", tool="file_list"), "garage"),
        (DraftStep("s1", "network", tool="download"), "garage"),
        (DraftStep("s1", "device", tool="output_set", args={"device": "lamp"}), "garage"),
        (DraftStep("s1", "query", tool="mesh_status"), MASTER),
        (DraftStep("s1", "device", tool="fly"), "garage"),
    ],
)
def test_a_pinned_request_stays_on_its_node(step: DraftStep, node: str) -> None:
    """What the node cannot do, the master does."""
    assert placed(step, Mesh(CARDS, OWN, "garage")) == (replace(placed(step)[0], node=node, labels=()), [])


def test_a_simple_instruction_is_the_masters_own_with_the_requests_words() -> None:
    """With all of the master's tools, whatever the model made of it."""
    step = DraftStep("s1", "network", instruction="Find out the weather.", tools=("download",), timeout_s=40)

    plan, problems = assign(Draft("simple", "en", (step,)), MESH, "how will it be tomorrow?")

    assert problems == []
    assert plan.complexity == "simple"
    assert plan.steps == (Step("s1", "agent", MASTER, instruction="how will it be tomorrow?", timeout_s=40),)


def test_in_a_conversation_the_master_is_told_what_is_meant() -> None:
    """The request's own words do not stand alone there."""
    step = DraftStep("s1", "query", instruction="Turn off the kitchen fan.")

    plan, _ = assign(Draft("simple", "en", (step,)), MESH, "and off again", is_going_on=True)

    assert plan.steps[0].instruction == (
        "and off again\n(What is meant, from the conversation before: Turn off the kitchen fan.)"
    )


@pytest.mark.parametrize(
    ("step", "pin", "node"),
    [
        (DraftStep("s1", "query", "garage", instruction="Think."), None, "garage"),
        (DraftStep("s1", "query", instruction="Think.", labels=("strong",)), None, None),
        (DraftStep("s1", "query", instruction="Think."), "attic", "attic"),
    ],
)
def test_a_simple_instruction_for_somebody_else_stays_so(step: DraftStep, pin: str | None, node: str | None) -> None:
    """A node, labels or a pinned request are on purpose."""
    plan, _ = assign(Draft("simple", "en", (step,)), Mesh(CARDS, OWN, pin), "think")

    assert (plan.steps[0].node, plan.steps[0].instruction) == (node, "Think.")


@pytest.mark.parametrize(
    ("second", "complexity"),
    [
        (DraftStep("s2", "query", tool="mesh_list"), "moderate"),
        (DraftStep("s2", "files", tool="file_write", args={"text": {"$ref": "s1.text"}}), "complex"),
        (DraftStep("s2", "query", tool="mesh_list", when=Condition("s1.x", "above", 1)), "complex"),
    ],
)
def test_several_steps_are_not_simple(second: DraftStep, complexity: str) -> None:
    """A label is no reason to ask the model again."""
    first = DraftStep("s1", "query", tool="mesh_status")

    plan, _ = assign(Draft("simple", "en", (first, second)), MESH, "look")

    assert plan.complexity == complexity
