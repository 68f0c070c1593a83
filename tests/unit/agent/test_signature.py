"""Functions as tools: what type hints and docstrings become, and what comes back."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, NotRequired, TypedDict

import pytest

from pibot_mesh.agent.hints import Between, CannotExpress, Length, Matches, read_hint
from pibot_mesh.agent.signature import Signature, as_output, read_docstring, read_signature
from pibot_mesh.agent.tools import ToolContext, make_tool
from pibot_mesh.errors import ConfigError, ToolDefinitionError, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output


class Color(enum.Enum):
    """Texts."""

    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    """Numbers."""

    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    """What JSON cannot say."""

    PLACE = object()


class Empty(enum.Enum):
    """Nothing to choose from."""


@dataclass(frozen=True)
class Spot:
    """A place, with what may be left out."""

    x: Annotated[float, Between(0, 10)]
    y: int = 3
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    size: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        if self.x == self.y:
            raise ValueError("x and y must differ")


@dataclass
class Nested:
    """Holds another."""

    spot: Spot
    others: tuple[Spot, ...] = ()


@dataclass
class Itself:
    """Has no end."""

    inside: Itself | None = None


@dataclass
class Lost:
    """Names what is not there."""

    what: Missing  # type: ignore[name-defined]  # noqa: F821 - that is the point


@dataclass
class Wrong:
    """Holds what cannot be said, twice."""

    raw: bytes
    spot: Deeper


@dataclass
class Deeper:
    """One floor below."""

    at: datetime


class Options(TypedDict):
    """A dict with known keys."""

    speed: int
    label: NotRequired[str]


@dataclass(frozen=True)
class Ge:
    """A mark as the package annotated_types has them."""

    ge: float


@dataclass(frozen=True)
class Len:
    """Another one."""

    min_length: int
    max_length: int | None


Metres = NewType("Metres", float)


class TypeAliasType:
    """What ``type Name = ...`` makes from Python 3.12 on."""

    __value__ = int

    def __repr__(self) -> str:
        return "Name"  # the test's own name must not differ from run to run


def signature(function: Callable[..., object], **options: Any) -> Signature:
    """The signature of *function*, as a tool of the agent reads it."""
    return read_signature(function, context=ToolContext, **options)


def problems(function: Callable[..., object], **options: Any) -> list[str]:
    """What is wrong with *function*, without the place."""
    with pytest.raises(ToolDefinitionError) as caught:
        signature(function, **options)
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (Metres, {"type": "number"}),
        (TypeAliasType(), {"type": "integer"}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a", 1], {"type": ["string", "integer"], "enum": ["a", 1]}),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Level, {"type": "integer", "enum": [1, 2]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (list[Any], {"type": "array"}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Mapping[str, Any], {"type": "object"}),
        (str | None, {"type": ["string", "null"]}),
        (str | float | bool, {"type": ["string", "number", "boolean"]}),
        (
            Literal["auto"] | float,
            {"anyOf": [{"type": "string", "enum": ["auto"]}, {"type": "number"}]},
        ),
        (Annotated[int, Between(1, 5)], {"type": "integer", "minimum": 1, "maximum": 5}),
        (Annotated[float | None, Between(low=0)], {"type": ["number", "null"], "minimum": 0}),
        (Annotated[str, Length(1, 8)], {"type": "string", "minLength": 1, "maxLength": 8}),
        (
            Annotated[list[str], Length(high=3)],
            {"type": "array", "items": {"type": "string"}, "minItems": 0, "maxItems": 3},
        ),
        (
            Annotated[dict[str, int], Length(1)],
            {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
        ),
        (Annotated[str, Matches("[a-z]+"), "word"], {"type": "string", "pattern": "^[a-z]+$", "description": "word"}),
        (Annotated[str, Matches("a|b")], {"type": "string", "pattern": "^(?:a|b)$"}),
        (
            Annotated[Literal["auto"] | int, Between(low=1)],
            {"anyOf": [{"type": "string", "enum": ["auto"]}, {"type": "integer"}], "minimum": 1},
        ),
        (Annotated[int, Ge(2)], {"type": "integer", "minimum": 2}),
        (Annotated[str, Len(2, None)], {"type": "string", "minLength": 2}),
        (
            Spot,
            {
                "type": "object",
                "properties": {
                    "x": {"type": "number", "minimum": 0, "maximum": 10},
                    "y": {"type": "integer", "default": 3},
                    "name": {"type": "string"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["x"],
                "additionalProperties": False,
            },
        ),
        (
            Options,
            {
                "type": "object",
                "properties": {"speed": {"type": "integer"}, "label": {"type": "string"}},
                "required": ["speed"],
                "additionalProperties": False,
            },
        ),
    ],
    ids=str,
)
def test_hints_become_json_schema(hint: object, schema: Mapping[str, JSON]) -> None:
    """Scalars, choices, lists, objects, and limits on them."""
    assert read_hint(hint).schema == schema


@pytest.mark.parametrize(
    ("hint", "value", "becomes"),
    [
        (int, 5.0, 5),
        (float, 5, 5.0),
        (Color, "red", Color.RED),
        (Level, 2, Level.HIGH),
        (Literal["a", 1], 1, 1),
        (list[float], [1, 2], [1.0, 2.0]),
        (tuple[Color, ...], ["red"], (Color.RED,)),
        (dict[str, Level], {"a": 1}, {"a": Level.LOW}),
        (Color | None, None, None),
        (Color | None, "blue", Color.BLUE),
        (float | str, 3, 3.0),
        (float | str, "x", "x"),
        (int | str, 3.0, 3),
        (list[int] | None, [1.0], [1]),
        (Spot, {"x": 1}, Spot(1.0)),
        (Nested, {"spot": {"x": 1}, "others": [{"x": 2, "y": 4}]}, Nested(Spot(1.0), (Spot(2.0, 4),))),
        (Options, {"speed": 3.0}, {"speed": 3}),
        (Annotated[str, Matches("[a-z]+")], "abc", "abc"),
    ],
    ids=str,
)
def test_values_become_what_the_hints_say(hint: object, value: JSON, becomes: object) -> None:
    """In kind, not only in worth."""
    got = read_hint(hint).convert(value)

    assert (got, type(got)) == (becomes, type(becomes))
    if isinstance(got, list):
        assert [type(item) for item in got] == [type(item) for item in becomes]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (float, 10**400, "the number is too large"),
        (Spot, {"x": 3}, "x and y must differ"),
        (Color, "green", "one of red, blue is expected"),
        (str | None, 3, "string or null is expected"),
        (Annotated[str, Matches("[a-z]+")], "abc\n", r"the whole text must match \[a-z\]\+"),
    ],
    ids=str,
)
def test_what_a_schema_cannot_say_is_refused_all_the_same(hint: object, value: JSON, says: str) -> None:
    """A dataclass may refuse its fields; in Python's patterns the end is before a last newline."""
    with pytest.raises(ValueError, match=says):
        read_hint(hint).convert(value)


