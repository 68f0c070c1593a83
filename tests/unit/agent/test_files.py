"""The tools for files, over real ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pibot_mesh.agent.builtin import files as module
from pibot_mesh.agent.builtin.files import Workspace, file_tools
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output


class Desk:
    """A workspace with its tools, and a secret beside it."""

    def __init__(self, folder: Path, max_bytes: int = 1000) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.secret = folder / "secret.txt"
        self.secret.write_text("secret")
        self.tools = ToolRegistry(file_tools(self.workspace, max_bytes=max_bytes))

    async def do(self, name: str, **args: JSON) -> Output:
        """Call a tool."""
        return await self.tools.call(name, args)

    async def refused(self, name: str, **args: JSON) -> str:
        """Why a tool would not."""
        with pytest.raises(ToolError) as caught:
            await self.do(name, **args)
        return str(caught.value)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty workspace."""
    return Desk(tmp_path)


def test_their_effects_are_told(desk: Desk) -> None:
    """So that writing is not repeated, and can be asked about."""
    told = {spec.name: (spec.effect, spec.safe_to_retry) for spec in desk.tools.specs()}
    reads, writes = ("read", True), ("write", False)
    assert told == {"file_read": reads, "file_write": writes, "file_list": reads, "file_delete": writes}


async def test_what_is_written_can_be_read(desk: Desk) -> None:
    """In folders that are made on the way."""
    written = await desk.do("file_write", path="notes/today.txt", text="Blumen gießen\n")
    assert (written.text, written.data["size"]) == ("15 bytes written to notes/today.txt", 15)
    read = await desk.do("file_read", path="notes/today.txt")
    assert (read.text, read.data) == ("Blumen gießen\n", {"path": "notes/today.txt", "size": 15, "offset": 0})
    assert (await desk.do("file_read", path=str(desk.workspace / "notes/today.txt"))).text == "Blumen gießen\n"


async def test_the_workspace_is_made_when_it_is_needed(tmp_path: Path) -> None:
    """Until then it is an empty one."""
    tools = ToolRegistry(file_tools(tmp_path / "a" / "b"))
    assert (await tools.call("file_list", {})).text == ". is empty"
    with pytest.raises(ToolError, match=r"there is no 'x' in the workspace"):
        await tools.call("file_read", {"path": "x"})
    assert not (tmp_path / "a").exists()
    await tools.call("file_write", {"path": "x", "text": "hi"})
    assert (tmp_path / "a" / "b" / "x").read_text() == "hi"


async def test_writing_has_three_modes(desk: Desk) -> None:
    """Replace, add at the end, or only what is not there."""
    await desk.do("file_write", path="a", text="one", mode="create")
    assert "'a' is there already" in await desk.refused("file_write", path="a", text="no", mode="create")
    assert (await desk.do("file_write", path="a", text=" two", mode="append")).text == "4 bytes appended to a"
    assert (desk.workspace / "a").read_text() == "one two"
    await desk.do("file_write", path="a", text="three")
    assert (desk.workspace / "a").read_text() == "three"
    assert (await desk.do("file_write", path="b", text="new", mode="append")).text == "3 bytes written to b"
    assert sorted(os.listdir(desk.workspace)) == ["a", "b"], "nothing temporary is left"


async def test_a_file_keeps_its_mode(desk: Desk) -> None:
    """Who could not read it before cannot afterwards."""
    (desk.workspace / "a").write_text("x")
    (desk.workspace / "a").chmod(0o640)
    await desk.do("file_write", path="a", text="y")
    assert stat.S_IMODE((desk.workspace / "a").stat().st_mode) == 0o640


