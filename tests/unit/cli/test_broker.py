"""``pibot broker --announce``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from click.testing import CliRunner

from pibot_mesh.cli.broker import announcing
from pibot_mesh.cli.exits import FAILED
from pibot_mesh.cli.main import pibot
from pibot_mesh.mqtt import discovery
from pibot_mesh.mqtt.private import PrivateMosquitto
from tests.brokers import HOST, free_port, needs_mosquitto


def test_a_broker_that_nobody_can_reach_is_not_announced() -> None:
    """It listens on this machine alone, unless it is told otherwise."""
    done = CliRunner().invoke(pibot, ["broker", "--announce"])

    assert done.exit_code == FAILED
    assert "--announce needs a --host that others can reach, such as 0.0.0.0" in done.stderr


@needs_mosquitto
async def test_a_broker_is_announced_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never before it accepts connections, nor after it has ended."""
    told: list[tuple[str, int, bool]] = []

    @asynccontextmanager
    async def announced(host: str, port: int) -> AsyncIterator[str]:
        told.append((host, port, broker.pid is not None))
        yield "name"
        told.append((host, port, broker.pid is not None))

    monkeypatch.setattr(discovery, "announced", announced)
    broker = PrivateMosquitto(HOST, free_port())
    async with announcing(broker):
        assert len(told) == 1

    assert told == [(HOST, broker.port, True)] * 2
