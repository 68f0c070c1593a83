"""NATS JetStream: a work queue in files, and a durable pull consumer with explicit acknowledgement."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass

from reliability_peers.order import Order
from reliability_peers.peer import HOST, Setup, find_program, folder_of, module


@dataclass(frozen=True, slots=True)
class Nats:
    name: str = "nats"
    shown: str = "nats-py"
    requirements: tuple[str, ...] = ("nats-py>=2.9,<3",)
    programs: tuple[str, ...] = ("nats-server",)
    quiet_s: float = 1.0

    def setup(self, python: str, order: Order) -> Setup:
        store = str(folder_of(order, "broker"))
        server = [find_program("nats-server"), "-a", HOST, "-p", str(order.port), "-m", str(order.watch_port)]
        parts = {"broker": [*server, "-js", "-sd", store], "worker": module(python, "nats_worker")}
        return Setup(parts, module(python, "nats_submit"))

    def is_drained(self, order: Order) -> bool:
        """By the server's own monitoring: nothing is pending, and everything delivered is acknowledged."""
        address = f"http://{HOST}:{order.watch_port}/jsz?consumers=true"
        try:
            with urllib.request.urlopen(address, timeout=1) as answer:
                accounts = json.load(answer)["account_details"]
            [consumer] = accounts[0]["stream_detail"][0]["consumer_detail"]
        except (OSError, LookupError, ValueError):
            return False
        return not consumer["num_pending"] and not consumer["num_ack_pending"]
