"""Celery on Redis: late acknowledgement, and an append-only file that is synced at every write."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from reliability_peers.order import SIDE_BY_SIDE, Order
from reliability_peers.peer import HOST, Setup, find_program, folder_of, module


@dataclass(frozen=True, slots=True)
class CeleryRedis:
    name: str = "celery"
    shown: str = "celery"
    requirements: tuple[str, ...] = ("celery[redis]>=5.4,<6",)
    programs: tuple[str, ...] = ("redis-server",)
    quiet_s: float = 1.0

    def setup(self, python: str, order: Order) -> Setup:
        server = [find_program("redis-server"), "--bind", HOST, "--port", str(order.port)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder_of(order, "broker"))]
        worker = [python, "-m", "celery", "-A", "reliability_peers.celery_app", "worker", "-l", "warning"]
        alone = ["--without-gossip", "--without-mingle", "-c", str(SIDE_BY_SIDE)]
        parts = {"broker": [*server, *durable], "worker": [*worker, *alone]}
        return Setup(parts, module(python, "celery_submit"))

    def is_drained(self, order: Order) -> bool:
        """The queue is empty, and so is what Celery keeps of unacknowledged tasks."""
        try:
            with socket.create_connection((HOST, order.port), timeout=1) as connection:
                connection.sendall(b"LLEN celery\r\nHLEN unacked\r\n")
                return connection.makefile("rb").read(8) == b":0\r\n:0\r\n"
        except OSError:
            return False
