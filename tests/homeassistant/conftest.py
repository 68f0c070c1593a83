"""One Home Assistant and one mesh for all tests of a session; what came back in what time is shown at its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.homeassistant.home_assistant import COMMAND_VARIABLE, HomeAssistant
from tests.homeassistant.mesh import Mesh

BLUEPRINT = Path(__file__).parents[2] / "config" / "home-assistant" / "blueprints" / "automation" / "pibot_assist.yaml"
AUTOMATION = """\
automation:
  - alias: Ask the mesh
    use_blueprint:
      path: pibot/pibot_assist.yaml
      input: {}
"""
_TIMES = pytest.StashKey[dict[str, float]]()


def pytest_runtest_setup() -> None:
    """Without a Home Assistant nothing here can be tried."""
    if COMMAND_VARIABLE not in os.environ:
        pytest.skip("there is no Home Assistant here: run scripts/test-homeassistant")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A mesh of which everything is online."""
    async with Mesh(tmp_path_factory.mktemp("mesh")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def home(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HomeAssistant]:
    """A Home Assistant that was started when the mesh was there already."""
    folder = tmp_path_factory.mktemp("homeassistant")
    blueprint = folder / "blueprints" / "automation" / "pibot" / BLUEPRINT.name
    blueprint.parent.mkdir(parents=True)
    shutil.copy(BLUEPRINT, blueprint)
    async with HomeAssistant(os.environ[COMMAND_VARIABLE], folder, mesh.broker.settings, extra=AUTOMATION) as running:
        await mesh.until_born(0)
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def no_complaint(home: HomeAssistant) -> AsyncIterator[None]:
    """Whatever a test does, Home Assistant has nothing to warn of."""
    before = len(home.problems)
    yield
    assert home.problems[before:] == []


@pytest.fixture
def came_back(request: pytest.FixtureRequest) -> dict[str, float]:
    """What was restarted, and after how many seconds every state was back: a test adds its own."""
    return request.config.stash.setdefault(_TIMES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show how long each restart took."""
    times = config.stash.get(_TIMES, {})
    if not times:
        return
    terminalreporter.section("every state was back after")
    for what, seconds in times.items():
        terminalreporter.write_line(f"{seconds:6.1f} s  {what}")
