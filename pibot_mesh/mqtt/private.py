"""A Mosquitto of our own: the installed program, run as a child with a configuration made for its version."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import re
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pibot_mesh.errors import BrokerError

SBIN: Final = ("/usr/sbin", "/usr/local/sbin")
"""Where distributions put mosquitto; often not on the PATH of an ordinary user."""
MAX_PACKET_BYTES: Final = 256 * 1024
"""Four times the mesh's own limit: a message that is too large still reaches the master, which can say so."""
START_S: Final = 5.0
STOP_S: Final = 1.0
PORTS_TRIED: Final = 100


def find_mosquitto() -> str | None:
    """The path of the mosquitto program, or None."""
    return _find_program("mosquitto")


def is_port_free(host: str, port: int) -> bool:
    """Whether a broker could listen on TCP *port* of *host* now."""
    return _bind_problem(host, port) is None


def require_free_port(host: str, port: int) -> None:
    """Raise BrokerError, with the address and what to do, where nobody can listen on *port*."""
    problem = _bind_problem(host, port)
    if problem is not None:
        raise BrokerError(f"no broker can listen on {host}:{port}: {problem}")


def next_free_port(host: str, start: int) -> int:
    """The first free TCP port from *start* on; for 0, any free one. Raises BrokerError where 100 in a row are taken."""
    if start == 0:
        with socket.create_server((host, 0), family=_family(host)) as listener:
            port: int = listener.getsockname()[1]
            return port
    last = min(65535, start + PORTS_TRIED - 1)
    for port in range(start, last + 1):
        if is_port_free(host, port):
            return port
    raise BrokerError(f"no port of {host} from {start} to {last} is free")


class PrivateMosquitto:
    """The mosquitto program on the loopback interface, without passwords, for as long as this process lives.

    It has a session of its own, so that a Ctrl-C in the terminal does not end it before the mesh has said goodbye, and
    Linux ends it when we are killed. With *state_dir* it keeps retained messages and sessions there over a restart
    (written every minute, and when it ends); without, in memory only. *port* 0 takes a free one.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 1883, *, state_dir: Path | None = None) -> None:
        self.host = host
        self.port = port
        self._state_dir = state_dir
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it and wait until it accepts connections, at most 5 seconds.

        Raises BrokerError where mosquitto is not installed, the port is taken, or it ends at once (with its own words).
        """
        program = find_mosquitto()
        if program is None:
            raise BrokerError("mosquitto is not installed: sudo apt install mosquitto, or use the embedded broker")
        if self.port == 0:
            self.port = next_free_port(self.host, 0)
        require_free_port(self.host, self.port)
        version = await mosquitto_version(program)
        self._folder = tempfile.TemporaryDirectory(prefix="pibot-mosquitto-", ignore_cleanup_errors=True)
        config = Path(self._folder.name) / "mosquitto.conf"
        config.write_text(mosquitto_config(self.host, self.port, version, self._state_dir), encoding="utf-8")
        log = Path(self._folder.name) / "mosquitto.log"
        try:
            with log.open("wb") as stream:
                self._process = await asyncio.create_subprocess_exec(
                    *_dying_with_us(),
                    program,
                    "-c",
                    str(config),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                    start_new_session=True,
                )
            await self._wait_until_it_accepts(self._process, log)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL a second later. Does nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def __aenter__(self) -> PrivateMosquitto:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _wait_until_it_accepts(self, process: asyncio.subprocess.Process, log: Path) -> None:
        try:
            async with asyncio.timeout(START_S):
                while process.returncode is None:
                    try:
                        _, writer = await asyncio.open_connection(self.host, self.port)
                    except OSError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        return
        except TimeoutError:
            raise BrokerError(f"mosquitto does not accept connections on {self.host}:{self.port}") from None
        raise BrokerError(f"mosquitto ended at once on {self.host}:{self.port}: {_complaints(log)}")


def mosquitto_config(host: str, port: int, version: tuple[int, int], state_dir: Path | None) -> str:
    """The configuration for a mosquitto of *version* (major, minor): an option that it does not know ends it."""
    limit = f"max_packet_size {MAX_PACKET_BYTES}" if version >= (1, 6) else f"message_size_limit {MAX_PACKET_BYTES}"
    lines = [
        f"listener {port} {host}",
        "allow_anonymous true",
        "set_tcp_nodelay true",
        limit,
        "max_queued_messages 20000",
        "log_dest stderr",
        "log_type error",
        "connection_messages false",
    ]
    if version >= (2, 0):
        lines.append("max_inflight_messages 100")
    if os.geteuid() == 0:
        lines.append(f"user {pwd.getpwuid(0).pw_name}")
    if state_dir is None:
        lines.append("persistence false")
    else:
        lines += ["persistence true", f"persistence_location {state_dir.resolve()}/", "autosave_interval 60"]
    return "\n".join(lines) + "\n"


def _complaints(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "; ".join(line for line in lines if "error" in line.lower()) or "no reason given"


async def mosquitto_version(program: str) -> tuple[int, int]:
    """Major and minor version, from the first line of ``mosquitto -h``; 1.4 where it cannot be told."""
    process = await asyncio.create_subprocess_exec(
        program, "-h", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    text, _ = await process.communicate()
    match = re.search(rb"version (\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (1, 4)


def _dying_with_us() -> list[str]:
    """The start of a command line that has Linux end the program with us, where util-linux offers it."""
    setpriv = _find_program("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _find_program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(SBIN))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bind_problem(host: str, port: int) -> str | None:
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            # As the brokers do: connections that ended a moment ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except PermissionError:
        return "ports below 1024 need root"
    except OSError as error:
        if isinstance(error, socket.gaierror):
            return "no such host"
        return (
            "another program uses the port; name another one"
            if error.errno == errno.EADDRINUSE
            else str(error.strerror)
        )
    except OverflowError:
        return "a port is 1 to 65535"
    return None
