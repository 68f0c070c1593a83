"""A mesh of four nodes with different loads, labels and devices, as its cards tell; and one of any size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pibot_mesh.agent.builtin.files import file_tools
from pibot_mesh.agent.builtin.memory import memory_tools
from pibot_mesh.agent.builtin.shell import shell_tools
from pibot_mesh.hardware.board import Board
from pibot_mesh.master.planner import Situation
from pibot_mesh.master.pool import MASTER, Pool
from pibot_mesh.protocol.messages import Capacity, DeviceSpec, Measure, NodeCard, ToolSpec
from pibot_mesh.skills.devices import device_tools
from pibot_mesh.skills.download import download_tools
from pibot_mesh.skills.system import system_tools

NOWHERE = Path("/nonexistent")
FILES = tuple(tool.spec for tool in (*file_tools(NOWHERE), *memory_tools(NOWHERE / "memory.json")))
SYSTEM = tuple(tool.spec for tool in system_tools())
DOWNLOAD = tuple(tool.spec for tool in download_tools(NOWHERE))
SHELL = tuple(tool.spec for tool in shell_tools(["python3"], workspace=NOWHERE))
CRUNCH = ToolSpec("crunch", "Work through numbers.", {"type": "object", "properties": {"rows": {"type": "number"}}})
DELEGATE = ToolSpec("delegate", "Give work to a node.", {"type": "object"}, effect="actuate")
MESH_TOOLS = (ToolSpec("mesh_status", "Which nodes are online."), ToolSpec("mesh_list", "The devices of every node."))

CLIMATE = {"temperature": Measure("°C"), "humidity": Measure("%")}


@dataclass(frozen=True)
class _Shelf:
    """What the tools for devices want of a board, before anything runs."""

    devices: tuple[DeviceSpec, ...]

    def specs(self) -> tuple[DeviceSpec, ...]:
        return self.devices


def tools_of(*devices: DeviceSpec) -> tuple[ToolSpec, ...]:
    """The tools that a node with *devices* has for them."""
    return tuple(tool.spec for tool in device_tools(cast(Board, _Shelf(devices))))


def card(
    node: str,
    *devices: DeviceSpec,
    tools: Iterable[ToolSpec] = (),
    labels: tuple[str, ...] = (),
    agent: bool = True,
    running: int = 2,
) -> NodeCard:
    """The card of a node with the tools for its *devices*, for its system, and *tools*."""
    every = (*tools_of(*devices), *SYSTEM, *tools)
    return NodeCard(
        node, "b1", "1", labels=labels, tools=every, devices=devices, capacity=Capacity(running), agent=agent
    )


KITCHEN = card(
    "kitchen",
    DeviceSpec("fan", "out", "switch", "fan", "kitchen"),
    DeviceSpec("vent", "out", "switch", "vent", "kitchen"),
    DeviceSpec("ceiling", "out", "pwm", "ceiling lamp", "kitchen", dimmable=True),
    DeviceSpec("climate", "sensor", "dht22", "climate", "kitchen", measures=CLIMATE),
    DeviceSpec("window", "in", "contact", "window", "kitchen"),
    tools=(*FILES, *DOWNLOAD),
    labels=("ground-floor",),
)
BALCONY = card(
    "balcony",
    DeviceSpec("lights", "out", "switch", "string lights", "balcony"),
    DeviceSpec("climate", "sensor", "dht22", "climate", "balcony", measures=CLIMATE),
    agent=False,
)
GARAGE = card(
    "garage",
    DeviceSpec("door", "out", "switch", "door", "garage"),
    DeviceSpec("lamp", "out", "switch", "lamp", "garage"),
    tools=(*FILES, *DOWNLOAD, *SHELL, CRUNCH),
    labels=("strong", "ground-floor"),
)
ATTIC = card(
    "attic",
    DeviceSpec("heater", "out", "switch", "heater", "attic"),
    DeviceSpec("lamp", "out", "switch", "lamp", "attic"),
    tools=(*FILES, *DOWNLOAD, *SHELL, CRUNCH),
    labels=("strong", "backup"),
    running=4,
)
CARDS = {one.node: one for one in (KITCHEN, BALCONY, GARAGE, ATTIC)}
OWN = NodeCard(MASTER, "m1", "1", tools=(*MESH_TOOLS, *SYSTEM, *FILES, DELEGATE), agent=True)
TASKS = {"kitchen": 1, "balcony": 0, "garage": 3, "attic": 1}
"""How many tasks each node holds; garage and kitchen run two at once, attic four."""
LOAD = {node: TASKS[node] / one.capacity.running for node, one in CARDS.items()}


def situation(**others: object) -> Situation:
    """The mesh of four, all online."""
    return Situation(**{"cards": CARDS, "own_card": OWN, "load": LOAD, **others})  # type: ignore[arg-type]


def pool() -> Pool:
    """The mesh of four as the master's core knows it."""
    there = Pool()
    for node, one in CARDS.items():
        there[node].is_online, there[node].card = True, one
        there[node].open_tasks |= {f"{node}-{number}": None for number in range(TASKS[node])}
    return there


def large_mesh(nodes: int, *, alike: bool) -> Situation:
    """*nodes* with eight devices each; where they are not *alike*, each has names of its own."""
    cards = [_large(number, alike=alike) for number in range(nodes)]
    return Situation({one.node: one for one in cards}, OWN, ["far-away"], {one.node: 0.5 for one in cards})


def _large(number: int, *, alike: bool) -> NodeCard:
    room, own = f"room {number % 12}", "" if alike else f"_{number}"
    devices = (
        DeviceSpec(f"lamp{own}", "out", "pwm", "lamp", room, dimmable=number % 2 == 0),
        DeviceSpec(f"fan{own}", "out", "switch", "fan", room),
        DeviceSpec("vent", "out", "switch", "vent", room),
        DeviceSpec("relay_1", "out", "switch", "heater", room),
        DeviceSpec("button", "in", "button", "button", room),
        DeviceSpec("door", "in", "contact", "front door", room),
        DeviceSpec("climate", "sensor", "dht22", "climate", room, measures=CLIMATE),
        DeviceSpec("light", "sensor", "ldr", "light sensor", room, measures={"light_level": Measure("%")}),
    )
    labels = (f"floor-{number % 4}", "worker")
    return card(f"worker-{number:03}", *devices, tools=(*FILES, *DOWNLOAD), labels=labels)
