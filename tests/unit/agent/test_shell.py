"""The tool that runs programs, over real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pibot_mesh.agent.builtin.shell import Excerpt, shell_tools
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import ConfigError, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output


class Bench:
    """A workspace in which ``sh`` and Python may be run."""

    def __init__(self, workspace: Path, **options: JSON) -> None:
        self.workspace = workspace
        allowed = options.pop("allowed", ["sh", sys.executable])
        [self.tool] = shell_tools(allowed, workspace=workspace, **options)
        self.tools = ToolRegistry([self.tool])

    async def run(self, program: str, *arguments: str) -> Output:
        return await self.tools.call("shell_exec", {"program": program, "arguments": list(arguments)})

    async def refused(self, program: str, *arguments: str) -> str:
        with pytest.raises(ToolError) as caught:
            await self.run(program, *arguments)
        return str(caught.value)

    async def pids(self, *names: str) -> dict[str, int]:
        """The process ids that programs have written into files of the workspace, once all are there."""
        async with asyncio.timeout(10):
            while not all(self.written(name) for name in names):
                await asyncio.sleep(0.01)
        return {name: int(self.written(name)) for name in names}

    def written(self, name: str) -> str:
        """What stands in a file of the workspace; nothing where there is none."""
        file = self.workspace / name
        return file.read_text().strip() if file.exists() else ""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """With usual limits."""
    return Bench(tmp_path / "workspace")


async def gone(pids: dict[str, int]) -> dict[str, int]:
    """Those of *pids* that do not end within two seconds."""
    left = dict(pids)
    async with asyncio.timeout(10):
        end = time.monotonic() + 2
        while left and time.monotonic() < end:
            left = {name: pid for name, pid in left.items() if is_alive(pid)}
            await asyncio.sleep(0.01)
    return left


def is_alive(pid: int) -> bool:
    """Whether *pid* runs; one that ended and was not yet asked for does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.fixture
async def ended(bench: Bench) -> AsyncIterator[None]:
    """Whatever a test leaves behind is ended after it, by its id."""
    yield
    for file in bench.workspace.glob("*.pid"):
        pid = int(file.read_text() or 0)
        if pid and is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_without_a_list_there_is_no_tool(tmp_path: Path) -> None:
    """It is off by default."""
    assert shell_tools([], workspace=tmp_path) == []


def test_it_moves_things_and_is_not_repeated(bench: Bench) -> None:
    """The model reads what it may run."""
    spec = bench.tool.spec
    assert (spec.name, spec.effect, spec.safe_to_retry) == ("shell_exec", "actuate", False)
    assert spec.parameters["properties"]["program"]["enum"] == ["sh", sys.executable]
    assert spec.timeout_s > 30, "its own limit comes first, since it tells what was said until then"


@pytest.mark.parametrize(
    "entry", ["", "./df", "../df", "bin/df", "/usr/../bin/df", "/usr//bin/df", "df -h", "-x", "~/x"]
)
def test_an_entry_is_a_name_or_an_absolute_path(tmp_path: Path, entry: str) -> None:
    """Nothing in between."""
    with pytest.raises(ConfigError, match="is neither the name of a program nor an absolute path: write df or"):
        shell_tools(["df", entry], workspace=tmp_path)


async def test_exit_code_and_both_streams_are_told(bench: Bench) -> None:
    """Each under its name."""
    output = await bench.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert output.text == "sh ended with exit code 3\n--- stdout ---\nout\n--- stderr ---\nerr"
    assert output.data == {"exit_code": 3}
    assert (await bench.run("sh", "-c", ":")).text == "sh ended with exit code 0"
    assert (await bench.run("sh", "-c", "kill -9 $$")).text == "sh was ended by signal 9 (SIGKILL)"
    realtime = await bench.run("sh", "-c", "kill -40 $$")
    assert realtime.text == "sh was ended by signal 40"


async def test_there_is_no_shell_and_no_input(bench: Bench) -> None:
    """Arguments come as they are, and who reads finds the end at once."""
    output = await bench.run(
        sys.executable, "-c", "import sys; print(sys.argv[1:], sys.stdin.read() == '')", "$HOME", "*"
    )
    assert output.text.endswith("['$HOME', '*'] True")
    assert (await bench.tools.call("shell_exec", {"program": "sh"})).text == "sh ended with exit code 0"


@pytest.mark.parametrize("program", ["ls", "./sh", "/bin/sh", "../bin/sh", "sh ", "bin/../sh", "", "python3", "sh\0"])
async def test_only_what_is_on_the_list_is_run(bench: Bench, program: str) -> None:
    """By the very words of the list; also where nobody has checked the arguments."""
    assert "is not one of" in await bench.refused(program)
    outcome = await bench.tools.run("shell_exec", {"program": program})
    assert outcome.error is not None
    assert outcome.error.message == f"{program!r} may not be run; allowed are: sh, {sys.executable}"