async def test_a_long_file_is_read_in_parts(desk: Desk) -> None:
    """Each says how to go on, and no character is cut: together they are the whole."""
    text = "".join(f"Zeile {number}: größer\n" for number in range(200))
    (desk.workspace / "long").write_text(text)
    size = len(text.encode())

    parts, offset, limit = [], 0, 4
    while offset < size:
        output = await desk.do("file_read", path="long", offset=offset, limit=limit)
        part, _, note = output.text.rpartition("\n")
        parts.append(part)
        end = output.data.get("next_offset", size)
        assert note == f"[bytes {offset} to {end} of {size}" + (f"; go on with offset={end}]" if end < size else "]")
        offset, limit = end, limit + 13
    assert "".join(parts) == text


async def test_the_end_of_a_file_can_be_read(desk: Desk) -> None:
    """A log's last lines; a character is not cut there either, and more than all is all."""
    (desk.workspace / "log").write_text("first\nlast ü\n")
    assert (await desk.do("file_read", path="log", offset=-8)).text == "last ü\n\n[bytes 6 to 14 of 14]"
    cut = await desk.do("file_read", path="log", offset=-2)
    assert (cut.text, cut.data["offset"]) == ("\n\n[bytes 13 to 14 of 14]", 13)
    assert (await desk.do("file_read", path="log", offset=-100)).text == "first\nlast ü\n"
    assert (await desk.do("file_read", path="log", offset=100)).text == "\n[bytes 100 to 100 of 14]"


async def test_one_call_reads_and_writes_only_so_much(desk: Desk) -> None:
    """1000 bytes here."""
    (desk.workspace / "long").write_text("x" * 3000)
    output = await desk.do("file_read", path="long", limit=2000)
    assert output.text == "x" * 1000 + "\n[bytes 0 to 1000 of 3000; go on with offset=1000]"
    assert "is too long" in await desk.refused("file_write", path="a", text="x" * 1001)
    assert "1200 bytes, and at most 1000" in await desk.refused("file_write", path="a", text="ü" * 600)
    assert not (desk.workspace / "a").exists()


@pytest.mark.parametrize("content", [b"\x89PNG\r\n", b"ab\0cd", b"\xff\xfe", b"ab\xc3("])
async def test_what_is_no_text_is_refused(desk: Desk, content: bytes) -> None:
    """In words."""
    (desk.workspace / "photo").write_bytes(content)
    assert await desk.refused("file_read", path="photo") == "'photo' is no text in UTF-8"


async def test_an_empty_file_is_told(desk: Desk) -> None:
    """A model takes an empty answer for a failure."""
    (desk.workspace / "a").touch()
    assert (await desk.do("file_read", path="a")).text == "a is empty"


async def test_a_folder_is_listed(desk: Desk) -> None:
    """Sorted, each with its kind; links are named, not followed."""
    (desk.workspace / "b.txt").write_text("12345")
    (desk.workspace / "a").mkdir()
    (desk.workspace / "link").symlink_to(desk.secret)
    os.mkfifo(desk.workspace / "pipe")
    (desk.workspace / os.fsdecode(b"odd\xff")).touch()

    output = await desk.do("file_list")

    assert output.text.splitlines() == ["a/", "b.txt  5", "link  (link)", "odd?  0", "pipe  (other)"]
    assert output.data["entries"][1] == {"name": "b.txt", "kind": "file", "size": 5}
    assert (await desk.do("file_list", path="a")).text == "a is empty"
    assert await desk.refused("file_list", path="b.txt") == "'b.txt': Not a directory"
    assert await desk.refused("file_list", path="none") == "there is no 'none' in the workspace"


async def test_a_long_listing_has_an_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    for number in range(7):
        (desk.workspace / f"f{number}").touch()
    output = await desk.do("file_list")
    assert output.text == "f0  0\nf1  0\nf2  0\n[the first 3 of 7]"
    assert output.data["count"] == 7


async def test_files_and_empty_folders_are_deleted(desk: Desk) -> None:
    """Nothing that holds something, and not the workspace."""
    (desk.workspace / "a").mkdir()
    (desk.workspace / "a" / "b").touch()
    assert "'a': Directory not empty" in await desk.refused("file_delete", path="a")
    assert (await desk.do("file_delete", path="a/b")).text == "a/b is deleted"
    await desk.do("file_delete", path="a/")
    assert os.listdir(desk.workspace) == []
    assert "there is no 'a'" in await desk.refused("file_delete", path="a")
    for path in (".", "", "a/..", str(desk.workspace)):
        assert "is the workspace itself" in await desk.refused("file_delete", path=path)


