"""What the model was used for, added up, and what it costs. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pibot_mesh.agent.events import add_usage
from pibot_mesh.config.settings import Prices
from pibot_mesh.protocol.messages import Usage

Part: TypeAlias = Literal["day", "node", "request"]
"""By what usage is added up."""

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What *node* used of *model* for *request* on *day* (``2025-03-01``, by the master's calendar), in *calls* calls.

    The node ``master`` is the master itself: its planning, its answers, and the tasks that it does itself.
    """

    day: str
    node: str
    request: str
    model: str
    usage: Usage
    calls: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What was used in all under one *name*: a day, a node or a request."""

    name: str
    usage: Usage = Usage()
    calls: int = 0

    def plus(self, row: UsageRow) -> Sum:
        """This and *row* together."""
        return Sum(self.name, add_usage(self.usage, row.usage), self.calls + row.calls)


def sums(rows: Iterable[UsageRow], by: Part) -> list[Sum]:
    """*rows* added up by one of their fields, in the order in which the names first come."""
    found: dict[str, Sum] = {}
    for row in rows:
        name: str = getattr(row, by)
        found[name] = found.get(name, Sum(name)).plus(row)
    return list(found.values())


def total(rows: Iterable[UsageRow]) -> Sum:
    """All *rows* together, under the name ``total``."""
    together = Sum("total")
    for row in rows:
        together = together.plus(row)
    return together


def cost(usage: Usage, prices: Prices) -> float:
    """What *usage* costs, in the currency of *prices*.

    The cached part of the input is billed at its own price, the rest at that of input; reasoning is part of the output.
    """
    fresh = usage.input - usage.cached
    return (fresh * prices.input + usage.cached * prices.cached + usage.output * prices.output) / _MILLION
