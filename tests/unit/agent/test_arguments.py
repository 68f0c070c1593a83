"""What a model wrote becomes arguments that fit, or words on why it does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pibot_mesh.agent.arguments import MAX_ARGUMENTS, checked_validator, read_arguments, schema_violations
from pibot_mesh.protocol.codec import JSON


def closed(*required: str, **properties: JSON) -> dict[str, JSON]:
    """The schema of an object with *properties* and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


INT, NUMBER, TEXT, FLAG = ({"type": name} for name in ("integer", "number", "string", "boolean"))
INTS = {"type": "array", "items": INT}
LAMP = closed("level", level={"type": "integer", "minimum": 0, "maximum": 100}, mode={"enum": ["soft", "hard"]})
ANY = {"type": "object"}


def refused(raw: str, schema: Mapping[str, JSON] = ANY) -> str:
    """Why *raw* was refused."""
    problem = read_arguments(raw, schema)
    assert isinstance(problem, str), problem
    return problem


@pytest.mark.parametrize("raw", ["", "  \n", "{}", " {} "])
def test_nothing_means_no_arguments(raw: str) -> None:
    """Models leave the text empty where there is nothing to say."""
    assert read_arguments(raw, closed()) == {}


def test_arguments_that_fit_come_as_they_are() -> None:
    """Nothing is added, and nothing is taken."""
    given_args = {"a": [1, 2.5, None, True, "5"], "b": {"c": "é"}}
    assert read_arguments(json.dumps(given_args), ANY) == given_args
    assert read_arguments(json.dumps(given_args, ensure_ascii=False), ANY) == given_args


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ('{"secret": }', "Expecting value at line 1 column 12"),
        ('{"secret": 1', "the text ends too early, at line 1 column 13"),
        ('{"secret": "', "Unterminated string starting at line 1 column 12"),
        ('{"secret": 1}\n{"secret": 2}', "Extra data at line 2 column 1"),
        ("secret", "Expecting value at line 1 column 1"),
        ("{'secret': 1}", "Expecting property name enclosed in double quotes at line 1 column 2"),
        ('{"secret": 1, "secret": 2}', "a key stands twice in one object"),
        ('{"a": {"secret": 1, "secret": 1}}', "a key stands twice in one object"),
        ('{"secret": NaN}', "NaN is no number that JSON knows"),
        ('{"secret": -Infinity}', "-Infinity is no number that JSON knows"),
        ('{"secret": 1e999}', "a number is too large"),
        ('{"secret": ' + "1" * 5000 + "}", "a number has too many digits"),
        ('{"secret": "\\ud800"}', "a text holds half of a surrogate pair"),
        ('{"\\udfff secret": 1}', "a text holds half of a surrogate pair"),
        ("[" * 33 + '"secret"' + "]" * 33, "it is nested deeper than 32 levels"),
        ("[" * 100_000 + '"secret"', "it is nested deeper than 32 levels"),
        ('"' + "secret" * MAX_ARGUMENTS + '"', "6291458 characters, and at most 1048576 are read"),
    ],
)
def test_malformed_json_is_refused_and_never_echoed(raw: str, says: str) -> None:
    """Where the fault is, but not what it is: models copy what they read."""
    problem = refused(raw)
    assert problem == f"the arguments are no valid JSON: {says}. Nothing was run; send one JSON object"
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        ("null", "null"),
        ("[1]", "a list"),
        ('"x"', "a text"),
        ("true", "true or false"),
        ("5", "a number"),
        ("5.5", "a number"),
    ],
)
def test_only_an_object_can_be_arguments(raw: str, what: str) -> None:
    """Anything else has no names."""
    assert refused(raw) == f"the arguments must be one JSON object, not {what}. Nothing was run"


def test_all_violations_are_named_and_the_schema_once() -> None:
    """In one message that a model can act on."""
    assert refused('{"level": 200, "mode": "loud", "x": 1}', LAMP) == (
        "the arguments do not fit: Additional properties are not allowed ('x' was unexpected); "
        "level: 200 is greater than the maximum of 100; mode: 'loud' is not one of ['soft', 'hard']. "
        'Nothing was run. The schema is {"type":"object","properties":{"level":{"type":"integer","minimum":0,'
        '"maximum":100},"mode":{"enum":["soft","hard"]}},"required":["level"],"additionalProperties":false}'
    )


def test_a_message_has_an_end() -> None:
    """However many violations there are, and however long the values."""
    many = refused(json.dumps({"a": ["x"] * 1000}), closed(a=INTS))
    assert "a.0: 'x' is not of type 'integer'" in many
    assert "and 990 more. Nothing was run" in many
    assert len(many) < 2000

    long = refused(json.dumps({"a": "x" * 100_000}), closed(a={"type": "string", "maxLength": 5}))
    assert "xxx ... xxx" in long
    assert "is too long" in long
    assert len(long) < 1000


