"""The mesh: Mosquitto, a master, and a node with one tool that writes."""

from __future__ import annotations

from dataclasses import dataclass

from reliability_peers.mosquitto import mosquitto
from reliability_peers.order import Order
from reliability_peers.peer import Setup, module


@dataclass(frozen=True, slots=True)
class Mesh:
    """*is_safe_to_retry*: the tool says of itself that it may be done again, so a task that was cut off is."""

    name: str
    is_safe_to_retry: bool
    shown: str = "pibot-mesh"
    requirements: tuple[str, ...] = ()
    programs: tuple[str, ...] = ("mosquitto",)
    quiet_s: float = 1.0

    def setup(self, python: str, order: Order) -> Setup:
        parts = {
            "broker": mosquitto(order),
            "master": module(python, "mesh_master"),
            "worker": module(python, "mesh_node"),
        }
        return Setup(parts, module(python, "mesh_submit"))

    def is_drained(self, _: Order) -> bool:
        """The submitter waits for every reply, and a reply is the last that happens."""
        return True