@pytest.mark.parametrize(
    ("hint", "says"),
    [
        (bytes, "bytes cannot be expressed: use str"),
        (Path, "Path cannot be expressed: use str and make the path inside"),
        (list, "list cannot be expressed: say of what: list[str]"),
        (set[int], "set[int] cannot be expressed: use list[X]"),
        (
            Callable[[], int],
            (
                "collections.abc.Callable[[], int] cannot be expressed: use str, int, float, bool, Literal, an Enum, "
                "list[X], tuple[X, ...], dict[str, X], X | None or a dataclass"
            ),
        ),
        (tuple[int, str], "tuple[int, str] cannot be expressed: use tuple[X, ...] or a dataclass"),
        (dict[int, str], "dict[int, str] cannot be expressed: the keys of a JSON object are str"),
        (Literal[b"a"], "Literal[b'a'] cannot be expressed: use texts, whole numbers, true or false"),
        (Odd, "Odd cannot be expressed: the values of its members must be str or int"),
        (Empty, "Empty cannot be expressed: the values of its members must be str or int"),
        (Itself, "inside: Itself holds itself, which cannot be expressed: limit it, or use str"),
        (Lost, "Lost: 'Missing' is not known in its module"),
        (
            Wrong,
            (
                "raw: bytes cannot be expressed: use str; "
                "spot.at: datetime cannot be expressed: use str (ISO 8601) and parse it inside"
            ),
        ),
        (str | Color, "a union in which JSON cannot tell the kinds apart (string): use one of them"),
        (list[int] | list[str], "a union in which JSON cannot tell the kinds apart (array): use one of them"),
        (Annotated[str, Between(1, 2)], "Between(low=1, high=2) is for numbers"),
        (Annotated[int, Length(1)], "Length(low=1, high=None) is for texts, lists and dicts"),
        (Annotated[int, Matches("a")], "Matches('a') is for texts"),
        (
            Annotated[str, Matches("(")],
            "Matches('(') is no regular expression: missing ), unterminated subpattern at position 0",
        ),
        (
            Annotated[int, 5],
            "the mark 5 is not known: use Between, Length, Matches or a text that describes",
        ),
    ],
    ids=str,
)
def test_a_hint_that_cannot_be_expressed_says_what_to_use(hint: object, says: str) -> None:
    """All of it at once, with the path below the parameter."""
    with pytest.raises(CannotExpress) as caught:
        read_hint(hint)
    assert str(caught.value) == says


