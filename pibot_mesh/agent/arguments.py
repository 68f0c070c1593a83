"""What a model wrote as the arguments of a call, checked. Pure: no I/O.

No tool is ever run with arguments that the model did not send: what cannot be read is refused, never mended.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pibot_mesh.agent.plain import json_type
from pibot_mesh.protocol.codec import JSON, MAX_DEPTH

if TYPE_CHECKING:
    from jsonschema import SchemaError, ValidationError
    from jsonschema.validators import Draft202012Validator

MAX_ARGUMENTS: Final = 1024 * 1024
"""Characters: longer arguments are refused before they are parsed."""
_SAID: Final = 10
"""Violations that are said of one call."""
_LONGEST: Final = 300
"""Characters of one violation: it quotes the value, which can be long."""
_WRAPPERS: Final = ("arguments", "parameters", "input")
_MAX_REFERENCES: Final = 16

Violations: TypeAlias = Callable[[Mapping[str, JSON]], list[str]]


class _Refused(Exception):
    """The text is not JSON as it should be; the message says why, and never holds the text."""


def read_arguments(
    raw: str, schema: Mapping[str, JSON], violations: Violations | None = None
) -> Mapping[str, JSON] | str:
    """The arguments in *raw*, JSON text as a model wrote it, or else in words what is wrong with it. Never raises.

    Nothing means no arguments. ``{"arguments": {...}}`` is unwrapped, and a value whose type does not fit is cast where
    the schema allows exactly what the cast gives without loss: ``"5"`` for a whole number, ``5`` for a text, JSON in a
    text for a list or an object; null for something that may be left out is left out. Everything else is refused, with
    all violations and the schema. *violations* checks by *schema* where the caller has a validator already.
    """
    try:
        given = _parse(raw, 0) if raw.strip() else {}
    except _Refused as error:
        return f"the arguments are no valid JSON: {error}. Nothing was run; send one JSON object"
    try:
        args = _Caster(schema).cast(_unwrapped(given, schema), schema)
        if not isinstance(args, dict):
            return f"the arguments must be one JSON object, not {_words(args)}. Nothing was run"
        problems = (violations or functools.partial(_violations, schema))(args)
    except Exception as error:  # noqa: BLE001 - a schema can be anybody's, and wrong in any way
        return f"the schema of this tool cannot be used ({type(error).__name__}: {error}). Nothing was run"
    if not problems:
        return args
    said = [*problems[:_SAID], *([f"and {len(problems) - _SAID} more"] if problems[_SAID:] else [])]
    shown = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return f"the arguments do not fit: {'; '.join(said)}. Nothing was run. The schema is {shown}"


def is_object(raw: str) -> bool:
    """Whether *raw* is the text of a JSON object, as `read_arguments` reads it."""
    try:
        return isinstance(_parse(raw, 0), dict)
    except _Refused:
        return False


def checked_validator(schema: Mapping[str, JSON]) -> Draft202012Validator:
    """The validator of *schema*, which fetches nothing from anywhere. Raises ValueError where it is no JSON Schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import Draft202012Validator
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise ValueError(f"its schema is no JSON Schema: {_sentence(error)}") from None
    nothing: Registry[Any] = Registry()
    return Draft202012Validator(dict(schema), registry=nothing)


def schema_violations(validator: Draft202012Validator, args: Mapping[str, JSON]) -> list[str]:
    """One sentence for each violation of a JSON Schema, with its path, in a stable order."""
    errors = sorted(
        validator.iter_errors(dict(args)), key=lambda error: (list(map(str, error.absolute_path)), error.message)
    )
    return [_sentence(error) for error in errors]


def _sentence(error: ValidationError | SchemaError) -> str:
    """Where, and what; of a long message the start, which quotes the value, and the end, which says what is wrong."""
    path, message, half = ".".join(map(str, error.absolute_path)), error.message, _LONGEST // 2
    if len(message) > _LONGEST:
        message = f"{message[:half]} ... {message[-half:]}"
    return f"{path}: {message}" if path else message


def _violations(schema: Mapping[str, JSON], args: Mapping[str, JSON]) -> list[str]:
    return schema_violations(checked_validator(schema), args)


def _parse(text: str, depth: int) -> JSON:
    """*text* as strict JSON of what depth is left below *depth*. Raises _Refused."""
    if len(text) > MAX_ARGUMENTS:
        raise _Refused(f"{len(text)} characters, and at most {MAX_ARGUMENTS} are read")
    try:
        value = json.loads(
            text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
        )
    except RecursionError:
        raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()):
            raise _Refused(f"the text ends too early, at line {error.lineno} column {error.colno}") from None
        fault = error.msg.removesuffix(" at")
        raise _Refused(f"{fault} at line {error.lineno} column {error.colno}") from None
    _check_tree(value, depth)
    return value


