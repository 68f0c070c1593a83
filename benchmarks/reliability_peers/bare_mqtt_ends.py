"""What both ends of the bare client have in common: a persistent session, and connecting however long it takes."""

from __future__ import annotations

import socket
import time
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from reliability_peers.order import Order

TOPIC: Final = "tasks"


def new_client(name: str, *, manual_ack: bool = False) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False, manual_ack=manual_ack)
    client.reconnect_delay_set(0.05, 1)
    client.on_socket_open = lambda *args: args[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def connect(client: paho.Client, order: Order) -> None:
    """Connect, and go on in a thread, which reconnects."""
    while True:
        try:
            client.connect("127.0.0.1", order.port)
        except OSError:
            time.sleep(0.05)
        else:
            client.loop_start()
            return
