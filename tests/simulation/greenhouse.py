"""A greenhouse and a day in it: real board, reflexes and routines, on simulated time.

The clock on the wall begins in 1970, is set forward and back, and goes through a change of summer time. The sensors
follow the day, the master goes away, tasks fail, a button bounces, and twice there is an emergency stop.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import math
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from pibot_mesh.config.settings import (
    Action,
    Condition,
    DeviceSettings,
    MasterSettings,
    Place,
    ReflexSettings,
    SafetySettings,
    ScheduleSettings,
    TriggerSettings,
)
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware import board as board_module, sensing as sensing_module
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, InputEvent, OutputChanged, SensorRead
from pibot_mesh.hardware.pins import OutputPin
from pibot_mesh.master.events import Origin, Record, RequestArrived
from pibot_mesh.master.routine_runner import SETTLE_S, WAKE_S, RoutineRunner, routines_of
from pibot_mesh.master.store import Known
from pibot_mesh.node.reflex_runner import ReflexRunner, silences_of
from pibot_mesh.node.reflex_store import ReflexStore
from pibot_mesh.protocol.messages import Cause, NodeEvent, OutputValue, Request, State
from pibot_mesh.testing.day import DayLoop, Diary, Due, Limits, Witness

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
BERLIN: Final = ZoneInfo("Europe/Berlin")
LATITUDE, LONGITUDE = 52.52, 13.40
MARCH, OCTOBER = "2026-03-29", "2026-10-25"

LIMITS: Final = {
    "heater": Limits(3600, 120),
    "fan": Limits(7200),
    "pump": Limits(60, 600),
    "lamp": Limits(),
}
INTERVALS_S: Final = {"air": 30.0, "soil": 60.0}
LOST_AFTER_S: Final = 300.0
MAX_LATE_S: Final = 3.0
"""For so long the machine stands still, at the longest."""
HOT: Final = {"measure": "temperature", "above": 28, "hysteresis": 2, "for_s": 60, "name": "hot"}
WATCHED: Final[Mapping[str, object]] = {"filter": {"median": 3, "change": 0.2}, "thresholds": [HOT]}


def _limited(device: str, **options: object) -> Mapping[str, object]:
    limits = {"max_on_s": LIMITS[device].max_on_s, "min_off_s": LIMITS[device].min_off_s}
    return {**{key: limit for key, limit in limits.items() if limit is not None}, **options}


DEVICES: Final = (
    DeviceSettings("heater", "relay", 17, options=_limited("heater", active_high=False)),
    DeviceSettings("fan", "relay", 27, options=_limited("fan")),
    DeviceSettings("pump", "relay", 22, options=_limited("pump")),
    DeviceSettings("lamp", "light", 18),
    DeviceSettings("button", "button", 23),
    DeviceSettings("air", "climate", options={"interval_s": INTERVALS_S["air"], **WATCHED}),
    DeviceSettings("soil", "mcp3xxx", options={"interval_s": INTERVALS_S["soil"], "measure": "moisture", "unit": "%"}),
)
SAFETY: Final = SafetySettings(lost_after_s=LOST_AFTER_S, interlocks=(("heater", "fan"),))
REFLEXES: Final = (
    ReflexSettings(
        "cool",
        Condition("air", "temperature", above=28, hysteresis=2, for_s=60),
        (Action("fan", True),),
        (Action("fan", False),),
    ),
    ReflexSettings(
        "warm",
        Condition("air", "temperature", below=5, hysteresis=2),
        (Action("heater", True),),
        (Action("heater", False),),
    ),
    ReflexSettings("water", Condition("soil", below=30, hysteresis=5), (Action("pump", True, 20.0),)),
    ReflexSettings("by-hand", Condition("button", event="pressed"), (Action("pump", True, 10.0),)),
)
PLACE: Final = Place(LATITUDE, LONGITUDE, "Europe/Berlin")
SCHEDULES: Final = (
    ScheduleSettings("night", "heat", "30 2 * * *"),
    ScheduleSettings("quarter", "air", "*/15 * * * *"),
    ScheduleSettings("seven", "water", "0 7 * * *", missed="run", late_s=2 * HOUR_S),
    ScheduleSettings("sunrise", "dark", "sunrise"),
    ScheduleSettings("sunset", "light", "sunset"),
)
TRIGGERS: Final = (TriggerSettings("bell", "water", "greenhouse", "button", "pressed"),)
ORDERS: Final[Mapping[str, tuple[str, OutputValue, float | None]]] = {
    "heat": ("heater", True, None),
    "air": ("fan", True, 120.0),
    "water": ("pump", True, 30.0),
    "dark": ("lamp", 0.0, None),
    "light": ("lamp", 40.0, None),
}
BY_REFLEX_S: Final = {"water": 20.0, "by-hand": 10.0}
"""How long each of these reflexes turns an output on."""
LIVELY: Final = (
    "timer: its time is over",
    "safety: it was on for 60 s, as long as it may be",
    "safety: no master for 300 s",
    "stop: the roof is open",
    "rule cool",
    "rule warm",
    "rule water",
    "rule by-hand",
    "refused: must never be on together",
    "refused: can be turned on again",
    "refused: emergency stop holds",
    "failed",
    "silent",
)
"""What must have happened at all, or else the day proves little."""


def _utc(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


NIGHTS: Final = {
    MARCH: (_utc("2026-03-29 01:00"), _utc("2026-03-30 00:30")),
    OCTOBER: (_utc("2026-10-25 00:30"), _utc("2026-10-26 01:30")),
}
"""Half past two: at the end of the hour that does not exist, and in the first of the hour that exists twice."""


def dues(day: str) -> dict[str, Due]:
    """What is due on *day* and somewhat later, by hand."""
    begin = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
    first = begin.astimezone(UTC).timestamp()
    sevens = [(begin + timedelta(days=days, hours=7)).timestamp() for days in range(2)]
    quarters = [first + 900 * number for number in range(-8, 32 * 4)]
    return {
        "night": Due(NIGHTS[day]),
        "quarter": Due(quarters),
        "seven": Due(sevens, late_s=2 * HOUR_S, is_made_up=True),
        "sunrise": Due(_horizon(first, is_rising=True), within_s=60.0),
        "sunset": Due(_horizon(first, is_rising=False), within_s=60.0),
    }


def _horizon(first: float, *, is_rising: bool) -> list[float]:
    """When the upper edge of the sun comes over the horizon, or goes below it: looked at minute by minute."""
    from astral import Observer
    from astral.sun import elevation

    minutes = [first + 60 * number for number in range(31 * 60)]
    place = Observer(LATITUDE, LONGITUDE)
    is_up = [elevation(place, datetime.fromtimestamp(each, UTC)) > -32 / 120 for each in minutes]
    pairs = zip(itertools.pairwise(minutes), itertools.pairwise(is_up), strict=True)
    return [sum(each) / 2 for each, (before, after) in pairs if before != after and after == is_rising]


@dataclass
class Books:
    """A ledger that knows what was made."""

    known: set[str] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=dict)
    is_shared: bool = False
    is_leader: bool = True

    async def look_up(self, request_ids: Collection[str]) -> dict[str, Known]:
        record = Record(Request("known", "x"), Origin(), State.COMPLETED)
        return {each: Known(record) for each in request_ids if each in self.known}

    async def read_settings(self, prefix: str) -> dict[str, str]:
        return {name: text for name, text in self.settings.items() if name.startswith(prefix)}

    async def write_setting(self, name: str, value: str | None) -> None:
        if value is None:
            self.settings.pop(name, None)
        else:
            self.settings[name] = value


class DaySensor:
    """A sensor whose value follows the day, takes its time, and has three silent quarters of an hour."""

    def __init__(self, measure: str, curve: Callable[[float], float], chance: random.Random, start_s: float) -> None:
        self.readings = 0
        self.asked_at = 0.0
        self.failures = 0
        self._measure = measure
        self._curve = curve
        self._chance = chance
        self._start_s = start_s
        self._silent_from = [chance.uniform(2, 22) * HOUR_S for _ in range(3)]

    async def read(self) -> dict[str, float]:
        now = asyncio.get_running_loop().time() - self._start_s
        self.readings, self.asked_at = self.readings + 1, now
        await asyncio.sleep(self._chance.uniform(0.01, 0.2))
        if any(begin <= now < begin + 900 for begin in self._silent_from):
            self.failures += 1
            raise ToolError("it is silent", retryable=True)
        return {self._measure: round(self._curve(now / DAY_S) + self._chance.gauss(0, 0.4), 1)}


class Alarm(logging.Handler):
    """Hears of each bug that a shell has survived."""

    def __init__(self, broken: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._broken = broken

    def emit(self, record: logging.LogRecord) -> None:
        if "a bug" in record.getMessage() or record.exc_info:
            self._broken.append(f"in the log: {record.getMessage()} {record.exc_info}")


class Greenhouse:
    """A node, its master, the people, and what goes wrong on one day."""

    def __init__(self, seed: int, day: str, folder: Path, *, is_traced: bool = False) -> None:
        self.seed = seed
        self._is_traced = is_traced
        # Each has a chance of its own: what one more timer changes is not the hour of the emergency stop.
        streams = (random.Random(f"{name} {seed}") for name in ("plan", "wishes", "hurry"))
        self._plan, self._wishes, self._hurry = streams
        self.tally: Counter[str] = Counter()
        self._first_sizes: Mapping[str, int] = {}
        self.grown = 0
        """Bytes by which memory grew in the last 12 hours, where it is traced."""
        self._start_s = 1_000_000.0 + self._plan.random()
        self._is_over = False
        self._loop = DayLoop(self._start_s, lateness=self._lateness, looked=self._look)
        self._first = datetime.fromisoformat(day).replace(tzinfo=BERLIN).timestamp()
        self._offset_s = -self._start_s
        """The clock on the wall, minus the loop's: since 1970 not much has happened."""
        self.witness = Witness(
            LIMITS,
            SAFETY.interlocks,
            lost_after_s=LOST_AFTER_S,
            clock=self._loop.time,
            late_s=lambda: self._loop.late_s,
        )
        self.diary = Diary(dues(day), notice_s=WAKE_S + 5)
        self._books = Books()
        self.master: RoutineRunner | None = None
        self._is_settled = False
        self._reflexes_file = folder / f"reflexes-{seed}.json"
        self._for_s: dict[str, float | None] = {}
        self._numbers = itertools.count(1)
        self._hot_since: float | None = None
        self._is_hot = False
        self._presses = 0
        self._pressed = 0
        self._owed: set[str] = set()
        """Requests that must come of presses."""
        self.sensors: dict[str, DaySensor] = {}

    # The day

    def live(self) -> None:
        """All of it. Raises AssertionError at the first promise that is broken; it names the seed and the time."""
        alarm, log = Alarm(self.witness.broken), logging.getLogger("pibot_mesh")
        with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            patch.setattr(log, "propagate", False)
            patch.setattr(log, "handlers", [alarm])
            patch.setattr("gpiozero.pins.mock.monotonic", self._loop.time)
            patch.setattr(board_module, "OutputPin", self._watched_pin())
            patch.setattr(sensing_module, "simulated_sensor", self._sensor)
            try:
                runner.run(self._live())
            finally:
                self._is_over = True
                tracemalloc.stop()
        self._check()

    async def _live(self) -> None:
        self._loop.set_exception_handler(lambda _, context: self.witness.broken.append(f"the loop says: {context}"))
        self.board = Board(DEVICES, simulate=True, on_change=self._changed, safety=SAFETY, now=self._loop.time)
        self.reflexes = ReflexRunner(
            self.board,
            REFLEXES,
            ReflexStore(self._reflexes_file),
            changed=lambda: None,
            state=lambda *_: None,
            silent_after_s=silences_of(DEVICES),
            now=self._loop.time,
        )
        await self.board.start()
        self.reflexes.start()
        await self._master_comes()
        doings = [self._loop.create_task(doing) for doing in self._doings()]
        await self._until(1 + 10 / HOUR_S)  # between two readings
        self._first_sizes = self._sizes()
        for hour in range(2, 24):
            await self._until(hour + 10 / HOUR_S)
            self._inspect()
            if hour == 12 and self._is_traced:
                tracemalloc.start()
                self.grown = -self._traced()
        await self._until(24 - 10 / HOUR_S)
        self._inspect()
        if self._is_traced:
            self.grown += self._traced()
        await self._until(24)
        await self._master_goes()
        for doing in doings:
            doing.cancel()
        await asyncio.gather(*doings, return_exceptions=True)
        await self.reflexes.stop()
        await self.board.stop()
        self._look()

    def _traced(self) -> int:
        for device in ("heater", "fan", "pump", "lamp", "button"):
            pin: Any = self.board.simulated_pin(device)
            pin.clear_states()  # gpiozero's simulated pins keep all that they were at
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def _doings(self) -> list[Any]:
        def at() -> float:
            return self._plan.uniform(1.5, 21)

        return [
            self._set_clock_at(5 / 60, self._first - self._start_s - 3000 - self._offset_s),
            self._set_clock_at(at(), 3 * HOUR_S),
            self._set_clock_at(at(), -HOUR_S),
            *(self._stop_at(at()) for _ in range(2)),
            self._absences(),
            self._people(),
            self._presser(),
        ]

    async def _until(self, hour: float) -> None:
        await asyncio.sleep(self._start_s + hour * HOUR_S - self._loop.time())

    async def _set_clock_at(self, hour: float, by_s: float) -> None:
        await self._until(hour)
        self.diary.end(self.wall())
        self._offset_s += by_s
        if self._is_settled:
            # A schedule begins with the first look at a clock that was set.
            self.diary.begin(self.wall() + (WAKE_S + 5 if by_s > DAY_S else 0))

    async def _stop_at(self, hour: float) -> None:
        await self._until(hour)
        self.board.hold(True, Cause(by="stop", reason="the roof is open"))
        self.witness.hold(True)
        await asyncio.sleep(600)
        self.witness.hold(False)
        self.board.hold(False, Cause(by="stop"))

    async def _absences(self) -> None:
        for hour in (2.0, 7.0, 12.0, 17.0):
            await self._until(hour + self._plan.uniform(0, 3))
            self._order(f"t{next(self._numbers)}", "lamp", True, None)
            await self._master_goes()
            await asyncio.sleep(HOUR_S)
            await self._master_comes()

    async def _people(self) -> None:
        """Somebody always wants something; not in the first and last hours, which are compared."""
        await self._until(1.2)
        while self._loop.time() < self._start_s + 22 * HOUR_S:
            await asyncio.sleep(self._wishes.uniform(20, 500))
            if self._is_settled:
                device = self._wishes.choice(tuple(LIMITS))
                value: OutputValue = self._wishes.random() < 0.8
                for_s = self._wishes.choice((None, 15.0, 600.0)) if value else None
                self._order(f"t{next(self._numbers)}", device, value, for_s)

    async def _presser(self) -> None:
        """A button whose contact bounces."""
        await self._until(1.2)
        pin = self.board.simulated_pin("button")
        while self._loop.time() < self._start_s + 22 * HOUR_S:
            await asyncio.sleep(self._wishes.uniform(100, 1500))
            self._presses += 1
            for _ in range(self._wishes.randint(1, 5)):
                pin.drive_low()
                pin.drive_high()
            pin.drive_low()
            await asyncio.sleep(self._wishes.uniform(0.1, 2))
            for _ in range(3):
                pin.drive_high()
                pin.drive_low()
            pin.drive_high()

    # The master

    def wall(self) -> float:
        """The clock on the wall, in Unix seconds."""
        return self._loop.time() + self._offset_s

    async def _master_comes(self) -> None:
        self.master = RoutineRunner(
            routines_of(MasterSettings(schedules=SCHEDULES, triggers=TRIGGERS, place=PLACE)),
            self._books,
            make=self._make,
            say=lambda *_: None,
            boot="m1",
            wall=self.wall,
            clock=self._loop.time,
        )
        await self.master.start()
        self.master.connected()
        self.board.reach(True, "")
        self.witness.reach(True)
        await asyncio.sleep(SETTLE_S + 5)
        self._is_settled = True
        if self.wall() > self._first - DAY_S:
            self.diary.begin(self.wall())

    async def _master_goes(self) -> None:
        self._is_settled = False
        self.diary.end(self.wall())
        if self.master is not None:
            await self.master.stop()
        self.master = None
        self.board.reach(False, "no master")
        self.witness.reach(False)

    def _make(self, arrived: RequestArrived) -> None:
        request = arrived.request
        self._books.known.add(request.id)
        kind, routine, _ = request.id.split("-", 2)
        if kind == "sch":
            self.diary.made(routine, self.wall())
            self.witness.broken += self.diary.broken
        elif request.id in self._owed:
            self._owed.discard(request.id)
        self._order(f"t{next(self._numbers)}", *ORDERS[request.text])

    def _order(self, task: str, device: str, value: OutputValue, for_s: float | None) -> None:
        """What a node's task does; one in five fails later."""
        self._for_s = {task: for_s}
        try:
            self.board.set(device, value, cause=Cause(by="task", id=task), for_s=for_s)
        except ToolError as error:
            if error.code not in (ErrorCode.UNSAFE, ErrorCode.STOPPED):
                self.witness.broken.append(f"{device} cannot be {value}: {error}")
            for key in LIVELY:
                if key.startswith("refused: ") and key.removeprefix("refused: ") in str(error):
                    self.tally[key] += 1
        else:
            if self._wishes.random() < 0.2:
                self._loop.call_later(self._wishes.uniform(1, 60), self._fail, task)

    def _fail(self, task: str) -> None:
        self.board.task_failed(task, "it failed")
        for device, (value, cause) in self.board.outputs().items():
            if cause.by == "task" and cause.id == task and value:
                self.witness.broken.append(f"{device} stayed on although its task failed")
            self.tally["failed"] += cause.id == task

    # What is seen

    def _watched_pin(self) -> type[OutputPin]:
        greenhouse = self

        class WatchedPin(OutputPin):
            def write(self, value: OutputValue) -> None:
                super().write(value)
                device = self._settings
                greenhouse.witness.wrote(device.id, greenhouse._is_on(device))

        return WatchedPin

    def _is_on(self, device: DeviceSettings) -> bool:
        return (self.board.simulated_pin(device.id).state > 0) == bool(device.options.get("active_high", True))

    def _sensor(self, device: DeviceSettings, *_: object) -> DaySensor:
        def air(day: float) -> float:
            return 15 - 17 * math.cos(2 * math.pi * day)

        def soil(day: float) -> float:
            return 34 + 12 * math.cos(10 * math.pi * day)

        measure, curve = ("moisture", soil) if device.id == "soil" else ("temperature", air)
        sensor = DaySensor(measure, curve, random.Random(f"{device.id} {self.seed}"), self._start_s)
        self.sensors[device.id] = sensor
        return sensor

    def _changed(self, change: Change) -> None:
        match change:
            case OutputChanged(device, value, cause):
                self._output_changed(device, value, cause)
            case InputEvent(device, event_type):
                self._happened(device, event_type)
            case SensorRead("air", values):
                self._felt(values["temperature"])
        self.reflexes.hear(change)

    def _output_changed(self, device: str, value: OutputValue, cause: Cause) -> None:
        settings = next(each for each in DEVICES if each.id == device)
        if bool(value) != self._is_on(settings):
            self.witness.broken.append(f"{device} is told to be {value}, and its pin is not")
        times = BY_REFLEX_S if cause.by == "rule" else self._for_s
        for_s = times.get(cause.id or "") if value else None
        self.witness.set_by(device, is_by_reflex=cause.by == "rule", for_s=for_s)
        said = f"rule {cause.id}" if cause.by == "rule" else f"{cause.by}: {cause.reason}"
        if said in LIVELY:
            self.tally[said] += 1
        if cause.id == "cool" and value and (self._hot_since is None or self._loop.time() < self._hot_since + 59.999):
            self.witness.broken.append("the fan went on before it was hot for 60 s")

    def _felt(self, temperature: float) -> None:
        if temperature <= (28 if self._hot_since is None else 26):
            self._hot_since = None
        elif self._hot_since is None:
            self._hot_since = self._loop.time()

    def _happened(self, device: str, event_type: str) -> None:
        number = next(self._numbers)
        if (device, event_type) == ("button", "pressed"):
            self._pressed += 1
            if self._is_settled:
                self._owed.add(f"trg-bell-b1-{number}")
        elif device == "air":
            if self._is_hot == (event_type == "hot"):
                self.witness.broken.append(f"{event_type} was told twice")
            self._is_hot = event_type == "hot"
        if self.master is not None:
            self.master.hear_event("greenhouse", NodeEvent(event_type, device, "b1", number), is_retained=False)

    def _lateness(self) -> float:
        """Mostly a few milliseconds; now and then the machine stands still."""
        return self._hurry.uniform(0.3, MAX_LATE_S) if self._hurry.random() < 0.002 else self._hurry.uniform(0, 0.02)

    def _look(self) -> None:
        if self._is_over:
            return
        self.witness.look()
        if self.witness.broken:
            self._is_over = True
            raise AssertionError(self._say(self.witness.broken[0]))

    def _say(self, what: str) -> str:
        passed = timedelta(seconds=round(self._loop.time() - self._start_s))
        return f"seed {self.seed}, after {passed}: {what}"

    # Afterwards

    def _inspect(self) -> None:
        """What is looked at every hour. Raises AssertionError."""
        broken = self.diary.missing(self.wall())
        passed_s = self._loop.time() - self._start_s
        for device, sensor in self.sensors.items():
            expected = passed_s / INTERVALS_S[device]
            if abs(sensor.readings - expected) > 1:
                broken.append(f"{device} was read {sensor.readings} times, not {expected:g}")
            late_s = sensor.asked_at - INTERVALS_S[device] * (sensor.readings - 1)
            if late_s > MAX_LATE_S:
                broken.append(f"{device} was read {late_s:g} s late")
        if self._presses - self._pressed not in (0, 1):
            broken.append(f"{self._presses} presses were told as {self._pressed}")
        sizes, first = (self._sizes() if self.master is not None else {}), self._first_sizes
        broken += [f"{key}: {first[key]} entries after an hour, {sizes[key]} now" for key in _grown(first, sizes)]
        assert not broken, self._say("; ".join(broken))

    def _check(self) -> None:
        """What is looked at after the day. Raises AssertionError."""
        self.tally["silent"] = sum(sensor.failures for sensor in self.sensors.values())
        assert not self._owed, self._say(f"nothing came of {sorted(self._owed)}")

    def _sizes(self) -> dict[str, int]:
        """How much each part remembers that must not remember more and more."""
        board: Any = self.board
        outputs, sensing, inputs = board._outputs, board._sensing, board._inputs
        reflexes: Any = self.reflexes
        master: Any = self.master
        loop: Any = self._loop
        return {
            "output deadlines": len(outputs._timers._due),
            "output deadlines with stale ones": len(outputs._timers._heap),
            "retries": len(outputs._retries),
            "rests": len(outputs._rests),
            "unsafe outputs": len(board._unsafe),
            "readings": len(sensing._readings),
            "readings under way": len(sensing._under_way),
            "windows": sum(len(smoothing._window) for smoothing in sensing._smoothing.values()),
            "signals": len(inputs._heard),
            "latest changes": len(reflexes._reflexes._latest),
            "writes of reflexes": len(reflexes._writing),
            "orders": len(master._orders) + len(master._held) + len(master._gone) + len(master._removed),
            "texts of routines": len(master._routines._stored) + len(master._routines._said),
            "requests of one routine": max(len(each.made) for each in master._routines._routines.values()),
            "timers of the loop": len(loop._scheduled),
            "tasks": len(asyncio.all_tasks(loop)),
        }


BOUNDS: Final = {
    "output deadlines": 4 * len(LIMITS),
    "output deadlines with stale ones": 8 * len(LIMITS) + 65,
    "readings under way": len(INTERVALS_S),
    "retries": len(LIMITS),
    "orders": 2,
    "signals": 16,
    "tasks": 20,
    "timers of the loop": 200,
    "requests of one routine": 200,
    "windows": 4,
}
"""What may be more at the end than after an hour, up to so much: what is going on, and what is kept for a while."""


MAX_GROWN: Final = 300_000
"""Bytes in 12 hours; the ids in the ledger of this test are among them."""
ONCE: Final = ("night", "seven", "sunrise", "sunset")


def _grown(first: Mapping[str, int], last: Mapping[str, int]) -> list[str]:
    return [name for name, size in last.items() if size > max(first[name], BOUNDS.get(name, 0))]
