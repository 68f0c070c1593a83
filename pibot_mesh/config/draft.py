"""Settings in the making: values at their paths, and everything that is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pibot_mesh.config.source import KeyPath, Problem, Source, Value, format_path
from pibot_mesh.config.words import schema_problems, show
from pibot_mesh.errors import ConfigError


class Draft:
    """The values of one file, those of *env* in their place.

    Override what variables say, then `check`: what the schema refuses is noted, taken out, and replaced by its default
    wherever it is asked for. `finish` raises all that was noted.
    """

    def __init__(self, source: Source, env: Mapping[str, str]) -> None:
        self.env = {name: value for name, value in env.items() if value.strip()}
        """The variables that are set; an empty one counts as unset."""
        self.problems: list[tuple[int, str]] = []
        """Line and text of all that is wrong so far; the environment's have line 0."""
        self.named: dict[KeyPath, Path] = {}
        """The files (and folders of files) that are named, where they are there."""
        self._source = source
        self._refused: set[KeyPath] = set()

    def override(self, variable: str, path: KeyPath) -> None:
        """Put what *variable* says at *path*. Where there is no section to put it into, the schema will say so."""
        values: Value = self._source.values
        for key in path[:-1]:
            if isinstance(values, dict):
                values = values.setdefault(str(key), {})
        if isinstance(values, dict):
            value = self.env[variable].strip()
            values[str(path[-1])] = value.lower() if path == ("log_level",) else value
            self._source.variables[path] = variable

    def check(self, schema: Mapping[str, object]) -> None:
        """Note what *schema* refuses, and take it out."""
        for problem in schema_problems(schema, self._source.values):
            self.refuse(problem)

    def refuse(self, problem: Problem) -> None:
        """Note a *problem*, and take its value out, so that nothing else is said of it."""
        self.note(problem)
        self._refused.add(problem.path)
        self.forget(problem.path)

    def forget(self, path: KeyPath) -> None:
        """Go on as if nothing stood at *path*; in a list, an empty entry stays."""
        values: Value = self._source.values
        for key in path[:-1]:
            values = _below(values, key)
        if isinstance(values, dict):
            values.pop(str(path[-1]), None)
        elif isinstance(values, list) and isinstance(path[-1], int):
            values[path[-1]] = ""

    def note(self, problem: Problem) -> None:
        """Remember a *problem*, with its place."""
        line = 0 if problem.path in self._source.variables else self._source.line(problem.path)
        self.problems.append((line, self._source.show(problem)))

    def finish(self) -> None:
        """Raise ConfigError where anything was wrong: the environment's problems first, then the file's by line."""
        if self.problems:
            raise ConfigError([text for _, text in sorted(self.problems, key=lambda problem: problem[0])])

    # Values

    def get(self, path: KeyPath, default: Value) -> Value:
        """The value at *path*, or *default*."""
        value: Value = self._source.values
        for key in path:
            value = _below(value, key)
            if value is None:
                return default
        return value

    def text(self, path: KeyPath, default: str = "") -> str:
        """The text at *path*."""
        return str(self.get(path, default))

    def number(self, path: KeyPath, default: float) -> float:
        """The number at *path*."""
        value = self.get(path, default)
        assert isinstance(value, (int, float)), format_path(path)
        return float(value)

    def whole(self, path: KeyPath, default: int) -> int:
        """The whole number at *path*."""
        return int(self.number(path, default))

    def entries(self, path: KeyPath) -> list[Value]:
        """The list at *path*; an entry that was refused is empty."""
        value = self.get(path, [])
        assert isinstance(value, list), format_path(path)
        return value

    def words(self, path: KeyPath) -> tuple[str, ...]:
        """The words of the list at *path* that were not refused."""
        return tuple(str(word) for word in self.entries(path) if word != "")

    def is_set(self, path: KeyPath) -> bool:
        """Whether there is a value at *path* that was not refused."""
        return self.get(path, None) is not None

    def is_by_variable(self, path: KeyPath) -> bool:
        """Whether the value at *path* comes from the environment."""
        return path in self._source.variables

    def is_refused(self, path: KeyPath) -> bool:
        """Whether anything at *path* or below it was refused."""
        return any(refused[: len(path)] == path for refused in self._refused)

    # Files

    @property
    def file_path(self) -> Path | None:
        """The file that all this stands in, if it is one."""
        return Path(self._source.name).expanduser().absolute() if self._source.name else None

    def path(self, at: KeyPath, default: str = "") -> Path | None:
        """The path named at *at*, in full; a relative one is relative to the file's folder."""
        text = self.text(at, default)
        if not text:
            return None
        try:
            return self._source.folder(at).absolute() / Path(text).expanduser()
        except RuntimeError:
            self.note(Problem(at, f"the home directory for {show(text)} is not known: write the path in full"))
            return None

    def file(self, at: KeyPath) -> Path | None:
        """The file named at *at*, which must be there and readable."""
        path = self.path(at)
        if path is None:
            return None
        if not path.is_file() or not os.access(path, os.R_OK):
            self.note(Problem(at, f"there is no file {path} that can be read"))
            return None
        self.named[at] = path
        return path

    def folder(self, at: KeyPath, default: str = "") -> Path | None:
        """The folder named at *at*; it may be missing, but must not be a file."""
        path = self.path(at, default)
        if path is not None and path.exists() and not path.is_dir():
            self.note(Problem(at, f"{path} is a file: name a folder"))
            return None
        return path

    def secret(self, at: KeyPath, what: str) -> str | None:
        """What the file named at *at* holds, if one is named: a secret that nobody else may read."""
        file = self.file(at)
        if file is None:
            return None
        mode = file.stat().st_mode & 0o777
        if mode & 0o077:
            self.note(Problem(at, f"others may read {file} (mode {mode:04o}): run chmod 600 {file}"))
            return None
        try:
            secret = file.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            self.note(Problem(at, f"{file} cannot be read: {error}"))
            return None
        if not secret:
            self.note(Problem(at, f"{file} is empty: write the {what} into it"))
        return secret or None


def _below(value: Value, key: str | int) -> Value:
    if isinstance(value, dict):
        return value.get(str(key))
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None
