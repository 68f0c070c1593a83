"""The Mosquitto that the mesh brings along, and the search for ports."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt import private
from pibot_mesh.mqtt.private import PrivateMosquitto, is_port_free, mosquitto_config, next_free_port
from tests.brokers import HOST, Recorder, needs_mosquitto, until


@needs_mosquitto
async def test_it_serves_mqtt_5_and_ends_with_us() -> None:
    """It accepts at once when start returns; after stop the process is gone and the port free."""
    async with PrivateMosquitto(HOST, 0) as broker:
        pid = broker.pid
        assert pid is not None
        async with Recorder(BrokerSettings(HOST, broker.port), "a", "t") as recorder:
            recorder.client.publish("t", b"x", qos=1)
            await until(lambda: recorder.received, "the message")

            assert recorder.client.protocol == "5"
    assert not is_running(pid)
    assert is_port_free(HOST, broker.port)


@needs_mosquitto
async def test_a_ctrl_c_in_the_terminal_does_not_reach_it() -> None:
    """It is in a session of its own, so it outlives the goodbyes."""
    async with PrivateMosquitto(HOST, 0) as broker:
        assert broker.pid is not None
        assert os.getsid(broker.pid) != os.getsid(0)
        assert os.getpgid(broker.pid) != os.getpgid(0)


@needs_mosquitto
@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="util-linux's setpriv is not installed")
async def test_it_dies_with_a_killed_parent() -> None:
    """kill -9 of the process that started it leaves no broker behind."""
    program = (
        "import asyncio\n"
        "from pibot_mesh.mqtt.private import PrivateMosquitto\n"
        "async def main():\n"
        "    broker = PrivateMosquitto(port=0)\n"
        "    await broker.start()\n"
        "    print(broker.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert is_running(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    await until(lambda: not is_running(pid), "the end of the broker")


@needs_mosquitto
async def test_with_a_folder_it_remembers_over_a_restart(tmp_path: Path) -> None:
    """Retained messages are there again after stop and start."""
    broker = PrivateMosquitto(HOST, 0, state_dir=tmp_path)
    await broker.start()
    async with Recorder(BrokerSettings(HOST, broker.port), "a") as writer:
        writer.client.publish("t", b"ON", qos=1, retain=True)
        await writer.settle()
    await broker.stop()
    await broker.start()
    try:
        async with Recorder(BrokerSettings(HOST, broker.port), "b", "t") as reader:
            await until(lambda: reader.received, "the retained message")

            assert reader.received[0].payload == b"ON"
    finally:
        await broker.stop()


@needs_mosquitto
async def test_a_taken_port_is_named() -> None:
    """With the address, so that the user can name another one."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"{HOST}:{port}: another program uses the port"):
            await PrivateMosquitto(HOST, port).start()


@needs_mosquitto
async def test_its_own_words_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not start, its complaint is in the error, and nothing is left behind."""
    monkeypatch.setattr(private, "mosquitto_config", lambda *_: "no_such_option true\n")
    broker = PrivateMosquitto(HOST, 0)
    with pytest.raises(BrokerError, match="no_such_option"):
        await broker.start()

    assert broker.pid is None


async def test_without_mosquitto_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to do."""
    monkeypatch.setattr(private, "find_mosquitto", lambda: None)
    with pytest.raises(BrokerError, match="sudo apt install mosquitto"):
        await PrivateMosquitto(HOST, 0).start()


def test_an_old_mosquitto_gets_no_option_that_it_does_not_know() -> None:
    """An unknown option ends it."""
    old = mosquitto_config(HOST, 1883, (1, 5), None)
    new = mosquitto_config(HOST, 1883, (2, 0), None)

    assert "max_packet_size" in new
    assert "max_packet_size" not in old
    assert "message_size_limit" in old


def test_the_next_free_port_is_the_first_that_is_free() -> None:
    """A taken port is skipped, a free one is taken as it is."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        assert not is_port_free(HOST, port)
        assert next_free_port(HOST, port) > port
    assert next_free_port(HOST, port) == port


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
