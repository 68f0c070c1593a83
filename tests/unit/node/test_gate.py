"""What of a node's orders is let in, held or left, as the broker shows whose the id is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt.client import Message
from pibot_mesh.node import namesake
from pibot_mesh.node.events import MasterSeen, NodeInput, TaskArrived
from pibot_mesh.node.gate import Gate
from pibot_mesh.protocol.messages import NodeCard
from tests.brokers import until
from tests.unit.node.play import task

ORDER = Message("pibot/node/n1/task", b"{}", qos=1)


class Watched:
    """A gate, and what it did."""

    def __init__(self, *earlier: str) -> None:
        self.entered = 0
        self.let_in: list[NodeInput] = []
        self.left: list[Message] = []
        self.shown = 0
        self.gone: list[BrokerError] = []
        self.gate = Gate(
            "n1",
            "b2",
            earlier,
            enter=self._enter,
            let_in=lambda event, _: self.let_in.append(event),
            leave=self.left.append,
            show=self._show,
            give_way=self.gone.append,
        )

    def card(self, boot: str, seq: int = 1) -> None:
        self.gate.card_seen(NodeCard("n1", boot, "1.0", seq=seq))

    def order(self, name: str = "t1") -> bool:
        """Whether it passes at once."""
        return not self.gate.withholds(TaskArrived(task(name)), ORDER)

    def _enter(self) -> None:
        self.entered += 1

    def _show(self) -> None:
        self.shown += 1


def ids(events: list[NodeInput]) -> list[str]:
    return [event.task.id for event in events if isinstance(event, TaskArrived)]


async def test_orders_wait_until_the_own_card_is_read_and_are_let_in_then_in_their_order() -> None:
    """What is no order passes; later orders pass at once."""
    watched = Watched("b1")
    watched.gate.connected()
    watched.card("b1", 9)
    assert not watched.order("t1")
    assert not watched.order("t2")
    assert not watched.gate.withholds(MasterSeen(True), ORDER)
    assert watched.let_in == []

    watched.card("b2")

    assert (watched.entered, ids(watched.let_in), watched.left) == (1, ["t1", "t2"], [])
    assert watched.order("t3")
    watched.gate.close()


async def test_orders_are_left_to_a_stranger_and_taken_when_it_gives_no_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are acknowledged: the master sends them again to whoever has the id then."""
    monkeypatch.setattr(namesake, "CONTESTED_S", 0.05)
    watched = Watched()
    watched.gate.connected()
    watched.order("t1")
    watched.card("b1")
    watched.card("b2")
    assert not watched.order("t2")
    assert (watched.let_in, watched.left) == ([], [ORDER, ORDER])

    await until(lambda: watched.order("t3"), "it takes orders")
    assert watched.entered == 1
    watched.gate.close()


async def test_while_a_stranger_has_the_id_the_node_does_not_show_itself_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it takes its place."""
    monkeypatch.setattr(namesake, "CONTESTED_S", 0.05)
    watched = Watched()
    watched.gate.connected()
    watched.card("b1")
    watched.card("b2")
    watched.gate.disconnected()
    watched.gate.connected()
    assert watched.entered == 1

    await until(lambda: watched.entered == 2, "it enters")
    assert watched.order()


async def test_whoever_was_second_gives_way_once_in_words() -> None:
    """Nothing is let in any more."""
    watched = Watched()
    watched.gate.connected()
    watched.card("b1")
    watched.card("b2")
    watched.card("b1", 2)

    [error] = watched.gone
    assert str(error) == (
        "node n1: another process has this id, and was here before this one (its boot is b1): this one leaves the "
        "mesh; give each node an id of its own"
    )
    assert not watched.order()


async def test_the_first_shows_itself_again_to_one_that_came_later(caplog: pytest.LogCaptureFixture) -> None:
    """And says so in its log; after ten cards without an end the greater boot goes."""
    watched = Watched()
    watched.gate.connected()
    watched.card("b2")
    watched.card("b1", 1)
    assert watched.shown == 1
    assert "another process came with this node's id (its boot is b1)" in caplog.text
    for seq in range(2, 11):
        watched.card("b1", seq)

    [error] = watched.gone
    assert "another process has this id, and does not go away (its boot is b1)" in str(error)


@pytest.mark.parametrize("lose", [Gate.disconnected, Gate.close])
async def test_what_was_held_is_forgotten_with_the_connection(lose: Callable[[Gate], None]) -> None:
    """The broker or the master brings it again; it must not be acknowledged on another connection."""
    watched = Watched()
    watched.gate.connected()
    watched.order("t1")
    lose(watched.gate)
    watched.gate.connected()
    watched.card("b2")

    assert (watched.let_in, watched.left) == ([], [])
    watched.gate.close()


async def test_a_node_that_was_forgotten_shows_itself_again() -> None:
    """Each time; not while the id may be another's."""
    watched = Watched()
    watched.gate.connected()
    watched.gate.forgotten()
    assert watched.shown == 0, "its card has not come back yet"

    watched.card("b2")
    watched.gate.forgotten()
    watched.gate.forgotten()
    assert watched.shown == 2

    watched.gate.close()