def paint(
    color: Color,
    spots: list[Spot],
    mode: Literal["fast", "slow"] = "fast",
    who: str | float | None = None,
    until: Literal["dawn", None] = None,
    count: Annotated[int | None, "how many"] = 2,
    limit: float = math.inf,
    *,
    context: ToolContext,
) -> list[object]:
    """Paint it,
    all of it.

    The rest is for people.

    Args:
        color: The color
            to take.
        mode (str): How.

        count: Not this.
        context: For whom.

    Returns:
        who: What came.
    """
    return [color, spots, mode, who, until, count, limit, context]


def test_a_function_becomes_a_description_and_a_schema() -> None:
    """None as the default is said by leaving the parameter out; another default stands in the schema."""
    read = signature(paint)

    assert read.description == "Paint it, all of it."
    assert read.parameters == {
        "type": "object",
        "properties": {
            "color": {"type": "string", "enum": ["red", "blue"], "description": "The color to take."},
            "spots": {"type": "array", "items": read_hint(Spot).schema},
            "mode": {"type": "string", "enum": ["fast", "slow"], "description": "How.", "default": "fast"},
            "who": {"type": ["string", "number"]},
            "until": {"type": "string", "enum": ["dawn"]},
            "count": {"type": ["integer", "null"], "description": "how many", "default": 2},
            "limit": {"type": "number"},
        },
        "required": ["color", "spots"],
        "additionalProperties": False,
    }


def test_optional_alternatives_lose_only_their_null() -> None:
    """One that remains stands alone; several remain alternatives."""

    def choose(one: Literal["a"] | None = None, two: Literal["auto"] | float | None = None) -> None:
        """Choose."""

    assert signature(choose).parameters["properties"] == {
        "one": {"type": "string", "enum": ["a"]},
        "two": {"anyOf": [{"type": "string", "enum": ["auto"]}, {"type": "number"}]},
    }


def test_arguments_are_bound_to_the_function() -> None:
    """Converted; what is left out has the function's own default; the context goes to who asks for it."""
    context = ToolContext("t1")

    keywords = signature(paint).bind({"color": "blue", "spots": [{"x": 1}], "count": None}, context)

    assert paint(**keywords) == [Color.BLUE, [Spot(1.0)], "fast", None, None, None, math.inf, context]


def test_names_in_hints_may_be_of_the_function_around() -> None:
    """Where the function itself uses them."""
    most = 5

    def go(a: Annotated[int, Between(1, most)]) -> bool:
        """Go."""
        return a < most

    assert signature(go).parameters["properties"]["a"]["maximum"] == 5


def test_what_a_conversion_refuses_is_named() -> None:
    """As wrong arguments, all of them."""

    def go(a: Spot, b: float) -> None:
        """Go."""

    with pytest.raises(ToolError, match="a: x and y must differ; b: the number is too large") as caught:
        signature(go).bind({"a": {"x": 3}, "b": 10**400}, None)
    assert caught.value.code == "bad_arguments"


def test_a_function_that_cannot_be_a_tool_says_everything_that_is_wrong() -> None:
    """With file and line, and what to use instead."""

    def bad(a, /, b, c: bytes, d: Wrong, *e: int, f: Nope, g: math.no, **h: int):  # type: ignore  # noqa: F821
        pass

    line = bad.__code__.co_firstlineno
    with pytest.raises(ConfigError) as caught:
        signature(bad)

    where = f"{__file__}:{line}: function bad"
    assert sorted(caught.value.problems) == [
        f"{where}(a): is positional-only, and a model gives arguments by name: take the / away",
        f"{where}(b): has no type hint: write one, such as str or float",
        f"{where}(c): bytes cannot be expressed: use str",
        f"{where}(d.raw): bytes cannot be expressed: use str",
        f"{where}(d.spot.at): datetime cannot be expressed: use str (ISO 8601) and parse it inside",
        f"{where}(e): *args cannot be expressed: use a parameter of type list[X]",
        f"{where}(f): 'Nope' is not known in the function's module: import or define it there",
        f"{where}(g): math.no is no type hint: module 'math' has no attribute 'no'",
        f"{where}(h): **kwargs cannot be expressed: use a parameter of type dict[str, X]",
        f"{where}: has no docstring, and its first lines tell the model what the tool does: write one",
    ]


def test_only_functions_can_be_tools() -> None:
    """Not classes, nor objects that can be called, nor methods."""
    for odd in (Spot, len, "a".upper):
        with pytest.raises(ToolDefinitionError, match=r"is no function: write one with def or async def"):
            signature(odd)


def test_a_description_may_be_given_instead_of_a_docstring() -> None:
    """And goes before it."""

    def silent(a: int) -> None:
        pass

    assert signature(silent, description="Told.").description == "Told."
    assert signature(paint, description="Told.").description == "Told."


RAW = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}


