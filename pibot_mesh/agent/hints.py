"""Type hints as JSON Schema, and JSON values as what the hints say. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final, Literal, NotRequired, Required, TypeAlias

from pibot_mesh.agent.plain import JSON_TYPES, json_type, plain_json
from pibot_mesh.protocol.codec import JSON

Convert: TypeAlias = Callable[[JSON], object]


@dataclass(frozen=True, slots=True)
class Between:
    """A number from *low* to *high*, both included; None leaves that side open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Length:
    """At least *low* and at most *high* characters, items or entries; None means no end."""

    low: int = 0
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Matches:
    """The whole text matches *regex*. What models can read is the part that Python and JavaScript share."""

    regex: str


class CannotExpress(Exception):
    """A hint that has no JSON Schema; *problems* are (path below the parameter, what is wrong and what to use)."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{path}: {problem}" if path else problem for path, problem in problems))


@dataclass(frozen=True, slots=True)
class Hint:
    """A type hint: its JSON Schema, and how a value that fits the schema becomes what the hint says.

    *convert* raises ValueError, in words, for what a schema cannot say (a dataclass may refuse its own fields).
    """

    schema: Mapping[str, JSON]
    convert: Convert


_CAN: Final = "str, int, float, bool, Literal, an Enum, list[X], tuple[X, ...], dict[str, X], X | None or a dataclass"
_INSTEAD: Final[Mapping[str, str]] = {
    "list": "say of what: list[str]",
    "tuple": "say of what: tuple[str, ...]",
    "Sequence": "say of what: list[str]",
    "dict": "say of what: dict[str, float]; or use a dataclass",
    "Mapping": "say of what: dict[str, float]; or use a dataclass",
    "set": "use list[X]",
    "frozenset": "use list[X]",
    "bytes": "use str",
    "Path": "use str and make the path inside",
    "datetime": "use str (ISO 8601) and parse it inside",
    "date": "use str (ISO 8601) and parse it inside",
    "time": "use str (ISO 8601) and parse it inside",
    "timedelta": "use float, in seconds",
    "Decimal": "use float or str",
    "object": "use Any, or better say what it is",
}
_NULL: Final = {"type": "null"}


def read_hint(hint: object) -> Hint:
    """The schema and the conversion of *hint*. Raises CannotExpress with everything that cannot be said."""
    return _read(hint, ())


def optional_schema(schema: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """*schema* without null: for what is left out where it is None, which every model understands."""
    without: dict[str, JSON] = dict(schema)
    if isinstance(schema.get("type"), list):
        names = [name for name in schema["type"] if name != "null"]
        without["type"] = names[0] if len(names) == 1 else names
    if "enum" in schema:
        without["enum"] = [item for item in schema["enum"] if item is not None]
    if "anyOf" in schema:
        arms = [arm for arm in schema["anyOf"] if arm != _NULL]
        del without["anyOf"]
        without = {**arms[0], **without} if len(arms) == 1 else {**without, "anyOf": arms}
    return without


def _read(hint: Any, seen: tuple[object, ...]) -> Hint:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _marked(_read(args[0], seen), args[1:])
    if origin in (Required, NotRequired):
        return _read(args[0], seen)
    if origin in (typing.Union, types.UnionType):
        return _union([_read(arm, seen) for arm in args])
    if origin is Literal:
        return _choice({_literal(item): item for item in args})
    if origin in (list, Sequence) or (origin is tuple and len(args) == 2 and args[1] is Ellipsis):
        return _list(_read(args[0], seen), tuple if origin is tuple else list)
    if origin is tuple:
        raise CannotExpress(("", f"{hint_words(hint)} cannot be expressed: use tuple[X, ...] or a dataclass"))
    if origin in (dict, Mapping, MutableMapping):
        return _dict(hint, _read(args[1], seen), args[0])
    return _read_plain(hint, seen)


def _read_plain(hint: Any, seen: tuple[object, ...]) -> Hint:
    """A hint without brackets."""
    if hint is Any:
        return Hint({}, _as_it_is)
    if hint is None or hint is type(None):
        return Hint(_NULL, _as_it_is)
    if isinstance(hint, typing.NewType):
        return _read(hint.__supertype__, seen)
    if type(hint).__name__ == "TypeAliasType":
        return _read(hint.__value__, seen)
    if isinstance(hint, type):
        if hint in (str, bool):
            return Hint({"type": JSON_TYPES[hint]}, _as_it_is)
        if hint in (int, float):
            return Hint({"type": JSON_TYPES[hint]}, _whole if hint is int else _number)
        if issubclass(hint, Enum):
            return _enum(hint)
        if typing.is_typeddict(hint) or dataclasses.is_dataclass(hint):
            return _object(hint, seen)
    raise CannotExpress(("", f"{hint_words(hint)} cannot be expressed: {_instead(hint)}"))


def hint_words(hint: object) -> str:
    """*hint* as its author wrote it, nearly."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _instead(hint: object) -> str:
    name = getattr(hint, "__name__", "")
    return _INSTEAD.get(name, f"use {_CAN}")


