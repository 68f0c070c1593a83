"""Boards, sensors and routines that each break one promise: a day must find out every one of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final

from pibot_mesh.errors import ToolError
from pibot_mesh.hardware import board as board_module, presses as presses_module
from pibot_mesh.hardware.changes import OutputChanged
from pibot_mesh.hardware.output_values import OutputRule
from pibot_mesh.hardware.outputs import Outputs, Write
from pibot_mesh.hardware.presses import Debounce
from pibot_mesh.hardware.sensing import Sensing
from pibot_mesh.master import routine_runner as routine_runner_module, routines as routines_module
from pibot_mesh.master.routines import Make, Routines
from pibot_mesh.protocol.messages import Cause, OutputValue
from tests.simulation.greenhouse import BERLIN


class ForgetsTheLongestTime(Outputs):
    """An output that is on stays on."""

    def _goes_on(self, rule: OutputRule, now: float) -> None:
        super()._goes_on(rule, now)
        self._timers.cancel((rule.id, "max_on_s"))


class ForgetsItsTime(Outputs):
    """What is set for a time is set for good."""

    def _count_time(self, write: Write, now: float) -> None:
        """Nothing runs."""


class IgnoresTheRest(Outputs):
    """What went off goes on again at once."""

    def _check_may_go_on(self, rule: OutputRule, now: float) -> None:
        """It may."""


class IgnoresInterlocks(Outputs):
    """What is on does not keep another from going on."""

    def _rivals_on(self, rule: OutputRule, value: OutputValue) -> list[OutputRule]:
        return []


class IgnoresTheLoss(Outputs):
    """Without a master all goes on as it was."""

    def reach(self, is_reached: bool, reason: str, now: float) -> None:
        super().reach(True, reason, now)


class ReleasesTheStop(Outputs):
    """The emergency stop turns all off, and keeps nobody from turning it on."""

    def hold(self, is_held: bool, cause: Cause) -> list[Write]:
        writes = super().hold(is_held, cause)
        self._is_held = False
        return writes


class KeepsWhatFailed(Outputs):
    """The failure of a task changes nothing."""

    def task_failed(self, task_id: str, cause: Cause) -> list[Write]:
        return []


class ForgetsNoDeadline(Outputs):
    """What was tried again is tried for ever."""

    def confirm(self, write: Write, reads: OutputValue, now: float) -> OutputChanged:
        self._retries[f"{write.device} {len(self._retries)}"] = write
        return super().confirm(write, reads, now)


class LocalNames(datetime):
    """The id of a due time says what the clock on the wall showed."""

    @classmethod
    def fromtimestamp(cls, timestamp: float, tz: tzinfo | None = None) -> LocalNames:
        return super().fromtimestamp(timestamp, BERLIN)


class NamesTheMoment(Routines):
    """The id of a request is that of the moment: no ledger knows the second one for the same."""

    def _made(self, routine: Any, request_id: str, wall_ts: float) -> Make:
        if request_id.startswith("sch-"):
            routine.made.clear()
            request_id = f"{request_id}-{self._new_id()}"
        return super()._made(routine, request_id, wall_ts)


class DriftingSensing(Sensing):
    """The pause between two readings begins when the first one ends."""

    async def _poll(self, device: str) -> None:
        while True:
            with suppress(ToolError):
                await self.read(device)
            await self._sleep(self._intervals_s[device])


class Bouncing(Debounce):
    """Every edge counts."""

    def __init__(self, bounce_s: float, is_active: bool) -> None:
        super().__init__(0.0, is_active)


@dataclass(frozen=True, slots=True)
class Mutation:
    """*part* stands in the place of the one that *module* has, under *name*; *finds* is in what is said of it."""

    module: object
    name: str
    part: type
    finds: str


MUTATIONS: Final = (
    *(
        Mutation(board_module, "Outputs", part, finds)
        for part, finds in (
            (ForgetsTheLongestTime, "was still on .* after it was on for"),
            (ForgetsItsTime, "was still on .* after its time was over"),
            (IgnoresTheRest, "went on again after"),
            (IgnoresInterlocks, "heater and fan on together"),
            (IgnoresTheLoss, "was still on .* after nobody was reached"),
            (ReleasesTheStop, "on in the emergency stop"),
            (KeepsWhatFailed, "stayed on although its task failed"),
            (ForgetsNoDeadline, "retries: .* entries"),
        )
    ),
    Mutation(routines_module, "datetime", LocalNames, "was not made"),
    Mutation(routine_runner_module, "Routines", NamesTheMoment, "was made again"),
    Mutation(board_module, "Sensing", DriftingSensing, "air was read"),
    Mutation(presses_module, "Debounce", Bouncing, "presses were told as"),
)
