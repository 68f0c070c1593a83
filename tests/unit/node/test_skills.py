"""A node's own skills: looked at again and again, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pibot_mesh.agent import skills as agent_skills
from pibot_mesh.agent.skills import SkillLoader
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.node import skills as module
from pibot_mesh.node.skills import NodeSkills
from tests.brokers import until

SKILL = '''
from pibot_mesh.agent.tools import tool

@tool
def {name}() -> str:
    """Say hello."""
    return "hello"
'''


class Bench:
    """The skills of a node that is made of nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tools = ToolRegistry()
        self.loader = SkillLoader([folder], self.tools)
        self.changes = 0
        self.skills = NodeSkills(self.loader, self._changed, node="n1")

    def write(self, name: str, text: str = SKILL) -> Path:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{name}.py"
        path.write_text(text.format(name=name))
        return path

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    bench = Bench(tmp_path / "skills")
    yield bench
    await bench.skills.stop()


async def test_skills_are_there_when_the_start_is_over(bench: Bench) -> None:
    """The first card has their tools."""
    bench.write("hello")
    await bench.skills.start()

    assert "hello" in bench.tools
    assert bench.changes == 1


async def test_what_comes_and_goes_later_is_seen(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The folder itself may come later too. Each change is told once."""
    caplog.set_level(logging.INFO)
    await bench.skills.start()
    assert bench.changes == 0

    path = bench.write("hello")
    await until(lambda: "hello" in bench.tools, "the tool comes")
    path.unlink()
    await until(lambda: "hello" not in bench.tools, "the tool goes")

    assert bench.changes == 2
    said = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert said == ["n1: skills loaded: hello", "n1: skills gone: hello"]


async def test_a_broken_skill_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Not every second, for weeks."""
    path = bench.write("broken", "1 / 0\n")
    await bench.skills.start()
    looks = 0
    has_changed = bench.loader.has_changed

    def counted() -> bool:
        nonlocal looks
        looks += 1
        return has_changed()

    bench.loader.has_changed = counted  # type: ignore[method-assign]  # it is only counted
    await until(lambda: looks > 5, "it was looked at again")

    assert [record.getMessage() for record in caplog.records] == [
        f"n1: a skill is left out: {path}:1: ZeroDivisionError: division by zero"
    ]


async def test_everything_is_loaded_again_when_somebody_asks(bench: Bench) -> None:
    """Although no file has changed."""
    bench.write("hello")
    await bench.skills.start()
    before = bench.tools["hello"]

    bench.skills.reload()

    await until(lambda: bench.tools["hello"] is not before, "it is loaded again")


async def test_a_skill_that_does_not_end_holds_up_neither_start_nor_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, and the node does without."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(threading, "gate", gate, raising=False)
    path = bench.write("endless", "import threading\nthreading.gate.wait(20)\n" + SKILL)
    try:
        await bench.skills.start()
        await until(lambda: caplog.records, "it is named")
        assert len(bench.tools) == 0
        await asyncio.wait_for(bench.skills.stop(), 1)
    finally:
        gate.set()

    says = f"n1: the skill {path} is still being loaded, and all others wait for it: does it end?"
    assert caplog.records[0].getMessage() == says


async def test_a_slow_skill_comes_late(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the start, as if it had been added then."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(threading, "gate", gate, raising=False)
    bench.write("slow", "import threading\nthreading.gate.wait(20)\n" + SKILL)
    await bench.skills.start()
    assert len(bench.tools) == 0
    gate.set()

    await until(lambda: "slow" in bench.tools, "it comes")


async def test_where_no_thread_is_free_it_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tools that hang may have taken them all; so is what meets a bug."""
    errors: list[Exception] = [ToolError("64 tools run already", code=ErrorCode.BUSY), RuntimeError("a bug")]
    load = agent_skills.SkillLoader.load

    def failing(self: SkillLoader, *, everything: bool = False) -> object:
        if errors:
            raise errors.pop(0)
        return load(self, everything=everything)

    monkeypatch.setattr(agent_skills.SkillLoader, "load", failing)
    bench.write("hello")
    await bench.skills.start()

    await until(lambda: "hello" in bench.tools, "it is loaded at last")
    assert [record.getMessage() for record in caplog.records] == [
        "n1: skills cannot be loaded now: 64 tools run already",
        "a bug: the skills of n1 could not be looked at",
    ]


async def test_skills_that_were_never_started_need_no_end(tmp_path: Path) -> None:
    """A start may have failed before."""
    await Bench(tmp_path).skills.stop()
