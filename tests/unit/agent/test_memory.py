"""The tools that remember, over a real file."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pibot_mesh.agent.builtin.memory import MAX_ENTRIES, MAX_TEXT, Memory, memory_tools
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import ToolError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the memory is kept; nothing is there yet."""
    return tmp_path / "state" / "memory.json"


@pytest.fixture
def tools(file: Path) -> ToolRegistry:
    """The tools over it."""
    return ToolRegistry(memory_tools(file))


async def test_what_is_remembered_is_there_in_the_next_run(tools: ToolRegistry, file: Path) -> None:
    """By key, or all of it in the order in which it came."""
    assert (await tools.call("memory_read", {})).text == "nothing is remembered"
    assert (await tools.call("memory_write", {"key": "tea", "text": "grün"})).text == "remembered under 'tea'"
    await tools.call("memory_write", {"key": "door", "text": "stuck"})

    next_run = ToolRegistry(memory_tools(file))

    everything = await next_run.call("memory_read", {})
    assert (everything.text, everything.data) == (
        "tea: grün\ndoor: stuck",
        {"entries": {"tea": "grün", "door": "stuck"}},
    )
    assert (await next_run.call("memory_read", {"key": "tea"})).text == "grün"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it is nobody else's business"
    assert [path.name for path in file.parent.iterdir()] == ["memory.json"]


async def test_an_empty_text_forgets(tools: ToolRegistry, file: Path) -> None:
    """And a new one takes the place of the old."""
    assert (await tools.call("memory_write", {"key": "tea", "text": ""})).text == "nothing was remembered under 'tea'"
    assert not file.exists()
    await tools.call("memory_write", {"key": "tea", "text": "green"})
    await tools.call("memory_write", {"key": "tea", "text": "black"})
    assert (await tools.call("memory_read", {"key": "tea"})).text == "black"
    assert (await tools.call("memory_write", {"key": "tea", "text": ""})).text == "forgot 'tea'"
    with pytest.raises(ToolError, match=r"nothing is remembered under 'tea'$"):
        await tools.call("memory_read", {"key": "tea"})


async def test_an_unknown_key_names_those_that_are_there(tools: ToolRegistry) -> None:
    """Some of them."""
    for number in range(22):
        await tools.call("memory_write", {"key": f"k{number}", "text": "x"})
    with pytest.raises(ToolError, match=r"nothing is remembered under 'tee'; there is: k0, k1, .*, k19, \.\.\.$"):
        await tools.call("memory_read", {"key": "tee"})


async def test_a_memory_has_bounds(tools: ToolRegistry, file: Path) -> None:
    """In keys, in texts, in entries and in bytes; what is over them changes nothing."""
    for args in ({"key": "", "text": "x"}, {"key": "x" * 65, "text": "x"}, {"key": "x", "text": "x" * (MAX_TEXT + 1)}):
        with pytest.raises(ToolError, match=r"is too long|should be non-empty"):
            await tools.call("memory_write", args)

    file.parent.mkdir()
    file.write_text(json.dumps({f"k{number}": "x" for number in range(MAX_ENTRIES)}))
    with pytest.raises(ToolError, match="the memory is full: it holds 200 texts; forget one first; there is: k0, k1"):
        await tools.call("memory_write", {"key": "one", "text": "more"})
    await tools.call("memory_write", {"key": "k5", "text": "another"})

    file.write_text(json.dumps({f"k{number}": "x" * MAX_TEXT for number in range(65)}))
    before = file.read_bytes()
    with pytest.raises(ToolError, match="its file would be over 262144 bytes; forget something first"):
        await tools.call("memory_write", {"key": "one", "text": "x" * MAX_TEXT})
    assert file.read_bytes() == before
    await tools.call("memory_write", {"key": "k5", "text": ""})


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\0", "[" * 100_000, '{"a": "b"}' + " " * 300_000 + "x"])
async def test_a_damaged_file_is_told_and_kept(tools: ToolRegistry, file: Path, content: str) -> None:
    """Its owner may still mend it."""
    file.parent.mkdir()
    file.write_text(content)
    for name, args in (("memory_read", {}), ("memory_write", {"key": "a", "text": "b"})):
        with pytest.raises(ToolError, match=r"memory\.json is damaged: it must hold one JSON object of texts"):
            await tools.call(name, args)
    assert file.read_text() == content


async def test_what_the_system_refuses_is_told(tmp_path: Path) -> None:
    """With the file."""
    (tmp_path / "taken").touch()
    tools = ToolRegistry(memory_tools(tmp_path / "taken" / "memory.json"))
    with pytest.raises(ToolError, match=r"taken/memory\.json: Not a directory"):
        await tools.call("memory_read", {})
    with pytest.raises(ToolError, match=r"taken/memory\.json: File exists|Not a directory"):
        await tools.call("memory_write", {"key": "a", "text": "b"})


async def test_calls_at_the_same_time_lose_nothing(tools: ToolRegistry, file: Path) -> None:
    """Of one program and of two."""
    other = ToolRegistry(memory_tools(file))
    await asyncio.gather(
        *((tools, other)[number % 2].call("memory_write", {"key": f"k{number}", "text": "x"}) for number in range(30))
    )
    assert set(Memory(file).entries()) == {f"k{number}" for number in range(30)}


WRITER = """
import sys
from pathlib import Path
from pibot_mesh.agent.builtin.memory import Memory

memory, name, number = Memory(Path(sys.argv[1])), sys.argv[2], 0
while True:
    memory.write(f"{name}{number % 20}", str(number) * 100)
    if not number:
        print("going", flush=True)
    number += 1
"""


def test_killed_writers_leave_a_whole_memory(file: Path) -> None:
    """Two programs, killed in the middle: the file can be read each time, and written."""
    for round_number in range(3):
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(file), name], stdout=subprocess.PIPE) for name in "ab"
        ]
        for writer in writers:
            with writer:
                assert writer.stdout is not None
                writer.stdout.readline()
                writer.kill()
        entries = Memory(file).entries()
        assert {"a0", "b0"} <= set(entries)
        Memory(file).write("mine", f"{round_number}")
    assert Memory(file).entries()["mine"] == "2"
