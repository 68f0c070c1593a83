"""A bare MQTT client at QoS 1 with a persistent session, over the same Mosquitto as the mesh: for orientation."""

from __future__ import annotations

from dataclasses import dataclass

from reliability_peers.mosquitto import mosquitto
from reliability_peers.order import Order
from reliability_peers.peer import Setup, module


@dataclass(frozen=True, slots=True)
class BareMqtt:
    name: str = "bare-mqtt"
    shown: str = "paho-mqtt"
    requirements: tuple[str, ...] = ()
    programs: tuple[str, ...] = ("mosquitto",)
    quiet_s: float = 5.0

    def setup(self, python: str, order: Order) -> Setup:
        parts = {"broker": mosquitto(order), "worker": module(python, "bare_mqtt_worker")}
        return Setup(parts, module(python, "bare_mqtt_submit"))

    def is_drained(self, _: Order) -> bool:
        """The broker does not say; *quiet_s* decides alone."""
        return True