async def test_names_are_looked_up_in_the_systems_folders_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not along this process's PATH, nor in the workspace."""
    workspace, own = tmp_path / "workspace", tmp_path / "bin"
    for folder in (workspace, own):
        folder.mkdir()
        (folder / "uname").write_text("#!/bin/sh\necho hijacked\n")
        (folder / "mine").write_text("#!/bin/sh\necho mine\n")
        for name in ("uname", "mine"):
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{workspace}:{own}:.")
    monkeypatch.chdir(workspace)
    bench = Bench(workspace, allowed=["uname", "mine", str(own / "mine"), str(workspace / "mine"), "/no/such"])

    assert "hijacked" not in (await bench.run("uname")).text
    assert await bench.refused("mine") == "mine is not installed on this machine"
    assert await bench.refused("/no/such") == "/no/such is not installed on this machine"
    assert (await bench.run(str(own / "mine"))).text.endswith("\nmine")
    assert "lies in the workspace, where it could have been rewritten" in await bench.refused(str(workspace / "mine"))

    bench = Bench(workspace, allowed=["mine", "uname"], env={"PATH": f"{own}"})
    assert (await bench.run("mine")).text.endswith("\nmine")
    bench = Bench(workspace, allowed=["mine"], env={"PATH": ".:bin"})
    assert await bench.refused("mine") == "mine is not installed on this machine"


