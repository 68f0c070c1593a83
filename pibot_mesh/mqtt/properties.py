"""What MQTT 5 adds to CONNECT, to the will and to PUBLISH. Pure: no I/O."""

from __future__ import annotations

from typing import Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from pibot_mesh.mqtt.model import Will
from pibot_mesh.mqtt.outbox import Outgoing

RECEIVE_MAXIMUM: Final = 100
"""Messages that an MQTT 5 broker may send us before we have acknowledged the first of them."""
MAX_INBOUND_BYTES: Final = 1024 * 1024
"""The largest packet that an MQTT 5 broker may send us: above our own limit, so that we can say what is too large."""


def connect_properties(session_expiry_s: int) -> Properties:
    """Of CONNECT: how long the broker keeps our session, and how much it may send at once."""
    properties = _properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = session_expiry_s
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = MAX_INBOUND_BYTES
    return properties


def will_properties(will: Will) -> Properties:
    """Of the will: its delay."""
    properties = _properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = will.delay_s
    return properties


def publish_properties(message: Outgoing, now: float) -> Properties:
    """Of PUBLISH. The expiry is what is left of it at *now*, at least a second."""
    properties = _properties(PacketTypes.PUBLISH)
    if message.expires_at is not None:
        properties.MessageExpiryInterval = max(1, round(message.expires_at - now))
    if message.correlation is not None:
        properties.CorrelationData = message.correlation
    if message.response_topic is not None:
        properties.ResponseTopic = message.response_topic
    if message.content_type is not None:
        properties.ContentType = message.content_type
    return properties


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho left its __init__ without types
