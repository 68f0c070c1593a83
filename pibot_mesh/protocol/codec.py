"""Frozen dataclasses to JSON and back, strictly. Pure: no I/O.

A wire message is a frozen dataclass whose annotations are its schema: ``Annotated[str, Pattern(...)]``,
``tuple[Step, ...]``, ``Literal["call", "agent"]``, ``float | None`` and so on. Unknown keys are ignored, so that
old and new run side by side; anything else that does not fit is refused with every violation named.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pibot_mesh.errors import PayloadTooLarge, ProtocolError, UnsupportedVersion

MAX_PAYLOAD = 64 * 1024
"""Bytes: no message of the mesh is larger (protocol.md)."""
MAX_DEPTH = 32
"""Levels of nesting: deeper payloads are refused, since re-encoding them could exhaust the stack."""
VERSION = 1
"""The major version of the protocol that this program speaks."""

JSON: TypeAlias = Any
"""A decoded JSON value: None, bool, int, finite float, str, list or dict with str keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pattern:
    """The whole text must match *regex*; *says* describes it to a person."""

    regex: str
    says: str


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """A number from *low* to *high*, both included."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class Length:
    """Text of at least *low* and at most *high* characters, or as many items."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rest:
    """Marks the mapping that takes every key which no other field has; its keys stand flat on the wire."""