async def test_of_a_link_the_link_is_deleted(desk: Desk) -> None:
    """Never what it leads to."""
    (desk.workspace / "inside").write_text("x")
    (desk.workspace / "in").symlink_to("inside")
    (desk.workspace / "out").symlink_to(desk.secret)
    await desk.do("file_delete", path="in")
    await desk.do("file_delete", path="out")
    assert os.listdir(desk.workspace) == ["inside"]
    assert desk.secret.read_text() == "secret"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "a/../../secret.txt",
        "out",
        "up/secret.txt",
        "chain",
        "up/new/file",
        "dangling",
        "/etc/hostname",
    ],
)
@pytest.mark.parametrize("name", ["file_read", "file_write", "file_list", "file_delete"])
async def test_no_path_leads_out(desk: Desk, name: str, path: str) -> None:
    """Not by dots, not by links to files or folders, not by chains of them, not by links to what is not there yet."""
    (desk.workspace / "a").mkdir()
    (desk.workspace / "out").symlink_to(desk.secret)
    (desk.workspace / "up").symlink_to("..")
    (desk.workspace / "chain").symlink_to("a/two")
    (desk.workspace / "a" / "two").symlink_to("../out")
    (desk.workspace / "dangling").symlink_to("../new.txt")
    if name == "file_delete" and path in ("out", "chain", "dangling"):
        return  # the link itself is inside
    args = {"path": path, "text": "broken"} if name == "file_write" else {"path": path}

    assert "is outside of the workspace" in await desk.refused(name, **args)

    assert desk.secret.read_text() == "secret"
    assert sorted(os.listdir(desk.secret.parent)) == ["secret.txt", "workspace"]


async def test_a_folder_with_the_same_beginning_is_outside(desk: Desk) -> None:
    """Names are compared whole."""
    other = desk.workspace.with_name("workspace2")
    other.mkdir()
    (other / "a").write_text("secret")
    assert "is outside" in await desk.refused("file_read", path="../workspace2/a")
    assert "is outside" in await desk.refused("file_delete", path="../workspace2/a")


async def test_links_that_stay_inside_are_followed(desk: Desk) -> None:
    """Writing changes what they lead to, and leaves them."""
    (desk.workspace / "a").mkdir()
    (desk.workspace / "short").symlink_to("a")
    (desk.workspace / "new").symlink_to("a/target")
    await desk.do("file_write", path="short/b", text="x")
    await desk.do("file_write", path="new", text="y")
    assert (await desk.do("file_read", path="short/../short/b")).text == "x"
    assert (desk.workspace / "a" / "target").read_text() == "y"
    assert (desk.workspace / "new").is_symlink()


