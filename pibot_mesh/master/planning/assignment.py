"""Where each step of a model's draft is done. Pure: no I/O.

The model says what kind of work a step is, and names a node only on purpose; the rest are these rules:

| work | goes to |
|---|---|
| ``files``, ``query``, ``system`` | the master |
| ``device`` | the node that has the device; without a device's name, the least busy node that has the tool |
| ``network``, ``compute`` | the least busy node that can; the master where none can |
| ``code`` | the node with the least load at the moment when the step begins; the master where none can |

A node that the step names goes before them, and so does the node that the whole request is pinned to, where it can. A
step whose rule leads where its tools are not goes to where they are, and one that names a device always to the node
that has it. A step for "the least busy node" is left open (``Step.node`` is None), so that the load decides when the
step begins, not when it is planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pibot_mesh.errors import PlanError
from pibot_mesh.master.planning.plan_tool import Complexity, Draft, DraftStep, Work
from pibot_mesh.master.plans import references
from pibot_mesh.master.pool import MASTER, can, carries, find_tool
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import NodeCard, Plan, Step, ToolSpec

MASTERS_WORK: Final[frozenset[Work]] = frozenset({"files", "query", "system"})
"""What the master does itself."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Who can do something: the *cards* of the nodes that are online, and the master's *own_card*.

    *pin* is the node that a request is for, where it is for one only.
    """

    cards: Mapping[str, NodeCard]
    own_card: NodeCard
    pin: str | None = None

    def fitting(self, step: DraftStep) -> dict[str, NodeCard]:
        """The nodes that have the tools and the labels of *step*, of those that the request may use."""
        return {
            node: card
            for node, card in self.cards.items()
            if self.pin in (None, node) and carries(card, step.labels)
            if can(card, step.wanted, is_agent=step.is_agent)
        }

    def is_for_master(self, step: DraftStep) -> bool:
        """Whether the master has what *step* needs, and no label asks for somebody else."""
        return not step.labels and can(self.own_card, step.wanted, is_agent=step.is_agent)


def assign(draft: Draft, mesh: Mesh, request: str, *, is_going_on: bool = False) -> tuple[Plan, list[str]]:
    """The plan that *draft* means for the text of *request*, on *mesh*; *is_going_on* in a conversation.

    A ``simple`` instruction runs on the master with the request's own words and all of the master's tools. With the
    plan comes what is wrong with it: a step that cannot be given a place is left open. The rest, `check_plan` says.
    """
    if _is_simple(draft, mesh):
        return Plan("llm", (_simple(draft.steps[0], request, is_going_on),), draft.language), []
    steps: list[Step] = []
    problems: list[str] = []
    for one in draft.steps:
        try:
            node = _place(one, mesh)
        except PlanError as error:
            node = None
            problems += [f"step {one.id}: {problem}" for problem in error.problems]
        steps.append(_step(one, node))
    return Plan("llm", tuple(steps), draft.language, _complexity(draft)), problems


def _complexity(draft: Draft) -> Complexity:
    """What the model says, but that several steps are not simple."""
    if draft.complexity != "simple" or len(draft.steps) == 1:
        return draft.complexity
    is_dependent = any(step.when is not None or references(dict(step.args)) for step in draft.steps)
    return "complex" if is_dependent else "moderate"


def _is_simple(draft: Draft, mesh: Mesh) -> bool:
    """Whether it is one instruction for the master itself."""
    if draft.complexity != "simple" or len(draft.steps) != 1 or mesh.pin is not None:
        return False
    [step] = draft.steps
    return step.is_agent and step.node in (None, MASTER) and not step.labels


def _simple(step: DraftStep, request: str, is_going_on: bool) -> Step:
    instruction = request
    if is_going_on:  # "and now off again" says nothing by itself
        instruction = f"{request}\n(What is meant, from the conversation before: {step.instruction})"
    return Step(step.id, "agent", MASTER, instruction=instruction, timeout_s=step.timeout_s)


def _step(step: DraftStep, node: str | None) -> Step:
    return Step(
        step.id,
        "agent" if step.is_agent else "call",
        node,
        step.labels if node is None else (),
        step.tool,
        step.args,
        step.instruction,
        step.tools,
        step.after,
        step.when,
        step.timeout_s,
    )


def _place(step: DraftStep, mesh: Mesh) -> str | None:
    """The node for *step*, ``master``, or None where it is left open. `check_plan` says what nobody can do."""
    if step.node is not None and step.node != MASTER:
        return step.node
    nodes, is_for_master = mesh.fitting(step), mesh.is_for_master(step)
    if is_for_master and (step.node == MASTER or (step.work in MASTERS_WORK and not (mesh.pin and nodes))):
        return MASTER
    if mesh.pin is not None:
        return MASTER if is_for_master and not nodes else mesh.pin
    if nodes:
        return _owner(step, nodes)  # whatever the model calls the work
    return MASTER if is_for_master else None


def _owner(step: DraftStep, nodes: Mapping[str, NodeCard]) -> str | None:
    """Which of *nodes* has the device that *step* names; None where it names none. Raises PlanError."""
    device = step.args.get("device")
    if device is None:
        return None
    if references(device):
        return _only(nodes, "its device is a reference, so the node must be named")
    owners = [node for node, card in nodes.items() if any(spec.id == device for spec in card.devices)]
    if owners:
        return _only(
            owners, f"the device {device!r} is on {', '.join(owners)}: name the node that is meant, or ask_back"
        )
    if all(_lists_devices(find_tool(card, step.tool or "")) for card in nodes.values()):
        raise PlanError([f"no node that is online has a device {device!r} for {step.tool}"])
    return None


def _only(nodes: Mapping[str, NodeCard] | Sequence[str], problem: str) -> str:
    """The one of *nodes*. Raises PlanError with *problem* where there are several."""
    if len(nodes) > 1:
        raise PlanError([problem])
    return next(iter(nodes))


def _lists_devices(tool: ToolSpec | None) -> bool:
    """Whether *tool* takes the devices of its node and no other."""
    properties: JSON = tool.parameters.get("properties", {}) if tool is not None else {}
    return isinstance(properties, Mapping) and "enum" in (properties.get("device") or {})
