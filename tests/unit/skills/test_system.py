"""How the machine is, in words and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.protocol.messages import encode_health
from pibot_mesh.skills.system import CpuMeter, system_tools

HEALTH = {
    "load1": 0.42,
    "mem_total_mb": 427.0,
    "mem_free_mb": 305.0,
    "rss_mb": 32.0,
    "disk_free_mb": 5000.0,
    "cpu_temp_c": 48.31,
    "rssi_dbm": -55.0,
}


async def test_system_status_says_it_in_words_and_numbers() -> None:
    """On the machine that runs the test; its data can go out as health."""
    output = await ToolRegistry(system_tools()).call("system_status", {})
    assert output.text.startswith("up ")
    assert "MB memory free" in output.text
    assert " % busy, load " in output.text
    assert 0 <= output.data["cpu_percent"] <= 100
    assert output.data["rss_mb"] > 1
    assert encode_health(output.data)


@pytest.mark.parametrize(
    ("uptime", "words"),
    [(266461.1, "up 3 days"), (7300, "up 2 hours"), (130, "up 2 minutes"), (5.7, "up 5 seconds")],
)
async def test_the_words_name_what_matters(monkeypatch: pytest.MonkeyPatch, uptime: float, words: str) -> None:
    """A whole sentence, as the answer to a person."""
    health = HEALTH | {"uptime_s": uptime}
    monkeypatch.setattr("pibot_mesh.skills.system.read_health", lambda: health)
    output = await ToolRegistry(system_tools(CpuMeter(Path("/nowhere")))).call("system_status", {})
    assert output.text == (
        f"{words}, load 0.42, 305 of 427 MB memory free, 5000 MB disk free, CPU at 48 °C, Wi-Fi at -55 dBm"
    )
    assert output.data == health


async def test_nothing_known_is_said_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer would look like a fault."""
    monkeypatch.setattr("pibot_mesh.skills.system.read_health", dict)
    output = await ToolRegistry(system_tools(CpuMeter(Path("/nowhere")))).call("system_status", {})
    assert output.text == "nothing about this machine can be read"
