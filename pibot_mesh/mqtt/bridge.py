"""The configuration of a Mosquitto bridge that shows a mesh on another broker. Pure: no I/O.

What the mesh says goes out, below a prefix of its own; nothing comes in but requests, where that is wanted. Since no
topic goes both ways, and what arrives stands below the prefix, nothing is echoed, not even between two houses that
each show theirs to the other. Mosquitto holds its own bridges to no access rules (2.0.11, tried): these lines decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pibot_mesh.config.settings import Address, Tls
from pibot_mesh.errors import ConfigError
from pibot_mesh.protocol.topics import DELIVERY, Kind, Topics

OUT: Final = (
    Kind.MASTER_STATUS,
    Kind.MASTER_INFO,
    Kind.MASTER_HEALTH,
    Kind.MASTER_STATE,
    Kind.MASTER_EVENT,
    Kind.REQUEST_EVENT,
    Kind.REQUEST_REPLY,
    Kind.REPLY,
    Kind.STOP,
    Kind.NODE_STATUS,
    Kind.NODE_HEALTH,
    Kind.NODE_CARD,
    Kind.NODE_EVENT,
    Kind.INPUT,
    Kind.OUTPUT,
    Kind.OUTPUT_CAUSE,
    Kind.SENSOR,
    Kind.REFLEX,
    Kind.ROUTINE,
)
"""What others may see. Tasks, results and the model's traffic stay in the house: a request's events tell its story."""
IN: Final = (Kind.REQUEST,)
"""What others may send, where requests are allowed. Commands to nodes, the stop and approvals never come in."""
HEADER: Final = "# A bridge for Mosquitto, made by 'pibot broker bridge'."


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge called *name*, from the broker that it is configured in to the one at *addresses* (host and port).

    The mesh below *root* appears there below ``PREFIX/ROOT``. Raises ConfigError for a name, root or prefix that
    Mosquitto's configuration cannot hold, and for an empty prefix: there, a second mesh would take ours for its own.
    """

    name: str
    addresses: tuple[Address, ...]
    root: str
    prefix: str
    is_asked: bool = False
    """Whether requests come in."""
    tls: Tls | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("prefix", self.prefix), ("root", self.root), *self._optional()):
            if not re.fullmatch(r'[^\s"#+\x00-\x1f\x7f]+', text):
                raise ConfigError([f"{what} {text!r}: at least one character is expected, and no space, quote, # or +"])
        Topics(self.remote_root)

    @property
    def remote_root(self) -> str:
        """The root of the mesh as the other broker has it: what ``pibot --root`` takes there."""
        return f"{self.prefix}/{self.root}"

    def _optional(self) -> list[tuple[str, str]]:
        return [] if self.username is None else [("username", self.username)]


def bridge_config(bridge: Bridge, version: tuple[int, int]) -> str:
    """The lines for mosquitto.conf, for a Mosquitto of *version*: an option that it does not know would end it.

    Sessions at the other broker are clean, so that no request is carried out long after it was made. What goes out is
    kept while the link is down (from version 2.0 on, and as far as the broker's queue reaches).
    """
    lines = [HEADER, *_link(bridge, version), *_credentials(bridge)]
    lines += ["# What others see"]
    lines += [_topic(kind, "out", bridge) for kind in OUT]
    if bridge.is_asked:
        lines += [
            "# What others may send: whoever may publish this there commands this house. Never as a retained message:"
        ]
        lines += ["# that one would come again whenever the link is made."]
        lines += [_topic(kind, "in", bridge) for kind in IN]
    return "\n".join(lines) + "\n"


def _link(bridge: Bridge, version: tuple[int, int]) -> list[str]:
    lines = [
        f"connection {bridge.name}",
        "address " + " ".join(f"{host}:{port}" for host, port in bridge.addresses),
        "bridge_protocol_version mqttv311",
        f"remote_clientid pibot-{bridge.name}",
        "try_private true",
        "cleansession true",
        "keepalive_interval 30",
        "notifications true",
        "# 1 while the link stands, 0 when it is broken; retained",
        f"notification_topic {bridge.remote_root}/bridge",
    ]
    if len(bridge.addresses) > 1:
        lines.append("round_robin true")
    if version >= (2, 0):
        lines.append("local_cleansession false")
    lines.append("restart_timeout 2 30" if version >= (1, 6) else "restart_timeout 10")
    return lines


def _credentials(bridge: Bridge) -> list[str]:
    lines: list[str] = []
    if bridge.tls is not None:
        trusted = bridge.tls.ca_file
        lines.append(f"bridge_cafile {trusted}" if trusted else "bridge_capath /etc/ssl/certs")
        if bridge.tls.cert_file:
            lines += [f"bridge_certfile {bridge.tls.cert_file}"]
        if bridge.tls.key_file:
            lines += [f"bridge_keyfile {bridge.tls.key_file}"]
    if bridge.username is not None:
        lines += [
            f"remote_username {bridge.username}",
            "# Its password: take the # away, and let nobody but Mosquitto read this file (chmod 640).",
            "# remote_password PASSWORD",
        ]
    return lines


def _topic(kind: Kind, direction: str, bridge: Bridge) -> str:
    """The bridge's own pattern stands between the prefixes, which are cut off and put before on either side."""
    pattern = Topics(bridge.root).filter(kind).removeprefix(f"{bridge.root}/")
    return f"topic {pattern} {direction} {DELIVERY[kind].qos} {bridge.root}/ {bridge.remote_root}/"