def test_a_raw_schema_gives_the_values_as_they_are() -> None:
    """By name, or in one mapping; hints are not read then."""

    def by_name(a: bytes, b=1, *, for_whom: ToolContext) -> None:  # type: ignore[no-untyped-def]
        """By name."""

    def in_one(given: dict[str, Any], for_whom: ToolContext) -> None:
        """In one."""

    def any_name(**given: object) -> None:
        """Any."""

    assert signature(by_name, parameters=RAW).parameters == RAW
    assert signature(by_name, parameters=RAW).bind({"a": 1}, "c") == {"a": 1, "for_whom": "c"}
    assert signature(in_one, parameters=RAW).bind({"a": 1}, "c") == {"given": {"a": 1}, "for_whom": "c"}
    assert signature(any_name, parameters=RAW).bind({"a": 1}, "c") == {"a": 1}


def test_a_raw_schema_must_fit_its_function() -> None:
    """What could only fail when it is called fails now."""

    def other(a: int, /, c: int, *, e: int = 1) -> None:
        """Other."""

    def fine(a: int, b: int = 1) -> None:
        """Fine."""

    assert problems(other, parameters=RAW) == [
        "function other(a): is in the schema, and the function does not take it",
        "function other(b): is in the schema, and the function does not take it",
        "function other(a): is positional-only, and a model gives arguments by name: take the / away",
        "function other(c): has no default, and the schema does not require it",
    ]
    expected = "function fine: parameters: a JSON Schema with type: object (and its properties) is expected"
    assert problems(fine, parameters={"type": "string"})[0] == expected
    assert problems(fine, parameters={"type": "object", "properties": []})[0] == expected
    assert problems(fine, parameters={"type": "object", "x": {1}})[0] == (
        "function fine: parameters: x is of type set, which JSON cannot say"
    )


@pytest.mark.parametrize(
    ("text", "first", "told"),
    [
        ("", "", {}),
        ("One.", "One.", {}),
        ("One\ntwo.\n\nThree.", "One two.", {}),
        (
            "One.\n:param a: The a.\n:param int b: The b\n    goes on.\n:returns: x",
            "One.",
            {"a": "The a.", "b": "The b goes on."},
        ),
        (
            "One.\n\nArguments:\n  a: First\n  b (int, optional): Second\n    and more\n\nNotes:\n  c: No",
            "One.",
            {"a": "First", "b": "Second and more"},
        ),
        ("\nArgs:\n  a: No description.", "", {"a": "No description."}),
        ("One.\n\nArgs:\n  a: x\nNo more.\n  b: no", "One.", {"a": "x"}),
        ("One.\n\nArgs:\n  a:\n    Below.\n  what is this\n  b: y", "One.", {"a": "Below.", "b": "y"}),
    ],
)
def test_docstrings_are_read(text: str, first: str, told: Mapping[str, str]) -> None:
    """The first paragraph, an Args section, and :param: lines."""
    assert read_docstring(text) == (first, told)


def test_what_a_function_gives_becomes_an_output() -> None:
    """Text is text; anything that JSON can say is data."""
    assert as_output("hello") == Output("hello")
    assert as_output(None) == Output("")
    assert as_output(Output("x", {"a": (1, Color.RED)})) == Output("x", {"a": [1, "red"]})
    assert as_output({"a": Level.LOW, "b": [None, True, 1.5]}) == Output("", {"a": 1, "b": [None, True, 1.5]})
    assert as_output(Spot(1.0)) == Output("", {"x": 1.0, "y": 3, "name": None, "tags": [], "size": 1.0})
    assert as_output(0) == Output("", 0)


def deep() -> JSON:
    """Lists in lists, without end."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (object(), "it is of type object, which JSON cannot say"),
        ({"a": [1, b"x"]}, r"a\[1\] is of type bytes, which JSON cannot say"),
        ({"a": {"b": math.nan}}, r"a\.b is nan, which JSON cannot say"),
        ({"a": {2: 1}}, "a has the key 2: in JSON keys are text"),
        ({2: 1}, "it has the key 2"),
        (deep(), "nested deeper than 32 levels"),
        ("\udc80", "it holds half of a surrogate pair"),
        (["\udc80"], r"\[0\] holds half of a surrogate pair"),
        (Output("x", {1, 2}), "it is of type set"),
        (Spot, "it is of type type"),
    ],
)
def test_a_result_that_json_cannot_say_is_a_bug_in_words(result: object, says: str) -> None:
    """With the place."""
    with pytest.raises(TypeError, match=f"its result cannot be used: {says}"):
        as_output(result)


def test_what_is_defined_later_around_the_function_holds_nothing_up() -> None:
    """A function may use a name that its enclosing function gives a value afterwards."""

    def late(count: int) -> str:
        """Say it."""
        return word * count

    made = make_tool(late)
    word = "a"
    assert made.spec.parameters["required"] == ["count"]
    assert late(2) == "aa"
