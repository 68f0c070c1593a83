"""Dataclasses to JSON and back, strictly; the golden vectors (tests/conformance) hold the messages themselves."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.errors import ErrorCode, PayloadTooLarge, ProtocolError, UnsupportedVersion
from pibot_mesh.protocol.codec import (
    JSON,
    MAX_DEPTH,
    MAX_PAYLOAD,
    Length,
    Pattern,
    Range,
    Rest,
    decode,
    dumps,
    encode,
    from_dict,
    loads,
    to_dict,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Inner:
    """An object inside another."""

    x: Annotated[int, Range(0, 9)] = 0


@dataclass(frozen=True, slots=True)
class Outer:
    """Every kind of field that a message can have."""

    word: Annotated[str, Pattern("[a-z]+", "small letters"), Length(1, 5)]
    flag: bool = False
    number: float = 0.0
    colour: Colour = Colour.RED
    choice: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None
    items: tuple[Inner, ...] = ()
    table: Mapping[str, Inner] = field(default_factory=dict)
    anything: JSON = None


@dataclass(frozen=True, slots=True)
class Flat:
    """Its other keys stand beside `id`."""

    id: str
    rest: Annotated[Mapping[str, float], Rest()] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fussy:
    """It has a rule of its own."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low: is above high")


def problems(cls: type, value: JSON) -> tuple[str, ...]:
    with pytest.raises(ProtocolError) as caught:
        from_dict(cls, value)
    return caught.value.problems


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"word": "ok", "flag": 1}, "flag: true or false is expected, not 1"),
        ({"word": "ok", "number": True}, "number: a number is expected, not True"),
        ({"word": "ok", "number": "1"}, "number: a number is expected, not '1'"),
        ({"word": "ok", "colour": "green"}, "colour: one of red, blue is expected, not 'green'"),
        ({"word": "ok", "choice": 1}, "choice: one of a, b is expected, not 1"),
        ({"word": "ok", "inner": []}, "inner: a JSON object is expected, not []"),
        ({"word": "ok", "inner": None}, "inner: a JSON object is expected, not None"),
        ({"word": "ok", "inner": {"x": 10}}, "inner.x: a number from 0 to 9 is expected, not 10"),
        ({"word": "ok", "inner": {"x": 1.5}}, "inner.x: a whole number is expected, not 1.5"),
        ({"word": "ok", "maybe": {"x": "y"}}, "maybe.x: a whole number is expected, not 'y'"),
        ({"word": "ok", "items": {}}, "items: a list is expected, not {}"),
        ({"word": "ok", "items": [{}, {"x": -1}]}, "items[1].x: a number from 0 to 9 is expected, not -1"),
        ({"word": "ok", "items": [5]}, "items[0]: a JSON object is expected, not 5"),
        ({"word": "ok", "table": []}, "table: a JSON object is expected, not []"),
        ({"word": "ok", "table": {"k": {"x": 11}}}, "table.k.x: a number from 0 to 9 is expected, not 11"),
        ({"word": "UP"}, "word: small letters is expected, not 'UP'"),
        ({"word": "toolong"}, "word: 1 to 5 characters or items are allowed, not 7"),
        ({}, "word: is missing"),
        ({"word": 5}, "word: text is expected, not 5"),
        ({"word": "A" * 100}, f"word: small letters is expected, not {'A' * 36!r}...".replace("'...", "...")),
        (5, "a JSON object is expected, not 5"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_place_and_the_reason(value: JSON, problem: str) -> None:
    """For people: what, where, and what was found instead."""
    assert problems(Outer, value) == (problem,)


def test_every_violation_is_named_and_the_text_says_the_first_ten() -> None:
    """A message can hold thousands."""
    with pytest.raises(ProtocolError) as caught:
        from_dict(Outer, {"items": [{"x": -1}] * 30})

    assert len(caught.value.problems) == 31
    assert str(caught.value).endswith("; and 21 more")
    assert str(caught.value).startswith("Outer: word: is missing; items[0].x: ")


def test_a_rule_of_the_message_itself_is_a_violation_too() -> None:
    """Where each field alone is right."""
    assert problems(Fussy, {"low": 2, "high": 1}) == ("low: is above high",)


def test_the_id_of_a_refused_message_is_kept_where_it_can_be_read() -> None:
    """So that its sender can be answered."""
    for value, known in (({"id": "a-1"}, "a-1"), ({"id": "a b"}, None), ({"id": 5}, None), ({}, None), ([], None)):
        with pytest.raises(ProtocolError) as caught:
            from_dict(Outer, value)
        assert caught.value.id == known


def test_unknown_keys_are_ignored() -> None:
    """So that old and new run side by side."""
    assert from_dict(Outer, {"word": "ok", "new": {"deep": [1]}, "inner": {"newer": 1}}) == Outer("ok")


def test_a_message_survives_the_wire_whole() -> None:
    """Every kind of field."""
    message = Outer("ok", True, 2.5, Colour.BLUE, "b", Inner(1), Inner(2), (Inner(3),), {"k": Inner(4)}, {"x": [None]})

    assert decode(Outer, encode(message)) == message


def test_what_is_left_empty_is_left_out() -> None:
    """A message costs no more than it says; what has a value is said."""
    assert encode(Outer("ok")) == b'{"v":1,"word":"ok","flag":false,"number":0.0,"colour":"red","choice":"a"}'
    assert to_dict(Outer("ok", inner=Inner(3), items=(Inner(),), table={"k": Inner()})).keys() >= {
        "inner",
        "items",
        "table",
    }


# The flat rest


def test_the_rest_stands_flat_beside_the_fields() -> None:
    """And comes back; the version is none of it."""
    message = Flat("a", {"load": 1.5, "rest": 2.0})

    assert encode(message) == b'{"v":1,"id":"a","load":1.5,"rest":2.0}'
    assert decode(Flat, encode(message)) == message


def test_the_rest_is_judged_too() -> None:
    """With the other violations."""
    assert problems(Flat, {"load": "high"}) == ("id: is missing", "load: a number is expected, not 'high'")


@pytest.mark.parametrize("key", ["v", "id"])
def test_a_key_of_the_rest_must_not_hide_a_field(key: str) -> None:
    """A sensor may not call its quantity `v`: it would be read as the protocol's version."""
    with pytest.raises(ProtocolError, match=f"{key}: is the name of a field"):
        encode(Flat("a", {key: 3.3}))


# Versions


@pytest.mark.parametrize("version", [2, 99, 10**30])
def test_a_later_version_is_refused_with_both_named(version: int) -> None:
    """And with what to do; its id is kept."""
    with pytest.raises(UnsupportedVersion, match=f"protocol {version} is later than 1, .*: update it") as caught:
        decode(Outer, json.dumps({"v": version, "id": "x"}).encode())

    assert (caught.value.code, caught.value.id) == (ErrorCode.UNSUPPORTED_VERSION, "x")


@pytest.mark.parametrize("version", ["1", 0, -1, True, None, 1.0, [1]])
def test_what_is_no_version_is_refused(version: JSON) -> None:
    """As ill-typed, not as later."""
    with pytest.raises(ProtocolError, match="v: a whole number from 1 is expected") as caught:
        decode(Outer, json.dumps({"v": version, "word": "ok"}).encode())

    assert caught.value.code == ErrorCode.BAD_REQUEST


def test_what_is_no_object_has_no_version() -> None:
    """It is refused for what it is."""
    with pytest.raises(ProtocolError, match="a JSON object is expected"):
        decode(Outer, b"[]")


# Strict JSON


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b'"\xe2\x82"', "not UTF-8 at byte 1"),
        (b"NaN", "NaN is not a number that JSON knows"),
        (b"-Infinity", "-Infinity is not a number"),
        (b"1e999", "1e999 is too large for a number"),
        (b'{"a":1,"a":2}', "the key 'a' stands twice"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udfff":1}', "half of a surrogate pair"),
        (b"[" * 30_000, "nested deeper than 32 levels"),
        (b"[" * 33 + b"]" * 33, "nested deeper than 32 levels"),
        (b"[" * 32 + b'{"a":1}' + b"]" * 32, "nested deeper than 32 levels"),
        (b"1" * 5000, "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
    ],
)
def test_what_is_not_strict_json_is_refused(payload: bytes, says: str) -> None:
    """By RFC 8259, with nothing that another reader could take otherwise."""
    with pytest.raises(ProtocolError, match=says):
        loads(payload)


