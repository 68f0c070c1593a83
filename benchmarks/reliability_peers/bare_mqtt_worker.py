"""Does tasks from one topic, and acknowledges each when it is done."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import paho.mqtt.client as paho

from reliability_peers.bare_mqtt_ends import TOPIC, connect, new_client
from reliability_peers.order import SIDE_BY_SIDE, Task, do, given


def main() -> None:
    order = given()
    threads = ThreadPoolExecutor(SIDE_BY_SIDE)
    client = new_client("worker", manual_ack=True)

    def work(message: paho.MQTTMessage) -> None:
        do(Task.of(message.payload.decode()), order.effects)
        client.ack(message.mid, message.qos)

    def receive(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        threads.submit(work, message)

    client.on_connect = lambda *_: client.subscribe(TOPIC, qos=1) and None
    client.on_subscribe = lambda *_: order.ready.touch()
    client.on_message = receive
    connect(client, order)
    threading.Event().wait()


if __name__ == "__main__":
    main()
