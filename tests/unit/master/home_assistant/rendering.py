"""Templates as Home Assistant evaluates them: Jinja, its filters that ours use, and an error for what it would log."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping

import jinja2
import jinja2.sandbox

_MISSING = object()


def rendered(template: object, payload: str, **variables: object) -> str:
    """What *template* makes of a message with *payload*. Raises jinja2.UndefinedError where it would warn."""
    values: dict[str, object] = {"value": payload, **variables}
    with contextlib.suppress(ValueError):
        values["value_json"] = json.loads(payload)
    return _ENVIRONMENT.from_string(str(template)).render(values).strip()


def _number(value: object, default: object = _MISSING) -> object:
    try:
        return float(str(value))
    except ValueError:
        if default is _MISSING:
            raise
        return default


def _whole(value: object, default: object = _MISSING, base: int = 10) -> object:
    try:
        return int(value, base) if isinstance(value, str) else int(str(value).removesuffix(".0"))
    except ValueError:
        if default is _MISSING:
            raise
        return default


def _rounded(value: object, precision: int = 0, method: str = "common") -> float:
    number = float(str(value))
    return float(math.ceil(number)) if method == "ceil" else round(number, precision)


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(float(str(value)))
    except ValueError:
        return False


class Attributes:
    """`this`: the entity's own state, with these *attributes*."""

    def __init__(self, **attributes: object) -> None:
        self.attributes: Mapping[str, object] = attributes


_ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
_ENVIRONMENT.filters |= {
    "float": _number,
    "int": _whole,
    "round": _rounded,
    "is_number": _is_number,
    "to_json": json.dumps,
}
