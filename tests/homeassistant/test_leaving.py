"""What leaves the mesh leaves a real Home Assistant: a device of a node, and a whole node."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from tests.homeassistant.home_assistant import Entity, HomeAssistant
from tests.homeassistant.mesh import Mesh

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def porch(home: HomeAssistant, mesh: Mesh) -> AsyncIterator[None]:
    """The porch is there, and is so again for the next test."""
    await home.until(lambda states: "sensor.porch_cellar_humidity" in states, "the porch is there", timeout_s=20)
    yield
    mesh.porch.kill()
    mesh.porch.put_back()
    mesh.porch.start()
    await home.until(lambda states: "sensor.porch_cellar_humidity" in states, "the porch is back", timeout_s=20)


def of_porch(states: Mapping[str, Entity]) -> set[str]:
    return {name for name in states if name.split(".")[1].startswith("porch_")}


async def test_a_device_that_is_taken_out_of_the_file_disappears(home: HomeAssistant, mesh: Mesh) -> None:
    """With all its entities, once the node was restarted; the others stay."""
    before = of_porch(await home.states())
    gone = {"sensor.porch_cellar_temperature", "sensor.porch_cellar_humidity"}
    assert gone < before

    mesh.porch.stop()
    mesh.porch.take_out("cellar")
    mesh.porch.start()
    states = await home.until(lambda states: not gone & states.keys(), "the device is gone", timeout_s=20)

    assert of_porch(states) == before - gone


async def test_a_node_that_is_forgotten_disappears(home: HomeAssistant, mesh: Mesh) -> None:
    """With its device: nothing of it is left over, in gray or otherwise."""
    assert "Porch" in (await home.devices()).values()
    mesh.porch.stop()

    at = ["--broker", str(mesh.broker.settings)]
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "pibot_mesh", "forget", "porch", *at], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    await home.until(lambda states: not of_porch(states), "all its entities are gone", timeout_s=20)
    assert "Porch" not in (await home.devices()).values()
