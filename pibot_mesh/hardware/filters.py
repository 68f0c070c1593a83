"""What is done with a sensor's readings before anybody is told: smoothing, and not to repeat oneself. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal, cast

Change = float | Mapping[str, float]
"""The least change that is told: of every measure, or of each that is named."""


@dataclass(frozen=True, slots=True)
class Filter:
    """How one sensor's readings are filtered.

    Each measure is the *by* of its last *window* readings. A reading is told when a measure changed by at least
    *change* since the last one that was told, and *at_least_every_s* seconds after that; without a *change*, always.
    """

    window: int = 1
    by: Literal["average", "median"] = "average"
    change: Change | None = None
    at_least_every_s: float = 300.0


def filter_of(option: Mapping[str, object]) -> Filter:
    """The filter that a device's option ``filter`` says; the option fits its schema."""
    usual = Filter()
    by: Literal["average", "median"] = "median" if "median" in option else "average"
    return Filter(
        window=int(cast(int, option.get(by, usual.window))),
        by=by,
        change=cast(Change | None, option.get("change")),
        at_least_every_s=float(cast(float, option.get("at_least_every_s", usual.at_least_every_s))),
    )


class Smoothing:
    """The last readings of a sensor that is read every *interval_s* seconds, and what they are together.

    A reading counts for twice the time in which the window fills: after a silence the sensor begins anew, since what it
    said an hour ago says nothing about now.
    """

    def __init__(self, rule: Filter, interval_s: float) -> None:
        self._combine = median if rule.by == "median" else fmean
        self._kept_s = 2 * rule.window * interval_s
        self._window: deque[tuple[float, Mapping[str, float]]] = deque(maxlen=rule.window)

    def add(self, values: Mapping[str, float], now: float) -> dict[str, float]:
        """Take *values*, read at *now* (seconds, monotonic); return each of them smoothed, to three decimals.

        With a window of one they come out as they are.
        """
        while self._window and now - self._window[0][0] > self._kept_s:
            self._window.popleft()
        self._window.append((now, values))
        if len(self._window) == 1:
            return dict(values)
        return {
            measure: round(self._combine([read[measure] for _, read in self._window if measure in read]), 3)
            for measure in values
        }


class Novelty:
    """Whether a reading is worth telling, after the one that was told last."""

    def __init__(self, rule: Filter) -> None:
        self._rule = rule
        self._told: Mapping[str, float] | None = None
        self._told_at = 0.0

    def is_worth_telling(self, values: Mapping[str, float], now: float) -> bool:
        """Whether to tell *values*, read at *now* (seconds, monotonic). Where it is, they count as told."""
        is_new = self._is_new(values, now)
        if is_new:
            self._told, self._told_at = dict(values), now
        return is_new

    def _is_new(self, values: Mapping[str, float], now: float) -> bool:
        told, change = self._told, self._rule.change
        if told is None or change is None or values.keys() != told.keys():
            return True
        if now - self._told_at >= self._rule.at_least_every_s:
            return True
        least = change if isinstance(change, Mapping) else dict.fromkeys(values, change)
        # A difference of 0.1 is a hair under 0.1 in binary; nobody means that by "at least 0.1".
        return any(abs(values[name] - told[name]) >= step - 1e-9 for name, step in least.items() if name in values)
