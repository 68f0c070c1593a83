"""Everything that a mesh has appears in a real Home Assistant, and what is done there happens on the pins."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pibot_mesh import __version__
from pibot_mesh.config.loader import load_node
from pibot_mesh.hardware.kinds import KINDS
from tests.brokers import until
from tests.homeassistant.home_assistant import Entity, HomeAssistant
from tests.homeassistant.mesh import FILES, Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXPECTED = {
    "binary_sensor": "kitchen_button kitchen_motion kitchen_door kitchen_float kitchen_online kitchen_emergency_stop "
    "porch_online porch_emergency_stop master_online master_emergency_stop",
    "button": "master_cancel master_approve master_deny master_emergency_stop master_release_emergency_stop "
    "master_run_morning master_run_doorbell",
    "event": "kitchen_button kitchen_dial kitchen_climate kitchen_timer porch_timer master_reply",
    "fan": "kitchen_vent",
    "light": "kitchen_ceiling kitchen_desk kitchen_pilot kitchen_strip",
    "notify": "master_ask",
    "number": "kitchen_pump kitchen_valve kitchen_flap",
    "sensor": "kitchen_water kitchen_dial kitchen_tank kitchen_climate_temperature kitchen_climate_humidity "
    "kitchen_thermometer_temperature kitchen_daylight_illuminance kitchen_cpu_temperature kitchen_cpu_use "
    "porch_boiler_temperature porch_cellar_humidity porch_air_pressure porch_attic_pressure porch_window_illuminance "
    "porch_soil_moisture porch_battery_voltage master_state master_last_answer master_tokens_today "
    "master_nodes_online master_nodes_offline master_open_requests",
    "switch": "kitchen_socket kitchen_heater kitchen_enable kitchen_bell kitchen_reflex_night porch_lantern "
    "master_routine_morning master_routine_doorbell",
    "text": "master_ask",
    "update": "kitchen_update porch_update",
}
"""By platform."""
ONLY_WHILE_SOMETHING_IS_OPEN = ["button.master_approve", "button.master_cancel", "button.master_deny"]
UNKNOWN_AT_FIRST = ("button", "event", "notify")
"""Platforms whose state is when something happened last."""
NOT_ON_EVERY_MACHINE = {
    "sensor.master_last_answer",
    "sensor.kitchen_system_signal",
    "sensor.kitchen_cpu_temperature",
    "sensor.kitchen_health_cpu_temperature",
    "sensor.kitchen_rssi",
    "sensor.porch_cpu_temperature",
    "sensor.porch_rssi",
}
"""And what nobody has asked for yet."""
NAMES = {
    "switch.kitchen_socket": "Kitchen Socket",
    "light.kitchen_desk": "Kitchen Desk lamp",
    "binary_sensor.kitchen_door": "Kitchen Back door",
    "sensor.porch_air_pressure": "Porch Air pressure",
    "switch.kitchen_reflex_night": "Kitchen When door is open: enable on; else enable off",
    "event.master_reply": "PiBot Mesh Reply",
}
UNITS = {
    "water": "L",
    "tank": "cm",
    "climate_temperature": "°C",
    "climate_humidity": "%",
    "daylight_illuminance": "lx",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """Something done to an entity in Home Assistant, and what a pin of the device is at then.

    The entity then has *state*, and *shows* these attributes.
    """

    entity: str
    service: str
    pin: float
    state: str
    role: str = "pin"
    using: Mapping[str, Any] = field(default_factory=dict)
    shows: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.entity, self.service, *map(str, self.using.values()), self.role])


def switched(entity: str, *, on: float = 1, off: float = 0) -> list[Turn]:
    return [Turn(entity, "turn_on", on, "on"), Turn(entity, "turn_off", off, "off")]


def dimmed(entity: str) -> list[Turn]:
    return [
        Turn(entity, "turn_on", 1, "on", shows={"brightness": 255}),
        Turn(entity, "turn_on", 0.4, "on", using={"brightness_pct": 40}, shows={"brightness": 102}),
        Turn(entity, "turn_off", 0, "off"),
    ]


ORANGE = {"rgb_color": [255, 102, 0]}
TURNS = [
    *switched("switch.kitchen_socket"),
    *switched("switch.kitchen_heater", on=0, off=1),
    *switched("switch.kitchen_enable"),
    *switched("switch.kitchen_bell"),
    *dimmed("light.kitchen_ceiling"),
    *dimmed("light.kitchen_desk"),
    *dimmed("light.kitchen_pilot"),
    Turn("light.kitchen_strip", "turn_on", 1, "on", role="red"),
    Turn("light.kitchen_strip", "turn_on", 0.4, "on", role="green", using=ORANGE, shows={"rgb_color": [255, 102, 0]}),
    Turn("light.kitchen_strip", "turn_on", 0, "on", role="blue", using=ORANGE, shows={"rgb_color": [255, 102, 0]}),
    Turn("light.kitchen_strip", "turn_off", 0, "off", role="red"),
    Turn("fan.kitchen_vent", "turn_on", 1, "on", shows={"percentage": 100}),
    Turn("fan.kitchen_vent", "set_percentage", 0.6, "on", using={"percentage": 60}, shows={"percentage": 60}),
    Turn("fan.kitchen_vent", "turn_off", 0, "off"),
    Turn("number.kitchen_pump", "set_value", 0.3, "30", using={"value": 30}),
    Turn("number.kitchen_pump", "set_value", 0, "0", using={"value": 0}),
    Turn("number.kitchen_valve", "set_value", 1, "100", using={"value": 100}),
    Turn("number.kitchen_valve", "set_value", 0, "0", using={"value": 0}),
    Turn("number.kitchen_flap", "set_value", 0.075, "50", using={"value": 50}),
    Turn("number.kitchen_flap", "set_value", 0.05, "0", using={"value": 0}),
]
"""In this order: the last turn of each leaves it as it was. A servo is in its middle by 1.5 ms of 20."""


async def is_shown(home: HomeAssistant, entity: str, state: str) -> None:
    await home.until(lambda states: states[entity].state == state, f"{entity} is {state}")


def device_of(entity: str) -> str:
    return entity.split(".")[1].partition("_")[2]


def is_number(entity: Entity) -> bool:
    return entity.state not in {"unknown", "unavailable"} and isinstance(float(entity.state), float)


def level(mesh: Mesh, device: str, role: str = "pin") -> float:
    return round(mesh.kitchen.board.simulated_pin(device, role).state, 2 if device != "flap" else 3)


def is_at(entity: Entity, turn: Turn) -> bool:
    is_there = float(entity.state) == float(turn.state) if entity.platform == "number" else entity.state == turn.state
    return is_there and all(entity.attributes[key] == value for key, value in turn.shows.items())


async def test_every_kind_of_device_is_in_the_house() -> None:
    """What is said of this house here is said of all kinds."""
    nodes = [load_node(FILES / f"{name}.yaml", {}) for name in ("kitchen", "porch")]

    assert {device.kind for node in nodes for device in node.devices} == set(KINDS)


async def test_a_mesh_appears_by_itself(home: HomeAssistant) -> None:
    """Each thing as what it is, all of it alive, and without a warning or an error in the log."""
    wanted = {f"{platform}.{name}" for platform, names in EXPECTED.items() for name in names.split()}

    await home.until(lambda states: wanted <= states.keys(), f"all of {sorted(wanted)}")

    found = await home.mqtt_states()
    assert sorted(name for name, entity in found.items() if not entity.is_available) == ONLY_WHILE_SOMETHING_IS_OPEN
    unknown = {name for name, entity in found.items() if entity.state == "unknown"}
    assert {name for name in unknown if found[name].platform not in UNKNOWN_AT_FIRST} <= NOT_ON_EVERY_MACHINE
    assert home.problems == []


async def test_things_have_the_names_that_people_gave_them(home: HomeAssistant) -> None:
    """The node's, and the label where there is one; the node stands in its room, behind the master."""
    states = await home.states()
    devices = {name: id_ for id_, name in (await home.devices()).items()}

    names = {entity: states[entity].name for entity in NAMES}
    assert names == NAMES
    assert await home.template(f"{{{{ area_name('{devices['Kitchen']}') }}}}") == "Kitchen"
    assert (
        await home.template(f"{{{{ device_attr('{devices['Kitchen']}', 'via_device_id') }}}}") == devices["PiBot Mesh"]
    )
    assert states["update.kitchen_update"].attributes["installed_version"] == __version__
    assert states["update.kitchen_update"].state == "off"