class _Bad(Exception):
    """Violations found below one value: (path, what is wrong)."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems


Reader: TypeAlias = Callable[[JSON], Any]


def loads(payload: bytes, what: str = "payload") -> JSON:
    """Parse strict JSON of at most 64 KiB.

    Raises ProtocolError for bytes that are not UTF-8, for anything that is not JSON by RFC 8259, and for NaN,
    infinities, duplicate keys, unpaired surrogates and more than 32 levels of nesting.
    """
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(what, [f"{len(payload)} bytes, at most {MAX_PAYLOAD} are allowed"])
    try:
        value = json.loads(
            payload.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
    except UnicodeDecodeError as error:
        raise ProtocolError(what, [f"not UTF-8 at byte {error.start}"]) from None
    except RecursionError:
        raise ProtocolError(what, [f"nested deeper than {MAX_DEPTH} levels"]) from None
    except ValueError as error:
        raise ProtocolError(what, [f"not valid JSON: {error}"]) from None
    _check_tree(value, what)
    return value


def dumps(value: JSON, what: str = "payload") -> bytes:
    """Compact JSON of at most 64 KiB. Raises ProtocolError for what `loads` would refuse, and PayloadTooLarge."""
    try:
        payload = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except RecursionError:
        raise ProtocolError(what, [f"nested deeper than {MAX_DEPTH} levels"]) from None
    except (TypeError, ValueError) as error:
        raise ProtocolError(what, [f"cannot be written as JSON: {error}"]) from None
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(what, [f"{len(payload)} bytes, at most {MAX_PAYLOAD} are allowed"])
    _check_tree(value, what)
    return payload


M = TypeVar("M")


def from_dict(cls: type[M], value: JSON) -> M:
    """Build the dataclass *cls* from a decoded JSON object. Raises ProtocolError with every violation."""
    try:
        return typing.cast(M, _reader(cls)(value))
    except _Bad as bad:
        raise ProtocolError(
            cls.__name__,
            [f"{path}: {problem}" if path else problem for path, problem in bad.problems],
            id=_known_id(value),
        ) from None


def to_dict(message: object) -> dict[str, JSON]:
    """The JSON object of a dataclass. Fields that are None, and optional lists and objects left empty, are left out.

    Raises ProtocolError where a key of the flat mapping (see `Rest`) has the name of a field.
    """
    cls: Any = type(message)
    rest = _rest_field(cls)
    result: dict[str, JSON] = {}
    for field in dataclasses.fields(message):  # type: ignore[arg-type]  # callers pass dataclass instances
        value = getattr(message, field.name)
        if value is None or (value == () and field.default == ()):
            continue
        if field.name == rest:
            taken = {"v", *(other.name for other in dataclasses.fields(cls))} - {rest}
            if problems := [f"{key}: is the name of a field" for key in value if key in taken]:
                raise ProtocolError(cls.__name__, problems)
            result.update(_plain(value))
        elif not (field.default_factory is not dataclasses.MISSING and value == field.default_factory()):
            result[field.name] = _plain(value)
    return result


def decode(cls: type[M], payload: bytes) -> M:
    """A message from its payload. Raises ProtocolError, also for a later protocol version (UnsupportedVersion)."""
    value = loads(payload, cls.__name__)
    if isinstance(value, dict):
        _check_version(cls.__name__, value)
    return from_dict(cls, value)


def encode(message: object) -> bytes:
    """A message as its payload, with the protocol version.

    Raises ProtocolError where we would refuse the message ourselves, and PayloadTooLarge over 64 KiB.
    """
    try:
        fields = to_dict(message)
    except RecursionError:
        raise ProtocolError(type(message).__name__, [f"nested deeper than {MAX_DEPTH} levels"]) from None
    from_dict(type(message), fields)
    return dumps({"v": VERSION, **fields}, type(message).__name__)


ID_PATTERN = r"[A-Za-z0-9_-]{1,64}"


def _known_id(value: JSON) -> str | None:
    """The id that a refused message named, if it is one, so that its sender can be answered."""
    known_id = value.get("id") if isinstance(value, dict) else None
    return known_id if isinstance(known_id, str) and re.fullmatch(ID_PATTERN, known_id) else None


def _check_version(what: str, value: dict[str, JSON]) -> None:
    version = value.get("v", VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ProtocolError(what, [f"v: a whole number from 1 is expected, not {_show(version)}"])
    if version > VERSION:
        raise UnsupportedVersion(
            what,
            [f"v: protocol {version} is later than {VERSION}, which this program speaks: update it"],
            id=_known_id(value),
        )


def _plain(value: object) -> JSON:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that JSON knows")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _unique_keys(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result: dict[str, JSON] = {}
    for key, item in pairs:
        if key in result:
            raise ValueError(f"the key {_show(key)} stands twice")
        result[key] = item
    return result


def _check_tree(value: JSON, what: str) -> None:
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        below: list[JSON] = []
        for item in level:
            if depth == MAX_DEPTH and isinstance(item, (dict, list, tuple)):
                raise ProtocolError(what, [f"nested deeper than {MAX_DEPTH} levels"])
            if isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
            elif isinstance(item, (list, tuple)):
                below.extend(item)
            elif isinstance(item, str) and not _encodable(item):
                raise ProtocolError(what, ["a text holds half of a surrogate pair, which UTF-8 cannot carry"])
        level = below


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _show(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _reader(hint: Any) -> Reader:
    """The function that reads a value of type *hint*, or raises _Bad."""
    return _build_reader(hint)


@functools.cache
def _build_reader(hint: Any) -> Reader:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        base, *rules = typing.get_args(hint)
        return _constrained(_reader(base), rules)
    if origin in (typing.Union, types.UnionType):
        [base] = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return functools.partial(_read_optional, _reader(base))
    if origin is Literal:
        return functools.partial(_read_choice, typing.get_args(hint))
    if origin is tuple:
        return functools.partial(_read_list, _reader(typing.get_args(hint)[0]))
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_read_mapping, _reader(typing.get_args(hint)[1]))
    if hint is JSON:
        return _read_anything
    if dataclasses.is_dataclass(hint):
        return _object_reader(hint)
    if issubclass(hint, Enum):
        return functools.partial(_read_choice, tuple(hint))
    return _SCALARS[hint]


@functools.cache
def _rest_field(cls: Any) -> str | None:
    """The name of the field marked Rest, if the dataclass has one."""
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        if typing.get_origin(hint) is Annotated and any(isinstance(rule, Rest) for rule in typing.get_args(hint)):
            return name
    return None


def _object_reader(cls: Any) -> Reader:
    hints = typing.get_type_hints(cls, include_extras=True)
    rest = _rest_field(cls)
    read_rest = _reader(hints[rest]) if rest else None
    fields = [field for field in dataclasses.fields(cls) if field.name != rest]
    names = {field.name for field in fields} | {"v"}
    readers = [
        (
            field.name,
            _reader(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in fields
    ]

    def read(value: JSON) -> Any:
        if not isinstance(value, dict):
            raise _Bad(("", f"a JSON object is expected, not {_show(value)}"))
        found: dict[str, Any] = {}
        problems: list[tuple[str, str]] = []
        for name, reader, required in readers:
            if name in value:
                try:
                    found[name] = reader(value[name])
                except _Bad as bad:
                    problems += [(_join(name, path), problem) for path, problem in bad.problems]
            elif required:
                problems.append((name, "is missing"))
        if rest and read_rest:
            try:
                found[rest] = read_rest({key: item for key, item in value.items() if key not in names})
            except _Bad as bad:
                problems += bad.problems
        if problems:
            raise _Bad(*problems)
        try:
            return cls(**found)
        except ValueError as error:
            raise _Bad(("", str(error))) from None

    return read


def _join(name: str, path: str) -> str:
    if not path:
        return name
    return f"{name}{path}" if path.startswith("[") else f"{name}.{path}"


def _read_optional(reader: Reader, value: JSON) -> Any:
    return None if value is None else reader(value)


def _read_choice(choices: tuple[Any, ...], value: JSON) -> Any:
    for choice in choices:
        if value == choice and isinstance(value, str):
            return choice
    raise _Bad(("", f"one of {', '.join(map(str, choices))} is expected, not {_show(value)}"))


def _read_list(reader: Reader, value: JSON) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _Bad(("", f"a list is expected, not {_show(value)}"))
    items: list[Any] = []
    problems: list[tuple[str, str]] = []
    for index, item in enumerate(value):
        try:
            items.append(reader(item))
        except _Bad as bad:
            problems += [(_join(f"[{index}]", path), problem) for path, problem in bad.problems]
    if problems:
        raise _Bad(*problems)
    return tuple(items)


def _read_mapping(reader: Reader, value: JSON) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Bad(("", f"a JSON object is expected, not {_show(value)}"))
    result: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for key, item in value.items():
        try:
            result[key] = reader(item)
        except _Bad as bad:
            problems += [(_join(key, path), problem) for path, problem in bad.problems]
    if problems:
        raise _Bad(*problems)
    return result


def _read_anything(value: JSON) -> JSON:
    return value


def _read_text(value: JSON) -> str:
    if not isinstance(value, str):
        raise _Bad(("", f"text is expected, not {_show(value)}"))
    return value


def _read_bool(value: JSON) -> bool:
    if not isinstance(value, bool):
        raise _Bad(("", f"true or false is expected, not {_show(value)}"))
    return value


def _read_int(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Bad(("", f"a whole number is expected, not {_show(value)}"))
    return value


def _read_float(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Bad(("", f"a number is expected, not {_show(value)}"))
    try:
        return float(value)
    except OverflowError:
        raise _Bad(("", f"{_show(value)} is too large")) from None


_SCALARS: dict[Any, Reader] = {str: _read_text, bool: _read_bool, int: _read_int, float: _read_float}


def _constrained(reader: Reader, rules: list[Any]) -> Reader:
    def read(value: JSON) -> Any:
        result = reader(value)
        for rule in rules:
            problem = _violation(rule, result)
            if problem:
                raise _Bad(("", problem))
        return result

    return read


def _violation(rule: Pattern | Range | Length | Rest, value: Any) -> str | None:
    match rule:
        case Pattern(regex, says) if not re.fullmatch(regex, value):
            return f"{says} is expected, not {_show(value)}"
        case Range(low, high) if not low <= value <= high:
            return f"a number from {low:g} to {high:g} is expected, not {_show(value)}"
        case Length(low, high) if not low <= len(value) <= high:
            return f"{low} to {high} characters or items are allowed, not {len(value)}"
    return None
