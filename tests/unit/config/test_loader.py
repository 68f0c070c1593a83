"""Files and variables to settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pibot_mesh
from pibot_mesh.config.broker_section import parse_broker, parse_brokers
from pibot_mesh.config.loader import (
    check_file,
    fit_node_id,
    load_master,
    load_node,
    load_schema,
    variables_of,
)
from pibot_mesh.config.settings import BrokerSettings, DeviceSettings, MasterSettings, NodeSettings, Tls
from pibot_mesh.config.source import Problem
from pibot_mesh.errors import ConfigError
from pibot_mesh.node.check import check_node
from pibot_mesh.protocol.topics import DEVICE_PATTERN, NODE_PATTERN

EXAMPLES = Path(pibot_mesh.__file__).parent / "shipped" / "config"
CHECKOUT = Path(pibot_mesh.__file__).parent.parent


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    """A file with *text* in it."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def node_problems(path: Path | None, **env: str) -> list[str]:
    """What loading a node's file ends with, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load_node(path, env, check=check_node)
    return [problem.replace(f"{path.parent}/", "") if path else problem for problem in caught.value.problems]


def test_without_a_file_the_defaults_hold() -> None:
    """And they are those of the dataclasses; the id is made from the host's name."""
    node = load_node(None, {})
    assert node == NodeSettings(id=node.id, state_dir=Path("~/.local/state/pibot").expanduser())
    assert load_master(None, {}) == MasterSettings(state_dir=Path("~/.local/state/pibot").expanduser())


def test_a_full_node_file_is_read(tmp_path: Path) -> None:
    """Every key ends in its field."""
    (tmp_path / "ca.pem").touch()
    secret = write(tmp_path, "s3cret\n", "password")
    secret.chmod(0o600)
    path = write(
        tmp_path,
        """
root: home/pibot
state_dir: state
log_level: debug
node: {id: kitchen, labels: [kitchen, "yes"], simulate: on, running: 3, queued: 5, health_interval_s: 2.5}
broker: {host: mqtt.lan, tls: {ca_file: ca.pem}, password_file: password, keepalive_s: 30}
devices:
  fan: {kind: switch, pin: 17, room: kitchen, active_high: false, initial: off}
  back_door-2: {kind: contact, pin: 4, name: back door}
""",
    )
    node = load_node(path, {}, check=check_node)
    assert node == NodeSettings(
        id="kitchen",
        root="home/pibot",
        broker=BrokerSettings("mqtt.lan", 8883, "kitchen", "s3cret", Tls(tmp_path / "ca.pem"), 30),
        state_dir=tmp_path / "state",
        labels=("kitchen", "yes"),
        devices=(
            DeviceSettings("fan", "switch", 17, "fan", "kitchen", {"active_high": False, "initial": False}),
            DeviceSettings("back_door-2", "contact", 4, "back door"),
        ),
        simulate=True,
        running=3,
        queued=5,
        health_interval_s=2.5,
        log_level="debug",
    )
    assert "s3cret" not in repr(node)


def test_a_name_is_made_from_the_id(tmp_path: Path) -> None:
    """Its dashes and underscores are spaces when spoken."""
    node = load_node(write(tmp_path, "devices: {back_door-2: {kind: contact}}"), {})
    assert node.devices[0].name == "back door 2"


def test_a_full_master_file_is_read(tmp_path: Path) -> None:
    """Every key ends in its field."""
    (tmp_path / "mine").mkdir()
    path = write(
        tmp_path,
        """
master: {request_timeout_s: 60, open_requests: 7, health_interval_s: 5}
sentences: [mine]
model: {base_url: "https://models.example/v3", model: small}
broker: {host: "::1", port: 1884, username: master, tls: yes}
""",
    )
    master = load_master(path, {"VOLC_API_KEY": "k3y", "PIBOT_PASSWORD": "p4ss"})
    assert master.sentences == (tmp_path / "mine",)
    assert (master.model.base_url, master.model.model, master.model.api_key) == (
        "https://models.example/v3",
        "small",
        "k3y",
    )
    assert master.broker == BrokerSettings("::1", 1884, "master", "p4ss", Tls())
    assert (master.request_timeout_s, master.open_requests, master.health_interval_s) == (60, 7, 5)
    assert "k3y" not in repr(master)
    assert "p4ss" not in repr(master)


