"""Who may ask the master's model, and who is next. Pure: the time and the day are given."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pibot_mesh.agent.model import FailureKind
from pibot_mesh.config.settings import GatewaySettings
from pibot_mesh.errors import ErrorCode

C = TypeVar("C")

MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a call is not made, for programs and in words; *retry_after_s* is how long to wait before another try."""

    code: ErrorCode
    kind: FailureKind
    text: str
    is_retryable: bool = False
    retry_after_s: float | None = None


class NodeMeter:
    """What one node has had of the model: its calls of the last minute, and its tokens of a day.

    *tokens* are those that it has used on *day* already. A day is the master's calendar day, under any name that no
    other day has.
    """

    def __init__(self, node: str, limits: GatewaySettings, *, day: str, tokens: int = 0) -> None:
        self._node = node
        self._limits = limits
        self._asked: deque[float] = deque()
        self._day = day
        self._tokens = tokens

    def ask(self, *, now: float, day: str) -> Refused | None:
        """Count a call, or say why it may not be made; *now* is in seconds. A refused call does not count."""
        while self._asked and self._asked[0] <= now - MINUTE_S:
            self._asked.popleft()
        if self.tokens(day) >= self._limits.tokens_per_day:
            text = (
                f"{self._node} has used up its {self._limits.tokens_per_day} tokens of the model for today "
                "(gateway.tokens_per_day on the master): it may ask again after midnight"
            )
            return Refused(ErrorCode.BUDGET, FailureKind.QUOTA, text)
        if len(self._asked) >= self._limits.requests_per_minute:
            oldest = self._asked[0] if self._asked else now
            wait_s = math.ceil(oldest + MINUTE_S - now)
            text = (
                f"{self._node} has asked the model {len(self._asked)} times within a minute, which is its limit "
                f"(gateway.requests_per_minute on the master): it may ask again in {wait_s} s"
            )
            return Refused(ErrorCode.OVERLOADED, FailureKind.RATE_LIMIT, text, True, wait_s)
        self._asked.append(now)
        return None

    def use(self, tokens: int, *, day: str) -> None:
        """Count *tokens* that a call took."""
        self._tokens = self.tokens(day) + tokens
        self._day = day

    def tokens(self, day: str) -> int:
        """The tokens of *day*."""
        return self._tokens if day == self._day else 0


class TaskMeter:
    """What one task may still use of the model, also while the ledger has not counted yet what its calls took."""

    def __init__(self) -> None:
        self._told = 0
        self._left = 0

    def left(self, told: int) -> int:
        """The tokens that it may still use, where *told* are those that the ledger knows of.

        The ledger's number falls with every call that is counted; one that rises comes with a new share.
        """
        if told > self._told:
            self._left = told
        self._told = told
        self._left = min(self._left, told)
        return self._left

    def use(self, tokens: int) -> None:
        """A call took *tokens*; the ledger hears of it later."""
        self._left -= tokens


class FairQueue(Generic[C]):
    """Calls that wait, each for a node; the nodes take turns, and each node's calls are in order.

    At most *limit* wait. Where there is no more room, the node that has the most gives way.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines: dict[str, deque[C]] = {}
        """By node, who is next first; none is empty."""

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, node: str, call: C) -> C | None:
        """Add *call* as the last of its node. Returns the call that has to go for it, which may be *call* itself."""
        self._lines.setdefault(node, deque()).append(call)
        if len(self) <= self._limit:
            return None
        longest = max(self._lines, key=lambda name: (len(self._lines[name]), name == node))
        return self._take(longest, -1)

    def next(self, may_begin: Callable[[C], bool]) -> C | None:
        """Take the call whose turn it is, of those that *may_begin*; its node is the last one then. None: none may.

        A call that may not begin keeps its place, and so does its node.
        """
        for node, line in self._lines.items():
            for index, call in enumerate(line):
                if may_begin(call):
                    self._take(node, index)
                    if node in self._lines:
                        self._lines[node] = self._lines.pop(node)
                    return call
        return None

    def remove(self, node: str, call: C) -> None:
        """Take *call* out, wherever it stands. Nothing happens where it does not wait."""
        line = self._lines.get(node, deque())
        if call in line:
            self._take(node, line.index(call))

    def _take(self, node: str, index: int) -> C:
        line = self._lines[node]
        call = line[index]
        del line[index]
        if not line:
            del self._lines[node]
        return call
