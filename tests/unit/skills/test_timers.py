"""Timers that a restart does not lose, over real files."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output
from pibot_mesh.skills.timer_book import Finished
from pibot_mesh.skills.timers import Timers
from tests.brokers import until


class Bench:
    """Timers over a file, with clocks that are moved by hand."""

    def __init__(self, file: Path, *, now: float = 0.0, wall: float = 1_700_000_000.0) -> None:
        self.now, self.wall = now, wall
        self.finished: list[Finished] = []
        self.file = file
        self.timers = Timers(file, self.finished.append, clock=lambda: self.now, wall=lambda: self.wall)
        self._tools = ToolRegistry(self.timers.tools())

    async def __aenter__(self) -> Bench:
        await self.timers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.timers.stop()

    async def call(self, name: str, args: Mapping[str, JSON] | None = None) -> Output:
        return await self._tools.call(name, args or {})

    async def tea(self, for_s: float = 120) -> Output:
        return await self.call("timer_set", {"name": "tea", "for_s": for_s, "text": "green"})

    async def pass_by(self, seconds: float) -> None:
        """Let time go by on both clocks, and have the timers look."""
        self.now += seconds
        self.wall += seconds
        self.timers._changed.set()
        await asyncio.sleep(0)


async def test_a_timer_is_set_listed_and_stopped(tmp_path: Path) -> None:
    """In words and in data."""
    async with Bench(tmp_path / "timers.json") as bench:
        assert (await bench.call("timer_list")).text == "no timer runs"
        assert (await bench.tea()).text == "the timer tea runs for 2 minutes"
        assert (await bench.tea()).text == "the timer tea runs again for 2 minutes"
        await bench.pass_by(30)

        assert await bench.call("timer_list") == Output(
            "tea has 90 seconds left",
            {"timers": [{"name": "tea", "text": "green", "for_s": 120.0, "left_s": 90}]},
        )
        assert await bench.call("timer_cancel", {"name": "tea"}) == Output(
            "the timer tea is stopped; it had 90 seconds left", {"name": "tea", "left_s": 90}
        )
        with pytest.raises(ToolError, match="none runs"):
            await bench.call("timer_cancel", {"name": "tea"})


@pytest.mark.parametrize("args", [{"name": "tea"}, {"name": "", "for_s": 5}, {"name": "tea", "for_s": 0.5}])
async def test_what_is_no_timer_is_refused(tmp_path: Path, args: dict[str, JSON]) -> None:
    """By the schema."""
    async with Bench(tmp_path / "timers.json") as bench:
        with pytest.raises(ToolError) as caught:
            await bench.call("timer_set", args)
    assert caught.value.code == ErrorCode.BAD_ARGUMENTS


async def test_a_timer_ends_by_itself_in_real_time(tmp_path: Path) -> None:
    """One second later, and not before."""
    finished: list[Finished] = []
    timers = Timers(tmp_path / "timers.json", finished.append)
    await timers.start()
    begun = asyncio.get_running_loop().time()
    await ToolRegistry(timers.tools()).call("timer_set", {"name": "tea", "for_s": 1})
    await until(lambda: finished, "the timer ends")
    took_s = asyncio.get_running_loop().time() - begun
    await timers.stop()

    assert took_s >= 1
    assert finished[0].name == "tea"
    assert json.loads((tmp_path / "timers.json").read_text())["timers"] == []


async def test_a_restart_loses_no_timer(tmp_path: Path) -> None:
    """Neither one still to come, nor one that ended meanwhile: that is told at once, with how late it is."""
    file = tmp_path / "state" / "timers.json"
    async with Bench(file) as bench:
        await bench.tea(120)
        await bench.call("timer_set", {"name": "bread", "for_s": 3600})
    async with Bench(file, now=5, wall=bench.wall + 600) as later:
        await until(lambda: later.finished, "the end is told")
        listed = await later.call("timer_list")

    assert later.finished == [Finished("tea", "green", 120, 480)]
    assert listed.text == "bread has 50 minutes left"


async def test_a_killed_node_loses_no_timer_either(tmp_path: Path) -> None:
    """What was answered is on the disk."""
    async with Bench(tmp_path / "timers.json") as bench:
        await bench.tea()
        copy = bench.file.read_text()
    (tmp_path / "copy.json").write_text(copy)
    async with Bench(tmp_path / "copy.json", wall=bench.wall + 20) as later:
        assert (await later.call("timer_list")).text == "tea has 100 seconds left"


async def test_a_clock_that_is_set_while_a_timer_runs_moves_nothing(tmp_path: Path) -> None:
    """Not now, and not after the next restart: what is on the disk follows."""
    async with Bench(tmp_path / "timers.json", wall=0) as bench:
        await bench.tea()
        bench.wall = 1_700_000_000
        await bench.pass_by(20)
        ends_at = 1_700_000_120
        await until(
            lambda: json.loads(bench.file.read_text())["timers"][0]["ends_at"] == ends_at, "the file follows the clock"
        )
        assert bench.finished == []
        assert (await bench.call("timer_list")).text == "tea has 100 seconds left"


async def test_a_timer_that_cannot_be_kept_is_not_set(tmp_path: Path) -> None:
    """A promise that a restart would break is none."""
    async with Bench(tmp_path / "timers.json") as bench:
        await bench.tea()
        (tmp_path / "timers.json.new").mkdir()
        with pytest.raises(ToolError, match="cannot be written") as caught:
            await bench.call("timer_set", {"name": "eggs", "for_s": 300})
        with pytest.raises(ToolError, match="cannot be written"):
            await bench.call("timer_cancel", {"name": "tea"})
        listed = await bench.call("timer_list")
        (tmp_path / "timers.json.new").rmdir()

    assert caught.value.code == ErrorCode.STORAGE
    assert listed.text == "tea has 2 minutes left"


async def test_a_call_that_is_cancelled_sets_no_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it was being written already."""
    async with Bench(tmp_path / "timers.json") as bench:
        gate, begun, to_thread = asyncio.Event(), asyncio.Event(), asyncio.to_thread

        async def slowly(*args: object) -> object:
            begun.set()
            await gate.wait()
            return await to_thread(*args)  # type: ignore[arg-type]  # as it was called

        monkeypatch.setattr(asyncio, "to_thread", slowly)
        call = asyncio.create_task(bench.tea())
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert (await bench.call("timer_list")).text == "no timer runs"
        await until(
            lambda: bench.file.exists() and json.loads(bench.file.read_text())["timers"] == [], "it is off the disk"
        )


