"""What JSON Schema says about a value, in words for a person who writes YAML.

A schema may say what it expects in ``x-expects``; it is then shown instead of the bare rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from pibot_mesh.config.source import KeyPath, Problem, suggestion
from pibot_mesh.schemas import certainly_fits

if TYPE_CHECKING:
    from jsonschema import ValidationError

_TYPES: Final = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a section of 'key: value' lines",
    "null": "nothing",
}
_ELSEWHERE: Final = {
    "password": "a password does not belong here: put it into a file of its own (mode 0600) and name that in "
    "password_file, or set PIBOT_PASSWORD",
    "api_key": "a key does not belong here: set the provider's variable in the environment (VOLC_API_KEY, "
    "OPENAI_API_KEY, ...), or put it into a file of its own (mode 0600) and name that in api_key_file",
}
"""Keys that people will try, and what to do instead."""


def schema_problems(schema: Mapping[str, object], value: object, at: KeyPath = ()) -> list[Problem]:
    """Everything that *schema* has against *value*, which stands at *at*; in the order of the paths."""
    if certainly_fits(value, schema):
        return []
    from jsonschema.validators import Draft202012Validator

    problems: list[Problem] = []
    for error in Draft202012Validator(dict(schema)).iter_errors(value):
        path = (*at, *error.absolute_path)
        problems += _unknown_keys(error, path) if error.validator == "additionalProperties" else [_problem(error, path)]
    return sorted(problems, key=lambda problem: [(isinstance(key, int), key) for key in map(str, problem.path)])


def _unknown_keys(error: ValidationError, path: KeyPath) -> list[Problem]:
    known = tuple(_schema(error).get("properties", ()))
    return [
        Problem((*path, key), unknown_key(key, known))
        for key in cast(Mapping[str, object], error.instance)
        if key not in known
    ]


def unknown_key(key: str, known: Sequence[str]) -> str:
    """What to say of a key that is not *known*."""
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    return f"unknown key{suggestion(key, tuple(known)) or '; known are: ' + ', '.join(known)}"


def _problem(error: ValidationError, path: KeyPath) -> Problem:
    if error.validator == "required":
        missing = next(key for key in cast(list[str], error.validator_value) if error.message.startswith(repr(key)))
        return Problem((*path, missing), f"is missing: {_expected_of(error, missing)}")
    if "propertyNames" in error.absolute_schema_path:
        return Problem((*path, str(error.instance)), f"the name must be {_schema(error).get('x-expects', 'another')}")
    return Problem(path, _sentence(error))


def _schema(error: ValidationError) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], error.schema)


def _expected_of(error: ValidationError, key: str) -> str:
    schema = _schema(error).get("properties", {}).get(key, {})
    return f"add '{key}: ...' ({schema.get('x-expects') or type_words(schema.get('type', 'string'))})"


def _sentence(error: ValidationError) -> str:
    rule, shown = cast(Any, error.validator_value), show(error.instance)
    expects = _schema(error).get("x-expects")
    match error.validator:
        case "minimum" | "maximum" | "exclusiveMinimum":
            return f"{_range_words(_schema(error))} is expected, not {shown}"
        case "enum":
            return f"{_choice(rule)} is expected, not {shown}{suggestion(str(error.instance), tuple(map(str, rule)))}"
        case "type":
            return f"{expects or type_words(rule)} is expected, not {shown}{_quote_hint(rule, error.instance)}"
        case "uniqueItems":
            return "an entry stands twice: remove one"
        case "maxItems" | "maxLength":
            what = "entries" if error.validator == "maxItems" else "characters"
            return f"at most {rule} {what} are allowed, not {len(cast(str, error.instance))}"
        case "minLength" | "minItems":
            return "must not be empty"
        case _:
            return f"{expects or 'another value'} is expected, not {shown}"


def _range_words(schema: Mapping[str, object]) -> str:
    kind = "a whole number" if schema.get("type") == "integer" else "a number"
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    return f"{kind} from {low}" if low is not None else f"{kind} up to {high}"


def type_words(types: str | Sequence[str]) -> str:
    """JSON Schema's types in words: ``a whole number``, ``text or a number``."""
    names = [types] if isinstance(types, str) else list(types)
    return " or ".join(_TYPES[name] for name in names)


def _choice(options: Sequence[object]) -> str:
    words = [str(option) for option in options]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _quote_hint(types: str | Sequence[str], value: object) -> str:
    wants_text = "string" in ([types] if isinstance(types, str) else types)
    return " (put it in quotes)" if wants_text and isinstance(value, (bool, int, float)) else ""


def show(value: object) -> str:
    """*value* as a person wrote it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
