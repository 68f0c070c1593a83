"""How ``pibot`` ends."""

from __future__ import annotations

from typing import Final

from pibot_mesh.protocol.messages import State

FAILED: Final = 2
"""The request failed or was refused; or the usage, a file or a variable is wrong."""
NOBODY: Final = 3
"""No broker, or no master on it."""
INTERRUPTED: Final = 130
"""Ctrl-C: 128 and the number of SIGINT, as shells say it."""
PIPE_CLOSED: Final = 141
"""Whoever read the output went away: 128 and the number of SIGPIPE."""


def exit_code(state: State) -> int:
    """0 where a request that ended in *state* was completed, else `FAILED`."""
    return 0 if state is State.COMPLETED else FAILED
