"""The Python files of skills, run as modules of their own.

Each time they are loaded they get names that nobody else has, so a skill never takes the place of a module of the
program or of another skill. Nothing is put on ``sys.path``, and nothing is written beside a user's files. The files of
a folder skill are the modules of one package: they import each other as ``from .readings import mean``.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import itertools
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final

from pibot_mesh.agent.skill_files import Candidate, SkillFileError, SkillProblem, read_source
from pibot_mesh.agent.tools import Tool, ToolRegistry, collecting
from pibot_mesh.errors import ToolDefinitionError

_PREFIX: Final = "_pibot_skill_"
_numbers: Final = itertools.count(1)
_MAX_WORDS: Final = 500
"""Characters of somebody else's error."""
_PLACE: Final = re.compile(r"(.+?):(\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of running a skill's files: the tools that they bring, or else what is wrong with them."""

    tools: tuple[Tool, ...] = ()
    problems: tuple[SkillProblem, ...] = ()
    module: str = ""


def load_modules(candidate: Candidate, skill: str, *, thorough: bool = False) -> Loaded:
    """Run the Python files of *candidate*, the skill *skill*. Never raises, whatever is in them.

    It is foreign code: it may take long, and one that does not end is not ended. A skill brings what is marked
    ``@tool`` in its files, and what is marked elsewhere and imported into them by name. *thorough*: a function that
    cannot be a tool does not hide those after it; for that its file is run once more for each.
    """
    name = f"{_PREFIX}{next(_numbers)}_{re.sub(r'[^A-Za-z0-9_]', '_', candidate.path.stem)}"
    registry = _Collection()
    run = _Run(candidate, skill, name, registry, thorough)
    with collecting(registry):
        modules = run.modules()
    if run.problems:
        forget(name)
        return Loaded(problems=tuple(dict.fromkeys(run.problems)))
    return Loaded(tuple(_tools(modules, registry, name)), module=name)


def forget(module: str) -> None:
    """Let go of what `load_modules` made. What still runs goes on; a file that it imports only now is not found."""
    _finder.folders.pop(module, None)
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        sys.modules.pop(name, None)


class _Collection(ToolRegistry):
    """The tools of one skill, in which not even a function of the same name takes another's place unseen."""

    def add(self, tool: Tool, source: str = "") -> None:
        if tool.spec.name in self:
            raise ValueError(f"there are two tools named {tool.spec.name!r}: rename one")
        super().add(tool, source)

    def forget(self, module: str) -> None:
        """Take away what *module* has brought."""
        for tool in self:
            if tool.origin.startswith(f"{module}."):
                self.remove(tool.spec.name)


class _Run:
    """One skill's files, run one after another; what is wrong is collected in *problems*."""

    def __init__(self, candidate: Candidate, skill: str, name: str, registry: _Collection, thorough: bool) -> None:
        self.problems: list[SkillProblem] = []
        self._candidate = candidate
        self._skill = skill
        self._name = name
        self._registry = registry
        self._thorough = thorough

    def modules(self) -> list[ModuleType]:
        """Those that could be run."""
        if not self._candidate.is_folder:
            return self._module(self._name, self._candidate.path)
        _finder.folders[self._name] = self._candidate.path
        if _finder not in sys.meta_path:
            sys.meta_path.append(_finder)
        init = self._candidate.path / "__init__.py"
        if init in self._candidate.files:
            found = self._module(self._name, init, is_package=True)
        else:
            spec = importlib.machinery.ModuleSpec(self._name, None, is_package=True)
            package = sys.modules[self._name] = importlib.util.module_from_spec(spec)
            found = [package]
        for file in self._candidate.files if found else ():
            if not file.name.startswith("_"):
                found += self._module(f"{self._name}.{file.stem}", file)
        return found

    def _module(self, name: str, file: Path, *, is_package: bool = False) -> list[ModuleType]:
        without: frozenset[int] = frozenset()
        while True:
            try:
                return [sys.modules.get(name) or _module(name, file, is_package, without)]
            except BaseException as error:  # anybody's code: its SystemExit is not our end
                if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                    raise
                found = _problems(error, self._skill, file, self._candidate)
                self.problems += found
                is_worth_more = self._thorough and isinstance(error, ToolDefinitionError)
            self._registry.forget(name)
            lines = {problem.line for problem in found if problem.file == file and problem.line is not None}
            if not is_worth_more or lines <= without:
                return []
            without |= lines


def _module(name: str, file: Path, is_package: bool, without: frozenset[int]) -> ModuleType:
    """Run *file* as the module *name*; decorators of the functions in the lines *without* do nothing."""
    loader = _Loader(file, without)
    where = [str(file.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=where)
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


class _Loader(importlib.abc.Loader):
    """Compiles from the source each time: Python's own keeps what it compiled beside the file."""

    def __init__(self, file: Path, without: frozenset[int] = frozenset()) -> None:
        self._file = file
        self._without = without

    def exec_module(self, module: ModuleType) -> None:
        tree = ast.parse(read_source(self._file), str(self._file))
        for node in ast.walk(tree) if self._without else ():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = range(min((each.lineno for each in node.decorator_list), default=node.lineno), node.lineno + 1)
                node.decorator_list = [] if self._without & set(lines) else node.decorator_list
        code = compile(tree, str(self._file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the user's file is what a skill is


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the files of folder skills for each other, and nothing else for anybody."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the signature that Python calls
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        folder = self.folders.get(package)
        if folder is None or not (file := folder / f"{name}.py").is_file():
            return None
        return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(file))


_finder: Final = _Finder()


def _tools(modules: Sequence[ModuleType], registry: ToolRegistry, name: str) -> list[Tool]:
    """The tools marked in the skill's own files, and those that stand in them under a public name.

    What another library marks while it is imported for the first time would not be there the second time.
    """
    found = {tool.spec.name: tool for tool in registry if tool.origin.startswith(f"{name}.")}
    for module in modules:
        for public, value in list(vars(module).items()):
            made = getattr(value, "tool", None) if inspect.isfunction(value) else None
            if isinstance(made, Tool) and not public.startswith("_"):
                found.setdefault(made.spec.name, made)
    return list(found.values())


def _problems(error: BaseException, skill: str, file: Path, candidate: Candidate) -> list[SkillProblem]:
    """*error* in words, each with the place in the skill's own files that is to blame."""
    if isinstance(error, SkillFileError):
        return [SkillProblem(skill, error.file, error.line, error.text)]
    if isinstance(error, ToolDefinitionError):
        return [_placed(problem, skill, file) for problem in error.problems]
    own = {str(each): each for each in candidate.files}
    if isinstance(error, SyntaxError) and error.filename in own:
        return [SkillProblem(skill, own[error.filename], error.lineno, f"not valid Python: {error.msg}")]
    at, line = _blame(error.__traceback__, own) or (file, None)
    return [SkillProblem(skill, at, line, _words(error))]


def _placed(problem: str, skill: str, file: Path) -> SkillProblem:
    """A sentence that begins with ``FILE:LINE:``."""
    match = _PLACE.fullmatch(problem)
    if match is None:
        return SkillProblem(skill, file, None, problem)
    return SkillProblem(skill, Path(match[1]), int(match[2]), match[3])


def _blame(trace: TracebackType | None, own: dict[str, Path]) -> tuple[Path, int] | None:
    found = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file in own:
            found = own[file], trace.tb_lineno
        trace = trace.tb_next
    return found


def _words(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())[:_MAX_WORDS]
    except Exception:  # noqa: BLE001 - the error is somebody else's code as well
        said = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package, _, name = error.name.rpartition(".")
        if package.startswith(_PREFIX):
            return f"there is no {name}.py beside it"
        return f"it needs the module {error.name}, which is not installed here"
    if isinstance(error, ImportError) and "attempted relative import" in said:
        return "only the files of a folder skill import each other: make it a folder with a SKILL.md"
    if isinstance(error, SystemExit):
        return "it ends the program (SystemExit) where it is loaded"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
