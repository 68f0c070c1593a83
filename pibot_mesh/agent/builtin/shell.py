"""A tool that runs programs: only those on its list, without a shell, and never longer or louder than it may.

A list of programs is only as narrow as the programs on it: ``python``, ``env``, ``find`` or ``sh`` can start any other,
and one that clears its environment and begins a session of its own outlives its call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pibot_mesh.agent.tools import Tool, make_tool
from pibot_mesh.errors import ConfigError, ErrorCode, ToolError
from pibot_mesh.protocol.messages import Output

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SECRET: Final = re.compile(r"KEY|PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL", re.IGNORECASE)
_MARK: Final = "PIBOT_RUN"
"""The environment variable by which what a program left behind is found."""
_PROC: Final = Path("/proc")
_ASK_S: Final = 0.1
"""How long a program has to end after SIGTERM; who cancels a tool waits for not much longer."""
_DRAIN_S: Final = 0.5
"""How long to wait for the end of output that something which could not be found holds open."""
_ROUNDS: Final = 5
"""How often what was left behind is looked for: while it is ended, it may start more."""


def shell_tools(
    allowed: Sequence[str],
    *,
    workspace: Path,
    timeout_s: float = 30.0,
    max_output_bytes: int = 16 * 1024,
    env: Mapping[str, str] | None = None,
) -> list[Tool]:
    """``shell_exec``, which runs the programs in *allowed* within *workspace*; none allowed, no tool.

    An entry is a name, which is looked up in the system's folders alone, or an absolute path. A program gets none of
    this process's environment, only a few harmless variables and *env*. It is ended, with all that it has started,
    after *timeout_s* or when the call is canceled; of each of its two outputs *max_output_bytes* are kept, without the
    middle. Raises ConfigError for an entry that is neither, or a variable that looks like a key.
    """
    if not allowed:
        return []
    given = dict(env or {})
    if problems := [*_wrong_entries(allowed), *_secrets(given)]:
        raise ConfigError(problems)
    programs = _Programs(tuple(dict.fromkeys(allowed)), workspace.expanduser(), given, timeout_s, max_output_bytes)

    async def shell_exec(program: str, arguments: list[str] | None = None) -> Output:
        return await programs.run(program, arguments or [])

    description = (
        "Run a program of this machine and give its exit code and its output. There is no shell: no pipes, no globs, "
        f"no variables. It has no input, works in the workspace, and is ended after {timeout_s:g} s."
    )
    parameters = {
        "type": "object",
        "properties": {
            "program": {"type": "string", "enum": list(programs.allowed), "description": "The program."},
            "arguments": {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": 1000,
                "description": "Its arguments, one by one.",
            },
        },
        "required": ["program"],
        "additionalProperties": False,
    }
    late_s = timeout_s + 2.0
    made = make_tool(shell_exec, description=description, parameters=parameters, effect="actuate", timeout_s=late_s)
    return [made]


def _wrong_entries(allowed: Sequence[str]) -> list[str]:
    return [
        f"shell: {entry!r} is neither the name of a program nor an absolute path: write df or /usr/bin/df"
        for entry in allowed
        if not (_NAME.fullmatch(entry) or (os.path.isabs(entry) and os.path.normpath(entry) == entry))
    ]


def _secrets(env: Mapping[str, str]) -> list[str]:
    return [
        f"shell: the variable {name} looks like a key or a password, which programs that a model starts must not see"
        for name in env
        if _SECRET.search(name)
    ]


class Excerpt:
    """The beginning and the end of a stream of bytes, of which no more than *limit* are held."""

    def __init__(self, limit: int) -> None:
        self._room = max(1, limit // 2)
        self._head, self._tail = bytearray(), bytearray()
        self._size = 0

    def add(self, piece: bytes) -> None:
        """The next bytes of the stream."""
        self._size += len(piece)
        fits = self._room - len(self._head)
        self._head += piece[:fits] if fits > 0 else b""
        self._tail += piece[max(0, fits) :]
        if len(self._tail) > self._room:
            del self._tail[: len(self._tail) - self._room]

    @property
    def text(self) -> str:
        """What is held, with a note of what was left out; bytes that are no UTF-8 are shown as ``\\ufffd``."""
        left_out = self._size - len(self._head) - len(self._tail)
        if not left_out:
            return bytes(self._head + self._tail).decode(errors="replace")
        head, tail = self._head.decode(errors="replace"), self._tail.decode(errors="replace")
        return f"{head}\n[{left_out} of {self._size} bytes left out]\n{tail}"


class _Talk(asyncio.SubprocessProtocol):
    """Hears what a program says and when it ends, and ends it."""

    def __init__(self, limit: int) -> None:
        self.streams = {1: Excerpt(limit), 2: Excerpt(limit)}
        self._transport: asyncio.SubprocessTransport | None = None
        self._exited, self._silent = asyncio.Event(), asyncio.Event()
        self._open = {1, 2}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.streams[fd].add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own signature
        self._open.discard(fd)
        if not self._open:
            self._silent.set()

    def process_exited(self) -> None:
        self._exited.set()

    @property
    def pid(self) -> int | None:
        """The program's process, and the group of it; None where it was not started."""
        return self._transport.get_pid() if self._transport else None

    async def exit_code(self) -> int | None:
        """How the program ended, once it has."""
        await self._exited.wait()
        return self._transport.get_returncode() if self._transport else None

    async def ask_to_end(self) -> None:
        """Ask the program and its group to end, and give them a moment for it."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_S):
                await self._exited.wait()

    async def close(self) -> None:
        """Wait for the last words and the end, then let go. What holds the output open longer is not waited for."""
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(_DRAIN_S):
                await self._exited.wait()
                await self._silent.wait()
        except TimeoutError:
            pass
        finally:
            self._transport.close()

    @property
    def said(self) -> str:
        """Both streams, each under its name."""
        parts = [(name, self.streams[fd].text) for name, fd in (("stdout", 1), ("stderr", 2))]
        return "\n".join(f"--- {name} ---\n{text.rstrip()}" for name, text in parts if text.strip())


class _Programs:
    """Runs what is allowed."""

    def __init__(
        self, allowed: tuple[str, ...], workspace: Path, env: Mapping[str, str], timeout_s: float, max_bytes: int
    ) -> None:
        self.allowed = allowed
        self._workspace = workspace
        self._env = env
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes

    async def run(self, program: str, arguments: Sequence[str]) -> Output:
        """Run *program* to its end. Raises ToolError; cancelled, it ends the program first."""
        path = self._path(program)
        if any("\0" in argument for argument in arguments):
            raise ToolError("an argument holds a zero byte", code=ErrorCode.BAD_ARGUMENTS)
        mark = uuid.uuid4().hex
        talk, code = _Talk(self._max_bytes), None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._start(path, arguments, talk, mark)
                code = await talk.exit_code()
        except TimeoutError:
            await talk.ask_to_end()
        except asyncio.CancelledError:
            await talk.ask_to_end()
            raise
        except OSError as error:
            raise ToolError(f"{program} cannot be run: {error.strerror or error}") from None
        finally:
            _kill_all(talk.pid, mark)
            await talk.close()
        if code is None:
            told = f"; until then it said:\n{talk.said}" if talk.said else ""
            raise ToolError(f"{program} did not end within {self._timeout_s:g} s and was ended{told}")
        return Output(f"{program} {_end_words(code)}\n{talk.said}".rstrip(), {"exit_code": code})

    def _path(self, program: str) -> str:
        if program not in self.allowed:
            raise ToolError(
                f"{program!r} may not be run; allowed are: {', '.join(self.allowed)}", code=ErrorCode.BAD_ARGUMENTS
            )
        path = program if os.path.isabs(program) else shutil.which(program, path=self._env.get("PATH", _PATH))
        if path is None or not os.path.isabs(path) or not os.access(path, os.X_OK):
            raise ToolError(f"{program} is not installed on this machine")
        root = os.path.realpath(self._workspace)
        if os.path.commonpath([root, os.path.realpath(path)]) == root:
            raise ToolError(f"{path} lies in the workspace, where it could have been rewritten, and is not run")
        return path

    async def _start(self, path: str, arguments: Sequence[str], talk: _Talk, mark: str) -> None:
        """Start the program. Cancelled meanwhile, it starts it first: asyncio would wait for ever for a half one."""
        env = {"PATH": _PATH, "HOME": str(self._workspace), "LANG": "C.UTF-8", "TERM": "dumb", **self._env, _MARK: mark}
        loop = asyncio.get_running_loop()
        self._workspace.mkdir(parents=True, exist_ok=True)
        starting = loop.create_task(
            loop.subprocess_exec(
                lambda: talk,
                path,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                cwd=self._workspace,
                env=env,
                start_new_session=True,
            )
        )
        canceled: asyncio.CancelledError | None = None
        while not starting.done():
            try:
                await asyncio.wait({starting})
            except asyncio.CancelledError as error:
                canceled = error
        starting.result()
        if canceled is not None:
            raise canceled


def _kill_all(pid: int | None, mark: str) -> None:
    """End what is still there: the group of *pid*, and every process that has inherited *mark*, wherever it went."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for _ in range(_ROUNDS):
        if not sum(_kill(found, mark) for found in _pids()):
            return


def _pids() -> list[int]:
    """Every process, where there is a way to hold one."""
    if not (_PROC.is_dir() and hasattr(os, "pidfd_open")):
        return []
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def _kill(pid: int, mark: str) -> bool:
    """Kill *pid* if it carries *mark*. It is held by a descriptor meanwhile, lest its number go to another."""
    if not _carries(pid, mark):
        return False
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _carries(pid, mark):
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


def _carries(pid: int, mark: str) -> bool:
    try:
        with open(_PROC / str(pid) / "environ", "rb") as file:
            return f"{_MARK}={mark}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _end_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = f" ({signal.Signals(-code).name})"
    except ValueError:
        name = ""
    return f"was ended by signal {-code}{name}"
