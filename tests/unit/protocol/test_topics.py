"""What the golden vectors do not say of topics: filters, and topics that cannot be built."""

from __future__ import annotations

import pytest

from pibot_mesh.errors import ConfigError
from pibot_mesh.protocol.topics import Address, Kind, Topics


def test_filters_take_one_node_or_all() -> None:
    """Ids and devices are always all."""
    topics = Topics("home/pibot")

    assert topics.filter(Kind.NODE_STATUS) == "home/pibot/node/+/status"
    assert topics.filter(Kind.OUTPUT_SET, node="n1") == "home/pibot/node/n1/out/+/set"
    assert topics.filter(Kind.TASK_RESULT) == "home/pibot/node/+/task/+/result"
    assert topics.filter(Kind.STOP) == "home/pibot/stop"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.NODE_TASK, {}),
        (Kind.NODE_TASK, {"node": "+"}),
        (Kind.NODE_TASK, {"node": "n1/x"}),
        (Kind.TASK_RESULT, {"node": "n1"}),
        (Kind.TASK_RESULT, {"node": "n1", "id": "#"}),
        (Kind.OUTPUT, {"node": "n1", "device": "Fan"}),
    ],
)
def test_a_topic_that_could_not_be_parsed_is_not_built(kind: Kind, fields: dict[str, str]) -> None:
    """A bug of the caller, said at once."""
    with pytest.raises(ValueError, match=f"is no topic of the form {kind.value}"):
        Topics().topic(kind, **fields)


def test_topics_of_one_kind_are_not_taken_for_another() -> None:
    """Each is parsed to exactly what built it."""
    topics = Topics()
    for kind in Kind:
        topic = topics.topic(kind, node="n1", id="i1", device="d1")
        address = topics.parse(topic)
        assert address is not None
        assert address.kind is kind
    assert topics.parse("pibot/stop") == Address(Kind.STOP)


def test_a_root_of_several_levels_is_good_and_a_bad_one_is_said() -> None:
    """With an example."""
    assert Topics("a/b/c").topic(Kind.STOP) == "a/b/c/stop"
    with pytest.raises(ConfigError, match=r"root topic 'a/\+': use plain levels such as 'pibot' or 'home/pibot'"):
        Topics("a/+")
