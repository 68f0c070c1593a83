"""The devices of a node's file, from YAML to settings, and what is refused there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.loader import load_node
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.node.check import check_node


def write(folder: Path, devices: str) -> Path:
    """A simulated node's file."""
    path = folder / "node.yaml"
    path.write_text(f"node: {{simulate: true}}\ndevices:\n{devices}", "utf-8")
    return path


def refused(path: Path) -> list[str]:
    """What is wrong with a file, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load_node(path, {}, check=check_node)
    return [problem.replace(f"{path}:", "") for problem in caught.value.problems]


def test_a_device_has_keys_of_its_own_and_options_of_its_kind(tmp_path: Path) -> None:
    """Each ends in its place."""
    path = write(
        tmp_path,
        """  strip:
    {kind: rgb_led, pins: {red: 5, green: 6, blue: 13}, label: Shelf light, device_class: light, initial: "#201000"}
  gate: {kind: relay, pin: 17, name: garage door, room: garage}
""",
    )
    pins = {"red": 5, "green": 6, "blue": 13}
    assert load_node(path, {}, check=check_node).devices == (
        DeviceSettings(
            "strip",
            "rgb_led",
            None,
            "strip",
            options={"pins": pins, "initial": "#201000"},
            label="Shelf light",
            device_class="light",
        ),
        DeviceSettings("gate", "relay", 17, "garage door", "garage"),
    )


def test_all_that_is_wrong_with_the_devices_is_told_at_once(tmp_path: Path) -> None:
    """With lines, before any pin is touched."""
    path = write(
        tmp_path,
        """  heater: {kind: rellay, pin: 17}
  lamp: {kind: light, pin: 17, initial: 120}
  pump: {kind: relay, pin: 5, initial: 40, pulll: up}
  strip:
    kind: rgb_led
    pins:
      red: 6
      green: 5
  door: {kind: contact, pin: 2, pull: down}
  float: {kind: input, pin: 25, pull: none}
  probe: {kind: bme280, device_class: "Air!"}
  meter: {kind: bh1750}
  siren: {kind: buzzer, pin: 3}
""",
    )
    assert [problem.split(": ")[:2] for problem in refused(path)] == [
        ["3", "devices.heater.kind"],
        ["4", "devices.lamp.initial"],
        ["4", "devices.lamp.pin"],
        ["5", "devices.pump.pulll"],
        ["5", "devices.pump.initial"],
        ["8", "devices.strip.pins.blue"],
        ["10", "devices.strip.pins.green"],
        ["11", "devices.door.pull"],
        ["11", "devices.door.pin"],
        ["12", "devices.float.active_high"],
        ["13", "devices.probe.device_class"],
        ["15", "devices.siren.pin"],
    ]


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        ("{kind: relay, pin: 5, label: [a]}", "label: text is expected, not a list"),
        (
            "{kind: relay, pin: 5, device_class: Garage}",
            "device_class: a word of Home Assistant, such as outlet or garage_door is expected, not 'Garage'",
        ),
        ("{kind: rgb_led, pins: 5}", "pins: a section of 'key: value' lines is expected, not 5"),
        (f"{{kind: relay, pin: 5, label: {'x' * 65}}}", "label: at most 64 characters are allowed, not 65"),
    ],
)
def test_each_mistake_is_told_once(device: str, problem: str, tmp_path: Path) -> None:
    """In words."""
    assert refused(write(tmp_path, f"  out: {device}\n")) == [f"3: devices.out.{problem}"]
