"""Lets orders in only while the node's id is its own: a shell around the rules of `namesake`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from pibot_mesh.errors import BrokerError
from pibot_mesh.mqtt.client import Message
from pibot_mesh.node.events import (
    NodeControlled,
    NodeInput,
    OutputOrdered,
    TaskArrived,
    TaskControlled,
    TaskMalformed,
)
from pibot_mesh.node.namesake import GiveWay, Namesakes
from pibot_mesh.protocol.messages import NodeCard

_log = logging.getLogger(__name__)
_ORDERS: Final = (TaskArrived, TaskMalformed, TaskControlled, NodeControlled, OutputOrdered)
_MAX_HELD: Final = 1_000


class Gate:
    """A node's own id, kept. Everything is called in the event loop.

    *earlier* are the boots that the node's journal knows. *enter* is called for each connection, when the node may show
    itself there: not while a namesake seems to be alive. *let_in* gets the orders that waited until the first
    connection had shown whose the id is; *leave* those that are left to a namesake. *show* is to show the node again,
    and *give_way* to leave the mesh: the other was there first.
    """

    def __init__(
        self,
        node: str,
        boot: str,
        earlier: Collection[str],
        *,
        enter: Callable[[], None],
        let_in: Callable[[NodeInput, Message], None],
        leave: Callable[[Message], None],
        show: Callable[[], None],
        give_way: Callable[[BrokerError], None],
    ) -> None:
        self._node = node
        self._names = Namesakes(boot, earlier)
        self._enter = enter
        self._let_in = let_in
        self._leave = leave
        self._show = show
        self._give_way = give_way
        self._held: deque[tuple[NodeInput, Message]] = deque()
        self._is_outside = False
        self._timer: asyncio.TimerHandle | None = None

    def connected(self) -> None:
        """The connection stands."""
        self._names.connected(_now())
        self._settle()
        if self._names.is_contested:
            self._is_outside = True
        else:
            self._enter()

    def disconnected(self) -> None:
        """It is gone. What was held comes again, from the broker or from the master."""
        self._held.clear()
        self._is_outside = False
        self._names.disconnected()
        self._settle()

    def close(self) -> None:
        """Nothing is let in any more that waits."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()

    def withholds(self, event: NodeInput, message: Message) -> bool:
        """Whether *event* is an order that may not pass now; it is held then, or left to a namesake."""
        if self._names.is_ours or not isinstance(event, _ORDERS):
            return False
        if not self._names.is_contested and len(self._held) < _MAX_HELD:
            self._held.append((event, message))
        else:
            _log.info("%s: left to another process that seems to have this id: %s", self._node, message.topic)
            self._leave(message)
        return True

    def stood_offline(self) -> None:
        """The node's presence was read as it stood before this connection: nobody was there."""
        self._names.stood_offline()

    def forgotten(self) -> None:
        """Somebody cleared what the broker kept of the node, which lives: it shows itself again."""
        if self._names.is_ours:
            _log.warning("%s: somebody had the mesh forget this node, which runs: it shows itself again", self._node)
            self._show()

    def card_seen(self, card: NodeCard) -> None:
        """A card was read that bears the node's id."""
        verdict = self._names.card_seen(card.boot, card.seq, _now())
        self._settle()
        if isinstance(verdict, GiveWay):
            why = "was here before this one" if verdict.is_first else "does not go away"
            self.close()
            self._give_way(
                BrokerError(
                    f"node {self._node}: another process has this id, and {why} (its boot is {verdict.boot}): this one "
                    "leaves the mesh; give each node an id of its own"
                )
            )
        elif verdict == "show":
            _log.warning(
                "%s: another process came with this node's id (its boot is %s), and should go again; give each node an "
                "id of its own",
                self._node,
                card.boot,
            )
            self._show()

    def _settle(self) -> None:
        """Go on where the time is over, let in what may pass, and set the time to look again."""
        if self._timer is not None:
            self._timer.cancel()
        self._names.tick(_now())
        if self._is_outside and not self._names.is_contested:
            self._is_outside = False
            self._enter()
        wake_at = self._names.wake_at()
        if wake_at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake_at - _now()), self._settle)
        while self._held and self._names.is_ours:
            self._let_in(*self._held.popleft())
        while self._held and self._names.is_contested:
            self._leave(self._held.popleft()[1])


def _now() -> float:
    return asyncio.get_running_loop().time()