def _as_it_is(value: JSON) -> object:
    return value


def _whole(value: JSON) -> object:
    return int(value)


def _number(value: JSON) -> object:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None


def _literal(item: object) -> JSON:
    if isinstance(item, Enum) or not (item is None or isinstance(item, (str, int))):
        raise CannotExpress(("", f"Literal[{item!r}] cannot be expressed: use texts, whole numbers, true or false"))
    return item


def _enum(cls: type[Enum]) -> Hint:
    members = {member.value: member for member in cls if _is_scalar(member.value)}
    if len(members) != len(cls) or not members:
        raise CannotExpress(("", f"{cls.__name__} cannot be expressed: the values of its members must be str or int"))
    return _choice(members)


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _choice(members: Mapping[JSON, object]) -> Hint:
    """One of the keys of *members*, which becomes its value."""
    kinds = list(dict.fromkeys(json_type(value) for value in members))

    def convert(value: JSON) -> object:
        if value not in members:
            raise ValueError(f"one of {', '.join(map(str, members))} is expected")
        return members[value]

    return Hint({"type": kinds[0] if len(kinds) == 1 else kinds, "enum": list(members)}, convert)


def _list(item: Hint, kind: type[list[object]] | type[tuple[object, ...]]) -> Hint:
    schema: dict[str, JSON] = {"type": "array", **({"items": item.schema} if item.schema else {})}
    return Hint(schema, lambda value: kind(item.convert(one) for one in value))


def _dict(hint: object, item: Hint, key: object) -> Hint:
    if key is not str:
        raise CannotExpress(("", f"{hint_words(hint)} cannot be expressed: the keys of a JSON object are str"))
    return Hint(
        {"type": "object", **({"additionalProperties": item.schema} if item.schema else {})},
        lambda value: {name: item.convert(one) for name, one in value.items()},
    )


def _object(cls: Any, seen: tuple[object, ...]) -> Hint:
    """A dataclass or a TypedDict."""
    if cls in seen:
        raise CannotExpress(("", f"{cls.__name__} holds itself, which cannot be expressed: limit it, or use str"))
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise CannotExpress(("", f"{cls.__name__}: {error.name!r} is not known in its module")) from None
    fields: list[tuple[str, object, bool, object]]
    if typing.is_typeddict(cls):
        fields = [(name, hint, _is_required_key(cls, name, hint), None) for name, hint in hints.items()]
    else:
        fields = [
            (field.name, hints[field.name], _must_be_given(field), field.default)
            for field in dataclasses.fields(cls)
            if field.init
        ]
    readers: dict[str, Hint] = {}
    problems: list[tuple[str, str]] = []
    for name, hint, is_required, default in fields:
        try:
            read = _read(hint, (*seen, cls))
            readers[name] = read if is_required else Hint(with_default(read.schema, default), read.convert)
        except CannotExpress as error:
            problems += [(f"{name}.{path}" if path else name, problem) for path, problem in error.problems]
    if problems:
        raise CannotExpress(*problems)

    def convert(value: JSON) -> object:
        return cls(**{name: readers[name].convert(item) for name, item in value.items()})

    schemas = {name: reader.schema for name, reader in readers.items()}
    return Hint(object_schema(schemas, [name for name, _, is_required, _ in fields if is_required]), convert)


