"""The group ``pibot``: help, suggestions, and how everything that a user can cause ends."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pibot_mesh import __version__
from pibot_mesh.agent.providers import PROFILES
from pibot_mesh.cli.main import COMMANDS, pibot
from pibot_mesh.cli.model_options import PROVIDERS
from pibot_mesh.errors import BrokerError, ConfigError, NoMaster, StoreError

RUN = "from pibot_mesh.cli.main import main; main()"


def test_help_lists_every_command_with_one_line() -> None:
    """``pibot --help`` shows all commands, and all of them exist."""
    result = CliRunner().invoke(pibot, ["--help"])

    assert result.exit_code == 0
    for name, entry in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.says)}$", result.output, re.MULTILINE)
        command = importlib.import_module(f"pibot_mesh.cli.{entry.module}").command
        assert command.name == name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str) -> None:
    """``pibot COMMAND --help`` works, and names the way to the broker where there is one."""
    result = CliRunner().invoke(pibot, [name, "--help"])

    assert result.exit_code == 0
    assert ("--broker HOST:PORT" in result.output) == (
        name not in ("broker", "chat", "check-config", "gpio", "ha", "history", "model", "skills", "usage", "version")
    )


def test_help_imports_nothing_heavy() -> None:
    """Neither the terminal's libraries nor the mesh's are loaded for a page of text."""
    script = (
        "import sys\nfrom pibot_mesh.cli.main import pibot\n"
        "pibot.main(['--help'], standalone_mode=False)\n"
        "heavy = {'asyncio', 'rich', 'prompt_toolkit', 'paho', 'jsonschema', 'yaml', 'hassil', 'amqtt', 'gpiozero'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == "0"


def test_help_costs_little_more_than_its_parser() -> None:
    """Its CPU time stays within three times that of importing click and asyncio alone."""
    ours = min(_cpu_s(["-c", RUN, "--help"]) for _ in range(5))
    bare = min(_cpu_s(["-c", "import click, asyncio"]) for _ in range(5))

    assert ours < 3 * bare


def _cpu_s(args: list[str]) -> float:
    """User and system time of one run of Python."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("asc", "Did you mean 'ask'?"),
        ("STATUS", "Did you mean 'status'?"),
        ("checkconfig", "Did you mean 'check-config'?"),
        ("turn on the fan", 'Did you mean: pibot ask "turn on the fan"?'),
        ("xyzzy", "There are: up, master, node,"),
    ],
)
def test_an_unknown_command_gets_the_nearest_one(typed: str, hint: str) -> None:
    """A slip of the finger ends with 2 and a suggestion."""
    result = CliRunner().invoke(pibot, [typed])

    assert result.exit_code == 2
    assert hint in result.output


def test_version_is_told_both_ways() -> None:
    """``pibot version`` and ``pibot --version`` name the version."""
    assert __version__ in CliRunner().invoke(pibot, ["version"]).output
    assert __version__ in CliRunner().invoke(pibot, ["--version"]).output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BrokerError("no broker"), 3),
        (NoMaster("no master"), 3),
        (StoreError("no room"), 2),
        (ConfigError(["a.yaml:1: one", "a.yaml:2: two"]), 2),
        (PermissionError(13, "Permission denied", "/nowhere"), 2),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_errors_end_as_lines_and_an_exit_code(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command raises that a user can cause: no traceback, one line for each problem."""
    _raise_from_version(error, monkeypatch)

    result = CliRunner().invoke(pibot, ["version"])

    assert result.exit_code == code
    lines = result.stderr.splitlines()
    assert len(lines) == {"ConfigError": 2, "KeyboardInterrupt": 0, "BrokenPipeError": 0}.get(type(error).__name__, 1)
    assert all(line.startswith("pibot: ") for line in lines)


@pytest.mark.parametrize(("module", "extra"), [("hassil.parse", "master"), ("amqtt", "embedded"), ("gpiozero", "node")])
def test_a_missing_package_is_named_with_its_extra(module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks an optional package says what to install."""
    _raise_from_version(ModuleNotFoundError(f"No module named {module!r}", name=module), monkeypatch)

    result = CliRunner().invoke(pibot, ["version"])

    assert result.exit_code == 2
    assert f'pip install "pibot-mesh[{extra}]"' in result.stderr


def test_a_module_of_our_own_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no extra brings is not explained away."""
    _raise_from_version(ModuleNotFoundError("No module named 'pibot_mesh.nope'", name="pibot_mesh.nope"), monkeypatch)

    assert isinstance(CliRunner().invoke(pibot, ["version"]).exception, ModuleNotFoundError)


def _raise_from_version(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    command = importlib.import_module("pibot_mesh.cli.version").command
    assert isinstance(command, click.Command)
    monkeypatch.setattr(command, "callback", fail)


@pytest.mark.parametrize(
    "args",
    [
        ["ask"],
        ["ask", "  "],
        ["ask", "--timeout", "0", "hi"],
        ["ask", "--broker", "a:b:c", "hi"],
        ["ask", "--root", "a/#", "hi"],
        ["ask", "--wat", "hi"],
        ["status", "--json", "--watch"],
        ["watch", "a#b"],
        ["watch", "#/a"],
        ["cancel", "no spaces"],
        ["approve"],
        ["approve", "no spaces"],
        ["approve", "r1", "no spaces"],
        ["deny", "r1", "c1", "c2"],
        ["deny", "r1", "--reason", "x" * 1001],
        ["steer", "r1"],
        ["steer", "r1", " "],
        ["steer", "r1", "x" * 8001],
        ["steer", "r1", "hi", "--task", "no spaces"],
        ["check-config"],
        ["node", "--id", "No Such"],
        ["up", "--nodes", "0"],
        ["up", "--provider", "nobody"],
        ["up", "--port", "65536"],
        ["up", "--engine", "emqx"],
        ["up", "--broker", "hub.local", "--port", "1884"],
        ["broker", "--port", "-1"],
    ],
    ids=lambda args: " ".join(args)[:60],
)
def test_a_wrong_option_ends_with_2_and_says_what_is_expected(args: list[str]) -> None:
    """Usage errors come from the parser, before anything is connected or started."""
    result = CliRunner(env={"PIBOT_BROKER": ""}).invoke(pibot, args)

    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert not result.stdout


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says wrong ends with 2 and the variable's name."""
    monkeypatch.setenv("PIBOT_BROKER", "hub:99999")

    result = CliRunner().invoke(pibot, ["status"])

    assert result.exit_code == 2
    assert "PIBOT_BROKER" in result.stderr


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """``pibot master`` and ``pibot node`` say which file is not there."""
    for name in ("master", "node"):
        result = CliRunner().invoke(pibot, [name, str(tmp_path / "nope.yaml")])
        assert result.exit_code == 2
        assert "nope.yaml: there is no such file" in result.stderr


def test_a_full_disk_behind_the_output_is_no_traceback() -> None:
    """``pibot version > /dev/full``: one line, and 2."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 2
    assert done.stderr.startswith("pibot: ")
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_waiting_for_a_broker_is_quiet() -> None:
    """130 and not a word."""
    import signal
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, "status", "--broker", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        silent.settimeout(20)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        output, errors = process.communicate(timeout=20)
        connection.close()

    assert (process.returncode, output, errors) == (130, b"", b"")
    assert time.monotonic() - started < 3


def test_the_providers_of_the_command_line_are_those_of_the_client() -> None:
    """The options name them without loading the client."""
    assert tuple(PROFILES) == PROVIDERS