@pytest.mark.parametrize("turn", TURNS, ids=str)
async def test_what_is_turned_there_turns_here(home: HomeAssistant, mesh: Mesh, turn: Turn) -> None:
    """The pin first, then the entity: what is shown is what the pin reads."""
    device = device_of(turn.entity)

    await home.call(turn.entity.split(".")[0], turn.service, turn.entity, **turn.using)

    await until(lambda: level(mesh, device, turn.role) == turn.pin, f"{device} is at {turn.pin}")
    await home.until(lambda states: is_at(states[turn.entity], turn), f"{turn.entity} is {turn.state} {turn.shows}")


@pytest.mark.parametrize("device", ["button", "door", "float", "motion"])
async def test_an_input_is_seen_there(home: HomeAssistant, mesh: Mesh, device: str) -> None:
    """On and off, as its pin is driven."""
    entity, pin = f"binary_sensor.kitchen_{device}", mesh.kitchen.board.simulated_pin(device)
    at_first = (await home.states())[entity].state
    drive = [pin.drive_low, pin.drive_high] if pin.state else [pin.drive_high, pin.drive_low]

    drive[0]()
    seen = await home.until(lambda states: states[entity].state != at_first, f"{entity} changes")
    drive[1]()
    await home.until(lambda states: states[entity].state == at_first, f"{entity} is as it was")

    assert {at_first, seen[entity].state} == {"on", "off"}


