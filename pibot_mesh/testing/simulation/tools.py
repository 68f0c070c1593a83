"""The tools of a simulated mesh, and plans that use them, at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Refusal
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.messages import Condition, Output, Plan, Step, ToolSpec, WireError

_NUMBER: Final = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}

SPECS: Final = (
    ToolSpec("read", "Reads.", _NUMBER, timeout_s=8.0),
    ToolSpec("set", "Sets, and may do so again.", _NUMBER, effect="actuate", timeout_s=8.0),
    ToolSpec("note", "Writes, and may do so again.", _NUMBER, effect="write", timeout_s=40.0),
    ToolSpec("press", "Presses once.", _NUMBER, effect="actuate", safe_to_retry=False, timeout_s=8.0),
    ToolSpec("unlock", "Once, and with approval.", _NUMBER, effect="actuate", safe_to_retry=False, approval="ask"),
)
"""The tools of every node."""
OWN_SPECS: Final = (
    ToolSpec("mesh_status", "Reads.", _NUMBER),
    ToolSpec("wipe", "Once.", _NUMBER, effect="write", safe_to_retry=False),
    ToolSpec("delegate", "Gives a node something to do.", safe_to_retry=False),
)
"""The tools of the master."""
BY_NAME: Final = {spec.name: spec for spec in (*SPECS, *OWN_SPECS)}
READ_BACK: Final = "set"
"""The tool whose work can be read back after a restart."""


def registry() -> ToolRegistry:
    """The tools of a node. The simulation runs them itself."""
    return ToolRegistry([Tool(spec, _never_run) for spec in SPECS])


def random_plan(chance: random.Random, nodes: Sequence[str]) -> Plan | Refusal:
    """A plan of one to four steps that wait for, refer to and depend on each other; or, rarely, a refusal."""
    if chance.random() < 0.04:
        return Refusal(WireError(ErrorCode.NOT_UNDERSTOOD, "what?"))
    steps: list[Step] = []
    for number in range(1, chance.choice([1, 1, 2, 2, 3, 4]) + 1):
        step = _random_step(chance, f"s{number}", nodes)
        if steps and chance.random() < 0.5:
            step = _bound(chance, step, chance.choice(steps).id)
        steps.append(step)
    return Plan(chance.choice(["offline", "offline", "llm"]), tuple(steps))


def delegated_step(chance: random.Random, nodes: Sequence[str]) -> Step:
    """What the master's own agent gives to a node; its id is the core's to make."""
    return _call(chance, "s0", nodes)


def _random_step(chance: random.Random, name: str, nodes: Sequence[str]) -> Step:
    lot = chance.random()
    if lot < 0.72:
        return _call(chance, name, nodes)
    if lot < 0.9:
        tools = chance.choice([(), ("read",), ("read", "set"), ("press", "read"), ("unlock",), ("note", "set")])
        node = chance.choice([None, *nodes])
        return Step(name, "agent", node, instruction="see to it", tools=tools, timeout_s=chance.choice([None, 20.0]))
    if lot < 0.95:
        return Step(name, "agent", MASTER, instruction="see to it all")
    return Step(name, node=MASTER, tool=chance.choice(["mesh_status", "wipe"]), args={"n": chance.randint(0, 9)})


def _call(chance: random.Random, name: str, nodes: Sequence[str]) -> Step:
    tool = chance.choices(["read", "set", "note", "press", "unlock"], [3, 3, 2, 4, 1])[0]
    node = chance.choice(nodes) if chance.random() < 0.6 else None
    labels = ("even",) if node is None and chance.random() < 0.2 else ()
    return Step(name, node=node, labels=labels, tool=tool, args={"n": chance.randint(0, 9)})


def _bound(chance: random.Random, step: Step, earlier: str) -> Step:
    """*step*, which waits for an earlier one, or needs what that gave."""
    choices = [replace(step, after=(earlier,)), replace(step, when=Condition(f"{earlier}.n", "above", 4))]
    if step.kind == "call":
        choices.append(replace(step, args={"n": {"$ref": f"{earlier}.n"}}))
    return chance.choice(choices)


def _never_run(*_: Any) -> Output:
    raise AssertionError("the simulation runs its tools itself")
