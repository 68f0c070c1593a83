"""Where a file or a variable says that the broker is, and how to enter it."""

from __future__ import annotations

import re
from typing import Final

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import Address, BrokerSettings, Tls
from pibot_mesh.config.source import Problem
from pibot_mesh.errors import ConfigError

DEFAULT_PORT: Final = 1883
TLS_PORT: Final = 8883
DISCOVERED: Final = "mdns"
"""What stands in place of an address where the broker is looked for on the local network."""
_NOWHERE: Final[Address] = ("127.0.0.1", DEFAULT_PORT)
"""What the settings hold where the address is not used."""
_ANYBODY: Final = (
    "with 'discover: true', name a ca_file of your own: whoever announces a broker on the network has a certificate "
    "that the system trusts"
)


def parse_broker(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Host and port from ``HOST``, ``HOST:PORT``, ``[ADDRESS]:PORT``, all with or without ``mqtt://`` before.

    Raises ConfigError.
    """
    plain = text.strip().removeprefix("mqtt://").rstrip("/")
    if plain.startswith("mqtts://"):
        raise ConfigError(
            [f"broker {text!r}: for TLS give HOST:PORT here, and say 'tls: true' under broker in the file"]
        )
    if plain.count(":") > 1 and not plain.startswith("["):
        raise ConfigError([f"broker {text!r}: put an IPv6 address in brackets, such as [::1]:1883"])
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([A-Za-z0-9_.-]{1,253}))(?::([0-9]{1,5}))?", plain)
    if match is None:
        raise ConfigError([f"broker {text!r}: HOST:PORT is expected, such as 192.168.1.5:1883"])
    port = int(match[3] or default_port)
    if not 1 <= port <= 65535:
        raise ConfigError([f"broker {text!r}: a port is a number from 1 to 65535"])
    return match[1] or match[2], port


def parse_brokers(text: str, default_port: int = DEFAULT_PORT) -> tuple[Address, ...]:
    """The servers of a cluster, with commas between: each as in `parse_broker`. Raises ConfigError."""
    parts = text.split(",")
    if len(parts) > 1 and DISCOVERED in map(str.strip, parts):
        raise ConfigError([f"broker {text!r}: {DISCOVERED} stands alone, in place of all addresses"])
    return tuple(parse_broker(part, default_port) for part in parts)


def broker_settings(draft: Draft, *, default_username: str | None = None) -> BrokerSettings:
    """The broker. With a password, *default_username* logs in where no other name is given."""
    tls = _tls(draft)
    is_discovered = _is_discovered(draft)
    if is_discovered and tls is not None and tls.ca_file is None:
        draft.note(Problem(("broker", "tls"), _ANYBODY))
    first, *others = [_NOWHERE] if is_discovered else _addresses(draft, TLS_PORT if tls else DEFAULT_PORT)
    password = draft.env.get("PIBOT_PASSWORD") or draft.secret(("broker", "password_file"), "password")
    username = draft.text(("broker", "username")) or (default_username if password else None)
    if password and not username:
        draft.note(Problem(("broker", "username"), "is missing, and a password needs it (or set PIBOT_USERNAME)"))
    keepalive_s = draft.whole(("broker", "keepalive_s"), 15)
    return BrokerSettings(
        *first, username, password, tls, keepalive_s=keepalive_s, others=tuple(others), discover=is_discovered
    )


def _is_discovered(draft: Draft) -> bool:
    """Whether the broker is looked for, by the variable or else by the file, which then must name no address."""
    if "PIBOT_BROKER" in draft.env:
        return draft.env["PIBOT_BROKER"].strip() == DISCOVERED
    if not draft.get(("broker", "discover"), False):
        return False
    for key in ("host", "port", "others"):
        if draft.is_set(("broker", key)):
            draft.note(Problem(("broker", key), "goes with no 'discover: true': give one of the two"))
    return True


def _addresses(draft: Draft, default_port: int) -> tuple[Address, ...]:
    """The servers: those of the variable, or else those of the file."""
    if "PIBOT_BROKER" in draft.env:
        try:
            return parse_brokers(draft.env["PIBOT_BROKER"], default_port)
        except ConfigError as error:
            draft.problems += [(0, f"PIBOT_BROKER (environment): {problem}") for problem in error.problems]
    port = draft.whole(("broker", "port"), default_port)
    addresses = [(draft.text(("broker", "host"), "127.0.0.1"), port)]
    for index, text in enumerate(draft.entries(("broker", "others"))):
        try:
            addresses += [parse_broker(str(text), port)] if text != "" else []
        except ConfigError as error:
            for problem in error.problems:
                draft.note(Problem(("broker", "others", index), problem))
    return tuple(addresses)


def _tls(draft: Draft) -> Tls | None:
    value = draft.get(("broker", "tls"), False)
    if not isinstance(value, dict):
        return Tls() if value else None
    tls = Tls(*(draft.file(("broker", "tls", key)) for key in ("ca_file", "cert_file", "key_file")))
    if tls.key_file and not tls.cert_file:
        draft.note(Problem(("broker", "tls", "cert_file"), "is missing, and key_file needs it"))
    return tls
