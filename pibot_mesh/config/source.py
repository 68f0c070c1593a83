"""A YAML file as plain values, with the line of every value, so that an error can say where it stands.

Strings, numbers, true and false, lists and mappings only. Plain words are read as YAML 1.2 does, except that ``on``,
``off``, ``yes`` and ``no`` are true and false as people expect of a switch. Keys are always text.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import yaml

from pibot_mesh.errors import ConfigError

MAX_BYTES: Final = 1 << 20
"""Bytes: a larger file is no configuration."""
MAX_VALUES: Final = 20_000
"""Values in one file, each alias (``*name``) counted with all that it stands for."""

Value: TypeAlias = bool | int | float | str | list["Value"] | dict[str, "Value"] | None
KeyPath: TypeAlias = tuple[str | int, ...]
"""The way to a value: ``("devices", "fan", "pin")``."""

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
    **dict.fromkeys(("", "~", "null"), None),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_HEXADECIMAL = re.compile(r"0x[0-9A-Fa-f]{1,15}")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_HINTS: Final = {
    "mapping values are not allowed here": "a ':' stands where none can be: check the indentation, or quote the text",
    "found character '\\t' that cannot start any token": "a tab stands in the indentation: use spaces",
    "could not find expected ':'": "a line here lacks its ':' (or the line before it is not finished)",
    "expected <block end>, but found '<block mapping start>'": "the indentation does not fit the lines before it",
    "expected <block end>, but found '<block sequence start>'": "the indentation does not fit the lines before it",
    "found unexpected end of stream": "a quote is opened and never closed",
}
_TOO_MANY: Final = f"more than {MAX_VALUES} values, aliases counted with what they stand for: make the file smaller"
_CIRCLE: Final = "its aliases lead in a circle: write the values out"
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at *path*, and what to do about it, as one sentence."""

    path: KeyPath
    text: str


@dataclass(slots=True)
class Source:
    """Where values came from: *name* is the file as the user wrote it, *lines* the line of every value in it.

    A value that an environment variable gave has the variable's name in *variables*.
    """

    name: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    variables: dict[KeyPath, str] = field(default_factory=dict)

    def show(self, problem: Problem) -> str:
        """One line for a person: ``config/node.yaml:12: devices.fan.pin: what is wrong``."""
        variable = self.variables.get(problem.path)
        if variable is not None:
            return f"{variable} (environment): {problem.text}"
        path = format_path(problem.path)
        place = f"{self.name}:{self.line(problem.path)}" if self.name else "configuration"
        return f"{place}: {path}: {problem.text}" if path else f"{place}: {problem.text}"

    def line(self, path: KeyPath) -> int:
        """The line of the value at *path*, or of the nearest one around it that stands in the file."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def folder(self, path: KeyPath) -> Path:
        """What a relative path given at *path* is relative to: the file's folder, or the current one."""
        return Path(self.name).parent if self.name and path not in self.variables else Path()


def format_path(path: KeyPath) -> str:
    """``devices.fan.pin``, ``node.labels[1]``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def read_yaml(path: Path | str) -> Source:
    """Read one YAML file, a mapping at its top; an empty one is an empty mapping, and so is an empty section.

    Raises ConfigError, with a line where there is one, for a file that cannot be read, is over 1 MiB, not UTF-8, not
    YAML, has a key twice, a tag such as ``!secret``, or aliases that swell it to more than 20,000 values.
    """
    name = str(path)
    text = _decode(name, _read(name, Path(path).expanduser()))
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(name, error)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{name}:{line}: the character U+{error.character:04X} cannot stand in YAML"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: nested too deeply"]) from None
    except _TooManyValues:
        raise ConfigError([f"{name}: {_TOO_MANY}"]) from None
    source = Source(name)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.style is None and node.value in ("", "~", "null")):
        return source
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError([f"{name}:{_line(node)}: 'key: value' lines are expected at the top of the file"])
    builder = _Builder(source.lines)
    values = builder.build(node, ())
    if builder.problems:
        raise ConfigError([source.show(problem) for problem in builder.problems])
    assert isinstance(values, dict)
    source.values = {key: value for key, value in values.items() if value is not None}
    return source


def _read(name: str, path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ConfigError([f"{name}: this is a folder: name the file inside it"])
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError([f"{name}: this is not a regular file"])
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError([f"{name}: there is no such file"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([f"{name}: cannot be read: {reason} (check its owner and mode)"]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError([f"{name}: larger than 1 MiB, so it is not a configuration file"])
    return content


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{name}:{line}: not UTF-8: save the file with that encoding"]) from None


def _syntax_problem(name: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}" if mark is not None else name
    problem = error.problem or "cannot be read"
    return f"{place}: not valid YAML: {_HINTS.get(problem, problem)}"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _TooManyValues(Exception):
    pass


class _Loader(yaml.BaseLoader):
    """Gives up where a file has too many values, since reading a huge one takes many seconds."""

    _count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._count += 1
        if self._count > 2 * MAX_VALUES:  # keys count here as well
            raise _TooManyValues
        return super().compose_node(parent, index)


class _Builder:
    """Turns YAML's nodes into plain values. What is wrong is collected in *problems*."""

    def __init__(self, lines: dict[KeyPath, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines
        self._count = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, path: KeyPath) -> Value:
        self._lines.setdefault(path, _line(node))
        self._count += 1
        if self._count > MAX_VALUES or id(node) in self._open:
            text = _CIRCLE if id(node) in self._open else _TOO_MANY
            if not any(problem.path == () for problem in self.problems):
                self.problems.append(Problem((), text))
            return None
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self.problems.append(Problem(path, f"the tag {tag} is not known here: write the value without it"))
            return None
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node.value) if node.style is None else str(node.value)
        self._open.add(id(node))
        value = self._collection(node, path)
        self._open.discard(id(node))
        return value

    def _collection(self, node: yaml.Node, path: KeyPath) -> Value:
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        values: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(path, f"line {_line(key_node)}: a key must be plain text"))
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                self._merge(value_node, path, merged)
            elif key in values:
                first = self._lines[*path, key]
                self._lines[*path, key] = _line(key_node)
                self.problems.append(Problem((*path, key), f"stands twice (first in line {first}): remove one"))
            else:
                self._lines[*path, key] = _line(key_node)
                values[key] = self.build(value_node, (*path, key))
        return {**merged, **values}

    def _merge(self, node: yaml.Node, path: KeyPath, merged: dict[str, Value]) -> None:
        value = self.build(node, path)
        parts = value if isinstance(value, list) else [value]
        for part in reversed(parts):
            if isinstance(part, dict):
                merged.update(part)
            else:
                self.problems.append(Problem(path, f"line {_line(node)}: '<<' needs an alias of a mapping"))


def _scalar(text: str) -> Value:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def suggestion(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """`` (did you mean 'pin'?)`` where one of the *known* words is near, else nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
