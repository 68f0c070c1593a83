"""Plans are checked against the live cards, and references and conditions mean what they say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pibot_mesh.errors import PlanError
from pibot_mesh.master import plans
from pibot_mesh.master.plans import argument_problems, check_plan, describe, holds, look_up, needs, resolve, task_id
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition, NodeCard, Plan, Step, ToolSpec

NUMBER = {"type": "object", "properties": {"value": {"type": "number"}}, "required": ["value"]}
CARDS = {
    "n1": NodeCard("n1", "b", "1", labels=("attic",), tools=(ToolSpec("read"), ToolSpec("set", parameters=NUMBER))),
    "n2": NodeCard("n2", "b", "1", tools=(ToolSpec("set"), ToolSpec("dance"))),
    "n3": NodeCard("n3", "b", "1", labels=("cellar",), tools=(ToolSpec("read"), ToolSpec("sing")), agent=True),
    MASTER: NodeCard(MASTER, "b", "1", tools=(ToolSpec("mesh_status"),)),
}


def problems(*steps: Step) -> tuple[str, ...]:
    try:
        check_plan(Plan("offline", steps), CARDS)
    except PlanError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    "steps",
    [
        [Step("s1", tool="read", node="n1")],
        [Step("s1", tool="read"), Step("s2", tool="set", args={"value": {"$ref": "s1.value"}}, after=("s1",))],
        [Step("s1", tool="mesh_status", node=MASTER)],
        [Step("s1", tool="read", labels=("attic", "n1"))],
        [Step("s1", "agent", instruction="look around")],
        [Step("s1", "agent", node="n3", instruction="look around", tools=("read",))],
        [Step("s1", "agent", instruction="look around", tools=("read", "sing"), labels=("cellar",))],
        [Step("s1", tool="set", args={"value": "any node may take it: n2's schema does"})],
    ],
)
def test_a_plan_that_fits_passes(steps: list[Step]) -> None:
    """Names, tools, order and arguments are all right."""
    assert problems(*steps) == ()


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([Step("s1", tool="read", node="n9")], "step s1: there is no node 'n9' online (online: n1, n2, n3, master)"),
        ([Step("s1", tool="fly", node="n1")], "step s1: there is no tool 'fly' on n1"),
        ([Step("s1", tool="fly")], "step s1: there is no tool 'fly' on any node"),
        ([Step("s1", tool="dance", labels=("attic",))], "step s1: there is no tool 'dance' on any node labelled attic"),
        ([Step("s1", tool="mesh_status")], "step s1: there is no tool 'mesh_status' on any node"),
        (
            [Step("s1", "agent", node="n1", instruction="look")],
            "step s1: an instruction cannot be given to n1: no agent is there, only tools",
        ),
        (
            [Step("s1", "agent", labels=("attic",), instruction="look")],
            "step s1: an instruction cannot be given to any node labelled attic: no agent is there, only tools",
        ),
        (
            [Step("s1", "agent", node=MASTER, instruction="look")],
            "step s1: an instruction cannot be given to master: no agent is there, only tools",
        ),
        (
            [Step("s1", "agent", instruction="dance", tools=("read", "dance"))],
            "step s1: there is no tool 'dance' for the agent on any node",
        ),
        ([Step("s1", tool="set", node="n1")], "step s1: 'value' is a required property"),
        (
            [Step("s1", tool="set", node="n1", args={"value": "x"})],
            "step s1: value: 'x' is not of type 'number'",
        ),
        ([Step("s1", tool="read", after=("s2",))], "step s1: it needs s2, which is no step before it"),
        ([Step("s1", tool="read", args={"a": [{"$ref": "s7.x"}]})], "step s1: it needs s7, which is no step before it"),
        (
            [Step("s1", tool="read", when=Condition("s1.x", "above", 1))],
            "step s1: it needs s1, which is no step before it",
        ),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_in_words(steps: list[Step], problem: str) -> None:
    """The step, what is wrong, and what there is instead."""
    assert problems(*steps) == (problem,)


def test_steps_that_are_known_besides_are_not_missed() -> None:
    """Those that were done already, or that could not be read."""
    check_plan(Plan("llm", (Step("s2", tool="read", node="n1", after=("s1",)),)), CARDS, others=["s1"])


def test_of_several_agents_that_lack_tools_the_nearest_is_judged() -> None:
    """All that it lacks is named."""
    cards = {**CARDS, "n4": NodeCard("n4", "b", "1", tools=(), agent=True)}
    step = Step("s1", "agent", instruction="sing", tools=("read", "sing", "fly", "swim"))

    with pytest.raises(PlanError) as caught:
        check_plan(Plan("llm", (step,)), cards)

    assert caught.value.problems == (
        "step s1: there is no tool 'fly' for the agent on any node",
        "step s1: there is no tool 'swim' for the agent on any node",
    )


def test_every_violation_is_named() -> None:
    """Not only the first."""
    assert problems(Step("s1", tool="read", node="n9"), Step("s1", tool="fly", node="n1")) == (
        "step s1: there is no node 'n9' online (online: n1, n2, n3, master)",
        "step s1: its id stands twice",
        "step s1: there is no tool 'fly' on n1",
    )


def test_a_node_is_missed_in_words_where_none_is_there() -> None:
    """An empty mesh."""
    with pytest.raises(PlanError, match="online: none"):
        check_plan(Plan("offline", (Step("s1", tool="read", node="n1"),)), {})


@pytest.mark.parametrize(
    "reference", ["", "s1.", "s1..x", "value", "s1234.x", "s1.a b", "s1." + "9" * 65, "S1.x", "s1.x\n"]
)
def test_a_reference_of_the_wrong_form_is_refused(reference: str) -> None:
    """Before anything moves."""
    found = problems(Step("s1", tool="read"), Step("s2", tool="read", args={"a": {"$ref": reference}}))

    assert f"step s2: {reference!r} is no reference such as s1.value" in found


@pytest.mark.parametrize(
    "schema",
    [
        {"type": 5},
        {"required": 5},
        {"properties": {"a": {"pattern": "["}}},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
    ],
)
def test_a_node_with_a_broken_schema_breaks_only_its_own_steps(schema: JSON) -> None:
    """A card is anybody's; nothing is fetched for it."""
    tool = ToolSpec("odd", parameters=schema)

    [problem] = argument_problems(tool, {"a": "x", "b": {"$ref": "s1"}})

    assert problem.startswith("the schema of odd cannot be used")


