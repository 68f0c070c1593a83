"""Whatever is restarted, a real Home Assistant shows every state again, soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.homeassistant.home_assistant import Entity, HomeAssistant
from tests.homeassistant.mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITHIN_S: Final = 10.0
IN_USE: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "switch.kitchen_heater": ("turn_on", {}),
    "light.kitchen_desk": ("turn_on", {"brightness_pct": 40}),
    "light.kitchen_strip": ("turn_on", {"rgb_color": [255, 102, 0]}),
    "fan.kitchen_vent": ("turn_on", {"percentage": 60}),
    "number.kitchen_pump": ("set_value", {"value": 30}),
    "notify.master_ask": ("send_message", {"message": "list devices"}),
}
"""What is done before something is restarted."""
AT_REST: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "switch.kitchen_heater": ("turn_off", {}),
    "light.kitchen_desk": ("turn_off", {}),
    "light.kitchen_strip": ("turn_off", {}),
    "fan.kitchen_vent": ("turn_off", {}),
    "number.kitchen_pump": ("set_value", {"value": 0}),
}
"""What undoes that."""
SET_BY_THE_DOOR: Final = "switch.kitchen_enable"
"""By a reflex of the node."""
NOTHING: Final[Mapping[str, str]] = {}
SHOWN: Final = ("brightness", "rgb_color", "percentage", "event_type", "text", "says", "options")
"""Attributes that must come back too."""
UNKNOWN: Final = ("unknown", "unavailable")

States = Mapping[str, Entity]


def look(entity: Entity) -> tuple[object, ...]:
    """What must be the same before and after. What is measured may have changed, and must only be there."""
    shown = tuple(str(entity.attributes.get(key)) for key in SHOWN)
    is_measured = entity.platform == "sensor" and entity.attributes.get("state_class") is not None
    return ("a number" if is_measured and entity.state not in UNKNOWN else entity.state, *shown)


def differences(before: States, now: States, but: Mapping[str, str] = NOTHING) -> list[str]:
    """What is not as it was *before*; what stands in *but* must be as that says, or be there at all (``*``)."""
    wanted = {name: (look(entity) if name not in but else (but[name],)) for name, entity in before.items()}
    found = {name: look(entity) for name, entity in now.items()}
    for name, state in but.items():
        shown = now[name].state if name in now else "unavailable"
        found[name] = ("*",) if state == "*" and shown != "unavailable" else (shown,)
    return [
        f"{name}: {found.get(name)}, not {wanted.get(name)}"
        for name in sorted(wanted.keys() | found.keys())
        if found.get(name) != wanted.get(name)
    ]


async def comes_back(home: HomeAssistant, before: States, since: float, *, but: Mapping[str, str] = NOTHING) -> float:
    """Wait until all is as *before*, and return the seconds *since* then."""
    while left := differences(before, await home.mqtt_states(), but):
        assert time.monotonic() < since + 2 * WITHIN_S, "\n".join(left)
        await asyncio.sleep(0.05)
    return time.monotonic() - since


async def at_peace(home: HomeAssistant) -> States:
    """All states, once nothing has changed for a second."""
    before = await home.mqtt_states()
    while True:
        await asyncio.sleep(1.0)
        now = await home.mqtt_states()
        if not differences(before, now):
            return now
        before = now


async def turn(home: HomeAssistant, to: Mapping[str, tuple[str, Mapping[str, Any]]]) -> States:
    """Call these services of these entities, and return all states once there is peace."""
    for entity, (service, using) in to.items():
        await home.call(entity.split(".")[0], service, entity, **using)
    return await at_peace(home)


async def until_gone(home: HomeAssistant, entity: str) -> None:
    """Wait until Home Assistant has noticed that a party is away."""
    await home.until(lambda states: not states[entity].is_available, f"{entity} is not available", timeout_s=30)


async def test_home_assistant_itself(home: HomeAssistant, mesh: Mesh, came_back: dict[str, float]) -> None:
    """From the moment at which it says that it is there."""
    before = await turn(home, IN_USE)
    births = mesh.births()

    _, since = await asyncio.gather(home.restart(), mesh.until_born(births))
    seconds = await comes_back(home, before, since)

    came_back["Home Assistant, stopped and started"] = seconds
    assert seconds < WITHIN_S


@pytest.mark.parametrize("is_kept", [True, False], ids=["with its store", "without its store"])
async def test_the_broker(home: HomeAssistant, mesh: Mesh, came_back: dict[str, float], is_kept: bool) -> None:
    """Killed, with or without what it had kept; what happens meanwhile is shown afterwards.

    Home Assistant looks for a broker that has gone every 10 s only, so the time counts from when it has found it.
    """
    before = await turn(home, IN_USE)
    assert before["binary_sensor.kitchen_door"].state == "on"
    await mesh.is_stored()
    log, births, door = mesh.broker.log, mesh.births(), mesh.kitchen.board.simulated_pin("door")

    mesh.broker.kill()
    await until_gone(home, "switch.kitchen_heater")
    door.drive_low()
    if not is_kept:
        mesh.broker.forget()
    mesh.broker.start()
    began = time.monotonic()
    since = await mesh.until_home_connects(log)
    seconds = await comes_back(home, before, since, but={"binary_sensor.kitchen_door": "off", SET_BY_THE_DOOR: "off"})

    waited = f"Home Assistant found it after {since - began:.1f} s"
    came_back[f"the broker, killed and started {'with' if is_kept else 'without'} its store; {waited}"] = seconds
    assert seconds < WITHIN_S
    assert await mesh.devices_kept() == {"kitchen", "porch", "master"}
    door.drive_high()
    await comes_back(home, before, time.monotonic())
    await mesh.until_born(births)


async def test_the_master(home: HomeAssistant, mesh: Mesh, came_back: dict[str, float]) -> None:
    """Ended and started again; the devices of the nodes were there all the time."""
    before = await turn(home, IN_USE)

    await mesh.stop_master()
    await until_gone(home, "sensor.master_state")
    assert (await home.states())["switch.kitchen_heater"].state == "on"
    since = time.monotonic()
    await mesh.start_master()
    seconds = await comes_back(home, before, since)

    came_back["the master, stopped and started"] = seconds
    assert seconds < WITHIN_S


async def test_a_node(home: HomeAssistant, mesh: Mesh, came_back: dict[str, float]) -> None:
    """Ended and started again: its outputs are as its file says then, and so they are shown."""
    at_rest = await turn(home, AT_REST)
    await turn(home, {entity: IN_USE[entity] for entity in AT_REST})

    await mesh.stop_kitchen()
    await until_gone(home, "switch.kitchen_heater")
    since = time.monotonic()
    await mesh.start_kitchen()
    seconds = await comes_back(
        home, at_rest, since, but={"sensor.kitchen_start_reason": "restart", "event.kitchen_climate": "*"}
    )

    states = await home.until(lambda states: states["event.kitchen_climate"].state not in UNKNOWN, "it is warm again")
    assert states["event.kitchen_climate"].attributes["event_type"] == "thawing"
    came_back["a node, stopped and started"] = seconds
    assert seconds < WITHIN_S


async def test_a_node_that_was_killed(home: HomeAssistant, mesh: Mesh, came_back: dict[str, float]) -> None:
    """Without a word, and started again: it says so itself."""
    before = await home.mqtt_states()

    mesh.porch.kill()
    since = time.monotonic()
    mesh.porch.start()
    seconds = await comes_back(home, before, since, but={"sensor.porch_start_reason": "crash"})

    came_back["a node, killed and started"] = seconds
    assert seconds < WITHIN_S