async def test_a_program_sees_nothing_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys above all; only what is given on purpose."""
    for name in ("VOLC_API_KEY", "PIBOT_PASSWORD", "HARMLESS"):
        monkeypatch.setenv(name, "secret")
    bench = Bench(tmp_path, allowed=["env"], env={"GREETING": "hello"})

    names = {line.split("=")[0] for line in (await bench.run("env")).text.splitlines()[2:]}

    assert names == {"PATH", "HOME", "LANG", "TERM", "GREETING", "PIBOT_RUN"}
    for name in ("VOLC_API_KEY", "PIBOT_PASSWORD", "github_token", "AWS_SECRET"):
        with pytest.raises(ConfigError, match=f"the variable {name} looks like a key or a password"):
            shell_tools(["env"], workspace=tmp_path, env={name: "x"})


async def test_it_works_in_the_workspace(bench: Bench) -> None:
    """Which is made where it is not there."""
    assert (await bench.run("sh", "-c", "pwd; echo $HOME")).text.splitlines()[2:] == [str(bench.workspace)] * 2


async def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    """In words."""
    (tmp_path / "junk").write_bytes(b"\x7fELF junk")
    (tmp_path / "junk").chmod(0o755)
    bench = Bench(tmp_path / "workspace", allowed=[str(tmp_path / "junk"), "sh"])
    assert "cannot be run: Exec format error" in await bench.refused(str(tmp_path / "junk"))
    assert "cannot be run: Argument list too long" in await bench.refused("sh", "x" * 3_000_000)
    assert await bench.refused("sh", "a\0b") == "an argument holds a zero byte"


async def test_output_without_end_is_cut_in_the_middle(tmp_path: Path) -> None:
    """The program is not held up, and the beginning and the end are there."""
    bench = Bench(tmp_path, max_output_bytes=200, allowed=["seq", "sh"])
    output = await bench.run("seq", "1000000")
    assert output.text.startswith("seq ended with exit code 0\n--- stdout ---\n1\n2\n3\n")
    assert output.text.endswith("\n999999\n1000000")
    assert "\n[6888696 of 6888896 bytes left out]\n" in output.text
    assert len(output.text) < 400

    loud = await bench.run("sh", "-c", "seq 200000 >&2; echo done")
    assert "--- stdout ---\ndone\n--- stderr ---\n1\n2\n" in loud.text


async def test_bytes_that_are_no_text_are_shown_as_such(bench: Bench) -> None:
    """Nothing breaks."""
    output = await bench.run(sys.executable, "-c", "import os; os.write(1, bytes([0xff, 0, 65]))")
    assert output.text.endswith("\ufffd\0A")


STUBBORN = """
trap '' TERM HUP INT
echo $$ > leader.pid
sh -c "trap '' TERM HUP INT; echo \\$\\$ > child.pid; while :; do sleep 1; done" &
setsid sh -c "trap '' TERM HUP INT; echo \\$\\$ > session.pid; while :; do sleep 1; done" &
(setsid sh -c "trap '' TERM HUP INT; echo \\$\\$ > daemon.pid; while :; do sleep 1; done" > /dev/null 2>&1 &)
echo "so far"
while :; do sleep 1; done
"""
"""A program that heeds no signal, with a child, one in its own session, and one that belongs to nobody any more."""
NAMES = ("leader.pid", "child.pid", "session.pid", "daemon.pid")


@pytest.mark.usefixtures("ended")
async def test_after_its_time_a_program_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """Also those that ignore signals, have sessions of their own, or left their parents."""
    bench = Bench(tmp_path / "workspace", timeout_s=2.0)

    error = await bench.refused("sh", "-c", STUBBORN)

    assert error == "sh did not end within 2 s and was ended; until then it said:\n--- stdout ---\nso far"
    assert await gone(await bench.pids(*NAMES)) == {}


@pytest.mark.usefixtures("ended")
async def test_a_canceled_call_ends_the_program_at_once(bench: Bench) -> None:
    """With all that it has started; who cancels does not wait for long."""
    call = asyncio.ensure_future(bench.run("sh", "-c", STUBBORN))
    pids = await bench.pids(*NAMES)

    begun = time.monotonic()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert time.monotonic() - begun < 5, "it does not wait for the program"
    assert await gone(pids) == {}


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.usefixtures("ended")
async def test_a_call_can_be_canceled_while_the_program_starts(bench: Bench, steps: int) -> None:
    """At each step of the loop; twice as well."""
    call = asyncio.ensure_future(bench.run("sh", "-c", "echo $$ > leader.pid; while :; do sleep 1; done"))
    for _ in range(steps):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(0)
    call.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await call
    if bench.written("leader.pid"):
        assert await gone(await bench.pids("leader.pid")) == {}


@pytest.mark.usefixtures("ended")
async def test_what_a_program_leaves_behind_is_ended_too(bench: Bench) -> None:
    """And does not hold up the answer by holding its output."""
    script = 'sh -c "echo \\$\\$ > child.pid; sleep 1000" & while ! [ -s child.pid ]; do sleep 0.01; done; echo hi'
    async with asyncio.timeout(10):
        output = await bench.run("sh", "-c", script)
    assert output.text == "sh ended with exit code 0\n--- stdout ---\nhi"
    assert await gone(await bench.pids("child.pid")) == {}


@pytest.mark.usefixtures("ended")
async def test_what_cannot_be_found_does_not_hold_up_the_answer(bench: Bench) -> None:
    """It has cleared its environment and has a session of its own, and holds the output open."""
    hidden = 'setsid env -i sh -c "echo \\$\\$ > child.pid; exec sleep 1000" &'
    async with asyncio.timeout(10):
        output = await bench.run("sh", "-c", f"{hidden} while ! [ -s child.pid ]; do sleep 0.01; done; echo hi")
    assert output.text == "sh ended with exit code 0\n--- stdout ---\nhi"
    assert is_alive((await bench.pids("child.pid"))["child.pid"]), "or this shows nothing"


async def test_a_program_that_ends_when_asked_can_tidy_up(tmp_path: Path) -> None:
    """SIGTERM comes first."""
    bench = Bench(tmp_path, timeout_s=1.0)
    await bench.refused("sh", "-c", "trap 'echo tidy > tidied; exit' TERM; while :; do sleep 0.01; done")
    assert (tmp_path / "tidied").read_text() == "tidy\n"


async def test_programs_run_side_by_side(bench: Bench) -> None:
    """One that ends does not end another."""
    slow = asyncio.ensure_future(
        bench.run("sh", "-c", "echo $$ > leader.pid; while ! [ -e go ]; do sleep 0.01; done; echo slow")
    )
    await bench.pids("leader.pid")
    assert (await bench.run("sh", "-c", "echo quick")).text.endswith("quick")
    (bench.workspace / "go").touch()
    async with asyncio.timeout(10):
        assert (await slow).text.endswith("slow")


async def test_nothing_is_left_open(bench: Bench) -> None:
    """However calls end: no descriptors, no children that nobody asked for."""
    await bench.run("sh", "-c", "exit 1")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await bench.run("sh", "-c", "echo x; sleep 100 &")
        call = asyncio.ensure_future(bench.run("sh", "-c", "sleep 100"))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    async with asyncio.timeout(10):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)


def test_an_excerpt_holds_both_ends() -> None:
    """In whatever pieces it comes."""
    whole = bytes(range(48, 58)) * 10
    for size in (1, 3, 7, 20, 100):
        excerpt = Excerpt(20)
        for start in range(0, 100, size):
            excerpt.add(whole[start : start + size])
        assert excerpt.text == "0123456789\n[80 of 100 bytes left out]\n0123456789"
    exact = Excerpt(20)
    exact.add(b"0123456789" * 2)
    assert exact.text == "0123456789" * 2
    assert Excerpt(20).text == ""
