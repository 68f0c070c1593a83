"""Why a node's process started, as the mesh sees it: real processes, killed and ended."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from pibot_mesh.cli.main import pibot
from pibot_mesh.node.start_reason import read_machine_boot
from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import NodeCard
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until
from tests.integration.programs import PIBOT, Program, environment

pytestmark = [needs_mosquitto, pytest.mark.skipif(not read_machine_boot(), reason="this machine has no boot id")]


async def test_a_killed_node_and_an_ended_one_say_how_they_came_to_start_anew(tmp_path: Path) -> None:
    """After a kill it is a crash, which ``pibot status`` tells; after SIGTERM a restart, which is not worth a word."""
    with Mosquitto() as broker:
        async with Recorder(broker.settings, "onlooker", "pibot/node/porch/card") as onlooker:

            def cards() -> dict[str, str | None]:
                """Why each process started, by its boot."""
                seen = [decode(NodeCard, message.payload) for message in onlooker.received]
                return {card.boot: card.start_reason for card in seen}

            async def lives(number: int, last_word: signal.Signals) -> str:
                args = ["node", "--id", "porch", "--simulate", "--broker", str(broker.settings)]
                with Program([*PIBOT, *args, "--state-dir", str(tmp_path)], env=environment(tmp_path)) as node:
                    await until(lambda: len(cards()) == number, "the card of a new process", timeout_s=30)
                    status = await asyncio.to_thread(
                        CliRunner().invoke, pibot, ["status", "--broker", str(broker.settings)]
                    )
                    node.send(last_word)
                    await asyncio.to_thread(node.wait)
                return status.stdout

            tables = [
                await lives(number, word)
                for number, word in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGTERM), 1)
            ]

            assert list(cards().values()) == ["first", "crash", "restart"]
            assert ["after a crash" in table for table in tables] == [False, True, False]
