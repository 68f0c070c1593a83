"""``pibot up``: from one command to an answered request, and back to nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import HOST, Mosquitto, free_port, needs_mosquitto
from tests.integration.programs import PIBOT, Program, Terminal, descendants, environment, is_running

SENTENCE = "turn on the fan on worker-1 and read the temperature on worker-2"
END_S = 3.0
SLACK_S = 1.0
"""For a machine that has much else to do."""
ENGINES = [pytest.param("mosquitto", marks=needs_mosquitto), "amqtt"]

Up = Callable[..., Program]


@pytest.fixture
def up(tmp_path: Path) -> Up:
    """Starts ``pibot up`` with further arguments, for a user with a home of their own."""

    def start(*args: str, **env: str) -> Program:
        return Program([*PIBOT, "up", *args], env=environment(tmp_path, **env))

    return start


@pytest.mark.parametrize("engine", ENGINES)
def test_one_request_from_nothing(up: Up, engine: str) -> None:
    """``--ask`` starts everything, shows plan, events and an answer that names both nodes, and ends with 0."""
    with up("--engine", engine, "--port", "0", "--ask", SENTENCE) as program:
        assert program.wait(30) == 0

    lines = program.out.splitlines()
    assert any(re.search(r"s1: worker-1: .*fan", line) for line in lines)
    assert any(line.startswith("  ✓ s2 on worker-2: ") for line in lines)
    assert re.search(r"worker-1.*fan is on.*worker-2.*temperature.*°C", lines[-1])
    assert program.err == ""


@needs_mosquitto
def test_one_request_over_a_broker_that_runs_already(up: Up) -> None:
    """``--broker`` uses that one, and starts none; on MQTT 5."""
    with Mosquitto() as broker, up("--broker", str(broker.settings), "--ask", SENTENCE) as program:
        assert program.wait(30) == 0
        assert not [line for line in broker.log.splitlines() if "p2" in line and "as worker-1" in line]
        assert [line for line in broker.log.splitlines() if "p5" in line and "as worker-1" in line]

    assert "fan is on" in program.out
    assert program.err == ""


@needs_mosquitto
def test_a_second_mesh_beside_one_that_runs_is_refused(up: Up) -> None:
    """Two masters of one name would take the connection from each other for ever."""
    with Mosquitto() as broker, up("--broker", str(broker.settings)) as first:
        first.wait_for("Ctrl-C")
        with up("--broker", str(broker.settings), "--ask", SENTENCE) as second:
            assert second.wait(30) == 2
        assert re.fullmatch(r"pibot: a master is online at .* already: .*\n", second.err)

        first.send(signal.SIGINT)
        assert first.wait() == 130
    assert first.err == ""


def test_a_request_that_is_refused_ends_with_2(up: Up) -> None:
    """The reason is the answer."""
    with up("--engine", "amqtt", "--port", "0", "--ask", "make me a sandwich") as program:
        assert program.wait(30) == 2

    assert "make me a sandwich" in program.out.splitlines()[-1]
    assert program.err == ""


def test_without_a_broker_where_one_was_named(up: Up) -> None:
    """One line, and 3."""
    started = time.monotonic()
    with up("--broker", f"{HOST}:{free_port()}", "--ask", SENTENCE) as program:
        assert program.wait(30) == 3

    assert time.monotonic() - started < 5
    assert program.err.splitlines()[-1].startswith("pibot: no connection within")
    assert "Traceback" not in program.err


@needs_mosquitto
@pytest.mark.parametrize("engine", ["mosquitto", "amqtt", "one that runs already"])
def test_the_three_terminals(up: Up, tmp_path: Path, engine: str) -> None:
    """One runs the mesh, one asks with mosquitto_pub, and one sees the whole story with mosquitto_sub."""
    env = environment(tmp_path)
    with ExitStack() as stack:
        arguments = ["--engine", engine, "--port", "0"]
        if engine == "one that runs already":
            arguments = ["--broker", str(stack.enter_context(Mosquitto()).settings)]
        mesh = stack.enter_context(up(*arguments))
        port = mesh.wait_for(r"^  broker .*:(\d+)$")[1]
        mesh.wait_for("Ctrl-C")
        with Program(["mosquitto_sub", "-p", port, "-v", "-t", "pibot/#"], env=env) as seen:
            seen.wait_for("^pibot/node/worker-3/status online$")
            _publish(port, "turn on the fan on worker-1")
            seen.wait_for("^pibot/reply .*fan is on")
            _publish(port, "turn off the fan on worker-1")
            seen.wait_for("^pibot/reply .*fan is off")

            request = seen.wait_for(r'^pibot/request/(\w+)/event .*"request_accepted"')[1]
            seen.wait_for(rf'^pibot/request/{request}/event .*"request_planned"')
            seen.wait_for(rf'^pibot/node/worker-1/task .*"request":"{request}"')
            seen.wait_for(rf'^pibot/node/worker-1/task/{request}-s1/result .*"completed"')
            seen.wait_for("^pibot/node/worker-1/out/fan ON$")
            seen.wait_for(rf'^pibot/node/worker-1/out/fan/cause .*"{request}')
            seen.wait_for(rf'^pibot/request/{request}/reply .*"completed"')
            seen.wait_for("^pibot/node/worker-1/out/fan OFF$")

            mesh.wait_for(r"^\[mqtt\] > turn on the fan on worker-1$")
            mesh.wait_for(r"^\[mqtt\] .*fan is on")
            mesh.send(signal.SIGINT)
            assert mesh.wait() == 130
    assert mesh.err == ""


def _publish(port: str, text: str) -> None:
    subprocess.run(["mosquitto_pub", "-p", port, "-q", "1", "-t", "pibot/request", "-m", text], check=True, timeout=10)


def test_requests_in_a_pipe(up: Up) -> None:
    """Lines on standard input are requests; at their end the mesh ends, with 2 where the last word was not good."""
    with up("--engine", "amqtt", "--port", "0", "--nodes", "1") as mesh:
        mesh.say("turn on the fan on worker-1")
        mesh.say("")
        mesh.say("turn off the fan on worker-1")
        assert mesh.process.stdin is not None
        mesh.process.stdin.close()
        assert mesh.wait(30) == 0

    assert mesh.out.index("fan is on") < mesh.out.index("fan is off")


def test_what_is_typed_is_a_conversation(up: Up) -> None:
    """Each line goes on from the ones before, as long as the mesh runs."""
    with up("--engine", "amqtt", "--port", "0", "--nodes", "2") as mesh:
        for text in ("turn on the fan on worker-1", "and now off again", "and the temperature there?"):
            mesh.say(text)
        assert mesh.process.stdin is not None
        mesh.process.stdin.close()
        assert mesh.wait(30) == 0

    answers = [line for line in mesh.out.splitlines() if line.startswith("worker-1: ")]
    assert answers[:2] == ["worker-1: the fan is on.", "worker-1: the fan is off."]
    assert answers[2].startswith("worker-1: the temperature is ")


def test_a_service_without_input_goes_on(up: Up) -> None:
    """Standard input that is closed from the start ends nothing; SIGTERM does."""
    with up("--engine", "amqtt", "--port", "0", "--nodes", "1") as mesh:
        assert mesh.process.stdin is not None
        mesh.process.stdin.close()
        mesh.wait_for("Nothing can be typed here")
        mesh.send(signal.SIGTERM)
        assert mesh.wait() == 128 + signal.SIGTERM
    assert mesh.err == ""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_everything_in_time(up: Up, engine: str, number: signal.Signals) -> None:
    """Within 3 s, quietly, and no child is left behind."""
    with up("--engine", engine, "--port", "0") as mesh:
        port = int(mesh.wait_for(r"^  broker .*:(\d+)$")[1])
        mesh.wait_for("Ctrl-C")
        children = descendants(mesh.process.pid)
        assert len(children) == (1 if engine == "mosquitto" else 0)

        started = time.monotonic()
        mesh.send(number)
        assert mesh.wait() == 128 + number
        assert time.monotonic() - started < END_S + SLACK_S

    assert not [child for child in children if is_running(child)]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), timeout=1)
    assert mesh.err == ""


@needs_mosquitto
def test_outputs_are_safe_and_nodes_offline_afterwards(up: Up, tmp_path: Path) -> None:
    """What the broker keeps of a mesh that was ended."""
    with Mosquitto() as broker:
        with up("--broker", str(broker.settings)) as mesh:
            mesh.wait_for("Ctrl-C")
            mesh.say("turn on the fan on worker-1")
            mesh.wait_for("fan is on")
            assert _status(broker, tmp_path)["nodes"]["worker-1"]["outputs"]["fan"] is True
            mesh.send(signal.SIGINT)
            assert mesh.wait() == 130

        after = _status(broker, tmp_path)

    assert after["master"]["online"] is False
    assert [node["online"] for node in after["nodes"].values()] == [False] * 3
    assert after["nodes"]["worker-1"]["outputs"] == {"fan": False, "lamp": 0.0}


@needs_mosquitto
def test_ctrl_c_cancels_the_request_that_runs_and_then_ends_the_mesh(up: Up, tmp_path: Path) -> None:
    """The first one is for the request, which gets its answer; at rest, it is for all."""
    with Mosquitto() as broker, up("--broker", str(broker.settings), "--nodes", "1") as mesh:
        mesh.wait_for("Ctrl-C")
        with _frozen_node(broker, tmp_path) as node:
            mesh.say("turn on the fan on porch")
            mesh.wait_for("→ s1 to porch")
            mesh.send(signal.SIGINT)
            mesh.wait_for("! cancelling")
            node.send(signal.SIGCONT)
            mesh.wait_for("s1 on porch")
        mesh.say("status of worker-1")
        mesh.wait_for("✓ s1 on worker-1: up")
        mesh.wait_for("^worker-1: ")
        mesh.say("")
        mesh.send(signal.SIGINT)
        assert mesh.wait() == 130
    assert "Traceback" not in mesh.err


@needs_mosquitto
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_request_that_runs_does_not_hold_up_the_end(up: Up, tmp_path: Path, number: signal.Signals) -> None:
    """A second Ctrl-C, or SIGTERM, ends everything in time all the same."""
    with Mosquitto() as broker, up("--broker", str(broker.settings), "--nodes", "1") as mesh:
        mesh.wait_for("Ctrl-C")
        with _frozen_node(broker, tmp_path):
            mesh.say("turn on the fan on porch")
            mesh.wait_for("→ s1 to porch")
            if number is signal.SIGINT:
                mesh.send(number)
                mesh.wait_for("! cancelling")
            started = time.monotonic()
            mesh.send(number)
            assert mesh.wait() == 128 + number
            assert time.monotonic() - started < END_S + SLACK_S
    assert "Traceback" not in mesh.err


@contextmanager
def _frozen_node(broker: Mosquitto, home: Path) -> Iterator[Program]:
    """A node named porch that is online and does not answer: its process is stopped."""
    args = [*PIBOT, "node", "--id", "porch", "--simulate", "--broker", str(broker.settings)]
    with Program(args, env=environment(home)) as node:
        node.wait_for("connected to the broker")
        deadline = time.monotonic() + 10
        while "porch" not in (status := _status(broker, home)["nodes"]) or not status["porch"]["online"]:
            assert time.monotonic() < deadline, "the node does not come online"
        node.send(signal.SIGSTOP)
        yield node


@needs_mosquitto
def test_a_frozen_broker_does_not_hold_up_the_end(up: Up) -> None:
    """Nobody answers any more, and Ctrl-C still ends everything in time."""
    with up("--engine", "mosquitto", "--port", "0") as mesh:
        mesh.wait_for("Ctrl-C")
        [broker] = descendants(mesh.process.pid)
        os.kill(broker, signal.SIGSTOP)
        started = time.monotonic()
        mesh.send(signal.SIGINT)
        assert mesh.wait() == 130
        assert time.monotonic() - started < END_S + SLACK_S
        assert not is_running(broker)
    assert "Traceback" not in mesh.err


@needs_mosquitto
def test_a_broker_that_dies_is_started_again(up: Up) -> None:
    """The mesh finds itself again on the same port, and the next request is answered."""
    with up("--engine", "mosquitto", "--port", "0", "--nodes", "1") as mesh:
        mesh.wait_for("Ctrl-C")
        [broker] = descendants(mesh.process.pid)
        os.kill(broker, signal.SIGKILL)
        mesh.wait_for("The broker ended by itself: starting it again")
        mesh.say("turn on the fan on worker-1")
        mesh.wait_for("^worker-1: the fan is on")
        mesh.send(signal.SIGINT)
        assert mesh.wait() == 130
    assert mesh.err.count("the connection was lost") == 1, "what all parts say is shown once"


@needs_mosquitto
def test_killed_without_warning_it_leaves_no_broker(up: Up) -> None:
    """Linux ends the private Mosquitto when its parent is gone."""
    with up("--engine", "mosquitto", "--port", "0") as mesh:
        mesh.wait_for("Ctrl-C")
        [broker] = descendants(mesh.process.pid)
        mesh.process.kill()
        mesh.wait()
        deadline = time.monotonic() + 5
        while is_running(broker):
            assert time.monotonic() < deadline, "mosquitto still runs"
            time.sleep(0.02)


def test_a_named_port_that_is_taken_is_an_error(up: Up) -> None:
    """One line that names the port, and 3."""
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])
        with up("--port", port, "--ask", SENTENCE) as program:
            assert program.wait(30) == 3

    [line] = program.err.splitlines()
    assert f"{HOST}:{port}" in line


def test_the_usual_port_that_is_taken_is_told_and_another_used(tmp_path: Path) -> None:
    """Nobody named one, so the next free one will do."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        code = (
            "from pibot_mesh.cli import engines, main, up\n"
            f"engines.DEFAULT_PORT = up.DEFAULT_PORT = {port}\n"
            "main.main()"
        )
        args = [sys.executable, "-c", code, "up", "--engine", "amqtt", "--nodes", "1", "--ask", "status of worker-1"]
        with Program(args, env=environment(tmp_path)) as program:
            assert program.wait(30) == 0

    assert f"Port {port} is taken by another program: using " in program.out


