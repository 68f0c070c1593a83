"""``pibot up`` with a model behind HTTP on loopback: free words, agents on nodes, steered and cancelled half-way."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pibot_mesh.testing import FakeModelServer, call, say
from pibot_mesh.testing.answers import HttpAnswer
from pibot_mesh.testing.model_server import SeenRequest
from tests.brokers import needs_mosquitto
from tests.integration.programs import PIBOT, Program, environment

pytestmark = needs_mosquitto

KEY = "sk-4f9c-not-a-real-key"


@contextmanager
def served(script: Callable[[SeenRequest], HttpAnswer]) -> Iterator[str]:
    """A model service in a thread of its own; its address."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    server = FakeModelServer(script)
    stop = asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield server.base_url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def planned(*steps: dict[str, object]) -> HttpAnswer:
    return say(call("make_plan", complexity="moderate", language="en", steps=list(steps)))


class Model:
    """Plans one reading on worker-1 and one instruction for worker-2, whose agent is told what to do by the test."""

    def __init__(self) -> None:
        self.agent: list[SeenRequest] = []
        self.asked = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, request: SeenRequest) -> HttpAnswer:
        tools = [tool["function"]["name"] for tool in request.body.get("tools", [])]
        if "make_plan" in tools:
            return planned(
                {
                    "id": "s1",
                    "work": "device",
                    "node": "worker-1",
                    "tool": "sensor_read",
                    "args": {"device": "climate"},
                },
                {"id": "s2", "work": "device", "node": "worker-2", "instruction": "Make it cosy.", "after": ["s1"]},
            )
        if not tools:
            return say("It is cosy now.")
        self.agent.append(request)
        if len(self.agent) == 1:
            return say(call("output_set", device="lamp", value=30))
        self.asked.set()
        if not self.may_go_on.wait(0):
            return say("I am thinking about it. ", *["still "] * 100, one_write=False).paced(0.05)
        return say("The lamp is at 30 %.")


def up(tmp_path: Path, base_url: str, *args: str) -> Program:
    env = environment(tmp_path, PIBOT_API_KEY=KEY)
    model = ["--provider", "custom", "--model", "m", "--base-url", base_url]
    return Program([*PIBOT, "up", "--engine", "mosquitto", "--port", "0", *model, *args], env=env)


def test_one_request_in_free_words(tmp_path: Path) -> None:
    """From nothing to the answer, in one command; the key is in no output and in no file."""
    model = Model()
    model.may_go_on.set()
    with served(model) as base_url, up(tmp_path, base_url, "--ask", "make it cosy in here") as program:
        assert program.wait(40) == 0

    assert program.out.splitlines()[-1].endswith("It is cosy now.")
    assert "worker-1" in program.out
    assert "output_set" in program.out
    assert program.err == ""
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in program.out
    assert KEY.encode() not in files


@pytest.mark.parametrize("way", ["steer", "cancel"])
def test_a_second_terminal_says_something_half_way(tmp_path: Path, way: str) -> None:
    """While the agent on worker-2 writes: one is steered, one is cancelled, and its reply says what had been done."""
    model = Model()
    with served(model) as base_url, up(tmp_path, base_url) as mesh:
        port = mesh.wait_for(r"^  broker .*:(\d+)$")[1]
        mesh.wait_for("Ctrl-C")
        env = environment(tmp_path)
        with Program(["mosquitto_sub", "-p", port, "-v", "-t", "pibot/#"], env=env) as seen:
            seen.wait_for("^pibot/node/worker-2/status online$")
            asked = Program(
                ["mosquitto_pub", "-p", port, "-q", "1", "-t", "pibot/request", "-m", "make it cosy in here"], env=env
            )
            assert asked.wait(10) == 0
            request = seen.wait_for(r'^pibot/request/(\w+)/event .*"request_planned"')[1]
            seen.wait_for(rf'^pibot/request/{request}/event .*"message_delta".*still')
            model.may_go_on.set()
            words = ["steer", request, "that is enough thinking"] if way == "steer" else ["cancel", request]
            said_at = time.monotonic()
            with Program([*PIBOT, *words, "--broker", f"127.0.0.1:{port}"], env=env) as said:
                assert said.wait(15) == 0
            if way == "cancel":
                seen.wait_for(rf'^pibot/node/worker-2/task/{request}-s2/result .*"canceled"')
                assert time.monotonic() - said_at < 5
                seen.wait_for(rf'^pibot/request/{request}/reply .*"canceled"')
                said_in_words = seen.out.partition("\npibot/reply ")[2].partition("\npibot/")[0]
                assert "lamp" in said_in_words, said_in_words
            else:
                seen.wait_for(rf'^pibot/request/{request}/reply .*"completed"', timeout_s=40)
                assert model.agent[-1].last == "that is enough thinking"
        mesh.send(signal.SIGINT)
        assert mesh.wait() == 130
    assert mesh.err == ""
