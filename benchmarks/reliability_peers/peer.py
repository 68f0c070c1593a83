"""What a system must say of itself to be tried."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pibot_mesh.mqtt.private import SBIN
from reliability_peers.order import Order

HOST: Final = "127.0.0.1"


class PeerError(Exception):
    """A peer cannot be had, or could not be run."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The commands of a peer's processes. *parts* are started in their order, and can be killed by their name."""

    parts: Mapping[str, Sequence[str]]
    submitter: Sequence[str]


class Peer(Protocol):
    """One system."""

    @property
    def name(self) -> str:
        """What it is called in the table."""

    @property
    def shown(self) -> str:
        """The package whose version is shown."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """What its environment needs; with none it runs in this one."""

    @property
    def programs(self) -> tuple[str, ...]:
        """The servers that must be installed."""

    @property
    def quiet_s(self) -> float:
        """For how long nothing more may happen before a trial counts as over."""

    def setup(self, python: str, order: Order) -> Setup:
        """Its commands, with all configuration written below the order's folder."""

    def is_drained(self, order: Order) -> bool:
        """Whether the broker holds nothing more that a worker has yet to do; asked once the submitter has ended."""


def module(python: str, name: str) -> list[str]:
    """The command that runs one of the programs here."""
    return [python, "-m", f"reliability_peers.{name}"]


def find_program(name: str) -> str:
    """The path of a server. Raises PeerError where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path=":".join(SBIN))
    if found is None:
        raise PeerError(f"{name} is not installed")
    return found


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((HOST, port), timeout=0.2).close()
    except OSError:
        return False
    return True


def folder_of(order: Order, name: str) -> Path:
    """A folder of that name for the trial's servers."""
    path = Path(order.folder) / name
    path.mkdir(exist_ok=True)
    return path