@pytest.mark.parametrize(
    ("schema", "value", "becomes"),
    [
        (INT, "5", 5),
        (INT, "-5", -5),
        (INT, 5.0, 5),
        (INT, "5.0", 5),
        (NUMBER, "2.5", 2.5),
        (NUMBER, "2", 2),
        (NUMBER, 2.0, 2.0),
        (FLAG, "true", True),
        (FLAG, "false", False),
        (TEXT, 5, "5"),
        ({"type": ["string", "null"]}, 5, "5"),
        ({"enum": ["1", "2"]}, 1, "1"),
        ({"enum": [1, 2]}, "2", 2),
        ({"const": 1}, "1", 1),
        (INTS, "[1, 2]", [1, 2]),
        (INTS, '["1", 2.0]', [1, 2]),
        (INTS, ["1"], [1]),
        ({"type": "array"}, ["1"], ["1"]),
        (closed(n=INT), '{"n": "1"}', {"n": 1}),
        (closed(n=INT), {"n": None}, {}),
        ({"type": "object", "additionalProperties": INT}, {"a": "1"}, {"a": 1}),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": ["integer", "boolean"]}, "true", True),
        ({"anyOf": [INT, {"type": "null"}]}, "5", 5),
        ({"anyOf": [INTS, {"type": "null"}]}, ["5"], [5]),
        ({"oneOf": [closed(n=INT), INT]}, {"n": "5"}, {"n": 5}),
        ({"$ref": "#/$defs/count"}, "5", 5),
        ({"type": "array", "items": {"$ref": "#/$defs/count"}}, ["5"], [5]),
        ({"anyOf": [{"$ref": "#/$defs/count"}, {"type": "null"}]}, "5", 5),
    ],
    ids=str,
)
def test_safe_casts_are_made(schema: JSON, value: JSON, becomes: JSON) -> None:
    """Where the type does not fit, and the schema allows exactly what comes out, without loss; at any depth."""
    whole = {**closed("v", v=schema), "$defs": {"count": INT}}
    args = read_arguments(json.dumps({"v": value}), whole)

    assert args == {"v": becomes}
    assert isinstance(args, dict)
    assert type(args["v"]) is type(becomes)
    assert json.dumps(args) == json.dumps({"v": becomes})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (INT, "5.5"),
        (INT, "05"),
        (INT, "five"),
        (INT, "1e999"),
        (INT, 5.5),
        (INT, True),
        (INT, [5]),
        (INT, None),
        (FLAG, "True"),
        (FLAG, "yes"),
        (FLAG, 1),
        (TEXT, 1.10),
        (TEXT, True),
        (TEXT, None),
        (TEXT, [1]),
        (INTS, "1"),
        (INTS, 1),
        (INTS, "[1,"),
        (INTS, {"a": 1}),
        (closed(n=INT), '{"n": 1, "n": 2}'),
        ({"$ref": "#/$defs/loop"}, "5"),
    ],
    ids=str,
)
def test_nothing_else_is_cast(schema: JSON, value: JSON) -> None:
    """It is refused, as it was sent."""
    whole = {**closed("v", v=schema), "$defs": {"loop": {"$ref": "#/$defs/loop"}}}
    assert isinstance(read_arguments(json.dumps({"v": value}), whole), str)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "5"),
        (TEXT, "5"),
        (TEXT, "[1]"),
        ({"type": ["string", "integer"]}, "5"),
        ({"anyOf": [TEXT, INT]}, "5"),
        ({"anyOf": [{}, INT]}, "5"),
        ({"type": ["integer", "string"]}, 5),
        ({"type": ["integer", "null"]}, None),
        ({"anyOf": [closed(n=INT), closed(n=TEXT)]}, {"n": "5"}),
        (True, "5"),
        ({"$ref": "#/$defs/nothing~1~0"}, "5"),
        ({"anyOf": []}, "5"),
    ],
    ids=str,
)
def test_what_fits_is_not_touched(schema: JSON, value: JSON) -> None:
    """Also where the schema does not say what it wants."""
    whole = {**closed("v", v=schema), "$defs": {"nothing/~": {}}}
    assert read_arguments(json.dumps({"v": value}), whole, lambda _: []) == {"v": value}


