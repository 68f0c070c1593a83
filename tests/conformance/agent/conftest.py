"""The model client over both HTTP paths, against a FakeModelServer on loopback."""

from __future__ import annotations

import pytest

from tests.conformance.agent.agents import Path


@pytest.fixture(params=["standard", "openai"])
def path(request: pytest.FixtureRequest) -> Path:
    """Everything here holds over both."""
    value: Path = request.param
    if value == "openai":
        pytest.importorskip("openai", reason="the openai package is not installed")
    return value
