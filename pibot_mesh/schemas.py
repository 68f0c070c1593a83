"""A quick look at a value and its JSON Schema, which says "fits for certain" or "not known". Pure: no I/O.

Most calls and most files fit, and most schemas are plain. What is certain here needs no jsonschema, whose import alone
costs 4 MB, a tenth of what a node may use. Everything else, and every word on what does not fit, is left to that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

JSON: TypeAlias = Any
Schema: TypeAlias = Mapping[str, JSON]


def certainly_fits(value: JSON, schema: JSON) -> bool:
    """Whether *value* fits *schema* beyond doubt. False says nothing: look with jsonschema."""
    if not isinstance(schema, Mapping):
        return False
    return all(
        rule.startswith("x-") or (rule in _CHECKS and _CHECKS[rule](value, told, schema))
        for rule, told in schema.items()
    )


def _is_number(value: JSON) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, Callable[[JSON], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _type(value: JSON, told: JSON, _: Schema) -> bool:
    names = told if isinstance(told, list) else [told]
    return any(isinstance(name, str) and name in _TYPES and _TYPES[name](value) for name in names)


def _enum(value: JSON, told: JSON, _: Schema) -> bool:
    if not isinstance(told, list) or isinstance(
        value, (dict, list)
    ):  # in them, False and 0 would be the same to Python
        return False
    return any(type(value) is type(one) and value == one for one in told)


def _properties(value: JSON, told: JSON, _: Schema) -> bool:
    if not isinstance(value, dict):
        return True
    return isinstance(told, Mapping) and all(certainly_fits(value[key], told[key]) for key in value if key in told)


def _required(value: JSON, told: JSON, _: Schema) -> bool:
    return not isinstance(value, dict) or (isinstance(told, list) and all(key in value for key in told))


def _additional(value: JSON, told: JSON, schema: Schema) -> bool:
    if not isinstance(value, dict) or told is True:
        return True
    known = schema.get("properties", {})
    others = [value[key] for key in value if not (isinstance(known, Mapping) and key in known)]
    return not others if told is False else all(certainly_fits(other, told) for other in others)


def _items(value: JSON, told: JSON, _: Schema) -> bool:
    return not isinstance(value, list) or all(certainly_fits(item, told) for item in value)


def _names(value: JSON, told: JSON, _: Schema) -> bool:
    return not isinstance(value, dict) or all(certainly_fits(key, told) for key in value)


def _unique(value: JSON, told: JSON, _: Schema) -> bool:
    if not isinstance(value, list) or told is False:
        return True
    return all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


def _pattern(value: JSON, told: JSON, _: Schema) -> bool:
    try:
        return not isinstance(value, str) or re.search(told, value) is not None
    except (TypeError, re.error):
        return False


def _limit(
    size: Callable[[JSON], float | None], holds: Callable[[float, float], bool]
) -> Callable[[JSON, JSON, Schema], bool]:
    """A check of *size* of a value, where it has one, against the rule's number."""

    def check(value: JSON, told: JSON, _: Schema) -> bool:
        measured = size(value)
        return measured is None or (_is_number(told) and holds(measured, told))

    return check


def _number(value: JSON) -> float | None:
    return value if _is_number(value) else None


def _length_of(kind: type[str] | type[list[JSON]] | type[dict[str, JSON]]) -> Callable[[JSON], float | None]:
    return lambda value: len(value) if isinstance(value, kind) else None


def _says_nothing(value: JSON, told: JSON, schema: Schema) -> bool:  # noqa: ARG001 - the signature of a check
    return True


_CHECKS: Final[Mapping[str, Callable[[JSON, JSON, Schema], bool]]] = {
    **dict.fromkeys(("$schema", "title", "description", "default", "examples"), _says_nothing),
    "type": _type,
    "enum": _enum,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "items": _items,
    "uniqueItems": _unique,
    "pattern": _pattern,
    "minimum": _limit(_number, lambda size, limit: size >= limit),
    "maximum": _limit(_number, lambda size, limit: size <= limit),
    "exclusiveMinimum": _limit(_number, lambda size, limit: size > limit),
    "exclusiveMaximum": _limit(_number, lambda size, limit: size < limit),
    "minLength": _limit(_length_of(str), lambda size, limit: size >= limit),
    "maxLength": _limit(_length_of(str), lambda size, limit: size <= limit),
    "minProperties": _limit(_length_of(dict), lambda size, limit: size >= limit),
    "maxProperties": _limit(_length_of(dict), lambda size, limit: size <= limit),
    "minItems": _limit(_length_of(list), lambda size, limit: size >= limit),
    "maxItems": _limit(_length_of(list), lambda size, limit: size <= limit),
}
