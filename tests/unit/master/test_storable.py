"""What of a batch of effects is stored in a ledger that masters share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.master.events import CountUsage, MasterEffect, Note, Origin, Record, Save, SendEvent
from pibot_mesh.master.storable import Storable, as_text
from pibot_mesh.protocol.codec import from_dict
from pibot_mesh.protocol.messages import Event, Request, State, Usage

COUNT = CountUsage("n1", "r1", "m", Usage(1), 1000.0)


def record(name: str, state: State = State.SUBMITTED) -> Record:
    return Record(Request(name, "x"), Origin(), state)


def event(kind: str, seq: int = 0) -> Event:
    return Event("r1", kind, "b", seq)


def test_of_several_records_of_one_request_the_last_is_stored() -> None:
    """Of others, each its own."""
    batch = Storable.of([Save(record("r1")), Save(record("r2")), Save(record("r1", State.WORKING))])

    assert batch.records == {"r1": record("r1", State.WORKING), "r2": record("r2")}


def test_events_are_stored_in_their_order_but_for_the_pieces_of_an_answer() -> None:
    """These stand in its whole message."""
    kinds = ("task_accepted", "message_delta", "tool_start", "tool_update", "message_end")

    batch = Storable.of(SendEvent(event(kind, seq)) for seq, kind in enumerate(kinds))

    assert [told.seq for told in batch.events] == [0, 2, 4]


def test_each_use_is_counted() -> None:
    """Two equal ones too."""
    assert Storable.of([COUNT, COUNT]).counts == (COUNT, COUNT)


@pytest.mark.parametrize(
    ("effects", "is_anything"),
    [
        ([], False),
        ([Note("x"), SendEvent(event("message_delta"))], False),
        ([Save(record("r1"))], True),
        ([SendEvent(event("turn_start"))], True),
        ([COUNT], True),
    ],
)
def test_a_batch_is_true_where_there_is_anything_to_store(effects: list[MasterEffect], is_anything: bool) -> None:
    """Otherwise the database need not be asked."""
    assert bool(Storable.of(effects)) is is_anything


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_a_message_is_text_that_any_database_takes(text: str) -> None:
    """ASCII without NUL, whatever was said; and it comes back the same."""
    said = Record(Request("r1", text), Origin(), State.SUBMITTED)

    stored = as_text(said)

    assert stored.isascii()
    assert "\0" not in stored
    assert from_dict(Record, json.loads(stored)) == said
