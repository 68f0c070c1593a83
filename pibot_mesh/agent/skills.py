"""Skills: tools from users' own files, loaded when they appear, again when they change, and gone when they are gone.

Only what lies in the configured folders is loaded, never anything from the network. See `skill_files` for what a skill
is on the disk, and `skill_modules` for how its files are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pibot_mesh.agent.skill_files import (
    Candidate,
    Scan,
    SkillFileError,
    SkillProblem,
    SkillText,
    candidate_at,
    exposed,
    fingerprint,
    read_text,
    scan,
)
from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, ProtocolError, ToolError
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import Output, ToolSpec

SKILL_READ: Final = "skill_read"
"""The tool that gives the body of a SKILL.md; no skill may bring one of that name."""

Fits = Callable[[Sequence[ToolSpec]], str]
"""Why all these tools together are too much for whoever has them, or nothing where they are not."""


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill that is loaded: where it lies, and what it brings."""

    name: str
    path: Path
    description: str = ""
    body: str = ""
    tools: tuple[Tool, ...] = ()
    module: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh changed, by the names of skills. *broken* are the problems that were not there before."""

    loaded: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    broken: tuple[SkillProblem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loaded or self.reloaded or self.removed or self.broken)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one candidate: a skill, or what is wrong with it."""

    candidate: Candidate
    skill: Skill | None = None
    problems: tuple[SkillProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What `SkillLoader.load` found, for `SkillLoader.take`."""

    seen: Scan = field(default_factory=Scan)
    outcomes: Mapping[Path, _Outcome] = field(default_factory=dict)


class SkillLoader:
    """Keeps the skills of *folders* in *registry*.

    Each tool has the path of its skill as its source. Where a name is taken (by a tool of the program, or by a skill
    before it, in the order of *folders* and by name within each), or where *fits* says that it is too much, the later
    skill is left out and named, and the rest works; it comes back by itself once there is room.

    A skill that was fine and is broken by a change is taken away, although its old code is still there: what runs is
    what lies in the folder, so that nobody is misled by a tool that no file describes any more, and that would be gone
    after the next restart.

    `refresh` does all at once. A service calls `has_changed` (some system calls, no file is opened) as often as it
    likes, `load` in a thread, since a user's file may take its time, and `take` in the loop, in one step.
    """

    def __init__(self, folders: Iterable[Path], registry: ToolRegistry, *, fits: Fits = lambda _: "") -> None:
        self.folders = tuple(folders)
        self.loading: Path | None = None
        """What `load` is at this moment: where it does not come back, this is the file to look at."""
        self._registry = registry
        self._fits = fits
        nothing = tuple(sorted((str(folder), None) for folder in self.folders))
        self._found = Found(Scan(nothing))  # as where no folder is there: then nothing need be loaded
        self._skills: dict[Path, Skill] = {}
        self._problems: tuple[SkillProblem, ...] = ()

    @property
    def skills(self) -> tuple[Skill, ...]:
        """Those whose tools are in the registry, in order."""
        return tuple(self._skills.values())

    @property
    def problems(self) -> tuple[SkillProblem, ...]:
        """What is wrong now: one for each thing, so a skill may have several."""
        return self._problems

    @property
    def broken(self) -> int:
        """How many skills are left out."""
        return len({problem.skill or problem.file for problem in self._problems})

    def refresh(self, *, everything: bool = False) -> Changes:
        """Load what is new or has changed, or *everything*, and let go of what is gone."""
        return self.take(self.load(everything=everything))

    def has_changed(self) -> bool:
        """Whether a file was added, changed or removed since what is taken was loaded."""
        return fingerprint(self.folders) != self._found.seen.marks

    def load(self, *, everything: bool = False) -> Found:
        """Run what is new or has changed, or *everything*. Touches no tool; one call at a time, in any thread.

        The files are foreign code: one that does not end holds up this call for ever.
        """
        seen = scan(self.folders)
        outcomes: dict[Path, _Outcome] = {}
        for path, candidate in seen.candidates.items():
            known = None if everything else self._found.outcomes.get(path)
            if known is None or known.candidate != candidate:
                self.loading = path
                known = load_candidate(candidate)
            outcomes[path] = known
        self.loading = None
        return Found(seen, outcomes)

    def take(self, found: Found) -> Changes:
        """Let what was *found* be the skills, in one step, so that nobody sees half of it. For the loop's thread."""
        before, problems_before = self._skills, set(self._problems)
        last, self._found = self._found, found
        wanted = [outcome.skill for outcome in found.outcomes.values() if outcome.skill is not None]
        problems = [*found.seen.problems, *(each for outcome in found.outcomes.values() for each in outcome.problems)]
        foreign = [spec for spec in self._registry.specs() if not self._is_ours(spec.name)]
        taken, refused = self._choose(wanted, foreign)
        self._problems = (*problems, *refused)
        self._skills = {skill.path: skill for skill in taken}
        self._swap(before)
        _let_go(last, found)
        return Changes(
            loaded=tuple(skill.name for skill in taken if skill.path not in before),
            reloaded=tuple(skill.name for skill in taken if before.get(skill.path, skill) is not skill),
            removed=tuple(skill.name for path, skill in before.items() if path not in self._skills),
            broken=tuple(problem for problem in self._problems if problem not in problems_before),
        )

    def _is_ours(self, tool: str) -> bool:
        source = self._registry.source(tool)
        return source == SKILL_READ or any(str(path) == source for path in self._skills)

    def _choose(self, wanted: Sequence[Skill], foreign: Sequence[ToolSpec]) -> tuple[list[Skill], list[SkillProblem]]:
        taken: list[Skill] = []
        problems: list[SkillProblem] = []
        owners = dict.fromkeys((spec.name for spec in foreign), "the program itself")
        owners[SKILL_READ] = "the program itself"
        for skill in wanted:
            problem = _clash(skill, taken, owners)
            if problem:
                problems.append(SkillProblem(skill.name, skill.path, None, problem))
                continue
            taken.append(skill)
            owners |= dict.fromkeys((tool.spec.name for tool in skill.tools), str(skill.path))
        if self._fits([*foreign, *_specs(taken)]):
            taken, too_much = self._choose_what_fits(taken, foreign)
            problems += too_much
        return taken, problems

    def _choose_what_fits(
        self, wanted: Sequence[Skill], foreign: Sequence[ToolSpec]
    ) -> tuple[list[Skill], list[SkillProblem]]:
        taken: list[Skill] = []
        problems: list[SkillProblem] = []
        for skill in wanted:
            problem = self._fits([*foreign, *_specs([*taken, skill])])
            if problem:
                problems.append(SkillProblem(skill.name, skill.path, None, problem))
            else:
                taken.append(skill)
        return taken, problems

    def _swap(self, before: Mapping[Path, Skill]) -> None:
        """Old ones first: a tool may have moved from one skill to another."""
        for path, skill in before.items():
            if self._skills.get(path) is not skill:
                self._registry.replace(str(path), ())
        for path, skill in self._skills.items():
            if before.get(path) is not skill:
                self._registry.replace(str(path), skill.tools)
        self._registry.replace(SKILL_READ, _skill_read(self.skills))


def load_candidate(candidate: Candidate, *, thorough: bool = False) -> _Outcome:
    """Read and run one skill. Never raises. See `load_modules` for *thorough*."""
    name = candidate.path.stem if not candidate.is_folder else candidate.path.name
    if candidate.problem:
        return _Outcome(candidate, problems=(SkillProblem(name, candidate.path, None, candidate.problem),))
    problems: list[SkillProblem] = []
    about = SkillText(name, "", "")
    if candidate.text is not None:
        try:
            about = read_text(candidate.text)
        except SkillFileError as error:
            problems.append(SkillProblem(name, error.file, error.line, error.text))
    for file in dict.fromkeys((candidate.path, *candidate.files)):
        if words := exposed(file):
            problems.append(SkillProblem(name, file, None, words))
    if problems and not thorough:
        return _Outcome(candidate, problems=tuple(problems))
    from pibot_mesh.agent.skill_modules import forget, load_modules  # a node without skills does without it

    loaded = load_modules(candidate, about.name, thorough=thorough)
    problems += [each for each in loaded.problems if each not in problems]
    problems += [_spec_problem(tool, about.name, candidate.path) for tool in loaded.tools if _unsayable(tool)]
    if not candidate.is_folder and not loaded.tools and not problems:
        text = "no function is marked @tool, so it brings nothing (a name with '_' in front is no skill)"
        problems.append(SkillProblem(name, candidate.path, None, text))
    if problems:
        forget(loaded.module)
        return _Outcome(candidate, problems=tuple(problems))
    skill = Skill(about.name, candidate.path, about.description, about.body, loaded.tools, loaded.module)
    return _Outcome(candidate, skill)


def check(path: Path) -> tuple[Skill | None, tuple[SkillProblem, ...]]:
    """The skill at *path*, run here and now, or everything that is wrong with it. It is registered nowhere."""
    try:
        outcome = load_candidate(candidate_at(path), thorough=True)
    except SkillFileError as error:
        return None, (SkillProblem(path.stem, error.file, error.line, error.text),)
    return outcome.skill, outcome.problems


def _clash(skill: Skill, taken: Sequence[Skill], owners: Mapping[str, str]) -> str:
    for other in taken:
        if other.name == skill.name:
            return f"a skill named {skill.name!r} is there already: {other.path}"
    for tool in skill.tools:
        if tool.spec.name in owners:
            return f"a tool named {tool.spec.name!r} is there already, brought by {owners[tool.spec.name]}"
    return ""


def _specs(skills: Sequence[Skill]) -> list[ToolSpec]:
    tools = [tool for skill in skills for tool in skill.tools] + _skill_read(skills)
    return [tool.spec for tool in tools]


def _unsayable(tool: Tool) -> str:
    """Why *tool* cannot be shown to others, or nothing."""
    try:
        encode(tool.spec)
    except ProtocolError as error:
        return str(error)
    return ""


def _spec_problem(tool: Tool, skill: str, path: Path) -> SkillProblem:
    return SkillProblem(skill, path, None, f"the tool {tool.spec.name} cannot be shown to others: {_unsayable(tool)}")


def _let_go(last: Found, found: Found) -> None:
    """Forget the modules of what was loaded and is not any more."""
    from pibot_mesh.agent.skill_modules import forget

    kept = {outcome.skill.module for outcome in found.outcomes.values() if outcome.skill is not None}
    for outcome in last.outcomes.values():
        if outcome.skill is not None and outcome.skill.module not in kept:
            forget(outcome.skill.module)


def _skill_read(skills: Sequence[Skill]) -> list[Tool]:
    """The tool that gives the bodies, where there are any. It looks names up in memory, and opens no file."""
    bodies = {skill.name: skill for skill in skills if skill.body}
    if not bodies:
        return []

    async def skill_read(args: Mapping[str, JSON], context: ToolContext) -> Output:  # noqa: ARG001 - a tool's signature
        skill = bodies.get(str(args["name"]))
        if skill is None:
            there = ", ".join(bodies)
            raise ToolError(f"no skill is named {args['name']!r}: there are {there}", code=ErrorCode.BAD_ARGUMENTS)
        return Output(skill.body, {"name": skill.name})

    lines = "; ".join(f"{name}: {skill.description}" for name, skill in bodies.items())
    parameters: dict[str, JSON] = {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": list(bodies)}},
        "required": ["name"],
        "additionalProperties": False,
    }
    description = f"Read how to do one of these things, before you do it. {lines}"
    return [Tool(ToolSpec(SKILL_READ, description, parameters, timeout_s=10.0), skill_read)]
