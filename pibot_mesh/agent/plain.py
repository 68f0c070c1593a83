"""What Python values are as JSON. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Final

from pibot_mesh.protocol.codec import JSON, MAX_DEPTH

JSON_TYPES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
"""What JSON Schema calls the type of a value, by its Python type; the first that fits counts."""


def json_type(value: JSON) -> str:
    """What JSON Schema calls the type of *value*; a float is a ``number`` even where it is whole."""
    return next(name for kind, name in JSON_TYPES.items() if isinstance(value, kind))


def plain_json(value: object) -> JSON:
    """*value* as plain JSON: dataclasses and mappings as objects, enum members as their values, tuples as lists.

    Raises ValueError, with the path, for what JSON cannot say and for more than 32 levels of nesting.
    """
    return _plain(value, "", 0)


def _plain(value: object, path: str, depth: int) -> JSON:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Enum):
        return _plain(value.value, path, depth)
    if isinstance(value, str):
        return _text(str(value), path)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise ValueError(f"{path or 'it'} is {value}, which JSON cannot say")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {
            _key(key, path): _plain(item, f"{path}.{key}" if path else str(key), depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise ValueError(f"{path or 'it'} is of type {type(value).__name__}, which JSON cannot say")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{path or 'it'} has the key {key!r}: in JSON keys are text")
    return _text(str(key), path)


def _text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path or 'it'} holds half of a surrogate pair, which UTF-8 cannot carry") from None
    return text
