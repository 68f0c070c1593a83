"""Small enough for a Pi Zero: what a node loads and holds, what an idle mesh costs."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

PIBOT = [sys.executable, "-m", "pibot_mesh"]


@contextmanager
def node_process(
    broker: Mosquitto, root: str, state_dir: Path, *python_options: str
) -> Iterator[subprocess.Popen[str]]:
    """``pibot node`` with simulated devices; its standard error goes to ``err.txt`` in *state_dir*."""
    command = [
        *[sys.executable, *python_options, "-m", "pibot_mesh"],
        *["node", "--id", "zero", "--simulate", "--root", root, "--broker", str(broker.settings)],
    ]
    environment = {**os.environ, "PIBOT_STATE_DIR": str(state_dir)}
    with (state_dir / "err.txt").open("w") as errors:
        process = subprocess.Popen(command, stderr=errors, text=True, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@needs_mosquitto
async def test_a_node_stays_below_40_mb(tmp_path: Path) -> None:
    """``pibot node`` with simulated devices and no model, once it is online and has done a task."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Mosquitto() as broker, node_process(broker, root, tmp_path) as process:
        async with Recorder(broker.settings, "watcher", f"{root}/node/zero/#") as watcher:
            await until(lambda: any(m.payload == b"online" for m in watcher.received), "the node is online")
            task = (
                b'{"id": "t1", "request": "r1", "kind": "call", "tool": "output_set", '
                b'"args": {"device": "fan", "value": "ON"}}'
            )
            watcher.client.publish(f"{root}/master/status", b"online", qos=1, retain=True)
            watcher.client.publish(f"{root}/node/zero/task", task, qos=1)
            await until(lambda: any("/result" in m.topic for m in watcher.received), "the result")
            resident_kb = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[0])

    assert resident_kb < 40 * 1024


@needs_mosquitto
async def test_a_node_loads_nothing_heavy(tmp_path: Path) -> None:
    """From its start to its end it imports neither a model's client, nor the sentence matcher, nor a broker."""
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Mosquitto() as broker, node_process(broker, root, tmp_path, "-X", "importtime"):
        async with Recorder(broker.settings, "watcher", f"{root}/node/zero/status") as watcher:
            await until(lambda: any(m.payload == b"online" for m in watcher.received), "the node is online")
    imported = set(re.findall(r"^import time:.*\| +(\w+)", (tmp_path / "err.txt").read_text(), re.MULTILINE))

    assert {"paho", "yaml", "gpiozero"} <= imported, "the list of imports is not what it should be"
    heavy = {"openai", "hassil", "amqtt", "rich", "prompt_toolkit", "httpx", "httpx2", "pydantic", "jsonschema"}
    assert imported & heavy == set()


@needs_mosquitto
async def test_an_idle_mesh_uses_under_one_percent_of_a_core(tmp_path: Path) -> None:
    """A master and three nodes of ``pibot up``, with their broker, over ten seconds in which nobody asks anything."""
    with Mosquitto() as broker:
        root = f"test-{uuid.uuid4().hex[:8]}"
        command = [*PIBOT, "up", "--root", root, "--broker", str(broker.settings), "--state-dir", str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            async with Recorder(broker.settings, "watcher", f"{root}/node/+/status") as watcher:
                await until(lambda: sum(m.payload == b"online" for m in watcher.received) >= 3, "three nodes")
            await asyncio.sleep(3)  # what a start does once is not what an idle mesh does
            begun = _cpu_s(process.pid)
            await asyncio.sleep(10)  # the span that is measured
            used = _cpu_s(process.pid) - begun
        finally:
            process.terminate()
            process.wait(10)

    assert used < 0.1


def _cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
