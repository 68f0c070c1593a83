"""The skills that come with PiBot Mesh, as a node's settings have them on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pibot_mesh.agent.tools import Tool
from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.config.skill_folders import mingled
from pibot_mesh.errors import ConfigError
from pibot_mesh.hardware.board import Board
from pibot_mesh.skills.devices import device_tools
from pibot_mesh.skills.reflexes import Learning, reflex_tools
from pibot_mesh.skills.system import CpuMeter, system_tools
from pibot_mesh.skills.timers import Timers


def workspace_of(settings: NodeSettings) -> Path:
    """The folder that tools for files, downloads and programs stay in."""
    return (settings.skills.workspace or settings.state_dir / "workspace").expanduser()


def skill_folders_of(settings: NodeSettings) -> tuple[Path, ...]:
    """The folders in which the user's own skills lie; they need not be there.

    Raises ConfigError where one lies in the workspace, or has it inside.
    """
    folders = settings.skills.folders
    if folders is None:
        folders = (settings.state_dir / "skills",)
    inside = mingled(folders, workspace_of(settings))
    if inside is not None:
        text = f"the workspace {workspace_of(settings)} must not lie in {inside}, nor around it, where skills are run"
        raise ConfigError([f"node {settings.id}: {text}"])
    return tuple(folder.expanduser() for folder in folders)


def shipped_skills(
    settings: NodeSettings, board: Board, timers: Timers, cpu: CpuMeter, reflexes: Learning
) -> dict[str, list[Tool]]:
    """The tools of each shipped skill that is on; ``shell`` is one where programs are allowed.

    Raises ConfigError for a program that cannot be one.
    """
    workspace = workspace_of(settings)

    def files() -> list[Tool]:
        from pibot_mesh.agent.builtin.files import file_tools

        return file_tools(workspace)

    def download() -> list[Tool]:
        from pibot_mesh.skills.download import download_tools

        return download_tools(workspace)

    def memory() -> list[Tool]:
        from pibot_mesh.agent.builtin.memory import memory_tools

        return memory_tools(settings.state_dir.expanduser() / f"memory-{settings.id}.json")

    bring: dict[str, Callable[[], list[Tool]]] = {
        "devices": lambda: device_tools(board),
        "system": lambda: system_tools(cpu),
        "files": files,
        "download": download,
        "timers": timers.tools,
        "memory": memory,
        "reflexes": lambda: reflex_tools(reflexes, board.specs()),
    }
    skills = {name: brings() for name, brings in bring.items() if name in settings.skills.shipped}
    if settings.skills.programs:
        from pibot_mesh.agent.builtin.shell import shell_tools

        skills["shell"] = shell_tools(settings.skills.programs, workspace=workspace)
    return skills
