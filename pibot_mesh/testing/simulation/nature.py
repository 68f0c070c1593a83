"""What all in a simulated world share: its time, its chance, how bad it is, and the trace of what happened."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable

from pibot_mesh.testing.simulation.faults import NONE, Faults
from pibot_mesh.testing.simulation.trace import Trace


class Nature:
    """Time that goes from one thing to the next, and nothing that a seed does not give."""

    def __init__(self, seed: int, faults: Faults, trace: Trace) -> None:
        self.seed = seed
        self.now = 0.0
        """Seconds since the world began."""
        self.chance = random.Random(seed)
        self.faults = faults
        self.trace = trace
        self.tally: Counter[str] = Counter()
        """How often each fault happened."""
        self.steps = 0
        self._agenda: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._count = 0

    def after(self, delay_s: float, action: Callable[..., object], *args: object) -> None:
        """Do it in *delay_s*; of two at the same time, the one that was said first."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._count, action, args))

    def run(self, seconds: float) -> None:
        """Let *seconds* go by."""
        end, agenda = self.now + seconds, self._agenda
        while agenda and agenda[0][0] <= end:
            self.now, _, action, args = heapq.heappop(agenda)
            self.steps += 1
            action(*args)
        self.now = end

    def calm_down(self) -> None:
        """No more faults from now on."""
        self.faults = NONE

    def happens(self, probability: float) -> bool:
        """Whether something of this *probability* happens now."""
        return probability > 0 and self.chance.random() < probability

    def between(self, least: float, most: float) -> float:
        """Any number between the two."""
        return least + (most - least) * self.chance.random()

    def fault(self, kind: str, who: str, detail: object = "") -> None:
        """A fault of this *kind* happens to *who*."""
        self.tally[kind] += 1
        self.note(who, f"FAULT {kind}", "", detail)

    def note(self, who: str, what: str, subject: str, detail: object = "") -> None:
        """*who* does *what*; *subject* is the request or task that it is about."""
        self.trace.add(self.now, who, what, subject, detail)
