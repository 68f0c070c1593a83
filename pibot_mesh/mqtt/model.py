"""What goes in and out of the MQTT client, as frozen dataclasses. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us once we are gone without a word.

    On MQTT 5 it waits *delay_s* seconds first, so that a short loss of Wi-Fi is not told; on 3.1.1 it does not wait.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    delay_s: int = 10


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic filter and the highest quality of service at which it is delivered.

    No two filters of one client may overlap: brokers differ in how many copies they then send.
    """

    filter: str
    qos: int = 1


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived.

    *retain* is true where the broker had kept it, and *dup* where it was delivered before. *response_topic* and
    *correlation* are None on MQTT 3.1.1. *connection* numbers the connection on which it came, for `MqttClient.ack`.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    mid: int = 0
    response_topic: str | None = None
    correlation: bytes | None = None
    connection: int = 0
