"""The parts of ``pibot up``: its state folder, its broker, and what it tells people to type."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from pibot_mesh.agent.providers import PROFILES
from pibot_mesh.cli import engines
from pibot_mesh.cli.greeting import commands, greet
from pibot_mesh.cli.local_mesh import LocalMesh
from pibot_mesh.cli.main import pibot
from pibot_mesh.cli.model_options import master_settings, model_words
from pibot_mesh.cli.options import Connection, connection
from pibot_mesh.cli.state_dir import default_state_dir, locked
from pibot_mesh.config.settings import MESH, BrokerSettings, ModelSettings
from pibot_mesh.errors import BrokerError, StoreError
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard

HOST = "127.0.0.1"


def test_two_cannot_share_a_state_folder(tmp_path: Path) -> None:
    """The second is told who holds it; after the first has gone it is free."""
    refused = pytest.raises(StoreError, match=rf"process {os.getpid()}\).*--state-dir")
    with locked(tmp_path / "up"), refused, locked(tmp_path / "up"):
        pass

    with locked(tmp_path / "up") as folder:
        assert folder.is_dir()


def test_a_state_folder_that_cannot_be_made_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="--state-dir"), locked(tmp_path / "file" / "up"):
        pass


def test_the_state_folder_follows_the_desktop_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_STATE_HOME where it is absolute, else the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert default_state_dir() == tmp_path / "xdg" / "pibot" / "up"

    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir() == tmp_path / ".local" / "state" / "pibot" / "up"


async def test_the_next_free_port_is_taken_where_none_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A named one is an error instead."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(engines, "DEFAULT_PORT", port)
        broker = await engines.start_broker("amqtt", HOST, None)
        try:
            assert broker.port > port
        finally:
            await broker.stop()

        with pytest.raises(BrokerError, match=f"{HOST}:{port}"):
            await engines.start_broker("amqtt", HOST, port)


def test_without_any_broker_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Mosquitto nor amqtt is there."""
    monkeypatch.setattr("pibot_mesh.mqtt.private.find_mosquitto", lambda: None)
    monkeypatch.setattr(engines, "find_spec", lambda _: None)

    with pytest.raises(BrokerError, match=r"apt-get install mosquitto.*pibot-mesh\[embedded\]"):
        engines.make_broker("auto", HOST, 0)


def test_the_lines_to_copy_lead_to_this_mesh() -> None:
    """Short where the defaults hold, complete where not."""
    plain = commands(Connection(BrokerSettings(), "pibot"))
    assert plain == [
        "mosquitto_sub -v -t 'pibot/#'",
        'mosquitto_pub -t pibot/request -m "turn off the fan on worker-1"',
        "pibot status --watch",
    ]

    other = commands(Connection(BrokerSettings("hub.local", 1900), "home/pi bot"))
    assert other == [
        "mosquitto_sub -h hub.local -p 1900 -v -t 'home/pi bot/#'",
        "mosquitto_pub -h hub.local -p 1900 -t 'home/pi bot/request' -m \"turn off the fan on worker-1\"",
        "pibot status --watch --broker hub.local:1900 --root 'home/pi bot'",
    ]


def test_the_greeting_names_nodes_rooms_and_devices(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What a person needs to know to type a first request."""
    cards = [NodeCard("worker-1", "b", "1", devices=(DeviceSpec("fan", "out", "switch", "fan", "kitchen"),))]

    greet(Connection(BrokerSettings(HOST, 1884), "pibot"), "Mosquitto", cards, tmp_path, ModelSettings("ollama"))

    text = capsys.readouterr().out
    assert "model   qwen3:4b (ollama)" in text
    assert "I am cold" in text
    assert "Mosquitto on 127.0.0.1:1884" in text
    assert "worker-1 (kitchen)" in text
    assert "each with fan" in text


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelSettings("custom", "http://h", "small"), "small (custom)"),
        (ModelSettings(api_key="k3y"), f"{PROFILES['volcengine'].model} (volcengine)"),
        (ModelSettings(), "none (volcengine needs VOLC_API_KEY): only sentences like those below are understood"),
        (ModelSettings("custom"), "none (custom needs --base-url and --model): only sentences like those below are"),
    ],
)
def test_the_model_is_named_or_what_would_give_one(
    model: ModelSettings, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In one line; free words are only suggested where somebody understands them."""
    greet(Connection(BrokerSettings(HOST, 1884), "pibot"), "Mosquitto", [], tmp_path, model)

    text = capsys.readouterr().out
    assert f"  model   {expected}" in text
    assert ("I am cold" in text) == ("none" not in expected)
    assert "k3y" not in text


def test_a_node_without_a_model_of_its_own_says_whose_it_has() -> None:
    """Its first line names it."""
    assert model_words(ModelSettings(MESH)) == "the master's"


def test_a_local_mesh_has_what_the_masters_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The model by options before the environment, and all else but where the mesh is; nodes ask the master's model."""
    monkeypatch.setenv("PIBOT_PROVIDER", "openai")
    monkeypatch.setenv("PIBOT_API_KEY", "k3y")
    file = tmp_path / "master.yaml"
    file.write_text("root: other\nstate_dir: other\napproval: {ask: [actuate]}\nmodel: {model: small}\n")

    settings = master_settings(str(file), "custom", None, "http://127.0.0.1:9/v1")
    local = LocalMesh(Connection(BrokerSettings(HOST, 1), "home"), 2, tmp_path, settings)

    master = local.master.settings
    assert master.model == ModelSettings("custom", "http://127.0.0.1:9/v1", "small", "k3y")
    assert master.approval.ask == ("actuate",)
    assert (master.root, master.broker, master.state_dir) == ("home", BrokerSettings(HOST, 1), tmp_path)
    assert [node.settings.model.provider for node in local.nodes] == ["mesh", "mesh"]


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the environment before the defaults; name and password come from there."""
    for name in ("BROKER", "ROOT", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"PIBOT_{name}", raising=False)
    assert connection(None, None) == Connection(BrokerSettings(), "pibot")

    monkeypatch.setenv("PIBOT_BROKER", "hub.local:1999")
    monkeypatch.setenv("PIBOT_USERNAME", "me")
    monkeypatch.setenv("PIBOT_PASSWORD", "secret")
    assert connection(None, "home").broker == BrokerSettings("hub.local", 1999, "me", "secret")
    assert connection("[::1]:1", "home") == Connection(BrokerSettings("::1", 1, "me", "secret"), "home")


def test_check_config_says_everything_of_all_files(tmp_path: Path) -> None:
    """Every problem of every file, "ok" for the others, and 2 where anything is wrong."""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("node:\n  id: attic\n")
    bad.write_text("node:\n  id: Attic!\n  wat: 1\ndevices:\n  fan: {kind: switch}\n")

    result = CliRunner().invoke(pibot, ["check-config", str(good), str(bad)])

    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[0] == f"{good}: ok"
    assert len(lines) == 4
    assert all(line.startswith(f"{bad}:") for line in lines[1:])
    assert CliRunner().invoke(pibot, ["check-config", str(good)]).exit_code == 0


def test_check_config_reads_the_sentences_that_a_master_names(tmp_path: Path) -> None:
    """A template that cannot be read is wrong too."""
    (tmp_path / "own.yaml").write_text("language: [")
    master = tmp_path / "master.yaml"
    master.write_text("sentences: [own.yaml]\n")

    result = CliRunner().invoke(pibot, ["check-config", str(master)])

    assert result.exit_code == 2
    assert "own.yaml" in result.stdout
