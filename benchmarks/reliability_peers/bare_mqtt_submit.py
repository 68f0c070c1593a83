"""Publishes every task at QoS 1, and waits until the broker has acknowledged each; paho sends again by itself."""

from __future__ import annotations

import time

from reliability_peers.bare_mqtt_ends import TOPIC, connect, new_client
from reliability_peers.order import given
from reliability_peers.pacing import paced, tell

PATIENCE_S = 30.0


def main() -> None:
    order = given()
    acknowledged: set[int] = set()
    client = new_client("submitter")
    client.on_publish = lambda _client, _userdata, mid, *_: acknowledged.add(mid)
    connect(client, order)
    sent = {task.id: client.publish(TOPIC, task.text, qos=1).mid for task in paced(order)}
    deadline = time.monotonic() + PATIENCE_S
    while not acknowledged.issuperset(sent.values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    tell(order, {task: "accepted" for task, mid in sent.items() if mid in acknowledged})


if __name__ == "__main__":
    main()
