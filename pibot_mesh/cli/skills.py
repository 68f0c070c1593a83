"""``pibot skills``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.screen import clean, say, say_json

if TYPE_CHECKING:
    from rich.table import Table

    from pibot_mesh.agent.skill_files import SkillProblem
    from pibot_mesh.agent.skills import Skill, SkillLoader
    from pibot_mesh.agent.tools import Tool
    from pibot_mesh.config.settings import NodeSettings
    from pibot_mesh.protocol.codec import JSON

_WIDE: Final = 200
"""Columns where there is no terminal, so that nothing is folded in a pipe or a file."""


@click.group("skills")
def command() -> None:
    """List, check and write skills: tools from Python files of your own.

    A skill is a Python file with functions marked @tool, or a folder with a SKILL.md and such files beside it. All that
    stands in a skill is run by the node, and by "list" and "check" too.
    """


@command.command("list")
@click.argument("config", required=False)
@click.option("--folder", "folders", metavar="DIR", multiple=True, help="Look here, and not where CONFIG says.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def list_(config: str | None, folders: tuple[str, ...], is_json: bool) -> None:
    """Show the skills of a node, by the file CONFIG and the environment, with their tools.

    Those that are broken stand below, with the reason.
    """
    settings = _settings(config)
    shipped = _shipped(settings)
    loader = _loader(settings, folders, shipped)
    loader.refresh()
    if is_json:
        say_json(_as_json(shipped, loader))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(_table(shipped, loader))
    for problem in loader.problems:
        say(f"left out: {problem}", tone="bad")
    if not loader.skills and not loader.problems:
        say(f"no skill of your own in {', '.join(map(str, loader.folders))}: pibot skills new NAME", dim=True)


@command.command("check")
@click.argument("path")
def check_(path: str) -> None:
    """Say everything that is wrong with the skill at PATH, or with all skills in the folder PATH.

    What is right is shown with its tools and their arguments. Ends with 2 where anything is wrong.
    """
    from pibot_mesh.agent.skill_files import TEXT, SkillProblem, scan
    from pibot_mesh.agent.skills import check
    from pibot_mesh.cli.exits import FAILED

    at = Path(path)
    is_folder_of_skills = at.is_dir() and not (at / TEXT).exists()
    seen = scan((at,)) if is_folder_of_skills else None
    paths = [at] if seen is None else list(seen.candidates)
    wrong: list[SkillProblem] = list(seen.problems) if seen is not None else []
    if not paths and not wrong:
        wrong = [SkillProblem("", at, None, "there is no skill in this folder")]
    taken = {tool.spec.name: name for name, tools in _shipped(_example()).items() for tool in tools}
    for each in paths:
        skill, problems = check(each)
        clashes = _clashes(skill, taken) if skill is not None else []
        wrong += [*problems, *clashes]
        if skill is not None and not clashes:
            _say_skill(skill)
    for problem in wrong:
        say(str(problem), tone="bad")
    if wrong:
        click.get_current_context().exit(FAILED)


@command.command("new")
@click.argument("name")
@click.option("--folder", metavar="DIR", help="Where to write it; by default where a node of this machine looks.")
@click.option("--md", "with_text", is_flag=True, help="A folder with a SKILL.md, which tells a model how to use it.")
def new(name: str, folder: str | None, with_text: bool) -> None:
    """Write a small skill that works, to be made into your own."""
    from pibot_mesh.cli.skill_template import write_skill
    from pibot_mesh.skills.shipped import skill_folders_of

    where = Path(folder) if folder is not None else skill_folders_of(_settings(None))[0]
    path = write_skill(name, where, with_text=with_text)
    say(f"{path}: written", tone="good")
    say(f"Change it, and look at it with: pibot skills check {path}")
    say(f"A node that looks in {where} (skills.folders in its file) has it within two seconds.")


def _settings(config: str | None) -> NodeSettings:
    from pibot_mesh.config.loader import load_node

    return load_node(config, os.environ)


def _example() -> NodeSettings:
    """A node that has everything, whose tools no skill should name as its own."""
    from pibot_mesh.config.settings import NodeSettings, SkillSettings
    from pibot_mesh.hardware.board import default_simulated_devices

    skills = SkillSettings(programs=("true",))
    return NodeSettings("example", devices=default_simulated_devices(), simulate=True, skills=skills)


def _shipped(settings: NodeSettings) -> Mapping[str, Sequence[Tool]]:
    """The shipped skills with their tools, those that have any. No pin is touched."""
    from pibot_mesh.hardware.board import Board
    from pibot_mesh.node.reflex_runner import ReflexRunner
    from pibot_mesh.node.reflex_store import ReflexStore
    from pibot_mesh.skills.shipped import shipped_skills
    from pibot_mesh.skills.system import CpuMeter
    from pibot_mesh.skills.timers import Timers

    board = Board(settings.devices, simulate=True, on_change=lambda _: None)
    store = ReflexStore(Path("reflexes.json"))
    reflexes = ReflexRunner(board, (), store, changed=lambda: None, state=lambda *_: None)
    skills = shipped_skills(settings, board, Timers(Path("timers.json"), lambda _: None), CpuMeter(), reflexes)
    return {name: tools for name, tools in skills.items() if tools}


def _loader(settings: NodeSettings, folders: Sequence[str], shipped: Mapping[str, Sequence[Tool]]) -> SkillLoader:
    from pibot_mesh.agent.skills import SkillLoader
    from pibot_mesh.agent.tools import ToolRegistry
    from pibot_mesh.skills.shipped import skill_folders_of

    registry = ToolRegistry(tool for tools in shipped.values() for tool in tools)
    return SkillLoader(map(Path, folders) if folders else skill_folders_of(settings), registry)


def _clashes(skill: Skill, taken: Mapping[str, str]) -> list[SkillProblem]:
    from pibot_mesh.agent.skill_files import SkillProblem

    return [
        SkillProblem(
            skill.name, skill.path, None, f"the tool {name} is one of the shipped skill {taken[name]}: rename it"
        )
        for name in (tool.spec.name for tool in skill.tools)
        if name in taken
    ]


def _say_skill(skill: Skill) -> None:
    about = [f"{skill.path}: ok", *([skill.description] if skill.description else [])]
    say(": ".join(about), tone="good")
    for tool in skill.tools:
        say(f"  {tool.spec.name} ({tool.spec.effect}): {tool.spec.description}", bold=True)
        required = tool.spec.parameters.get("required", [])
        for name, schema in tool.spec.parameters.get("properties", {}).items():
            say(f"    {name}: {_schema_words(schema)}{'' if name in required else ', optional'}")


def _schema_words(schema: Mapping[str, JSON]) -> str:
    """A JSON Schema in a few words: ``number from -40 to 60: the temperature``."""
    kinds = schema.get("type", "any value")
    words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "enum" in schema:
        words = "one of " + ", ".join(map(str, schema["enum"]))
    low, high = schema.get("minimum"), schema.get("maximum")
    words += f" from {low}" * (low is not None) + f" to {high}" * (high is not None)
    return f"{words}: {schema['description']}" if "description" in schema else words


def _table(shipped: Mapping[str, Sequence[Tool]], loader: SkillLoader) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("skill", "tools", "from", box=None, pad_edge=False)
    rows = [(name, tools, "shipped") for name, tools in shipped.items()]
    rows += [(skill.name, skill.tools, str(skill.path)) for skill in loader.skills]
    for name, tools, origin in rows:
        lines = [f"{tool.spec.name} ({tool.spec.effect})" for tool in tools]
        table.add_row(
            Text(clean(name), style="bold"), clean("\n".join(lines) or "none"), Text(clean(origin), style="dim")
        )
    return table


def _as_json(shipped: Mapping[str, Sequence[Tool]], loader: SkillLoader) -> dict[str, JSON]:
    skills = [
        {"name": name, "path": None, "description": "", "has_text": False, "tools": _tools_as_json(tools)}
        for name, tools in shipped.items()
    ]
    skills += [
        {
            "name": skill.name,
            "path": str(skill.path),
            "description": skill.description,
            "has_text": bool(skill.body),
            "tools": _tools_as_json(skill.tools),
        }
        for skill in loader.skills
    ]
    broken = [
        {"skill": problem.skill, "file": str(problem.file), "line": problem.line, "text": problem.text}
        for problem in loader.problems
    ]
    return {"skills": skills, "broken": broken}


def _tools_as_json(tools: Sequence[Tool]) -> list[JSON]:
    return [
        {"name": tool.spec.name, "effect": tool.spec.effect, "description": tool.spec.description} for tool in tools
    ]
