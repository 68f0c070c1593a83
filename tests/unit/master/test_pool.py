"""Who is there, who can, and who is free."""

from __future__ import annotations

from dataclasses import replace

from pibot_mesh.master.pool import Pool
from pibot_mesh.protocol.messages import NodeCard
from tests.unit.master.play import card


def pool(*nodes: str) -> Pool:
    """Nodes that are online, each labelled with its name in capitals."""
    there = Pool()
    for node in nodes:
        there[node].is_online = True
        there[node].card = card(node, labels=(node.upper(),))
    return there


def test_a_node_can_be_given_tasks_once_it_is_online_and_has_shown_its_card() -> None:
    """Neither alone is enough."""
    there = pool("n2", "n1")
    there["n3"].is_online = True
    there["n4"].card = card("n4")

    assert list(there.online()) == ["n1", "n2"]
    assert there.offline() == ["n3", "n4"]


def test_a_tool_is_found_on_its_nodes_card() -> None:
    """Not where there is no card, no tool or no node; asking makes no member."""
    there = pool("n1")
    there["n2"].is_online = True

    found = there.tool("n1", "read")
    assert found is not None
    assert found.name == "read"
    assert there.tool("n1", "fly") is None
    assert there.tool("n2", "read") is None
    assert there.tool("n9", "read") is None
    assert "n9" not in there.members


def test_the_node_with_the_least_to_do_for_its_size_is_chosen() -> None:
    """Among equals the first by name."""
    there = pool("n1", "n2")
    assert there.choose("read", ()) == "n1"
    there["n1"].open_tasks["t1"] = None
    assert there.choose("read", ()) == "n2"
    there["n2"].open_tasks |= {"t2": None, "t3": None}
    assert there.choose("read", ()) == "n1"
    there["n2"].card = card("n2", running=100)
    assert there.choose("read", ()) == "n2"


def test_only_a_node_that_can_is_chosen() -> None:
    """It has the tool and all labels; its own name counts as one."""
    there = pool("n1", "n2")

    assert there.choose("read", ("N2",)) == "n2"
    assert there.choose(None, ("n2", "N2")) == "n2"
    assert there.choose("read", ("N1", "N2")) is None
    assert there.choose("fly", ()) is None


def test_an_instruction_goes_to_an_agent_that_has_all_its_tools() -> None:
    """The least busy of those; one that takes calls only is none."""
    there = pool("n1", "n2", "n3")
    for node, labels in (("n1", ("N1",)), ("n2", ("attic",)), ("n3", ("attic",))):
        there[node].card = replace(card(node, labels=labels), agent=node != "n1")
    there["n2"].open_tasks["t1"] = None

    assert there.choose(None, (), is_agent=True) == "n3"
    assert there.choose(None, (), tools=("read", "set"), is_agent=True) == "n3"
    assert there.choose(None, ("attic", "n2"), tools=("read",), is_agent=True) == "n2"
    assert there.choose(None, (), tools=("read", "fly"), is_agent=True) is None
    assert there.choose("read", (), tools=("set",)) == "n1"
    assert there.choose("fly", (), tools=("set",)) is None
    assert there.choose(None, ("N1",), is_agent=True) is None


def test_a_node_to_avoid_is_taken_only_where_there_is_no_other() -> None:
    """However much the other has to do."""
    there = pool("n1", "n2")
    there["n2"].open_tasks["t1"] = None

    assert there.choose("read", (), avoid="n1") == "n2"
    assert there.choose("read", ("N1",), avoid="n1") == "n1"


def test_a_node_has_room_for_as_much_as_its_card_says() -> None:
    """What was sent may be sent again; before it shows a card, nobody knows."""
    there = pool("n1")
    member = there["n1"]
    member.card = card("n1", running=1, queued=1)
    member.sent |= {"t1", "t2"}

    assert member.has_room_for("t1")
    assert not member.has_room_for("t3")
    member.let_go("t1")
    assert member.has_room_for("t3")
    assert there["n2"].has_room_for("t3")


def test_a_node_is_forgotten() -> None:
    """Twice is no error."""
    there = pool("n1")
    there.remove("n1")
    there.remove("n1")

    assert there.members == {}


def test_a_node_that_speaks_seldom_is_given_more_time() -> None:
    """Three of its own health periods, which its card tells (promise 6)."""
    member = Pool()["n1"]
    assert member.silence_s == 30

    member.card = NodeCard("n1", "b", "1", health_interval_s=60)

    assert member.silence_s == 180
