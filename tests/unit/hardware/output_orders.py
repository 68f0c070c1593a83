"""Outputs whose pins do as they are told, for the tests of their rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pibot_mesh.hardware.output_values import OutputRule
from pibot_mesh.hardware.outputs import Outputs, Write
from pibot_mesh.protocol.messages import Cause, OutputValue

TASK = Cause(by="task", id="t1")


def carried(core: Outputs, writes: Iterable[Write], now: float = 0) -> list[Write]:
    """Carry out *writes*: every pin does as it is told."""
    done = []
    for write in writes:
        core.confirm(write, write.value, now)
        done.append(write)
    return done


def started(*rules: OutputRule, interlocks: Sequence[Sequence[str]] = (), is_reached: bool = True) -> Outputs:
    """Outputs after their start at 0 s."""
    core = Outputs(rules, interlocks)
    if is_reached:
        core.reach(True, "", 0)
    carried(core, core.begin(0))
    return core


def order(
    core: Outputs, device: str, value: OutputValue, now: float, cause: Cause = TASK, for_s: float | None = None
) -> None:
    """Set an output, and have its pin do it."""
    carried(core, core.set(device, value, cause=cause, for_s=for_s, now=now), now)


def values(writes: Iterable[Write]) -> dict[str, OutputValue]:
    """What is written where."""
    return {write.device: write.value for write in writes}