def test_arguments_that_are_references_are_not_judged_yet() -> None:
    """Neither as missing nor as ill-typed; the others are."""
    schema = {
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
    }
    tool = ToolSpec("t", parameters=schema)

    assert argument_problems(tool, {"a": {"$ref": "s1.x"}, "b": 1}) == []
    assert argument_problems(tool, {"a": {"$ref": "s1.x"}, "b": "x"}) == ["b: 'x' is not of type 'number'"]
    assert argument_problems(tool, {"a": {"$ref": "s1.x"}}) == ["'b' is a required property"]


def test_a_step_needs_what_it_waits_for_refers_to_and_depends_on() -> None:
    """All three."""
    step = Step(
        "s9",
        tool="t",
        after=("s1",),
        args={"a": {"$ref": "s2.x"}, "b": [{"c": {"$ref": "s3"}}], "d": 1},
        when=Condition("s4.x", "above", 1),
    )

    assert needs(step) == {"s1", "s2", "s3", "s4"}


def test_references_are_replaced_wherever_they_stand() -> None:
    """In objects and lists; what is none stays as it is."""
    data = {"s1": {"value": 21, "list": [{"x": 1}]}}

    value = {"a": {"$ref": "s1.value"}, "b": [{"$ref": "s1.list.0.x"}, 2], "c": "text"}

    assert resolve(value, data) == {"a": 21, "b": [1, 2], "c": "text"}
    assert look_up("s1", data) == data["s1"]