def test_variables_go_before_the_file(tmp_path: Path) -> None:
    """Also before a value of the file that is wrong; an empty variable is none."""
    path = write(tmp_path, "node: {id: A B}\nbroker: {host: old, port: 1}\nroot: x\nlog_level: info\nstate_dir: s\n")
    env = {
        "WORKER_ID": "porch",
        "PIBOT_BROKER": "[fe80::1]:1999",
        "PIBOT_USERNAME": "me",
        "PIBOT_PASSWORD": "it is",
        "PIBOT_ROOT": "y",
        "PIBOT_LOG_LEVEL": "WARNING",
        "PIBOT_STATE_DIR": "t",
        "MODEL_NAME": "not a node's",
    }
    node = load_node(path, env)
    assert (node.id, node.root, node.log_level, node.state_dir) == ("porch", "y", "warning", Path.cwd() / "t")
    assert node.broker == BrokerSettings("fe80::1", 1999, "me", "it is")
    assert load_node(None, {"PIBOT_ROOT": " "}).root == "pibot"
    master = load_master(None, {"VOLC_BASE_URL": "http://127.0.0.1:8000", "MODEL_NAME": "m"})
    assert (master.model.base_url, master.model.model) == ("http://127.0.0.1:8000", "m")


def test_a_broker_without_a_port_has_the_usual_one(tmp_path: Path) -> None:
    """Which is another one with TLS, also where a variable names the broker."""
    assert load_node(None, {"PIBOT_BROKER": "lan"}).broker.port == 1883
    assert load_node(write(tmp_path, "broker: {tls: on, port: 5}"), {"PIBOT_BROKER": "lan"}).broker.port == 8883


def test_a_variable_does_not_hide_that_its_section_is_wrong(tmp_path: Path) -> None:
    """There is nothing to put it into."""
    path = write(tmp_path, "broker: 5\n")
    assert node_problems(path, PIBOT_USERNAME="me") == [
        "c.yaml:1: broker: a section of 'key: value' lines is expected, not 5"
    ]


