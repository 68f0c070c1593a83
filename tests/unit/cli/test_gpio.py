"""``pibot gpio``: the commands, on simulated pins."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli.exits import FAILED, INTERRUPTED
from pibot_mesh.cli.gpio import holder
from pibot_mesh.cli.main import pibot
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.found import SimulatedLevels
from pibot_mesh.storage import Alone
from tests.brokers import until
from tests.integration.programs import PIBOT, Program, Terminal, environment

NODE = """
node: {id: greenhouse, simulate: true}
devices:
  fan: {kind: relay, pin: 17, initial: true}
  button: {kind: button, pin: 22}
  air: {kind: climate}
"""
FAN = DeviceSettings("fan", "relay", 17)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """The file of a node with a fan, a button and a thermometer."""
    path = tmp_path / "node.yaml"
    path.write_text(NODE, encoding="utf-8")
    return path


def gpio(node: Path, *args: str) -> Result:
    """Run a command to its end."""
    command, *others = args
    where = ["--config", str(node), "--state-dir", str(node.parent)]
    return CliRunner().invoke(pibot, ["gpio", command, *where, *others])


def fan_level(node: Path) -> object:
    """What the simulated pin of the fan is at."""
    levels = SimulatedLevels(node.parent / "pins-greenhouse")
    try:
        return levels.values([FAN]).get("fan")
    finally:
        levels.close()


def test_read_shows_each_device_once(node: Path) -> None:
    """Inputs and sensors as they are; an output is not taken, though its initial value is on."""
    done = gpio(node, "read", "--once")

    assert done.exit_code == 0, done.output
    rows = {words[0]: words for line in done.stdout.splitlines() if (words := line.split())}
    assert rows["fan"] == ["fan", "relay", "17", "not", "read"]
    assert rows["button"] == ["button", "button", "22", "OFF"]
    assert rows["air"][2] == "temperature"
    assert fan_level(node) is None


def test_read_gives_json(node: Path) -> None:
    """One object, by device."""
    done = gpio(node, "read", "--json")

    facts = json.loads(done.stdout)
    assert (done.exit_code, facts["button"]["value"], facts["fan"]["value"]) == (0, False, None)
    assert set(facts["air"]["measures"]) == {"temperature", "humidity"}


def test_read_tells_what_an_output_was_left_at(node: Path) -> None:
    """By a node that was killed, say."""
    levels = SimulatedLevels(node.parent / "pins-greenhouse")
    levels.keep(17, 100.0)
    levels.close()

    assert json.loads(gpio(node, "read", "--json").stdout)["fan"]["value"] is True


@pytest.mark.parametrize("command", ["read", "test"])
def test_pins_have_one_owner(command: str, node: Path) -> None:
    """While the node runs, neither command touches them."""
    alone = Alone(node.parent / "node-greenhouse.lock", "node greenhouse")
    try:
        done = gpio(node, command)
    finally:
        alone.close()

    assert done.exit_code == FAILED
    assert done.stderr == (
        f"pibot: the node greenhouse runs (process {os.getpid()}) and has the pins: use 'pibot status' or "
        "'pibot watch', or end it first\n"
    )


def test_a_lock_that_nobody_has_is_free(tmp_path: Path) -> None:
    """One that is not there, too."""
    lock = tmp_path / "node-x.lock"
    assert holder(lock) == ""

    Alone(lock, "x").close()
    assert holder(lock) == ""


def test_test_knows_its_devices(node: Path, tmp_path: Path) -> None:
    """A wrong name, or none to test, is said at once."""
    done = gpio(node, "test", "fam")
    assert done.exit_code == FAILED
    assert "There is no device 'fam' (did you mean 'fan'?); there are: fan, button, air." in done.stderr

    (tmp_path / "bare.yaml").write_text("node: {id: bare}\n", encoding="utf-8")
    done = gpio(tmp_path / "bare.yaml", "read")
    assert done.exit_code == FAILED
    assert "bare.yaml has no devices" in done.stderr


def test_test_ends_with_a_table_and_a_code(node: Path, tmp_path: Path) -> None:
    """What a person typed decides; the initial value of an output is never set."""
    args = [*PIBOT, "gpio", "test", "--config", str(node), "--state-dir", str(tmp_path), "fan", "button", "air"]
    with Program(args, env=environment(tmp_path)) as program:
        program.say("")
        program.say("y")
        program.say("n")
        assert program.wait() == FAILED

    assert "These pins are simulated: nothing will move." in program.out
    assert "It will go to ON for 1 s, then back to OFF." in program.out
    assert program.out.splitlines()[-3:] == [
        "  fan     passed",
        "  button  skipped: simulated",
        "  air     failed: what it gives is not plausible",
    ]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_it_is_ended_the_outputs_are_safe(ending: signal.Signals, node: Path, tmp_path: Path) -> None:
    """In the very second in which one is on."""
    args = [*PIBOT, "gpio", "test", "--config", str(node), "--state-dir", str(tmp_path), "fan"]
    with Program(args, env=environment(tmp_path)) as program:
        program.say("")
        program.wait_for("then back to OFF")
        _wait_until_on(node)
        program.send(ending)
        assert program.wait() == INTERRUPTED

    assert fan_level(node) is not True
    assert "Traceback" not in program.err


def test_ctrl_c_at_a_question_ends_it(node: Path, tmp_path: Path) -> None:
    """Though nobody has pressed Enter."""
    args = [*PIBOT, "gpio", "test", "--config", str(node), "--state-dir", str(tmp_path), "fan"]
    with Terminal(args, env=environment(tmp_path)) as terminal:
        terminal.wait_for("Enter to do it, s to skip: ")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == INTERRUPTED


def test_read_goes_on_until_ctrl_c(node: Path, tmp_path: Path) -> None:
    """On a terminal, the table is drawn again and again."""
    args = [*PIBOT, "gpio", "read", "--config", str(node), "--state-dir", str(tmp_path)]
    with Terminal(args, env=environment(tmp_path)) as terminal:
        terminal.wait_for("climate")
        terminal.wait_for("climate")
        os.kill(terminal.process.pid, signal.SIGINT)
        assert terminal.wait() == INTERRUPTED


def _wait_until_on(node: Path) -> None:
    asyncio.run(until(lambda: fan_level(node) is True, "the fan is on"))
