"""When to try again, where, and with which version of MQTT. Pure: no clocks; randomness is handed in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from pibot_mesh.config.settings import Address

Protocol: TypeAlias = Literal["5", "3.1.1"]

FIRST_DELAY_S: Final = 0.05
LONGEST_DELAY_S: Final = 30.0
RETRY_MQTT_5_S: Final = 3600.0
"""Seconds after which a broker that refused MQTT 5 is asked again, at the next reconnect: it may have been replaced."""


class Backoff:
    """Delays between attempts: from 0.05 s, doubled each time, to 30 s.

    Each is shortened by up to half at random, so that a house full of nodes does not knock at the same instant.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._attempts = 0

    def next_delay_s(self, *, at_least_s: float = 0.0) -> float:
        """Seconds to wait before the next attempt; *at_least_s* is lengthened by up to half instead."""
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._attempts, 16))
        self._attempts += 1
        return max(delay_s * self._rng.uniform(0.5, 1.0), at_least_s * self._rng.uniform(1.0, 1.5))

    def reset(self) -> None:
        """A connection stands: the next delay is the shortest again."""
        self._attempts = 0


class AddressChoice:
    """Which server to connect to: the one that worked last, and once that fails or ends, the one after it.

    A round is over when all have failed, one after the other, since a connection stood.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._index = 0
        self._failures = 0

    @property
    def current(self) -> Address:
        """The server to try."""
        return self._addresses[self._index]

    @property
    def is_new_round(self) -> bool:
        """Whether no server has failed since a connection stood, or since the last round was over."""
        return self._failures % len(self._addresses) == 0

    def ended(self) -> None:
        """The connection that stood has ended: a new round begins with the next server."""
        self._failures = 0
        self._go_on()

    def failed(self) -> bool:
        """No connection came about: on to the next server. Returns whether a round is over, and a pause is due."""
        self._failures += 1
        self._go_on()
        return self.is_new_round

    def _go_on(self) -> None:
        self._index = (self._index + 1) % len(self._addresses)


class ProtocolChoice:
    """Which version to speak next: MQTT 5, and 3.1.1 where the broker does not know 5.

    A broker says so in its CONNACK. Some close the connection without any, or never answer; that may have other causes,
    so it must happen twice in a row, and 3.1.1 is kept only if it then works.
    """

    def __init__(self) -> None:
        self._chosen: Protocol = "5"
        self._closed_early = 0
        self._refused_at: float | None = None

    def next(self, now: float) -> Protocol:
        """The version for an attempt that starts at *now* (seconds of any monotonic clock)."""
        if self._refused_at is not None and now - self._refused_at >= RETRY_MQTT_5_S:
            self._refused_at = None
            self._chosen = "5"
        return self._chosen

    def accepted(self, now: float) -> None:
        """The broker accepted the version last chosen."""
        self._closed_early = 0
        if self._chosen == "3.1.1" and self._refused_at is None:
            self._refused_at = now

    def refused(self, now: float) -> None:
        """The broker said that it does not speak the version last chosen."""
        self._closed_early = 0
        if self._chosen == "5":
            self._chosen = "3.1.1"
            self._refused_at = now

    def closed_early(self) -> None:
        """The broker closed the connection before it answered, or did not answer in time."""
        if self._chosen == "3.1.1":
            if self._refused_at is None:
                self._chosen = "5"
            return
        self._closed_early += 1
        if self._closed_early >= 2:
            self._closed_early = 0
            self._chosen = "3.1.1"