def test_null_is_left_out_only_where_that_says_the_same() -> None:
    """Not where it is required, allowed, or of a property that the schema does not know."""
    schema = closed("must", must=INT, may=INT, null={"type": ["integer", "null"]}, any={})
    raw = json.dumps({"must": 1, "may": None, "null": None, "any": None})
    assert read_arguments(raw, schema) == {"must": 1, "null": None, "any": None}
    assert "'other' was unexpected" in refused('{"must": 1, "other": null}', schema)
    assert "must: None is not of type 'integer'" in refused('{"must": null}', schema)


@pytest.mark.parametrize("wrapper", ["arguments", "parameters", "input"])
@pytest.mark.parametrize("inner", ['{"level": "5"}', '"{\\"level\\": 5}"'])
def test_wrapped_arguments_are_unwrapped(wrapper: str, inner: str) -> None:
    """Some models write the call into the call."""
    assert read_arguments(f'{{"{wrapper}": {inner}}}', LAMP) == {"level": 5}


@pytest.mark.parametrize(
    ("raw", "schema"),
    [
        ('{"input": {"level": 5}}', closed(input=ANY)),
        ('{"input": {"level": 5}}', {"type": "object", "additionalProperties": True}),
        ('{"input": {"level": 5}}', {"type": "object", "patternProperties": {"i": ANY}}),
    ],
)
def test_a_wrapper_that_the_schema_allows_is_an_argument(raw: str, schema: Mapping[str, JSON]) -> None:
    """It may be meant."""
    assert read_arguments(raw, schema) == {"input": {"level": 5}}


@pytest.mark.parametrize(
    "raw",
    [
        '{"input": {"level": 5}, "x": 1}',
        '{"input": 5}',
        '{"input": "level"}',
        '{"args": {"level": 5}}',
        '{"input": {"input": {"level": 5}}}',
    ],
)
def test_only_a_lone_wrapper_with_an_object_is_unwrapped(raw: str) -> None:
    """Once."""
    assert "'level' is a required property" in refused(raw, LAMP)


def test_arguments_written_as_a_text_are_read() -> None:
    """JSON in JSON."""
    assert read_arguments(json.dumps('{"level": 5}'), LAMP) == {"level": 5}


def test_depth_is_limited_through_texts_too() -> None:
    """A text in the twentieth list may hold twelve levels, and no more."""

    def nested(levels: int) -> tuple[JSON, JSON]:
        schema: JSON = INT
        for _ in range(levels):
            schema = {"type": "array", "items": schema}
        value: JSON = "[" * (levels - 20) + "1" + "]" * (levels - 20)
        for _ in range(20):
            value = [value]
        return closed(v=schema), value

    schema, value = nested(31)
    assert isinstance(read_arguments(json.dumps({"v": value}), schema), dict)
    schema, value = nested(32)
    assert isinstance(read_arguments(json.dumps({"v": value}), schema), str)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"type": "object", "properties": 5},
        {"type": "object", "properties": {"level": {"$ref": "#/nowhere"}}},
        {"type": "object", "properties": {"level": {"$ref": "https://example.org/x.json"}}},
        {"type": "object", "properties": {"level": {"pattern": "("}}},
        {"type": "object", "properties": {"level": {"type": 5}}},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_used_is_told(schema: Mapping[str, JSON]) -> None:
    """Nothing is fetched, nothing is raised, nothing is run."""
    problem = refused('{"level": "x"}', schema)
    assert problem.startswith("the schema of this tool cannot be used (")
    assert problem.endswith("Nothing was run")


def test_a_validator_is_made_only_of_a_schema() -> None:
    """The words say where it is wrong."""
    with pytest.raises(ValueError, match=r"its schema is no JSON Schema: properties\.a\.minimum: '5' is not of type"):
        checked_validator(closed(a={"minimum": "5"}))
    assert schema_violations(checked_validator(LAMP), {"level": 1}) == []


def test_a_callers_own_check_is_used() -> None:
    """It gets what was cast."""
    seen: list[Mapping[str, Any]] = []

    def check(args: Mapping[str, JSON]) -> list[str]:
        seen.append(args)
        return ["no"]

    assert "the arguments do not fit: no." in str(read_arguments('{"level": "5"}', LAMP, check))
    assert seen == [{"level": 5}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(args=st.dictionaries(st.text(), json_values, max_size=4), cut=st.integers(0, 80), junk=st.text(max_size=3))
def test_whatever_is_damaged_is_refused_or_read_as_it_stands(args: dict[str, JSON], cut: int, junk: str) -> None:
    """No tool is ever run with arguments that the model did not send; and nothing is raised."""
    whole = json.dumps(args)
    assert read_arguments(whole, {}) == args
    raw = whole[:cut] + junk + whole[cut + 1 :]
    got = read_arguments(raw, {})
    if isinstance(got, dict) and raw.strip():
        assert got == json.loads(raw)