async def test_a_bug_in_who_is_told_ends_no_other_timer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next one is told."""
    told: list[str] = []

    def tell(timer: Finished) -> None:
        told.append(timer.name)
        raise RuntimeError("oops")

    bench = Bench(tmp_path / "timers.json")
    bench.timers._finished = tell
    async with bench:
        await bench.tea()
        await bench.call("timer_set", {"name": "eggs", "for_s": 200})
        await bench.pass_by(500)
        await until(lambda: told == ["tea", "eggs"], "both are told")
    assert "the end of the timer tea could not be told" in caplog.text


async def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Timers work again, and nothing is thrown away."""
    (tmp_path / "timers.json").write_bytes(b"\xff\xfe half a file")
    async with Bench(tmp_path / "timers.json") as bench:
        await bench.tea()

    assert "is damaged" in caplog.text
    assert [path.read_bytes() for path in tmp_path.glob("timers.json.broken-*")] == [b"\xff\xfe half a file"]


async def test_a_file_that_cannot_be_read_or_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The node starts all the same, and ends."""
    (tmp_path / "timers.json").mkdir()
    caplog.set_level(logging.ERROR)
    async with Bench(tmp_path / "timers.json") as bench:
        bench.timers._book.set("tea", 60, "", now=0)

    assert "cannot be read" in caplog.text
    assert "a restart may lose them" in caplog.text


async def test_timers_that_were_never_started_need_no_end(tmp_path: Path) -> None:
    """A start may have failed before."""
    await Bench(tmp_path / "timers.json").timers.stop()
    assert list(tmp_path.iterdir()) == []
