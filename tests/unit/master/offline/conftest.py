"""Fixtures of the offline engine's tests."""

from __future__ import annotations

import pytest

from pibot_mesh.master.offline import OfflineEngine


@pytest.fixture(scope="session")
def engine() -> OfflineEngine:
    """The engine with the shipped languages."""
    return OfflineEngine()
