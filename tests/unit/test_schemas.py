"""What fits for certain, without jsonschema."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator

from pibot_mesh.protocol.codec import JSON
from pibot_mesh.schemas import certainly_fits

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
NUMBERS = st.integers(-2, 3) | st.floats(-2, 3)
RULES = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "exclusiveMinimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "minLength": st.integers(0, 3),
    "maxLength": st.integers(0, 3),
    "minItems": st.integers(0, 3),
    "maxItems": st.integers(0, 3),
    "minProperties": st.integers(0, 2),
    "maxProperties": st.integers(0, 2),
    "uniqueItems": st.booleans(),
    "propertyNames": st.sampled_from([{"pattern": "^[ab]$"}, {"maxLength": 0}]),
    "x-expects": st.just("something"),
    "pattern": st.sampled_from(["^a", "b$", "[0-9]"]),
    "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    "description": st.just("what it is"),
    "not": st.just({"type": "string"}),
    "anyOf": st.just([{"type": "string"}]),
}
SCHEMAS = st.recursive(
    st.fixed_dictionaries({}, optional=RULES),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **RULES,
            "items": inner,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "additionalProperties": st.booleans() | inner,
        },
    ),
    max_leaves=5,
)


@given(VALUES, SCHEMAS)
@settings(max_examples=400, deadline=None)
def test_what_is_certain_is_what_jsonschema_says(value: JSON, schema: JSON) -> None:
    """Never the other way round: a value that does not fit is never certain."""
    if certainly_fits(value, schema):
        assert list(Draft202012Validator(schema).iter_errors(value)) == []


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"a": 1}, {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        ({}, {"type": "object", "properties": {}, "additionalProperties": False}),
        ({"x": "y"}, {"additionalProperties": {"type": "string"}}),
        ("ON", {"type": ["string", "number"], "pattern": "^(ON|OFF)$", "minimum": 0, "maximum": 100}),
        (40, {"type": ["string", "number"], "pattern": "^(ON|OFF)$", "minimum": 0, "maximum": 100}),
        (["a", "b"], {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}),
        (0.5, {"exclusiveMinimum": 0, "exclusiveMaximum": 1, "title": "share", "default": 0.1}),
        ("abc", {"minLength": 3, "maxLength": 3}),
        (None, {"type": ["null", "string"]}),
        (["a", "b"], {"uniqueItems": True, "x-expects": "words"}),
        ([1, 1], {"uniqueItems": False}),
        ({"a": 1}, {"propertyNames": {"pattern": "^[a-z]$"}, "minProperties": 1, "maxProperties": 1}),
    ],
)
def test_plain_calls_are_certain(value: JSON, schema: JSON) -> None:
    """Or nothing would be won."""
    assert certainly_fits(value, schema)


@pytest.mark.parametrize(("value", "choice"), [({"c": 0}, {"c": False}), ([1], [True]), ({"a": 1}, {"a": 1})])
def test_what_holds_others_is_never_certain_to_be_one_of_the_choices(value: JSON, choice: JSON) -> None:
    """To Python, False and 0 in it would be the same."""
    assert not certainly_fits(value, {"enum": [choice]})


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "strng"},
        {"type": 5},
        {"type": [{}]},
        {"enum": 5},
        {"enum": [True]},
        {"minimum": "0"},
        {"pattern": 5},
        {"pattern": "("},
        {"properties": []},
        {"required": 5},
        {"required": ["z"]},
        {"propertyNames": {"minLength": 2}},
        {"maxProperties": 0},
        {"unheard": 1},
        {"properties": {"n": True}},
        {"additionalProperties": False, "properties": 5},
    ],
)
def test_what_is_odd_is_never_certain(schema: JSON) -> None:
    """Not even where it would fit: jsonschema shall say what it thinks of it."""
    assert not (certainly_fits({"n": 1}, schema) and certainly_fits(1, schema) and certainly_fits("a", schema))


def test_a_call_that_fits_loads_no_jsonschema() -> None:
    """In a process of its own."""
    program = """
import asyncio, sys
from pibot_mesh.agent.tools import ToolRegistry
registry = ToolRegistry()
@registry.tool
def add(a: int, b: int = 0) -> str:
    "Add."
    return str(a + b)
assert registry.read_arguments("add", '{"a": 1}') == {"a": 1}
assert "jsonschema" not in sys.modules
assert "required property" in registry.read_arguments("add", "{}")
assert "jsonschema" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("items", [["a", "a"], [1, 1], [{}, {}]])
def test_what_may_stand_twice_is_not_certain(items: JSON) -> None:
    """Numbers and objects have an equality of their own in JSON."""
    assert not certainly_fits(items, {"uniqueItems": True})


def test_odd_schemas_are_still_named_as_such() -> None:
    """The test above relies on it."""
    with pytest.raises(SchemaError):
        Draft202012Validator.check_schema({"type": "strng"})