def test_a_wrong_variable_is_named() -> None:
    """It stands in no file, so the variable is what to look for."""
    assert node_problems(None, WORKER_ID="Worker_1", PIBOT_BROKER="::1", PIBOT_LOG_LEVEL="loud") == [
        "PIBOT_LOG_LEVEL (environment): debug, info, warning or error is expected, not 'loud'",
        "WORKER_ID (environment): 1 to 32 small letters, digits or '-', not '-' first is expected, not 'Worker_1'",
        "PIBOT_BROKER (environment): broker '::1': put an IPv6 address in brackets, such as [::1]:1883",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nodde: {}", "c.yaml:1: nodde: unknown key (did you mean 'node'?)"),
        (
            "zzz: {}",
            "c.yaml:1: zzz: unknown key; known are: node, broker, devices, reflexes, safety, skills, model, approval, root, state_dir, log_level",  # noqa: E501
        ),
        ("node: 5", "c.yaml:1: node: a section of 'key: value' lines is expected, not 5"),
        ("node: {labels: kitchen}", "c.yaml:1: node.labels: a list is expected, not 'kitchen'"),
        ("node: {labels: [a, no]}", "c.yaml:1: node.labels[1]: a word is expected, not false (put it in quotes)"),
        ("node: {labels: [a, a]}", "c.yaml:1: node.labels: an entry stands twice: remove one"),
        ("node: {labels: ['']}", "c.yaml:1: node.labels[0]: must not be empty"),
        ("node: {simulate: maybe}", "c.yaml:1: node.simulate: true or false is expected, not 'maybe'"),
        ("node: {running: 0}", "c.yaml:1: node.running: a whole number from 1 to 1000 is expected, not 0"),
        ("node: {running: 1.5}", "c.yaml:1: node.running: a whole number is expected, not 1.5"),
        ("node: {health_interval_s: fast}", "c.yaml:1: node.health_interval_s: a number is expected, not 'fast'"),
        (
            'node: {id: "kitchen\\n"}',
            "c.yaml:1: node.id: 1 to 32 small letters, digits or '-', not '-' first is expected, not 'kitchen\\n'",
        ),
        (
            "log_level: warn",
            "c.yaml:1: log_level: debug, info, warning or error is expected, not 'warn' (did you mean 'warning'?)",
        ),
        ("root: a/+/b", "c.yaml:1: root: plain topic levels such as pibot or home/pibot is expected, not 'a/+/b'"),
        ("root: [a]", "c.yaml:1: root: plain topic levels such as pibot or home/pibot is expected, not a list"),
        (f"root: {'x' * 201}", "c.yaml:1: root: at most 200 characters are allowed, not 201"),
        ("broker: {port: 70000}", "c.yaml:1: broker.port: a whole number from 1 to 65535 is expected, not 70000"),
        (
            "broker: {host: '10.0.0.1:1883'}",
            "c.yaml:1: broker.host: a host name or address, without a port is expected, not '10.0.0.1:1883'",
        ),
        (
            "broker: {password: x}",
            "c.yaml:1: broker.password: a password does not belong here: put it into a file of its own (mode 0600) and name that in password_file, or set PIBOT_PASSWORD",  # noqa: E501
        ),
        ("broker: {tls: 5}", "c.yaml:1: broker.tls: true, false or the names of files is expected, not 5"),
        (
            "devices: {Fan: {kind: switch, pin: 1}}",
            "c.yaml:1: devices.Fan: the name must be 1 to 32 small letters, digits, '_' or '-', not '_' or '-' first",
        ),
        ("devices: {fan: }", "c.yaml:1: devices.fan: settings such as {kind: switch, pin: 17} is expected, not nothing"),  # noqa: E501
        (
            "devices:\n  fan:\n    pin: 17\n",
            "c.yaml:2: devices.fan.kind: is missing: add 'kind: ...' (what the device is, such as switch)",
        ),
        ("devices: {fan: {kind: switch, pin: 28}}", "c.yaml:1: devices.fan.pin: a whole number from 0 to 27 is expected, not 28"),  # noqa: E501
        ("devices: {fan: {kind: switch, pin: 017}}", "c.yaml:1: devices.fan.pin: a whole number is expected, not '017'"),  # noqa: E501
        ("state_dir: c.yaml", "c.yaml:1: state_dir: c.yaml is a file: name a folder"),
        ("state_dir: ~nobody-here/x", "c.yaml:1: state_dir: the home directory for '~nobody-here/x' is not known: write the path in full"),  # noqa: E501
        ("broker: {password_file: no}", "c.yaml:1: broker.password_file: text is expected, not false (put it in quotes)"),  # noqa: E501
        ("broker: {password_file: none}", "c.yaml:1: broker.password_file: there is no file none that can be read"),
        ("budget: {}", "c.yaml:1: budget: is for the master, and this file is read for the node: use a file of its own"),  # noqa: E501
    ],
)  # fmt: skip
def test_each_mistake_in_a_file_is_told_in_words(tmp_path: Path, text: str, problem: str) -> None:
    """What is wrong, where, and what to do."""
    assert node_problems(write(tmp_path, text)) == [problem]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """The schema's, the hardware's and those about other files."""
    path = write(
        tmp_path,
        """devices:
  fan: {kind: swich, pin: 17}
  lamp: {kind: light, pin: 17}
  bad: {pin: 99}
broker:
  tls: {key_file: none.pem}
  port: 0
rooot: x
""",
    )
    assert [problem.split(": ")[:2] for problem in node_problems(path)] == [
        ["c.yaml:2", "devices.fan.kind"],
        ["c.yaml:3", "devices.lamp.pin"],
        ["c.yaml:4", "devices.bad.kind"],
        ["c.yaml:4", "devices.bad.pin"],
        ["c.yaml:6", "broker.tls.key_file"],
        ["c.yaml:7", "broker.port"],
        ["c.yaml:8", "rooot"],
    ]


