"""Skills as they lie on the disk: found by looking at names and times alone, and read only where nobody else writes.

A skill is a Python file, or a folder with a ``SKILL.md`` and, beside it, Python files. Names that begin with ``_`` or
``.`` are no skills; in a folder skill they are files that the others may import.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from pibot_mesh.errors import ConfigError

MAX_SKILLS: Final = 100
"""In one folder; more are not looked at, which is said."""
MAX_ENTRIES: Final = 1000
"""Names in one folder that are looked at."""
MAX_FILES: Final = 50
"""Python files of one folder skill."""
MAX_SOURCE_BYTES: Final = 256 * 1024
MAX_TEXT_BYTES: Final = 32 * 1024
"""A ``SKILL.md``: a model has to read it."""
MAX_DESCRIPTION: Final = 1024
"""Characters."""
TEXT: Final = "SKILL.md"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

Mark: TypeAlias = tuple[int, int, int, int]
"""What changes when a file does: time of change (ns), size, inode and mode."""
Fingerprint: TypeAlias = tuple[tuple[str, Mark | None], ...]
"""The marks of all files and folders that count, each with its path."""


@dataclass(frozen=True, slots=True)
class SkillProblem:
    """Why a skill is left out: what is wrong in *file*, and in which *line* where there is one."""

    skill: str
    file: Path
    line: int | None
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        return f"{place}: {self.text}"


class SkillFileError(ConfigError):
    """A file of a skill that is not taken; *problem* says why."""

    def __init__(self, file: Path, line: int | None, text: str) -> None:
        self.file, self.line, self.text = file, line, text
        super().__init__([f"{file}:{line}: {text}" if line is not None else f"{file}: {text}"])


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be a skill: its Python files by name, its text, and the marks of all of them."""

    path: Path
    is_folder: bool = False
    files: tuple[Path, ...] = ()
    marks: tuple[Mark | None, ...] = ()
    problem: str = ""
    """Why it cannot be one, where that is seen from outside."""

    @property
    def text(self) -> Path | None:
        """Its SKILL.md."""
        return self.path / TEXT if self.is_folder else None


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in the folders, and their `fingerprint` from before it was looked at."""

    marks: Fingerprint = ()
    candidates: Mapping[Path, Candidate] = field(default_factory=dict)
    problems: tuple[SkillProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class SkillText:
    """A SKILL.md, read."""

    name: str
    description: str
    body: str


def fingerprint(folders: Sequence[Path]) -> Fingerprint:
    """What changes when anything in *folders* does. Made to be asked for every second: opens no file. Never raises.

    A folder that is not there has no skills: it may be a drive that comes later.
    """
    found: list[tuple[str, Mark | None]] = []
    for folder in folders:
        _fingerprint(os.fspath(folder), found, is_top=True)
    return tuple(sorted(found, key=lambda mark: mark[0]))


def _fingerprint(folder: str, found: list[tuple[str, Mark | None]], *, is_top: bool) -> None:
    try:
        found.append((folder, _mode(os.stat(folder))))
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, MAX_ENTRIES):
                name = entry.name
                if name.endswith(".py") or name == TEXT:
                    found.append((entry.path, _entry_mark(entry)))
                elif is_top and name[0] not in "._" and _is_dir(entry):
                    _fingerprint(entry.path, found, is_top=False)
    except OSError:
        found.append((folder, None))


def _entry_mark(entry: os.DirEntry[str]) -> Mark | None:
    try:
        return _mark(entry.stat())
    except OSError:
        return None


def scan(folders: Sequence[Path]) -> Scan:
    """Look at *folders*, in their order, and by name within each. Opens no file. Never raises."""
    marks = fingerprint(folders)
    candidates: dict[Path, Candidate] = {}
    problems: list[SkillProblem] = []
    for folder in folders:
        found = sorted(_entries(folder, problems))
        if len(found) > MAX_SKILLS:
            problems.append(SkillProblem("", folder, None, f"only the first {MAX_SKILLS} skills are looked at"))
        for path in found[:MAX_SKILLS]:
            candidate = _candidate(path)
            if candidate is not None:
                candidates[path] = candidate
    return Scan(marks, candidates, tuple(problems))


def candidate_at(path: Path) -> Candidate:
    """The skill at *path* alone. Raises SkillFileError where there is none."""
    if not path.exists():
        raise SkillFileError(path, None, "there is no such file or folder")
    if not path.is_dir() and path.suffix != ".py":
        raise SkillFileError(path, None, "a skill is a Python file, or a folder with a SKILL.md")
    candidate = _candidate(path)
    if candidate is None:
        raise SkillFileError(path, None, f"a folder is a skill where it has a {TEXT}; this one has not")
    return candidate


def read_source(file: Path) -> bytes:
    """A Python file of a skill. Raises SkillFileError where it cannot be read, is too large or open to all."""
    return _read(file, MAX_SOURCE_BYTES)


def read_text(file: Path) -> SkillText:
    """A SKILL.md. Raises SkillFileError, with the line, where it is not as it should be."""
    try:
        lines = _read(file, MAX_TEXT_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SkillFileError(file, error.object.count(b"\n", 0, error.start) + 1, "not UTF-8") from None
    if not lines or lines[0].rstrip() != "---":
        raise SkillFileError(file, 1, "front matter is missing: '---', name: and description: lines, '---'")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise SkillFileError(file, 1, "the front matter has no end: a line '---' is missing")
    values = _front_matter(file, "\n".join(lines[1:end]))
    name, description = values.get("name", ""), values.get("description", "")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SkillFileError(file, _line(lines, "name"), "name: 1 to 64 letters, digits, '_' or '-' are expected")
    if not isinstance(description, str) or not 0 < len(description.strip()) <= MAX_DESCRIPTION:
        text = f"description: a text of 1 to {MAX_DESCRIPTION} characters is expected"
        raise SkillFileError(file, _line(lines, "description"), text)
    return SkillText(name, " ".join(description.split()), "\n".join(lines[end + 1 :]).strip())


def exposed(path: Path) -> str:
    """Why anybody on this machine could put code of their own at *path*, or nothing where they could not.

    Whoever can write a skill's file, or put another in its place, runs code as the user who runs the node.
    """
    try:
        real = path.resolve(strict=True)
        if path.stat().st_mode & stat.S_IWOTH:
            return _exposed_words(path, path.is_dir())
        for folder in real.parents:
            mode = folder.stat().st_mode
            is_near = folder == real.parent
            # In a folder such as /tmp everybody makes files, but nobody replaces another's.
            if mode & stat.S_IWOTH and (is_near or not mode & stat.S_ISVTX):
                return _exposed_words(folder, True)
    except (OSError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return ""


def _exposed_words(path: Path, is_folder: bool) -> str:
    what = "the folder" if is_folder else "the file"
    return f"everybody may write to {what} {path}, and it would run their code: chmod o-w {path}"


def _entries(folder: Path, problems: list[SkillProblem]) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= MAX_ENTRIES:
                    problems.append(
                        SkillProblem(
                            "", folder, None, f"more than {MAX_ENTRIES} names: make it a folder of skills alone"
                        )
                    )
                    return
                if entry.name[0] not in "._" and (entry.name.endswith(".py") or _is_dir(entry)):
                    yield folder / entry.name
    except FileNotFoundError:
        return
    except OSError as error:
        problems.append(SkillProblem("", folder, None, f"the folder cannot be read: {error.strerror}"))


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _candidate(path: Path) -> Candidate | None:
    """What lies at *path*; None for a folder that nobody would take for a skill."""
    try:
        about = path.stat()
    except OSError as error:
        return Candidate(path, problem=f"cannot be read: {error.strerror}")
    if stat.S_ISDIR(about.st_mode):
        return _folder_candidate(path, about)
    problem = (
        "" if _NAME.fullmatch(path.stem) else "a file's name may have letters, digits, '_' and '-' only: rename it"
    )
    return Candidate(path, False, (path,), (_mark(about), _folder_mark(path.parent)), problem)


def _folder_candidate(path: Path, about: os.stat_result) -> Candidate | None:
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(".py") and not name.startswith("."))
    except OSError as error:
        problem = f"the folder cannot be read: {error.strerror}"
        return Candidate(path, True, marks=(_mode(about), _folder_mark(path.parent)), problem=problem)
    text = path / TEXT
    files = tuple(path / name for name in names[:MAX_FILES])
    marks = (_mode(about), _folder_mark(path.parent), *(_file_mark(file) for file in (text, *files)))
    if marks[2] is None:
        problem = f"a folder is a skill where it has a {TEXT}, and this one has Python files without one"
        return Candidate(path, True, files, marks, problem) if files else None
    problem = f"more than {MAX_FILES} Python files" if len(names) > MAX_FILES else ""
    return Candidate(path, True, files, marks, problem)


def _file_mark(file: Path) -> Mark | None:
    return _mark_at(file, _mark)


def _folder_mark(folder: Path) -> Mark | None:
    """A folder counts by what is in it and by who may write to it; its own times change with every file in it."""
    return _mark_at(folder, _mode)


def _mark_at(path: Path, mark: Callable[[os.stat_result], Mark]) -> Mark | None:
    try:
        return mark(path.stat())
    except OSError:
        return None


def _mark(about: os.stat_result) -> Mark:
    return about.st_mtime_ns, about.st_size, about.st_ino, about.st_mode


def _mode(about: os.stat_result) -> Mark:
    return 0, 0, about.st_ino, about.st_mode


def _read(file: Path, max_bytes: int) -> bytes:
    problem = exposed(file)
    if problem:
        raise SkillFileError(file, None, problem)
    try:
        number = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would hold us up for ever
        with os.fdopen(number, "rb") as stream:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise SkillFileError(file, None, "is no regular file")
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise SkillFileError(file, None, f"cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise SkillFileError(file, None, f"is larger than {max_bytes // 1024} KiB")
    return content


def _front_matter(file: Path, text: str) -> Mapping[str, object]:
    import yaml

    try:
        values = yaml.BaseLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 2 if mark is not None else 1
        raise SkillFileError(file, line, f"not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SkillFileError(file, 1, f"not valid YAML: {type(error).__name__}") from None
    if not isinstance(values, dict):
        raise SkillFileError(file, 2, "'key: value' lines are expected between the '---' lines")
    return values


def _line(lines: Sequence[str], key: str) -> int:
    """Where *key* stands, or the first line."""
    return next((number for number, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
