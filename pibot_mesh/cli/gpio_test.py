"""A person at the wires, led from device to device: does each do what its name says?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from pibot_mesh.cli.gpio_view import measures_text
from pibot_mesh.cli.screen import say
from pibot_mesh.cli.values import value_text
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.changes import Change, InputChanged
from pibot_mesh.hardware.kind import pin_words, pins_of
from pibot_mesh.hardware.kinds import spec
from pibot_mesh.protocol.messages import Cause, DeviceSpec, OutputValue

ON_S: Final = 1.0
"""How long an output is on, to be looked at."""
PRESS_WITHIN_S: Final = 15.0
READINGS: Final = 3
READ_EVERY_S: Final = 2.0
"""Slow sensors need so long between two readings."""
CAUSE: Final = Cause("person", reason="pibot gpio test")

Ask: TypeAlias = Callable[[str], Awaitable[str | None]]
"""Shows a question and gives what was typed; None where the input has ended."""
Outcome: TypeAlias = Literal["passed", "failed", "skipped"]

_DO: Final = {
    "button": "press it",
    "motion": "move in front of it",
    "contact": "open it, or shut it",
    "encoder": "turn it",
    "distance": "hold a hand in front of it",
    "counter": "have it count",
}
_BLACK: Final = "#000000"
_WHITE: Final = "#ffffff"
_WORDS: Final[dict[str, Literal["y", "n", "a", "s"]]] = {
    "y": "y",
    "yes": "y",
    "n": "n",
    "no": "n",
    "a": "a",
    "again": "a",
    "s": "s",
    "skip": "s",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the test of one device ended."""

    device: str
    outcome: Outcome
    why: str = ""


class Pins(Protocol):
    """What is tried: a `pibot_mesh.hardware.board.Board` that runs. Raises ToolError."""

    def set(self, device: str, value: OutputValue, *, cause: Cause, for_s: float | None = None) -> OutputValue: ...

    def state(self, device: str) -> OutputValue: ...

    async def read(self, device: str) -> dict[str, float]: ...


