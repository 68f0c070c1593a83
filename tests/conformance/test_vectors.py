"""The golden vectors: what must be taken, what it means, and what must be refused with which error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.errors import ConfigError, ProtocolError
from pibot_mesh.protocol import messages
from pibot_mesh.protocol.codec import decode, encode, to_dict
from pibot_mesh.protocol.topics import DELIVERY, Delivery, Kind, Topics

VECTORS = Path(__file__).parent / "vectors"
MESSAGES = sorted(path.stem for path in VECTORS.glob("[A-Z]*.json"))

PLAIN: dict[str, Callable[[bytes], Any]] = {
    "presence": messages.decode_presence,
    "stop": messages.decode_stop,
    "value": messages.decode_value,
    "output_set": lambda payload: to_dict(messages.decode_output_set(payload)),
    "health": messages.decode_health,
    "sensor": messages.decode_sensor,
    "request": lambda payload: {
        key: value
        for key, value in to_dict(messages.decode_request(payload, new_id="new")).items()
        if key in ("id", "text")
    },
}


def load(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


def rows(kind: str) -> list[Any]:
    return [
        pytest.param(name, row, id=f"{name}: {row['name']}") for name in MESSAGES for row in load(name).get(kind, [])
    ]


def plain_rows(kind: str) -> list[Any]:
    return [(name, row) for name, table in load("plain").items() for row in table[kind]]


def payload_of(row: dict[str, Any]) -> bytes:
    if "parts" in row:
        return "".join(text * count for text, count in row["parts"]).encode()
    return bytes.fromhex(row["hex"]) if "hex" in row else row["payload"].encode()


def test_there_is_a_file_for_every_message_of_the_protocol() -> None:
    """A new message class needs vectors too."""
    assert set(MESSAGES) == {
        *("Request", "Reply", "Plan", "Task", "Event", "Result", "Control", "NodeCard", "MasterInfo"),
        *("Cause", "NodeEvent", "LLMRequest", "LLMChunk", "RoutineState"),
        *("MasterState", "MasterEvent", "MasterControl"),
    }


@pytest.mark.parametrize(("name", "row"), rows("valid"))
def test_a_valid_message_means_what_the_vector_says(name: str, row: dict[str, Any]) -> None:
    """Read, written byte by byte as ever, and read again."""
    message = decode(getattr(messages, name), payload_of(row))

    assert encode(message).decode() == json.dumps(row["decoded"], ensure_ascii=False, separators=(",", ":"))
    assert decode(getattr(messages, name), json.dumps(row["decoded"]).encode()) == message


@pytest.mark.parametrize(("name", "row"), rows("invalid"))
def test_an_invalid_message_is_refused_with_its_code_and_field(name: str, row: dict[str, Any]) -> None:
    """And the id is kept where it could be read."""
    with pytest.raises(ProtocolError) as caught:
        decode(getattr(messages, name), payload_of(row))

    assert caught.value.code == row["code"]
    assert caught.value.id == row.get("id")
    if "path" in row:
        assert any(problem.startswith(f"{row['path']}:") for problem in caught.value.problems)


@pytest.mark.parametrize(("name", "row"), plain_rows("valid"))
def test_a_plain_payload_means_what_the_vector_says(name: str, row: list[Any]) -> None:
    """Presence, the emergency stop, values, orders, health, requests in plain text."""
    payload, meaning = row

    decoded = PLAIN[name](payload.encode())

    assert decoded == meaning
    assert type(decoded) is type(meaning)


@pytest.mark.parametrize(("name", "payload"), plain_rows("invalid"))
def test_any_other_plain_payload_is_refused(name: str, payload: str) -> None:
    """There is no toggle, and an empty payload is never a value."""
    with pytest.raises(ProtocolError):
        PLAIN[name](payload.encode())


@pytest.mark.parametrize("value", [True, False, 0.0, 42.0, 37.5, -3.0])
def test_values_are_written_as_they_are_read(value: bool | float) -> None:
    """ON, OFF, and numbers without needless digits."""
    assert messages.decode_value(messages.encode_value(value)) == value
    assert messages.decode_output_set(messages.encode_output_set(messages.OutputSet(value, 5.0, "x"))).value == value


@pytest.mark.parametrize("row", load("topics")["valid"], ids=lambda row: row["kind"])
def test_a_topic_is_built_and_parsed_as_the_vector_says(row: dict[str, Any]) -> None:
    """Both ways, under a root of two levels."""
    topics, fields = Topics(load("topics")["root"]), {key: row[key] for key in ("node", "id", "device") if key in row}

    address = topics.parse(row["topic"])

    assert address is not None
    assert address.kind is Kind[row["kind"]]
    assert {key: getattr(address, key) for key in fields} == fields
    assert topics.topic(Kind[row["kind"]], **fields) == row["topic"]
    assert DELIVERY[Kind[row["kind"]]] == Delivery(row["qos"], row["retained"])


@pytest.mark.parametrize("topic", load("topics")["invalid"])
def test_any_other_topic_is_none_of_ours(topic: str) -> None:
    """Bad ids, missing levels, another root."""
    assert Topics(load("topics")["root"]).parse(topic) is None


def test_there_is_a_vector_for_every_kind_of_topic() -> None:
    """A new kind needs vectors too."""
    assert {row["kind"] for row in load("topics")["valid"]} == {kind.name for kind in Kind}


@pytest.mark.parametrize("root", load("topics")["roots_invalid"])
def test_a_root_that_no_broker_would_take_is_refused(root: str) -> None:
    """With an example of a good one."""
    with pytest.raises(ConfigError, match="use plain levels such as 'pibot'"):
        Topics(root)


def test_replies_go_only_below_reply() -> None:
    """Nobody can have the master publish a task for them."""
    table = load("topics")
    topics = Topics(table["root"])

    assert [topic for topic in table["reply_topics"]["valid"] if not topics.is_reply_topic(topic)] == []
    assert [topic for topic in table["reply_topics"]["invalid"] if topics.is_reply_topic(topic)] == []
