"""The tools of ``pibot chat``: those that need no node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pibot_mesh.agent.builtin.files import file_tools
from pibot_mesh.agent.builtin.memory import memory_tools
from pibot_mesh.agent.builtin.shell import shell_tools
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.errors import StoreError
from pibot_mesh.skills.download import download_tools
from pibot_mesh.skills.system import system_tools


def chat_tools(workspace: Path, state_dir: Path, programs: Sequence[str]) -> ToolRegistry:
    """Files and downloads within *workspace* (made where it is missing), memory in *state_dir*, and *programs*.

    Raises ConfigError for a program that cannot be one, and StoreError where a folder cannot be made.
    """
    try:
        for folder in (workspace, state_dir):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be made: {error.strerror}") from None
    return ToolRegistry(
        [
            *file_tools(workspace),
            *memory_tools(state_dir / "memory.json"),
            *shell_tools(programs, workspace=workspace),
            *system_tools(),
            *download_tools(workspace),
        ]
    )