class Walk:
    """One test of *pins*, whose outputs are at their safe values. The board's changes go to `heard`."""

    def __init__(
        self,
        ask: Ask,
        *,
        is_simulated: bool = False,
        on_s: float = ON_S,
        press_within_s: float = PRESS_WITHIN_S,
        read_every_s: float = READ_EVERY_S,
    ) -> None:
        self._ask = ask
        self._is_simulated = is_simulated
        self._on_s = on_s
        self._press_within_s = press_within_s
        self._read_every_s = read_every_s
        self._changes: asyncio.Queue[Change] = asyncio.Queue()

    def heard(self, change: Change) -> None:
        """Take in what the board reports."""
        self._changes.put_nowait(change)

    async def through(self, pins: Pins, devices: Sequence[DeviceSettings]) -> list[Verdict]:
        """Test the devices one after the other, until the input ends; those that were not reached are skipped."""
        verdicts: list[Verdict] = []
        with suppress(EOFError):
            for number, device in enumerate(devices, 1):
                shown = spec(device)
                where = f", {pin_words(device)}" if pins_of(device) else ""
                say()
                say(f"[{number}/{len(devices)}] {shown.label or shown.name} ({device.kind}{where})", bold=True)
                verdicts.append(await self._try(pins, shown))
        rest = devices[len(verdicts) :]
        return [*verdicts, *(Verdict(device.id, "skipped", "the input has ended") for device in rest)]

    async def _try(self, pins: Pins, shown: DeviceSpec) -> Verdict:
        if shown.direction == "out":
            return await self._try_output(pins, shown)
        return await (self._try_input(shown) if shown.direction == "in" else self._try_sensor(pins, shown))

    async def _try_output(self, pins: Pins, shown: DeviceSpec) -> Verdict:
        before = pins.state(shown.id)
        wanted = _other(before, shown)
        there, back = value_text(wanted, shown), value_text(before, shown)
        say(f"It will go to {there} for {self._on_s:g} s, then back to {back}.")
        if (await self._asked("Enter to do it, s to skip: ")).strip().lower() in ("s", "skip", "n", "no"):
            return Verdict(shown.id, "skipped")
        while True:
            try:
                pins.set(shown.id, wanted, cause=CAUSE, for_s=self._on_s)
            except ToolError as error:
                say(str(error), tone="bad")
                if not await self._wants_again():
                    is_forbidden = error.code == ErrorCode.UNSAFE
                    return Verdict(shown.id, "skipped" if is_forbidden else "failed", str(error))
                continue
            # It goes back by itself, under the board's own rules, whatever is typed.
            await asyncio.sleep(self._on_s)
            answer = await self._answered("Did it switch? [y]es, [n]o, [a]gain, [s]kip: ")
            if answer != "a":
                return _verdict(shown.id, answer, "it did not switch")

    async def _try_input(self, shown: DeviceSpec) -> Verdict:
        if self._is_simulated:
            say("Nobody can touch a simulated one.")
            return Verdict(shown.id, "skipped", "simulated")
        while True:
            say(f"Now {_DO.get(shown.kind, 'make it change')}, within {self._press_within_s:g} s.", tone="key")
            words = await self._touched(shown)
            if words is not None:
                say(f"It is {words} now.", tone="good")
                return Verdict(shown.id, "passed")
            say("Nothing came.", tone="bad")
            if not await self._wants_again():
                return Verdict(shown.id, "failed", f"nothing came within {self._press_within_s:g} s")

    async def _touched(self, shown: DeviceSpec) -> str | None:
        """What the input then is at, in words; None where it did not change in time."""
        while not self._changes.empty():
            self._changes.get_nowait()
        try:
            async with asyncio.timeout(self._press_within_s):
                while True:
                    change = await self._changes.get()
                    if change.device == shown.id and isinstance(change, InputChanged):
                        return value_text(change.value, shown)
        except TimeoutError:
            return None

    async def _try_sensor(self, pins: Pins, shown: DeviceSpec) -> Verdict:
        while True:
            try:
                for number in range(READINGS):
                    if number:
                        await asyncio.sleep(self._read_every_s)
                    say(f"  {measures_text(shown, await pins.read(shown.id))}")
            except Exception as error:  # noqa: BLE001 - drivers raise what they like
                say(f"It does not answer: {error}", tone="bad")
                if not await self._wants_again():
                    return Verdict(shown.id, "failed", str(error))
                continue
            answer = await self._answered("Is that plausible? [y]es, [n]o, [a]gain, [s]kip: ")
            if answer != "a":
                return _verdict(shown.id, answer, "what it gives is not plausible")

    async def _wants_again(self) -> bool:
        return (await self._asked("a to try again, Enter to go on: ")).strip().lower() in ("a", "again")

    async def _answered(self, question: str) -> Literal["y", "n", "a", "s"]:
        while (answer := _WORDS.get((await self._asked(question)).strip().lower())) is None:
            say("Please type y, n, a or s.", tone="odd")
        return answer

    async def _asked(self, question: str) -> str:
        """What was typed. Raises EOFError where the input has ended."""
        typed = await self._ask(question)
        if typed is None:
            raise EOFError
        return typed


def verdict_text(verdict: Verdict, width: int) -> str:
    """One line of the table at the end."""
    return f"  {verdict.device:{width}}  {verdict.outcome}{f': {verdict.why}' if verdict.why else ''}"


def _verdict(device: str, answer: Literal["y", "n", "s"], why: str) -> Verdict:
    return {
        "y": Verdict(device, "passed"),
        "n": Verdict(device, "failed", why),
        "s": Verdict(device, "skipped"),
    }[answer]


def _other(value: OutputValue, shown: DeviceSpec) -> OutputValue:
    """What an output at *value* must go to so that a person sees a difference."""
    if isinstance(value, str) or shown.color:
        return _BLACK if value == _WHITE else _WHITE
    if isinstance(value, bool):
        return not value
    return 0.0 if value >= 50 else 100.0