def object_schema(properties: Mapping[str, JSON], required: Iterable[str]) -> dict[str, JSON]:
    """The schema of a closed object."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _is_required_key(cls: Any, name: str, hint: object) -> bool:
    """Whether a TypedDict demands *name*; itself it does not see what annotations in strings say of that."""
    origin = typing.get_origin(hint)
    return origin is Required or (origin is not NotRequired and name in cls.__required_keys__)


def _must_be_given(field: dataclasses.Field[object]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def with_default(schema: Mapping[str, JSON], default: object) -> Mapping[str, JSON]:
    """*schema* of something that may be left out and then is *default*. None is said by leaving it out."""
    if default is None:
        return optional_schema(schema)
    try:
        return {**schema, "default": plain_json(default)}
    except ValueError:
        return schema


def _union(arms: Sequence[Hint]) -> Hint:
    """One of several; which one is told by the JSON type of the value alone."""
    by_type: dict[str, Hint] = {}
    for arm in arms:
        names = arm.schema.get("type", ())
        for name in [names] if isinstance(names, str) else names or ["anything"]:
            if name in by_type or name == "anything":
                raise CannotExpress(
                    ("", f"a union in which JSON cannot tell the kinds apart ({name}): use one of them")
                )
            by_type[name] = arm
    if all(set(arm.schema) == {"type"} for arm in arms):
        schema: dict[str, JSON] = {"type": list(by_type)}
    else:
        schema = {"anyOf": [arm.schema for arm in arms]}

    def convert(value: JSON) -> object:
        name = json_type(value)
        arm = by_type.get(name) or by_type.get({"integer": "number", "number": "integer"}.get(name, ""))
        if arm is None:
            raise ValueError(f"{' or '.join(by_type)} is expected")
        return arm.convert(value)

    return Hint(schema, convert)


def _marked(hint: Hint, markers: Iterable[object]) -> Hint:
    """*hint* with what stands behind it in ``Annotated``."""
    schema, patterns = dict(hint.schema), list[str]()
    for marker in markers:
        if isinstance(marker, Matches):
            patterns.append(marker.regex)
        for key, value in _keywords(marker, _types_of(hint.schema)).items():
            schema[key] = value
    if not patterns:
        return Hint(schema, hint.convert)

    def convert(value: JSON) -> object:
        for pattern in patterns:
            if isinstance(value, str) and not re.fullmatch(pattern, value):
                raise ValueError(f"the whole text must match {pattern}")
        return hint.convert(value)

    return Hint(schema, convert)


def _types_of(schema: Mapping[str, JSON]) -> set[str]:
    names = schema.get("type", ())
    found = {names} if isinstance(names, str) else set(names)
    return found.union(*(_types_of(arm) for arm in schema.get("anyOf", ())))


def _keywords(marker: object, kinds: set[str]) -> dict[str, JSON]:
    """What *marker* adds to the schema of a value of *kinds*."""
    if isinstance(marker, str):
        return {"description": marker}
    if isinstance(marker, Matches):
        return _pattern(marker.regex, kinds)
    limits = _limits(marker)
    numbers = {_NUMBER_RULES[name]: value for name, value in limits.items() if name in _NUMBER_RULES}
    lengths = {name: value for name, value in limits.items() if name in ("min_length", "max_length")}
    if not limits:
        raise CannotExpress(
            ("", f"the mark {marker!r} is not known: use Between, Length, Matches or a text that describes")
        )
    if numbers and not kinds & {"integer", "number"}:
        raise CannotExpress(("", f"{marker!r} is for numbers"))
    if not lengths:
        return numbers
    nouns = [noun for kind, noun in _LENGTH_NOUNS.items() if kind in kinds]
    if not nouns:
        raise CannotExpress(("", f"{marker!r} is for texts, lists and dicts"))
    return {**numbers, **{f"{name[:3]}{noun}": value for name, value in lengths.items() for noun in nouns}}


_NUMBER_RULES: Final[Mapping[str, str]] = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_LENGTH_NOUNS: Final[Mapping[str, str]] = {"string": "Length", "array": "Items", "object": "Properties"}


def _limits(marker: object) -> dict[str, float]:
    """The limits of one of our own marks, or of one that names them as the package annotated_types does."""
    match marker:
        case Between(low, high):
            found = {"ge": low, "le": high}
        case Length(low, high):
            found = {"min_length": low, "max_length": high}
        case _:
            found = {name: getattr(marker, name, None) for name in (*_NUMBER_RULES, "min_length", "max_length")}
    return {name: value for name, value in found.items() if value is not None}


def _pattern(regex: str, kinds: set[str]) -> dict[str, JSON]:
    if "string" not in kinds:
        raise CannotExpress(("", f"Matches({regex!r}) is for texts"))
    try:
        re.compile(regex)
    except re.error as error:
        raise CannotExpress(("", f"Matches({regex!r}) is no regular expression: {error}")) from None
    return {"pattern": f"^(?:{regex})$" if "|" in regex else f"^{regex}$"}