async def test_a_press_of_a_button_is_an_event(home: HomeAssistant, mesh: Mesh) -> None:
    """With its type, for automations; each press anew."""
    entity, pin = "event.kitchen_button", mesh.kitchen.board.simulated_pin("button")

    async def seen(event_type: str) -> str:
        states = await home.until(
            lambda states: states[entity].attributes["event_type"] == event_type, f"{entity} is {event_type}"
        )
        return states[entity].state

    presses = []
    for _ in range(2):
        pin.drive_low()
        presses.append(await seen("pressed"))
        pin.drive_high()
        presses.append(await seen("clicked"))

    assert len(set(presses)) == 4


async def test_a_turn_of_a_dial_is_counted_and_is_an_event(home: HomeAssistant, mesh: Mesh) -> None:
    """One step clockwise, as the contacts of an encoder close and open."""
    before = await home.until(lambda states: is_number(states["sensor.kitchen_dial"]), "the dial is known")
    steps = float(before["sensor.kitchen_dial"].state)

    for role, is_high in (("a", False), ("b", False), ("a", True), ("b", True)):
        pin = mesh.kitchen.board.simulated_pin("dial", role)
        pin.drive_high() if is_high else pin.drive_low()

    await home.until(lambda states: float(states["sensor.kitchen_dial"].state) == steps + 1, "a step is counted")
    states = await home.until(lambda states: states["event.kitchen_dial"].state != "unknown", "a step is an event")
    assert states["event.kitchen_dial"].attributes["event_type"] == "turned_clockwise"


async def test_what_is_counted_and_measured_has_its_unit(home: HomeAssistant, mesh: Mesh) -> None:
    """A meter's pulses, the steps of a dial, the echo of a tank, and the temperature of a room."""
    before = await home.until(lambda states: is_number(states["sensor.kitchen_water"]), "the meter is known")
    meter = mesh.kitchen.board.simulated_pin("water")
    meter.drive_low()
    await asyncio.sleep(0.01)  # its contact may bounce for a millisecond
    meter.drive_high()
    count = float(before["sensor.kitchen_water"].state)

    after = await home.until(lambda states: float(states["sensor.kitchen_water"].state) == count + 0.5, "a pulse")

    assert is_number(after["sensor.kitchen_climate_temperature"])
    units = {name: after[f"sensor.kitchen_{name}"].attributes.get("unit_of_measurement") for name in UNITS}
    assert units == UNITS


async def test_a_reflex_is_switched_there(home: HomeAssistant, mesh: Mesh) -> None:
    """Off, the door opens and shuts and nothing happens; on, it does again what it does."""
    reflex, door = "switch.kitchen_reflex_night", mesh.kitchen.board.simulated_pin("door")
    await home.call("switch", "turn_off", reflex)
    await is_shown(home, reflex, "off")
    at_first = level(mesh, "enable")
    for drive, shown in ((door.drive_low, "off"), (door.drive_high, "on")):
        drive()
        await is_shown(home, "binary_sensor.kitchen_door", shown)
        assert level(mesh, "enable") == at_first

    await home.call("switch", "turn_on", reflex)
    await is_shown(home, reflex, "on")
    await until(lambda: level(mesh, "enable") == 1, "the door is open, so it acts")


async def test_a_routine_is_switched_and_run_there(home: HomeAssistant) -> None:
    """Switched as a switch; run as a button, also while it is off, and its reply comes as an event."""
    routine, reply = "switch.master_routine_doorbell", "event.master_reply"
    await home.call("switch", "turn_off", routine)
    states = await home.until(lambda states: states[routine].state == "off", "the routine is off")

    await home.call("button", "press", "button.master_run_doorbell")

    answered = await home.until(lambda now: now[reply].state != states[reply].state, "its request is answered")
    assert answered[reply].attributes["event_type"] == "answered"
    assert answered[reply].attributes["id"].startswith("run-doorbell-")
    await home.call("switch", "turn_on", routine)
    await is_shown(home, routine, "on")
