"""Three real NATS servers as one cluster with JetStream and MQTT, on free ports of the loopback interface."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.config.settings import BrokerSettings
from tests.brokers import HOST, free_port

READY_S = 30.0

_SBIN = "/usr/sbin/nats-server"
PROGRAM = shutil.which("nats-server") or (_SBIN if Path(_SBIN).exists() else None)

needs_nats = pytest.mark.skipif(PROGRAM is None, reason="nats-server is not installed: sudo apt install nats-server")


@dataclass(frozen=True, slots=True)
class _Ports:
    clients: int
    mqtt: int
    cluster: int
    monitor: int


class NatsServer:
    """One server of a cluster. *peers* are the cluster's ports of all of them."""

    def __init__(self, name: str, ports: _Ports, peers: Sequence[int], folder: Path) -> None:
        self.name = name
        self.ports = ports
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._config = folder / f"{name}.conf"
        self._config.write_text(_config(name, ports, peers, folder / name), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where MQTT clients find it."""
        return HOST, self.ports.mqtt

    @property
    def log(self) -> str:
        """What it has written since it was made."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Start it; see `is_healthy`."""
        assert PROGRAM is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def is_healthy(self) -> bool:
        """Whether it says of itself that it has caught up with the cluster."""
        return _answer(self.ports.monitor, "healthz").get("status") == "ok"

    def meta_leader(self) -> str:
        """The server that it takes for the leader of JetStream; empty where it knows none."""
        cluster = _answer(self.ports.monitor, "jsz").get("meta_cluster")
        return str(cluster.get("leader", "")) if isinstance(cluster, dict) else ""

    def leader_of(self, stream: str) -> str:
        """The server that leads *stream*; empty where it knows none."""
        accounts = _answer(self.ports.monitor, "jsz?accounts=1&streams=1").get("account_details")
        streams = [each for account in _list(accounts) for each in _list(account.get("stream_detail"))]
        [leader] = [each["cluster"].get("leader", "") for each in streams if each["name"] == stream]
        return str(leader)

    def step_down(self, stream: str) -> None:
        """Have the leader of *stream* leave that to another server."""
        with socket.create_connection((HOST, self.ports.clients), timeout=5) as connection:
            order = f"PUB $JS.API.STREAM.LEADER.STEPDOWN.{stream} 0\r\n\r\n"
            connection.sendall(f'CONNECT {{"verbose": false}}\r\n{order}PING\r\n'.encode())
            while b"PONG" not in connection.recv(65536):
                pass

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing, until it is killed or goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """SIGKILL: as if the power went."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class NatsCluster:
    """Three servers. As a context they run, and know their JetStream leader."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-test-nats-"))
        ports = [_Ports(free_port(), free_port(), free_port(), free_port()) for _ in range(3)]
        peers = [each.cluster for each in ports]
        self.servers = [NatsServer(f"n{number}", each, peers, self.folder) for number, each in enumerate(ports, 1)]

    def settings(self, first: int = 0) -> BrokerSettings:
        """How to reach it, beginning with the server of that number."""
        addresses = [server.address for server in (*self.servers[first:], *self.servers[:first])]
        return BrokerSettings(*addresses[0], keepalive_s=5, others=tuple(addresses[1:]))

    def wait_until_ready(self) -> None:
        """Wait until every server is healthy and all agree on one JetStream leader."""
        deadline = time.monotonic() + READY_S
        while True:
            leaders = {server.meta_leader() for server in self.servers}
            if len(leaders) == 1 and "" not in leaders and all(server.is_healthy() for server in self.servers):
                return
            assert time.monotonic() < deadline, f"no JetStream leader within {READY_S:g} s:\n{self.servers[0].log}"
            time.sleep(0.05)

    def __enter__(self) -> NatsCluster:
        for server in self.servers:
            server.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _config(name: str, ports: _Ports, peers: Sequence[int], store: Path) -> str:
    routes = ", ".join(f"nats-route://{HOST}:{peer}" for peer in peers if peer != ports.cluster)
    return f"""server_name: {name}
listen: {HOST}:{ports.clients}
http: {HOST}:{ports.monitor}
jetstream {{ store_dir: {json.dumps(str(store))} }}
cluster {{ name: mesh, listen: {HOST}:{ports.cluster}, routes: [{routes}] }}
mqtt {{ listen: {HOST}:{ports.mqtt}, stream_replicas: 3 }}
"""


def _list(value: object) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else []


def _answer(port: int, path: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/{path}", timeout=1) as response:
            answer = json.load(response)
    except (OSError, urllib.error.HTTPError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}
