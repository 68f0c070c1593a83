"""How bad a simulated world is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Faults:
    """The chance or the rate of each fault.

    Of messages: the chance that the broker loses, doubles or delays one that is not retained. Of processes: how often
    a minute each meets it. Of the mesh: how often a minute it happens at all. The rest are chances of their own.
    """

    # each message that is not retained
    loss: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    """It takes up to 5 s, or 40, and so overtakes or is overtaken."""

    # each process, a minute
    crash: float = 0.0
    """It is killed before a store, behind it, or before any of the effects that follow, or behind the last."""
    plug: float = 0.0
    """Its machine loses power: what was not synced to disk is gone, and no socket is closed."""
    freeze: float = 0.0
    """It stands still, between two effects, and goes on where it was."""
    cut: float = 0.0
    """Its connection breaks."""
    half_cut: float = 0.0
    """One direction of its connection falls silent."""
    slow_disk: float = 0.0
    broken_disk: float = 0.0
    wall_jump: float = 0.0

    # the whole mesh, a minute
    partition: float = 0.0
    broker_restart: float = 0.0
    join: float = 0.0
    leave: float = 0.0
    swap: float = 0.0
    """A node's machine is replaced by another with its id, whose journal is empty or a copy of another's."""
    stop: float = 0.0
    """A person pulls the emergency stop, and releases it a while later."""
    ledger_restart: float = 0.0
    """The ledger that several masters share is away for some seconds."""

    # of each
    mute: float = 0.0
    """A broken connection that the broker never notices by itself."""
    late_will: float = 0.0
    """A will that comes although its client is back."""
    forgetful: float = 0.0
    """A broker that has lost its store after a restart."""
    slow_tool: float = 0.0
    """A tool that takes longer than its time."""
    deaf_tool: float = 0.0
    """A tool that does not heed its end."""


USUAL: Final = Faults(
    loss=0.02,
    twice=0.03,
    late=0.02,
    crash=0.15,
    plug=0.03,
    freeze=0.05,
    cut=0.15,
    half_cut=0.05,
    slow_disk=0.05,
    broken_disk=0.03,
    wall_jump=0.05,
    partition=0.2,
    broker_restart=0.2,
    join=0.2,
    leave=0.15,
    swap=0.15,
    stop=0.2,
    ledger_restart=0.2,
    mute=0.2,
    late_will=0.2,
    forgetful=0.5,
    slow_tool=0.05,
    deaf_tool=0.2,
)
HARSH: Final = Faults(
    loss=0.1,
    twice=0.12,
    late=0.12,
    crash=0.9,
    plug=0.2,
    freeze=0.3,
    cut=0.8,
    half_cut=0.3,
    slow_disk=0.3,
    broken_disk=0.15,
    wall_jump=0.3,
    partition=0.6,
    broker_restart=0.6,
    join=0.5,
    leave=0.3,
    swap=0.4,
    stop=0.8,
    ledger_restart=0.5,
    mute=0.3,
    late_will=0.3,
    forgetful=0.5,
    slow_tool=0.15,
    deaf_tool=0.4,
)
NONE: Final = Faults()
BY_NAME: Final[Mapping[str, Faults]] = MappingProxyType({"usual": USUAL, "harsh": HARSH, "none": NONE})
