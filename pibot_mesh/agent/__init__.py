"""The agent core, the model client, tools and skills. Knows no MQTT, and can be used alone.

    from pibot_mesh.agent import AgentCore, LLMClient, tool

The names are imported on first use, so that a node loads no more than it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pibot_mesh.agent.batch import Hooks as Hooks, Refusal as Refusal
    from pibot_mesh.agent.client import LLMClient as LLMClient
    from pibot_mesh.agent.core import AgentCore as AgentCore
    from pibot_mesh.agent.events import AgentEvent as AgentEvent, Outcome as Outcome, RunState as RunState
    from pibot_mesh.agent.limits import RunLimits as RunLimits
    from pibot_mesh.agent.model import FailureKind as FailureKind, Model as Model, ModelRequest as ModelRequest
    from pibot_mesh.agent.tools import (
        Tool as Tool,
        ToolContext as ToolContext,
        ToolRegistry as ToolRegistry,
        tool as tool,
    )

_MODULES = {
    "batch": ("Hooks", "Refusal"),
    "client": ("LLMClient",),
    "core": ("AgentCore",),
    "events": ("AgentEvent", "Outcome", "RunState"),
    "limits": ("RunLimits",),
    "model": ("FailureKind", "Model", "ModelRequest"),
    "tools": ("Tool", "ToolContext", "ToolRegistry", "tool"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list, made of the names above


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
