"""Who is there, who can, and who is free. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from pibot_mesh.protocol.messages import NodeCard, ToolSpec

MASTER = "master"
"""The name under which the master's own tools stand in a plan. No node may be called so."""
SILENCE_PERIODS = 3
"""Health periods without a word after which a node counts as lost, where the broker did not say so (promise 6)."""
USUAL_HEALTH_INTERVAL_S = 10.0
"""The health period of a node that has shown no card."""


@dataclass(slots=True)
class Member:
    """What the master knows of one node."""

    is_online: bool = False
    card: NodeCard | None = None
    health: Mapping[str, float] = field(default_factory=dict)
    last_word: float = 0.0
    """When the last message came from it, on the core's clock."""
    open_tasks: dict[str, None] = field(default_factory=dict)
    """Its tasks that have not ended, the oldest first."""
    sent: set[str] = field(default_factory=set)
    """Those of them that were sent to it."""
    is_forgotten: bool = False
    """Whether its card was taken away: it is a node no more, once it has no open tasks."""

    @property
    def is_usable(self) -> bool:
        """Whether tasks can be given to it: it is online, and has shown what it can do."""
        return self.is_online and self.card is not None

    @property
    def silence_s(self) -> float:
        """Seconds without a word after which the node counts as lost."""
        return SILENCE_PERIODS * (self.card.health_interval_s if self.card else USUAL_HEALTH_INTERVAL_S)

    def has_room_for(self, task: str) -> bool:
        """Whether *task* may be sent: it was already, or the node does not hold as much as it may (promise 7)."""
        if task in self.sent or self.card is None:
            return True
        return len(self.sent) < self.card.capacity.running + self.card.capacity.queued

    def let_go(self, task: str) -> None:
        """*task* is not the node's any more."""
        self.open_tasks.pop(task, None)
        self.sent.discard(task)


class Pool:
    """The nodes of the mesh, as their retained messages tell."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def __getitem__(self, node: str) -> Member:
        """What is known of *node*; an empty member where nothing is."""
        return self._members.setdefault(node, Member())

    @property
    def members(self) -> Mapping[str, Member]:
        """All nodes that were ever heard of."""
        return self._members

    def remove(self, node: str) -> None:
        """Forget *node*: its card was taken away."""
        self._members.pop(node, None)

    def online(self) -> dict[str, NodeCard]:
        """The cards of the nodes that can be given tasks, by node, in order."""
        return {
            node: member.card
            for node, member in sorted(self._members.items())
            if member.is_online and member.card is not None
        }

    def offline(self) -> list[str]:
        """The nodes that are known and not there."""
        return sorted(node for node, member in self._members.items() if not member.is_usable)

    def tool(self, node: str, name: str) -> ToolSpec | None:
        """The tool *name* as the card of *node* shows it."""
        member = self._members.get(node)
        if member is None or member.card is None:
            return None
        return find_tool(member.card, name)

    def choose(
        self,
        tool: str | None,
        labels: Collection[str],
        *,
        avoid: str = "",
        tools: Collection[str] = (),
        is_agent: bool = False,
    ) -> str | None:
        """The node with the least to do, for its size, among those that have *tool*, all *tools* and all *labels*.

        With *is_agent*, only one that takes agent tasks. *avoid* is taken only where there is no other.
        """
        wanted = [*tools, *([tool] if tool is not None else [])]
        fit = [
            (node == avoid, len(self._members[node].open_tasks) / card.capacity.running, node)
            for node, card in self.online().items()
            if carries(card, labels) and can(card, wanted, is_agent=is_agent)
        ]
        return min(fit)[2] if fit else None


def carries(card: NodeCard, labels: Collection[str]) -> bool:
    """Whether the node of *card* has all *labels*; its id counts as one."""
    return set(labels) <= {card.node, *card.labels}


def find_tool(card: NodeCard, name: str) -> ToolSpec | None:
    """The tool *name* on *card*, or None."""
    return next((tool for tool in card.tools if tool.name == name), None)


def can(card: NodeCard, tools: Collection[str], *, is_agent: bool = False) -> bool:
    """Whether all *tools* are on *card*; with *is_agent*, whether it takes agent tasks as well."""
    return (card.agent or not is_agent) and not missing_tools(card, tools)


def missing_tools(card: NodeCard, tools: Collection[str]) -> list[str]:
    """Those of *tools* that are not on *card*, in their order."""
    there = {tool.name for tool in card.tools}
    return [name for name in tools if name not in there]