def _no_constant(name: str) -> float:
    raise _Refused(f"{name} is no number that JSON knows")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise _Refused("a number is too large")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _Refused("a number has too many digits") from None


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise _Refused("a key stands twice in one object")
    return result


def _check_tree(value: JSON, depth: int) -> None:
    level = [value]
    while level:
        below: list[JSON] = []
        for item in level:
            if isinstance(item, (dict, list)) and depth >= MAX_DEPTH:
                raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels")
            if isinstance(item, str) and not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
                raise _Refused("a text holds half of a surrogate pair")
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                below += item
        level, depth = below, depth + 1


def _unwrapped(given: JSON, schema: Mapping[str, JSON]) -> JSON:
    """What is inside of ``{"arguments": {...}}``, where *schema* knows of no such property and takes no others."""
    if not (isinstance(given, dict) and len(given) == 1):
        return given
    [(key, inner)] = given.items()
    is_open = schema.get("additionalProperties", False) is not False or "patternProperties" in schema
    if key not in _WRAPPERS or key in schema.get("properties", {}) or is_open:
        return given
    inner = _Caster({}).cast(inner, {"type": "object"})
    return inner if isinstance(inner, dict) else given


class _Caster:
    """Makes values fit where nothing is lost by it."""

    def __init__(self, root: Mapping[str, JSON]) -> None:
        self._root = root

    def cast(self, value: JSON, schema: JSON, depth: int = 0) -> JSON:
        """*value* as *schema* wants it, or as it is."""
        schema = self._resolved(schema)
        kinds = self._kinds(schema)
        if kinds is not None and not _fits(value, kinds):
            value = _as_one_of(value, kinds, depth)
        elif kinds is not None and isinstance(value, float) and "number" not in kinds:
            value = int(value)
        schema = self._arm(value, schema)
        if isinstance(value, dict):
            return self._object(value, schema, depth)
        if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
            return [self.cast(item, schema["items"], depth + 1) for item in value]
        return value

    def _object(self, value: dict[str, JSON], schema: Mapping[str, JSON], depth: int) -> dict[str, JSON]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        others = schema.get("additionalProperties", {})
        cast: dict[str, JSON] = {}
        for key, item in value.items():
            inner = self._resolved(properties.get(key, others))
            kinds = self._kinds(inner)
            if item is None and key in properties and key not in required and kinds and "null" not in kinds:
                continue
            cast[key] = self.cast(item, inner, depth + 1)
        return cast

    def _resolved(self, schema: JSON) -> Mapping[str, JSON]:
        """*schema*, or what it refers to within the root."""
        for _ in range(_MAX_REFERENCES):
            if not isinstance(schema, Mapping):
                return {}
            ref = schema.get("$ref")
            if not (isinstance(ref, str) and ref.startswith("#")):
                return schema
            schema = functools.reduce(_step, ref.split("/")[1:], self._root)
        return {}

    def _arms(self, schema: Mapping[str, JSON]) -> list[Mapping[str, JSON]]:
        return [self._resolved(arm) for arm in schema.get("anyOf") or schema.get("oneOf") or ()]

    def _arm(self, value: JSON, schema: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """The one alternative that *value* can be meant for, or *schema* itself."""
        arms = [arm for arm in self._arms(schema) if _fits(value, self._kinds(arm) or set())]
        return arms[0] if len(arms) == 1 else schema

    def _kinds(self, schema: Mapping[str, JSON], hops: int = 0) -> set[str] | None:
        """The JSON types that *schema* allows; None where it does not say."""
        if "type" in schema:
            return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
        if "const" in schema or "enum" in schema:
            return {_kind(item) for item in schema.get("enum", [schema.get("const")])}
        found: set[str] = set()
        for arm in self._arms(schema):
            kinds = self._kinds(arm, hops + 1) if hops < _MAX_REFERENCES else None
            if kinds is None:
                return None
            found |= kinds
        return found or None


def _step(schema: JSON, part: str) -> JSON:
    key = part.replace("~1", "/").replace("~0", "~")
    return schema.get(key) if isinstance(schema, Mapping) else None


def _kind(value: JSON) -> str:
    name = json_type(value)
    return "integer" if name == "number" and value.is_integer() else name


def _fits(value: JSON, kinds: set[str]) -> bool:
    name = _kind(value)
    return name in kinds or (name == "integer" and "number" in kinds)


def _as_one_of(value: JSON, kinds: set[str], depth: int) -> JSON:
    """*value*, which is none of *kinds*, as one of them; or as it is where that loses something."""
    if kinds <= {"string", "null"} and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        try:
            inner = _parse(value, depth)
        except _Refused:
            return value
        if _fits(inner, kinds):
            return int(inner) if isinstance(inner, float) and "number" not in kinds else inner
    return value


def _words(value: JSON) -> str:
    return {"null": "null", "array": "a list", "string": "a text", "boolean": "true or false"}.get(
        json_type(value), "a number"
    )
