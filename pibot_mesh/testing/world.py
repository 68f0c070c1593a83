"""What stands on the bench: tools, processes that live and die, how bad the world is, and plans at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from pibot_mesh.agent.tools import Tool, ToolRegistry
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.core import MasterCore
from pibot_mesh.master.events import Record, Refusal
from pibot_mesh.node.core import NodeCore
from pibot_mesh.node.events import Entry
from pibot_mesh.protocol.messages import Condition, Output, Plan, Step, ToolSpec, WireError

_NUMBER: Final = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}

SPECS: Final = (
    ToolSpec("read", "Reads.", _NUMBER, timeout_s=8.0),
    ToolSpec("set", "Sets, and may do so again.", _NUMBER, effect="actuate", timeout_s=8.0),
    ToolSpec("press", "Presses once.", _NUMBER, effect="actuate", safe_to_retry=False, timeout_s=8.0),
)
"""The tools of every node on the bench."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad the world is: the chance of each fault at each message, effect or second."""

    loss: float = 0.05
    twice: float = 0.05
    late: float = 0.05
    """A message takes up to 5 s, and so overtakes or is overtaken."""
    crash: float = 0.01
    """A process dies at some point between the effects of one event."""
    cut: float = 0.01
    """A connection breaks, in each second."""
    mute: float = 0.2
    """The broker does not notice that a connection is gone."""
    slow: float = 0.2
    """A tool takes longer than its time."""


USUAL: Final = Faults()
NONE: Final = Faults(0, 0, 0, 0, 0, 0, 0)


class _Clocked(Protocol):
    def wake_at(self) -> float | None: ...


class Process:
    """What a master and a node have in common: a life that ends and begins again, and a connection."""

    core: _Clocked

    def __init__(self, name: str) -> None:
        self.name = name
        self.life = 0
        """Grows at each start, and at each end."""
        self.session = 0
        """Grows at each connect and disconnect."""
        self.is_up = False
        self.is_connected = False


class MasterProcess(Process):
    core: MasterCore

    def __init__(self) -> None:
        super().__init__("master")
        self.ledger: dict[str, Record] = {}


class NodeProcess(Process):
    core: NodeCore

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.tools = ToolRegistry([Tool(spec, _no_run) for spec in SPECS])
        self.entries: dict[str, Entry] = {}
        self.forgotten: dict[str, int] = {}
        self.is_stopped = False
        self.delivered: dict[str, float] = {}
        """When a copy of each task last arrived."""


def random_plan(chance: random.Random, nodes: Sequence[str]) -> Plan | Refusal:
    """A plan of one to four steps that wait for, refer to and depend on each other; or, rarely, a refusal."""
    if chance.random() < 0.05:
        return Refusal(WireError(ErrorCode.NOT_UNDERSTOOD, "what?"))
    steps: list[Step] = []
    for number in range(1, chance.randint(1, 4) + 1):
        step = Step(
            f"s{number}",
            node=chance.choice([None, *nodes]),
            tool=chance.choice(["read", "set", "press"]),
            args={"n": chance.randint(0, 9)},
        )
        if steps and chance.random() < 0.5:
            earlier = chance.choice(steps).id
            step = chance.choice(
                [
                    replace(step, after=(earlier,)),
                    replace(step, args={"n": {"$ref": f"{earlier}.n"}}),
                    replace(step, when=Condition(f"{earlier}.n", "above", 4)),
                ]
            )
        steps.append(step)
    return Plan("offline", tuple(steps))


def _no_run(*_: object) -> Output:
    """The bench ends tools itself."""
    return Output()
