"""A function as a tool: its JSON Schema, its arguments and its result. Pure: no I/O."""

from __future__ import annotations

import contextlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pibot_mesh.agent.hints import CannotExpress, Hint, object_schema, read_hint, with_default
from pibot_mesh.agent.plain import plain_json
from pibot_mesh.errors import ErrorCode, ToolDefinitionError, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output

_SECTIONS: Final = re.compile(
    r"(args|arguments|parameters|params|returns?|raises|yields?|examples?|notes?|attributes|keyword args):",
    re.IGNORECASE,
)
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)")
_FIELD: Final = re.compile(r":(?:param|parameter|arg)\s+(?:[^:]*\s)?(\w+):\s*(.*)")
_KINDS: Final[Mapping[Any, str]] = {
    inspect.Parameter.VAR_POSITIONAL: "*args cannot be expressed: use a parameter of type list[X]",
    inspect.Parameter.VAR_KEYWORD: "**kwargs cannot be expressed: use a parameter of type dict[str, X]",
    inspect.Parameter.POSITIONAL_ONLY: "is positional-only, and a model gives arguments by name: take the / away",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function says of itself as a tool.

    *takes* are its parameters with their conversions; *contexts* are those that get the ToolContext; *whole* is the one
    that gets all arguments in one mapping, if there is such a one.
    """

    description: str
    parameters: Mapping[str, JSON]
    takes: Mapping[str, Hint]
    contexts: tuple[str, ...] = ()
    whole: str = ""

    def bind(self, args: Mapping[str, JSON], context: object) -> dict[str, Any]:
        """The keywords to call the function with, from *args* that fit the schema.

        Raises ToolError, code ``bad_arguments``, for what the schema cannot say and a conversion refuses.
        """
        keywords: dict[str, Any] = dict.fromkeys(self.contexts, context)
        if self.whole:
            return {**keywords, self.whole: args}
        problems: list[str] = []
        for name, value in args.items():
            try:
                keywords[name] = self.takes[name].convert(value) if name in self.takes else value
            except ValueError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise ToolError("; ".join(problems), code=ErrorCode.BAD_ARGUMENTS)
        return keywords


def read_signature(
    function: Callable[..., object],
    *,
    context: type,
    description: str | None = None,
    parameters: Mapping[str, JSON] | None = None,
) -> Signature:
    """The signature of *function*; a parameter annotated with the class *context* is no argument of the tool.

    *description* and *parameters* (a raw JSON Schema) stand for what the docstring and the hints say. With a raw schema
    the values come as they are: by name, or all of them where the only parameter is annotated dict or Mapping.
    Raises ToolDefinitionError with everything that is wrong.
    """
    where = place(function)
    if not inspect.isfunction(function):
        raise ToolDefinitionError([f"{where}: {function!r} is no function: write one with def or async def"])
    reader = _Reader(function, context, where)
    first, told = read_docstring(function.__doc__ or "")
    if not (description or first).strip():
        reader.problem("", "has no docstring, and its first lines tell the model what the tool does: write one")
    if parameters is None:
        signature = reader.hinted(description or first, told)
    else:
        signature = reader.raw(description or first, parameters)
    if reader.problems:
        raise ToolDefinitionError(reader.problems)
    return signature


def as_output(result: object) -> Output:
    """What a function gave, as the output of a tool.

    Text is the text, nothing is an empty one, and what JSON can say is the data. Raises TypeError, in words, for
    anything else.
    """
    if result is None or isinstance(result, str):
        result = Output(result or "")
    data = result.data if isinstance(result, Output) else result
    text = result.text if isinstance(result, Output) else ""
    try:
        return Output(plain_json(text), plain_json(data))
    except ValueError as error:
        raise TypeError(f"its result cannot be used: {error}") from None


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The first paragraph of a docstring in one line, and what it says of each parameter.

    Read are an ``Args:`` section and ``:param name:`` lines.
    """
    lines = inspect.cleandoc(text).splitlines()
    first: list[str] = []
    for line in lines:
        if not line.strip() or _FIELD.match(line) or _SECTIONS.fullmatch(line.strip()):
            break
        first.append(line.strip())
    told: dict[str, list[str]] = {}
    for name, words in _told(lines):
        told.setdefault(name, []).append(words)
    return " ".join(first), {name: " ".join(filter(None, words)) for name, words in told.items()}


def _told(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line that describes a parameter: (its name, the words)."""
    name, indent, is_in_args = "", 0, False
    for line in lines:
        words = line.strip()
        depth = len(line) - len(line.lstrip())
        if depth == 0 and _SECTIONS.fullmatch(words):
            name, indent, is_in_args = "", 0, words.lower().startswith(("arg", "param", "keyword"))
        elif found := _FIELD.match(words):
            name, indent, is_in_args = found[1], depth, False
            yield name, found[2]
        elif words and name and depth > indent:
            yield name, words
        elif is_in_args and depth > 0 and (found := _ENTRY.fullmatch(words)):
            name, indent = found[1], depth
            yield name, found[2]
        elif words:
            name, is_in_args = "", is_in_args and depth > 0


def place(function: object) -> str:
    """Where *function* was written, as ``FILE:LINE``."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, types.CodeType) else "tool"


class _Reader:
    """Reads one function, and collects what is wrong with it."""

    def __init__(self, function: types.FunctionType, context: type, where: str) -> None:
        self._function = function
        self._context = context
        self._where = where
        self.problems: list[str] = []
        self._parameters = inspect.signature(function).parameters.values()
        self._hints = {one.name: self._hint(one) for one in self._parameters}
        self._contexts = tuple(name for name, hint in self._hints.items() if hint is context)

    def problem(self, parameter: str, what: str) -> None:
        """Remember that something is wrong with *parameter*."""
        name = f"{self._function.__name__}({parameter})" if parameter else f"{self._function.__name__}"
        self.problems.append(f"{self._where}: function {name}: {what}")

    def hinted(self, description: str, told: Mapping[str, str]) -> Signature:
        """By the type hints."""
        takes: dict[str, Hint] = {}
        required: list[str] = []
        for one in self._arguments():
            if one.kind in _KINDS:
                self.problem(one.name, _KINDS[one.kind])
                continue
            if one.annotation is one.empty:
                self.problem(one.name, "has no type hint: write one, such as str or float")
                continue
            if self._hints[one.name] is one.empty:
                continue
            try:
                hint = read_hint(self._hints[one.name])
            except CannotExpress as error:
                for path, what in error.problems:
                    self.problem(f"{one.name}.{path}" if path else one.name, what)
                continue
            schema = dict(hint.schema)
            if one.name in told and "description" not in schema:
                schema["description"] = told[one.name]
            if one.default is one.empty:
                required.append(one.name)
            else:
                schema = dict(with_default(schema, one.default))
            takes[one.name] = Hint(schema, hint.convert)
        schemas = {name: hint.schema for name, hint in takes.items()}
        return Signature(description, object_schema(schemas, required), takes, self._contexts)

    def raw(self, description: str, schema: Mapping[str, JSON]) -> Signature:
        """By a schema that its author wrote."""
        arguments = self._arguments()
        try:
            schema = plain_json(schema)
        except ValueError as error:
            self.problem("", f"parameters: {error}")
            schema = {}
        properties = schema.get("properties", {})
        if schema.get("type") != "object" or not isinstance(properties, dict):
            self.problem("", "parameters: a JSON Schema with type: object (and its properties) is expected")
            properties = {}
        if len(arguments) == 1 and _is_mapping(self._hints[arguments[0].name]):
            return Signature(description, schema, {}, self._contexts, arguments[0].name)
        names = {one.name for one in arguments if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        takes_any = any(one.kind is one.VAR_KEYWORD for one in arguments)
        for name in properties:
            if name not in names and not takes_any:
                self.problem(name, "is in the schema, and the function does not take it")
        for one in arguments:
            if one.kind is one.POSITIONAL_ONLY:
                self.problem(one.name, _KINDS[one.kind])
            elif one.name in names and one.default is one.empty and one.name not in schema.get("required", ()):
                self.problem(one.name, "has no default, and the schema does not require it")
        return Signature(description, schema, {}, self._contexts)

    def _arguments(self) -> list[inspect.Parameter]:
        return [one for one in self._parameters if one.name not in self._contexts]

    def _hint(self, one: inspect.Parameter) -> object:
        """The hint of a parameter; names in it are the module's, or what the function uses of the one around it."""
        try:
            holder = types.SimpleNamespace(__annotations__={one.name: one.annotation})
            plain = inspect.unwrap(self._function)
            return typing.get_type_hints(holder, plain.__globals__, _enclosed(plain), include_extras=True)[one.name]
        except NameError as error:
            what = f"{error.name!r} is not known in the function's module: import or define it there"
        except (SyntaxError, TypeError, AttributeError) as error:
            what = f"{one.annotation} is no type hint: {error}"
        self.problem(one.name, what)
        return one.empty


def _enclosed(function: types.FunctionType) -> dict[str, Any]:
    """What *function* uses of the functions around it, as far as it is there yet."""
    enclosed: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # given a value only later
            enclosed[name] = cell.cell_contents
    return enclosed


def _is_mapping(hint: object) -> bool:
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)
