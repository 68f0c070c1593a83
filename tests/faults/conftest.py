"""What the tests of one session tell about faults is collected, shown at its end, and left in a file where asked."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.mesh import Mesh, running_mesh
from tests.faults.table import ROWS_VARIABLE, Row, add_rows, table_text

_ROWS = pytest.StashKey[list[Row]]()
LANES = 3


@pytest.fixture(scope="session")
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """The rows of this session: a test adds its own."""
    return request.config.stash.setdefault(_ROWS, [])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lanes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Mesh]]:
    """Meshes side by side, that faults strike at the same time.

    For one file only: their proxies stand still while the tests of another file run, and after two minutes without a
    broker a node turns its outputs off.
    """
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running_mesh(tmp_path_factory.mktemp("lane"))) for _ in range(LANES)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the table, and leave the rows where ``PIBOT_FAULT_ROWS`` says."""
    found = config.stash.get(_ROWS, [])
    if not found:
        return
    terminalreporter.section("what the mesh endured")
    terminalreporter.write_line(table_text(found))
    path = os.environ.get(ROWS_VARIABLE)
    if path:
        add_rows(Path(path), found)
