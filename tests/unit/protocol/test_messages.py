"""What the golden vectors do not say of the messages: what is written, and what they know of themselves."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.messages import (
    Condition,
    OutputSet,
    Request,
    State,
    Step,
    Task,
    decode_health,
    decode_output_set,
    decode_presence,
    decode_request,
    decode_stop,
    decode_value,
    encode_health,
    encode_output_set,
    encode_presence,
    encode_stop,
    encode_value,
)


def test_a_state_knows_whether_anything_can_follow() -> None:
    """Three are open, all others are ends."""
    assert {state for state in State if not state.is_terminal} == {
        State.SUBMITTED,
        State.WORKING,
        State.INPUT_REQUIRED,
    }


def test_a_condition_knows_the_step_that_it_looks_at() -> None:
    """The first part of its reference."""
    assert Condition("s12.values.temperature", "above", 28).step == "s12"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Task("t", "r", "call"), "tool: is missing"),
        (lambda: Step("s1", "agent"), "instruction: is missing"),
        (lambda: Condition("s1", "above"), "with one of them"),
        (lambda: Condition("s1", "above", 1, "1"), "with one of them"),
        (lambda: Condition("s1", "below", text="x"), "op: a text can be compared with equals or differs, not below"),
    ],
)
def test_a_message_that_makes_no_sense_cannot_be_made(make: object, says: str) -> None:
    """Not even in the program that makes it."""
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]  # each is a function without arguments


@pytest.mark.parametrize("is_so", [True, False])
def test_presence_and_stop_are_written_as_they_are_read(is_so: bool) -> None:
    """Plain words."""
    assert decode_presence(encode_presence(is_so)) is is_so
    assert decode_stop(encode_stop(is_so)) is is_so


@given(st.booleans() | st.floats(-1e6, 1e6).map(lambda number: float(f"{number:.6g}")))
def test_a_value_is_written_as_it_is_read(value: bool | float) -> None:
    """ON and OFF as well as numbers, alone and in an order."""
    assert decode_value(encode_value(value)) == value
    assert decode_output_set(encode_output_set(OutputSet(value))) == OutputSet(value)
    order = OutputSet(value, 2.5, "o1")
    assert decode_output_set(encode_output_set(order)) == order


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e15])
def test_a_value_that_is_no_number_is_not_written(value: float) -> None:
    """A reader would refuse it."""
    with pytest.raises(ProtocolError, match="ON, OFF, a color or a number"):
        encode_value(value)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_health_without_a_number_is_not_written(number: float) -> None:
    """A sensor that fails gives no `NaN`."""
    with pytest.raises(ProtocolError):
        encode_health({"load1": number})


def test_health_is_flat_numbers() -> None:
    """As whole numbers or fractions, always read as fractions."""
    assert decode_health(encode_health({"load1": 0.5, "running": 2})) == {"load1": 0.5, "running": 2.0}


@given(st.text(st.characters(codec="utf-8"), max_size=50).map(str.strip).filter(lambda text: text and text[0] != "{"))
def test_plain_text_is_a_request(text: str) -> None:
    """With the id that it is given."""
    if text.encode().lstrip()[:1] != b"{":
        assert decode_request(text.encode(), new_id="new") == Request("new", text)


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_request_or_refused(payload: bytes) -> None:
    """Nothing else can happen."""
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_request(payload, new_id="new"), Request)


def test_a_color_is_written_in_small_letters_and_nothing_else_is_one() -> None:
    """What is written is read again; a word that is no color is not written."""
    assert encode_value("#FF8800") == b"#ff8800"
    assert decode_value(encode_value("#0a0b0c")) == "#0a0b0c"
    with pytest.raises(ProtocolError, match="a color is '#' and six hexadecimal digits"):
        encode_value("red")
