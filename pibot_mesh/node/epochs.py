"""Which master a node obeys where a request passes from one to another: the latest. Pure: no I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

MAX_EPOCHS: Final = 1_000
"""Requests whose epoch is kept; a master that lost an older one has long noticed it."""


class Epochs:
    """The highest epoch seen of each request, of the last `MAX_EPOCHS` that had one; 0 is that of a master alone."""

    def __init__(self, seen: Mapping[str, int]) -> None:
        self._seen = OrderedDict(seen)

    def is_past(self, request: str, epoch: int) -> bool:
        """Whether a later epoch of *request* was seen: who says this one has lost the request."""
        return epoch < self._seen.get(request, 0)

    def note(self, request: str, epoch: int) -> None:
        """*epoch* of *request* was seen."""
        if epoch <= 0:
            return
        self._seen[request] = max(epoch, self._seen.get(request, 0))
        self._seen.move_to_end(request)
        if len(self._seen) > MAX_EPOCHS:
            self._seen.popitem(last=False)