def test_a_certificates_key_needs_the_certificate(tmp_path: Path) -> None:
    """TLS would fail later and say less."""
    (tmp_path / "key.pem").touch()
    path = write(tmp_path, "broker: {tls: {key_file: key.pem}}")
    assert node_problems(path) == ["c.yaml:1: broker.tls.cert_file: is missing, and key_file needs it"]


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"x", 0o644, "others may read {file} (mode 0644): run chmod 600 {file}"),
        (b"\n", 0o600, "{file} is empty: write the password into it"),
        (b"\xff", 0o600, "{file} cannot be read: "),
    ],
)
def test_a_password_file_must_be_ours_alone(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    """A secret that others can read is none."""
    (tmp_path / "password").write_bytes(content)
    (tmp_path / "password").chmod(mode)
    path = write(tmp_path, "broker: {password_file: password}")
    [problem] = node_problems(path)
    assert problem.startswith("c.yaml:1: broker.password_file: " + says.format(file="password"))


def test_a_master_with_a_password_needs_a_name(tmp_path: Path) -> None:
    """A node has its id to log in with; the master has none."""
    with pytest.raises(ConfigError, match=r"broker.username: is missing, and a password needs it"):
        load_master(None, {"PIBOT_PASSWORD": "x"})
    assert load_node(None, {"PIBOT_PASSWORD": "x", "WORKER_ID": "porch"}).broker.username == "porch"


def test_missing_sentences_are_told(tmp_path: Path) -> None:
    """Each by its place in the list."""
    path = write(tmp_path, "sentences:\n  - a\n  - 5\n  - b\n")
    assert [problem.replace(f"{tmp_path}/", "") for problem in check_file(path)] == [
        "c.yaml:2: sentences[0]: there is no file or folder a",
        "c.yaml:3: sentences[1]: text is expected, not 5 (put it in quotes)",
        "c.yaml:4: sentences[2]: there is no file or folder b",
    ]


def test_check_file_finds_out_whose_file_it_is(tmp_path: Path) -> None:
    """By its sections; one that has both roles is told to be two."""
    assert check_file(write(tmp_path, "")) == []
    assert check_file(write(tmp_path, "broker: {port: 1}")) == []
    assert check_file(write(tmp_path, "master: {open_requests: 1}")) == []
    [problem] = check_file(write(tmp_path, "master: {}\nnode: {}\n"))
    assert problem.endswith("c.yaml:2: node: is for a node, and 'master' is for the master: use one file for each")
    [problem] = check_file(tmp_path / "none.yaml")
    assert problem.endswith("none.yaml: there is no such file")


def test_check_file_does_not_look_at_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It judges the file, on whatever machine."""
    monkeypatch.setenv("PIBOT_LOG_LEVEL", "loud")
    assert check_file(write(tmp_path, "")) == []


def test_the_nodes_word_is_asked_only_for_devices_that_are_well_formed(tmp_path: Path) -> None:
    """It gets what the schema let through, and whether it is simulated."""
    asked: list[tuple[list[str], bool]] = []

    def ask(settings: NodeSettings) -> list[Problem]:
        asked.append(([device.id for device in settings.devices], settings.simulate))
        return []

    path = write(tmp_path, "node: {simulate: yes}\ndevices: {a: {kind: x}, b: {kind: y, pin: p}}\n")
    with pytest.raises(ConfigError):
        load_node(path, {}, check=ask)
    assert asked == [(["a"], True)]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mqtt.lan", "mqtt.lan", 1883),
        (" 10.0.0.1:1999 ", "10.0.0.1", 1999),
        ("[::1]:1", "::1", 1),
        ("[fe80::1%eth0]", "fe80::1%eth0", 1883),
        ("mqtt://host:65535/", "host", 65535),
    ],
)
def test_a_broker_is_parsed(text: str, host: str, port: int) -> None:
    """In every form that people write."""
    assert parse_broker(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "HOST:PORT is expected"),
        ("host:", "HOST:PORT is expected"),
        ("host:port", "HOST:PORT is expected"),
        ("ho st", "HOST:PORT is expected"),
        ("http://host", "HOST:PORT is expected"),
        (":1883", "HOST:PORT is expected"),
        ("host:0", "a port is a number from 1 to 65535"),
        ("host:65536", "a port is a number from 1 to 65535"),
        ("::1:1883", "put an IPv6 address in brackets"),
        ("mqtts://host", "for TLS give HOST:PORT here, and say 'tls: true'"),
    ],
)
def test_what_is_no_broker_is_refused(text: str, says: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigError, match=says):
        parse_broker(text)


def test_a_cluster_is_several_brokers_with_commas_between() -> None:
    """Each with a port of its own or the usual one."""
    assert parse_brokers("a, b:1, [::1]") == (("a", 1883), ("b", 1), ("::1", 1883))
    with pytest.raises(ConfigError, match="broker '': HOST:PORT is expected"):
        parse_brokers("a,,b")


def test_the_servers_of_a_cluster_stand_in_the_file_or_in_the_variable(tmp_path: Path) -> None:
    """In the file, one without a port has that of the first; the variable goes before all of the file's."""
    path = write(tmp_path, "broker: {host: a, port: 5, others: [b, 'c:6']}\n")

    assert load_node(path, {}).broker.addresses == (("a", 5), ("b", 5), ("c", 6))
    assert str(load_node(path, {}).broker) == "a:5,b:5,c:6"
    assert load_node(path, {"PIBOT_BROKER": "d:7,e"}).broker.addresses == (("d", 7), ("e", 1883))


def test_a_wrong_server_of_a_cluster_is_named_with_its_line(tmp_path: Path) -> None:
    """The others are read all the same, so that all errors are told at once."""
    path = write(tmp_path, "broker:\n  others:\n    - b\n    - c:x\n    - 5\n")

    assert node_problems(path) == [
        "c.yaml:4: broker.others[1]: broker 'c:x': HOST:PORT is expected, such as 192.168.1.5:1883",
        "c.yaml:5: broker.others[2]: text is expected, not 5 (put it in quotes)",
    ]


@pytest.mark.parametrize(
    ("name", "node_id"),
    [("Kitchen_Pi.local", "kitchen-pi"), ("--x--", "x"), ("厨房", "node"), ("", "node"), ("a" * 31 + "-b", "a" * 31)],
)
def test_a_host_name_is_made_fit_for_a_node_id(name: str, node_id: str) -> None:
    """So that a node needs no configuration at all."""
    assert fit_node_id(name) == node_id


@pytest.mark.parametrize("name", ["node.yaml", "master.yaml"])
def test_the_shipped_examples_are_right(name: str) -> None:
    """They are what people begin with."""
    assert check_file(EXAMPLES / name, check=check_node) == []


def test_the_two_schemas_agree_on_what_they_share() -> None:
    """And on ids with the protocol."""
    node, master = load_schema("node"), load_schema("master")
    for key in ("broker", "root", "state_dir", "log_level"):
        assert node["properties"][key] == master["properties"][key]  # type: ignore[index]  # plain JSON
    text = str(node)
    assert f"^{NODE_PATTERN}$" in text
    assert f"^{DEVICE_PATTERN}$" in text
    assert variables_of("node")["WORKER_ID"] == ("node", "id")


def test_the_schemas_defaults_are_those_of_the_settings(tmp_path: Path) -> None:
    """Writing every default out changes nothing."""

    def defaults(schema: dict[str, object]) -> object:
        if "default" in schema:
            return schema["default"]
        if "required" in schema:  # such as prices: whoever writes the section must say them
            return None
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        below = {key: defaults(value) for key, value in properties.items()}
        return {key: value for key, value in below.items() if value is not None} or None

    node = yaml.safe_dump(defaults(dict(load_schema("node"))))
    master = yaml.safe_dump(defaults(dict(load_schema("master"))))
    assert load_node(write(tmp_path, node), {}) == load_node(None, {})
    assert load_master(write(tmp_path, master), {}) == load_master(None, {})


def test_the_configuration_reference_is_up_to_date() -> None:
    """scripts/docs-configuration > docs/configuration.md"""
    script = CHECKOUT / "scripts" / "docs-configuration"
    if not script.exists():
        pytest.skip("not a checkout")
    written = subprocess.run(
        [sys.executable, script], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert (CHECKOUT / "docs" / "configuration.md").read_text("utf-8") == written.stdout
