"""A real Mosquitto for tests: on a free port, killed and started again on the same one, ended by its own id."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.mqtt.client import Message, MqttClient, Subscription, Will
from pibot_mesh.mqtt.private import find_mosquitto, next_free_port

HOST = "127.0.0.1"
DEADLINE_S = 10.0
_FIRST_PORT = 12_000
_PORTS = 5_000
_last_port = 0

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
needs_mosquitto_passwd = pytest.mark.skipif(
    find_mosquitto() is None or shutil.which("mosquitto_passwd") is None, reason="mosquitto is not installed"
)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on, another one each time.

    Below those that Linux gives to outgoing connections, and of this worker alone: it stays free until it is used.
    """
    global _last_port  # noqa: PLW0603 - a counter of this process
    first = _FIRST_PORT + _PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    if not first <= _last_port < first + _PORTS - 1:
        _last_port = random.randrange(first, first + _PORTS // 2)
    _last_port = next_free_port(HOST, _last_port + 1)
    return _last_port


async def until(condition: Callable[[], object], what: str, *, timeout_s: float = DEADLINE_S) -> None:
    """Wait until *condition* holds; fails the test, naming *what*, after *timeout_s* seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.005)


class Mosquitto:
    """The installed mosquitto on *port* (0: a free one) with *options*, further lines of its configuration.

    Without *config*, anyone may connect and TCP_NODELAY is set. *config* is a whole configuration instead; it must
    listen on *port*. Persistence is off unless *options* or *config* say otherwise.
    """

    def __init__(self, options: Sequence[str] = (), *, port: int = 0, config: str | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-test-broker-"))
        self._config = self.folder / "mosquitto.conf"
        lines = [config] if config is not None else self._default_lines()
        if os.geteuid() == 0:
            lines.append("user root")
        self._config.write_text("\n".join([*lines, *options]) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> BrokerSettings:
        """How to reach it."""
        return BrokerSettings(HOST, self.port)

    @property
    def log(self) -> str:
        """What it has written since it was made."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = find_mosquitto()
        assert program is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-v", "-c", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            assert self._process.poll() is None, f"mosquitto ended at once:\n{self.log}"
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, f"mosquitto accepts no connections:\n{self.log}"
                time.sleep(0.01)
            else:
                return

    def add(self, *options: str) -> None:
        """Add lines to its configuration, for the next start."""
        self._config.write_text(self._config.read_text() + "\n".join(options) + "\n", encoding="utf-8")

    def replace(self, old: str, new: str) -> None:
        """Change a line of its configuration, for the next start."""
        config = self._config.read_text()
        assert old in config
        self._config.write_text(config.replace(old, new), encoding="utf-8")

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing, until it is thawed, killed or restarted."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was frozen."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: as if the power went."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """The id of its process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def forget(self) -> None:
        """Remove what it keeps on disk, while it does not run."""
        (self.folder / "mosquitto.db").unlink(missing_ok=True)

    def restart(self) -> None:
        """Kill it and start it again on the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after two seconds; its files are removed."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _default_lines(self) -> list[str]:
        return [f"listener {self.port} {HOST}", "allow_anonymous true", "set_tcp_nodelay true"]


class Recorder:
    """A started client with a notebook: what it received (and acknowledged), its errors, and how often it connected.

    *state* is what it publishes, retained, at every connect. As a context it is connected (unless *wait* is false).
    """

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        *filters: str,
        will: Will | None = None,
        is_acknowledging: bool = True,
        wait: bool = True,
        session_expiry_s: int = 60,
        max_queued: int = 1000,
    ) -> None:
        self.received: list[Message] = []
        self.errors: list[Exception] = []
        self.disconnects: list[str] = []
        self.connects = 0
        self.state: tuple[str, bytes] | None = None
        self._is_acknowledging = is_acknowledging
        self._wait = wait
        self.client = MqttClient(
            settings,
            client_id=client_id,
            on_message=self._on_message,
            on_connect=self._on_connect,
            on_disconnect=self.disconnects.append,
            on_error=self.errors.append,
            subscriptions=[Subscription(each) for each in filters],
            will=will,
            session_expiry_s=session_expiry_s,
            max_queued=max_queued,
            rng=random.Random(1),
        )

    async def __aenter__(self) -> Recorder:
        await self.client.start()
        if self._wait:
            await self.client.wait_connected(DEADLINE_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.stop()

    def has_received(self, number: int) -> bool:
        """Whether at least *number* messages came."""
        return len(self.received) >= number

    def has_connected(self, number: int) -> bool:
        """Whether it has connected at least *number* times, and is connected."""
        return self.connects >= number and self.client.is_connected

    async def settle(self) -> None:
        """Wait until the broker has read all that was handed over so far."""
        answers: list[bool] = []
        self.client.publish("settle", b"", qos=1, on_ack=lambda: answers.append(True))
        await until(lambda: answers, "the acknowledgement")

    def _on_connect(self) -> None:
        self.connects += 1
        if self.state is not None:
            self.client.publish(*self.state, qos=1, retain=True)

    def _on_message(self, message: Message) -> None:
        self.received.append(message)
        if self._is_acknowledging:
            self.client.ack(message)


def socket_of(client: MqttClient) -> socket.socket:
    """The TCP socket of a connected client."""
    connection = client._connection
    assert connection is not None
    sock = connection._paho.socket()
    assert isinstance(sock, socket.socket)
    return sock


def abort(client: MqttClient) -> None:
    """Break the client's TCP connection without a DISCONNECT, as if the program had been killed."""
    socket_of(client).shutdown(socket.SHUT_RDWR)