async def test_the_workspace_itself_may_be_a_link(tmp_path: Path) -> None:
    """It is the owner's word."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    tools = ToolRegistry(file_tools(tmp_path / "link"))
    await tools.call("file_write", {"path": "a", "text": "x"})
    assert (tmp_path / "real" / "a").read_text() == "x"


def test_a_link_that_is_slipped_in_leads_nowhere(desk: Desk) -> None:
    """Between the look and the step: each step is taken without following."""
    inside = Workspace(desk.workspace)
    (desk.workspace / "a").mkdir()
    parts = inside.resolve("a/secret.txt")
    (desk.workspace / "a").rmdir()
    (desk.workspace / "a").symlink_to("..")

    with pytest.raises(OSError), inside.opened(parts[:-1]):  # noqa: PT011 - which one depends on the system
        raise AssertionError("it led out")


async def test_no_race_of_links_leads_out(desk: Desk) -> None:
    """A folder that turns into a link and back all the time: what is read is always ours or refused."""
    ours, theirs, place = desk.workspace / "ours", desk.workspace / "theirs", desk.workspace / "place"
    ours.mkdir()
    (ours / "secret.txt").write_text("ours")
    theirs.symlink_to("..")
    end = threading.Event()

    def swap() -> None:
        while not end.is_set():
            for one in (ours, theirs):
                with contextlib.suppress(OSError):
                    os.rename(one, place)
                    os.rename(place, one)
                with contextlib.suppress(OSError):  # what a write has made there meanwhile
                    shutil.rmtree(place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(100):
            outcome = await desk.tools.outcome("file_read", {"path": "place/secret.txt"})
            assert outcome.output.text in ("ours", "")
            await desk.tools.outcome("file_write", {"path": "place/secret.txt", "text": "ours"})
    finally:
        end.set()
        swapping.join()
    assert desk.secret.read_text() == "secret"


async def test_pipes_devices_and_loops_are_refused(desk: Desk) -> None:
    """At once: to open a pipe would wait for ever."""
    os.mkfifo(desk.workspace / "pipe")
    (desk.workspace / "loop").symlink_to("loop")
    (desk.workspace / "folder").mkdir()
    async with asyncio.timeout(5):
        assert await desk.refused("file_read", path="pipe") == "'pipe' is no regular file"
        assert await desk.refused("file_write", path="pipe", text="x") == "'pipe' is no regular file"
        assert "'loop': Too many levels" in await desk.refused("file_read", path="loop")
        assert await desk.refused("file_read", path="folder") == "'folder' is a folder: list it instead"
        assert await desk.refused("file_write", path="folder", text="x") == "'folder' is a folder: list it instead"
        assert "is the workspace itself" in await desk.refused("file_read", path=".")


async def test_odd_paths_are_refused_in_words(desk: Desk) -> None:
    """No path of a model breaks the tool."""
    (desk.workspace / "a").touch()
    assert await desk.refused("file_read", path="a\0b") == "'a\\x00b' is no path"
    assert "File name too long" in await desk.refused("file_write", path="x" * 300, text="y")
    assert "'a/b': Not a directory" in await desk.refused("file_read", path="a/b")
    assert "'a/b': Not a directory" in await desk.refused("file_write", path="a/b", text="y")


async def test_calls_at_the_same_time_lose_nothing(desk: Desk) -> None:
    """Every line that was added is there, and only one of many creates."""
    calls = [desk.do("file_write", path="log", text=f"line {number}\n", mode="append") for number in range(20)]
    await asyncio.gather(*calls)
    assert sorted((desk.workspace / "log").read_text().splitlines()) == sorted(f"line {n}" for n in range(20))

    outcomes = await asyncio.gather(
        *(desk.tools.outcome("file_write", {"path": "b", "text": f"{n}", "mode": "create"}) for n in range(20))
    )
    assert [outcome.error is None for outcome in outcomes].count(True) == 1


async def test_a_write_that_fails_leaves_the_old_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing temporary."""
    (desk.workspace / "a").write_text("old")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert await desk.refused("file_write", path="a", text="new") == "'a': No space left on device"
    assert (desk.workspace / "a").read_text() == "old"
    assert os.listdir(desk.workspace) == ["a"]


KILLED = """
import sys
from pathlib import Path
from pibot_mesh.agent.builtin import files

def write(number):
    with files.Workspace(Path(sys.argv[1])).opened(()) as folder, files.locked(folder):
        files.replace_file(folder, "a", str(number % 10).encode() * 200_000)

number = 0
while True:
    write(number)
    if not number:
        print("going", flush=True)
    number += 1
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """At whatever moment; and who writes next is not hindered by what it left."""
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
        with writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.kill()
        content = (tmp_path / "a").read_bytes()
        assert content == content[:1] * 200_000
    with Workspace(tmp_path).opened(()) as folder, module.locked(folder):
        module.replace_file(folder, "a", b"new")
    assert os.listdir(tmp_path) == ["a"]
