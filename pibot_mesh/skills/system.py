"""How the machine is, as a tool."""

from __future__ import annotations

from collections.abc import Mapping

from pibot_mesh.agent.tools import Tool, ToolContext, arguments_schema
from pibot_mesh.hardware.machine import CpuMeter, read_health
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, ToolSpec
from pibot_mesh.skills.devices import seconds_words

__all__ = ["CpuMeter", "read_health", "system_tools"]


def system_tools(meter: CpuMeter | None = None) -> list[Tool]:
    """``system_status``: the machine's condition. *meter* is shared with whoever else asks for the CPU's use."""
    cpu = meter or CpuMeter()

    async def system_status(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        health = read_health()
        percent = await cpu.percent_now()
        if percent is not None:
            health["cpu_percent"] = percent
        return Output(_health_words(health), health)

    description = "How this machine is: uptime, CPU use, load, memory, disk, CPU temperature, Wi-Fi signal."
    return [Tool(ToolSpec("system_status", description, arguments_schema({}), timeout_s=10.0), system_status)]


def _health_words(health: Mapping[str, float]) -> str:
    parts: list[str] = []
    if "uptime_s" in health:
        parts.append(f"up {_uptime_words(health['uptime_s'])}")
    if "cpu_percent" in health:
        parts.append(f"CPU {health['cpu_percent']:.0f} % busy")
    if "load1" in health:
        parts.append(f"load {health['load1']:g}")
    if "mem_free_mb" in health and "mem_total_mb" in health:
        parts.append(f"{health['mem_free_mb']:.0f} of {health['mem_total_mb']:.0f} MB memory free")
    if "disk_free_mb" in health:
        parts.append(f"{health['disk_free_mb']:.0f} MB disk free")
    if "cpu_temp_c" in health:
        parts.append(f"CPU at {health['cpu_temp_c']:.0f} °C")
    if "rssi_dbm" in health:
        parts.append(f"Wi-Fi at {health['rssi_dbm']:.0f} dBm")
    return ", ".join(parts) or "nothing about this machine can be read"


def _uptime_words(uptime_s: float) -> str:
    """To the unit that matters: ``3 days``, ``5 hours``, ``12 minutes``."""
    size = next((size for size in (86_400, 3600, 60) if uptime_s >= 2 * size), 1)
    return seconds_words(uptime_s // size * size)
