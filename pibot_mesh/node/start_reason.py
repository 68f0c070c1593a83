"""Why a node's process started, told from how the one before it ended. Pure, but for reading the machine's boot id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

StartReason: TypeAlias = Literal["first", "restart", "crash", "reboot", "power_loss"]
"""Why a node's process started.

- ``first``: its journal knows of no process before it. So it is where the journal is a new one: removed, or set aside
  because it was damaged.
- ``restart``: the one before was ended in good order, and the machine ran on.
- ``crash``: the one before ended without a word, and the machine ran on: it was killed, had no memory left, or a bug.
- ``reboot``: the one before was ended in good order, and the machine was started anew since.
- ``power_loss``: the one before ended without a word, and the machine was started anew since. A kernel that panicked
  and a watchdog that bit look the same, and so does a process that crashed a while before the machine was restarted.
- None: it cannot be told.

The end of a process is good order where a signal or a person ended it and the journal could be written then. On a disk
that is full or read-only it could not, and the next start counts as a crash: wrong, but nothing is taken for well.
"""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class LastProcess:
    """What a node's journal remembers of the process that ran before."""

    machine_boot: str = ""
    """The id of the machine's start that it ran in; empty where it could not be read, or an old version wrote none."""
    is_ended: bool = False
    """Whether it ended in good order."""


def start_reason(last: LastProcess | None, machine_boot: str) -> StartReason | None:
    """Why the process starts that comes after *last*, on a machine that now runs in the start *machine_boot*.

    Without *last* there was none. An empty *machine_boot* is one that could not be read.
    """
    if last is None:
        return "first"
    if not last.machine_boot or not machine_boot:
        return None
    if last.machine_boot == machine_boot:
        return "restart" if last.is_ended else "crash"
    return "reboot" if last.is_ended else "power_loss"


def read_machine_boot(path: Path = _BOOT_ID) -> str:
    """The id that Linux drew when this machine was started; empty where there is none. A container has its host's."""
    try:
        return path.read_text(encoding="ascii").strip()[:_MAX_LENGTH]
    except (OSError, UnicodeError):
        return ""
