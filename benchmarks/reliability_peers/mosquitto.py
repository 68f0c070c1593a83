"""The Mosquitto of the mesh and of the bare client: the same, with persistence as Debian has it by default."""

from __future__ import annotations

import os
from pathlib import Path

from reliability_peers.order import Order
from reliability_peers.peer import HOST, find_program, folder_of


def mosquitto(order: Order) -> list[str]:
    """The command of the broker, its configuration written."""
    lines = [
        f"listener {order.port} {HOST}",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "persistence true",
        f"persistence_location {folder_of(order, 'broker')}/",
        "log_type error",
        *(["user root"] if os.geteuid() == 0 else []),
    ]
    config = Path(order.folder) / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [find_program("mosquitto"), "-c", str(config)]