@pytest.mark.parametrize("ref", ["s1.b", "s1.list.1", "s1.list.x", "s1.value.x", "s2.value"])
def test_a_reference_to_nothing_is_said_in_words(ref: str) -> None:
    """With the place that is not there."""
    step, *path = ref.split(".")

    with pytest.raises(LookupError) as caught:
        look_up(ref, {"s1": {"value": 1, "list": [0]}})

    assert caught.value.args == (f"the result of {step} has no {'.'.join(path)!r}",)


@pytest.mark.parametrize(
    ("op", "holds_for"),
    [
        ("above", [3]),
        ("below", [1]),
        ("at_least", [2, 3]),
        ("at_most", [1, 2]),
        ("equals", [2]),
        ("differs", [1, 3]),
    ],
)
def test_conditions_compare_numbers(op: str, holds_for: list[int]) -> None:
    """Each word means what it says."""
    condition = Condition("s1.x", op, 2)  # type: ignore[arg-type]  # parametrized over the literal's values

    assert [x for x in (1, 2, 3) if holds(condition, {"s1": {"x": x}})] == holds_for


def test_conditions_compare_texts() -> None:
    """Equal or not."""
    assert holds(Condition("s1.x", "equals", text="ON"), {"s1": {"x": "ON"}})
    assert not holds(Condition("s1.x", "differs", text="ON"), {"s1": {"x": "ON"}})


@pytest.mark.parametrize("value", ["28", True, None, [28]])
def test_a_condition_on_what_is_no_number_is_an_error_in_words(value: JSON) -> None:
    """Not silently false."""
    with pytest.raises(LookupError, match=r"s1\.x is .*, which is no number"):
        holds(Condition("s1.x", "above", 2), {"s1": {"x": value}})


def test_a_tasks_id_is_the_same_after_a_restart_and_always_valid() -> None:
    """Legible where it fits, hashed where it does not."""
    assert task_id("r1", "s1") == "r1-s1"
    long = task_id("r" * 64, "s1")
    assert len(long) == 64
    assert long == task_id("r" * 64, "s1") != task_id("r" * 64, "s2")


def test_a_plan_is_described_in_plain_words() -> None:
    """One line a step."""
    plan = Plan(
        "offline",
        (
            Step("s1", tool="read", labels=("attic",), args={"device": "climate"}),
            Step("s2", tool="set", node="n1", args={"value": {"$ref": "s1.x"}}, when=Condition("s1.x", "at_least", 28)),
            Step("s3", "agent", instruction="look around", after=("s1", "s2")),
            Step("s4", tool="read", when=Condition("s1.state", "equals", text="ON")),
        ),
    )

    assert describe(plan).splitlines() == [
        "s1: any node labelled attic: read(device=climate)",
        "s2: n1: set(value=s1.x), if s1.x at least 28",
        "s3: any node: look around, after s1, s2",
        "s4: any node: read(), if s1.state equals ON",
    ]


def test_a_pinned_request_stays_on_its_node() -> None:
    """Whatever made the plan: only the node that the request names, and the master, may have a part in it."""
    plan = Plan("llm", (Step("s1", tool="read", node="n1"), Step("s2", tool="mesh_status", node=MASTER)))
    strays = Plan("llm", (Step("s1", tool="set", node="n2"), Step("s2", tool="read")))

    check_plan(plan, CARDS, pin="n1")
    with pytest.raises(PlanError) as caught:
        check_plan(strays, CARDS, pin="n1")

    assert caught.value.problems == (
        "step s1: it is for n2, and the request for n1 only",
        "step s2: it is for any node, and the request for n1 only",
    )


def test_nodes_that_have_the_same_tool_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them cost no more than one."""
    judged: list[ToolSpec] = []

    def judge(tool: ToolSpec, args: Mapping[str, JSON]) -> list[str]:
        judged.append(tool)
        return argument_problems(tool, args)

    monkeypatch.setattr(plans, "argument_problems", judge)
    same = (ToolSpec("set", parameters=NUMBER),)
    cards = {name: NodeCard(name, "b", "1", tools=same) for name in ("n1", "n2", "n3")}
    with pytest.raises(PlanError, match="value"):
        check_plan(Plan("offline", (Step("s1", tool="set", args={"value": "x"}),)), cards)

    assert len(judged) == 1