def test_a_second_one_in_the_same_folder_is_refused(up: Up, tmp_path: Path) -> None:
    """It says who is there; in a folder of its own it runs beside the first."""
    folder = str(tmp_path / "mine")
    with up("--engine", "amqtt", "--port", "0", "--nodes", "1", "--state-dir", folder) as first:
        first.wait_for("Ctrl-C")
        with up("--engine", "amqtt", "--port", "0", "--state-dir", folder, "--ask", "status") as second:
            assert second.wait(30) == 2
        assert f"another 'pibot up' (process {first.process.pid})" in second.err
        with up("--engine", "amqtt", "--port", "0", "--nodes", "1", "--ask", "status of worker-1") as third:
            assert third.wait(30) == 0
        first.send(signal.SIGINT)
        assert first.wait() == 130


def test_a_state_folder_that_cannot_be_made(up: Up, tmp_path: Path) -> None:
    """One line with a way out, and 2."""
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "state")
    with up("--engine", "amqtt", "--port", "0", "--state-dir", folder, "--ask", "status") as program:
        assert program.wait(30) == 2

    [line] = program.err.splitlines()
    assert folder in line
    assert "--state-dir" in line


@pytest.mark.parametrize(
    ("keys", "code"), [("exit\r", 0), ("\x04", 0), ("\x03", 130)], ids=["exit", "ctrl-d", "ctrl-c"]
)
def test_a_prompt_with_history(tmp_path: Path, keys: str, code: int) -> None:
    """Requests are typed, answered and remembered; the arrow key brings the last one back."""
    args = [*PIBOT, "up", "--engine", "amqtt", "--port", "0", "--nodes", "1"]
    with Terminal(args, env=environment(tmp_path)) as terminal:
        terminal.wait_for("pibot>")
        terminal.type("turn on the fan on worker-1\r")
        terminal.wait_for("worker-1: the fan is on")
        terminal.wait_for("pibot>")
        terminal.type("\x1b[A")
        terminal.wait_for("turn on the fan on worker-1")
        terminal.type("\r")
        terminal.wait_for("worker-1: the fan is on")
        terminal.wait_for("pibot>")
        terminal.type(keys)
        assert terminal.wait(END_S + SLACK_S) == code
        assert "Traceback" not in terminal.text

    [history] = tmp_path.glob("state/pibot/up/history")
    assert history.read_text().count("+turn on the fan on worker-1") == 1


def _status(broker: Mosquitto, home: Path) -> Any:
    done = subprocess.run(
        [*PIBOT, "status", "--json", "--broker", str(broker.settings)],
        env=environment(home),
        capture_output=True,
        check=False,
        timeout=20,
    )
    return json.loads(done.stdout)
