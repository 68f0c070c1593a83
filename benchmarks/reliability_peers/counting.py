"""What a trial comes to: lost, twice, said, and how soon it went on. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Done:
    """One effect: the task's id, and when it happened (seconds of the machine's monotonic clock)."""

    id: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Restart:
    """A part was killed, and its next process was started at *at_s*."""

    part: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Count:
    """One trial, or several together.

    *lost* tasks have no effect, and the submitter was not told so: it was told nothing, or ``accepted``, or even
    ``completed``. *twice* are tasks whose effect happened more than once. Of *unknown* tasks the submitter was told
    that nobody knows; *unknown_done* of them had happened. *refused* were said not to have been done; *refused_done* of
    them had. *recoveries_s* go from each start of a killed part's next process to the next effect; *unrecovered* are
    restarts after which none came. *tail_s* is the time from the last restart to the last effect. *fallen* processes
    ended by themselves, and were started again.
    """

    tasks: int
    lost: int
    twice: int
    unknown: int
    unknown_done: int
    refused: int
    refused_done: int
    kills: Mapping[str, int]
    recoveries_s: tuple[float, ...]
    unrecovered: int
    tail_s: float
    fallen: int

    @property
    def recovery_s(self) -> float | None:
        """The median recovery; None where there was nothing to recover."""
        return median(self.recoveries_s) if self.recoveries_s else None

    @property
    def worst_s(self) -> float | None:
        """The longest recovery."""
        return max(self.recoveries_s, default=None)


def count(
    tasks: Iterable[str], done: Sequence[Done], said: Mapping[str, str], restarts: Sequence[Restart], *, fallen: int = 0
) -> Count:
    """What became of *tasks*."""
    ids = tuple(tasks)
    times = Counter(one.id for one in done)
    unknown = [task for task in ids if said.get(task) == "unknown"]
    refused = [task for task in ids if said.get(task) == "refused"]
    spared = {*unknown, *refused}
    recoveries = [
        min((one.at_s - restart.at_s for one in done if one.at_s > restart.at_s), default=None) for restart in restarts
    ]
    return Count(
        tasks=len(ids),
        lost=sum(not times[task] and task not in spared for task in ids),
        twice=sum(times[task] > 1 for task in ids),
        unknown=len(unknown),
        unknown_done=sum(times[task] > 0 for task in unknown),
        refused=len(refused),
        refused_done=sum(times[task] > 0 for task in refused),
        kills=dict(Counter(restart.part for restart in restarts)),
        recoveries_s=tuple(one for one in recoveries if one is not None),
        unrecovered=sum(one is None for one in recoveries),
        tail_s=max([0.0, *(one.at_s - restarts[-1].at_s for one in done)]) if restarts else 0.0,
        fallen=fallen,
    )


def together(counts: Sequence[Count]) -> Count:
    """Several trials as one; *tail_s* is the longest."""
    kills: Counter[str] = Counter()
    for one in counts:
        kills.update(one.kills)
    return Count(
        tasks=sum(one.tasks for one in counts),
        lost=sum(one.lost for one in counts),
        twice=sum(one.twice for one in counts),
        unknown=sum(one.unknown for one in counts),
        unknown_done=sum(one.unknown_done for one in counts),
        refused=sum(one.refused for one in counts),
        refused_done=sum(one.refused_done for one in counts),
        kills=dict(kills),
        recoveries_s=tuple(time_s for one in counts for time_s in one.recoveries_s),
        unrecovered=sum(one.unrecovered for one in counts),
        tail_s=max(one.tail_s for one in counts),
        fallen=sum(one.fallen for one in counts),
    )