@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
def test_32_levels_are_allowed(depth: int) -> None:
    """With a value, or nothing, in the innermost."""
    assert loads(b"[" * depth + b"]" * depth) is not None
    assert loads(b"[" * depth + b"1" + b"]" * depth) is not None


def test_sizes_are_named_where_one_is_too_large() -> None:
    """Both, in bytes; on the way in and on the way out."""
    assert loads(b'"' + b"x" * (MAX_PAYLOAD - 2) + b'"') == "x" * (MAX_PAYLOAD - 2)
    assert len(dumps("x" * (MAX_PAYLOAD - 2))) == MAX_PAYLOAD
    with pytest.raises(PayloadTooLarge, match="65537 bytes, at most 65536 are allowed"):
        loads(b'"' + b"x" * (MAX_PAYLOAD - 1) + b'"')
    with pytest.raises(PayloadTooLarge, match="65537 bytes, at most 65536 are allowed"):
        dumps("é" * 32767 + "x")


CIRCLE: list[JSON] = []
CIRCLE.append(CIRCLE)


def nested(depth: int) -> JSON:
    value: JSON = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, {1, 2}, b"x", "\ud800", {("a",): 1}, CIRCLE, nested(33), ((nested(31),),), nested(100_000)],
)
def test_what_a_reader_would_refuse_is_not_written(value: JSON) -> None:
    """Neither alone nor inside a message; whatever a tool gave."""
    with pytest.raises(ProtocolError):
        dumps(value)
    with pytest.raises(ProtocolError):
        encode(Outer("ok", anything=value))


def test_a_message_that_we_would_refuse_is_not_written() -> None:
    """The field is named."""
    with pytest.raises(ProtocolError, match="word: small letters is expected"):
        encode(Outer("UP"))


VALUES: st.SearchStrategy[JSON] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_is_written_is_read_back(value: JSON) -> None:
    """Any JSON value."""
    assert loads(dumps(value)) == value


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
def test_whatever_arrives_is_read_or_refused(payload: bytes) -> None:
    """Nothing else can happen."""
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode(Outer, payload), Outer)
