"""What a master keeps of its requests, wherever that is: the interface of a ledger. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.master.events import Exchange, MasterEffect, Record, SendEvent
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.messages import Event
from pibot_mesh.protocol.topics import DELTAS


@dataclass(frozen=True, slots=True)
class Known:
    """A request that stands in the ledger. *is_ours*: it belongs to this master."""

    record: Record
    is_ours: bool = True


@dataclass(frozen=True, slots=True)
class Story:
    """A request from its beginning: its record, and every event of it but the pieces of an answer, oldest first."""

    record: Record
    events: tuple[Event, ...] = ()


def is_kept(effect: SendEvent) -> bool:
    """Whether the ledger keeps the event: not a piece of an answer, nor what was said before."""
    return effect.is_kept and effect.event.type not in DELTAS


class Store(Protocol):
    """The ledger of one master, or of several that share it. Raises StoreError.

    One thread at a time calls it, but for `prune` and one `find`, which may go on beside.

    Where it is shared, each request belongs to one master, by its lease and the record's `epoch`, which grows with each
    change of hands; and one of the masters is the leader, who does what must be done once for all.
    """

    @property
    def is_shared(self) -> bool:
        """Whether other masters may use it too."""

    @property
    def is_leader(self) -> bool:
        """Whether this master does what must be done once for all. Known since the last `keep_up`."""

    def keep_up(self) -> list[Record]:
        """Say that this master lives, and take over what it finds abandoned: those records, with their new epochs.

        Called once before all else, and then every second where the ledger is shared. What is taken over has no reply,
        or one that no broker has acknowledged.
        """

    def find(self, request_id: str) -> Known | None:
        """One request."""

    def write(self, effects: Sequence[MasterEffect]) -> frozenset[str]:
        """Store the storable among *effects* (Save, SendEvent but for deltas, CountUsage), all or none.

        Returns the ids of the requests that do not belong to this master, or not any more: nothing of them is stored,
        and nothing of them may be said or done.
        """

    def conversation(self, session: str, *, limit: int = 10) -> list[Exchange]:
        """The last *limit* requests of *session* that have a reply, the oldest first."""

    def usage(self, since_day: str) -> list[UsageRow]:
        """What the model was used for from *since_day* (``2025-03-01``) on, the oldest day first."""

    def used_on(self, day: str) -> dict[str, int]:
        """The tokens, input and output, that each node used on *day*."""

    def story(self, request_id: str) -> Story | None:
        """The whole story of one request."""

    def recent(self, limit: int) -> list[Record]:
        """The last *limit* requests, the newest first."""

    def read_settings(self, prefix: str) -> dict[str, str]:
        """The small things that masters remember besides requests: those whose names begin with *prefix*."""

    def write_setting(self, name: str, value: str | None) -> None:
        """Remember *value* under *name*, in place of what was there; None: forget it. Synced to disk."""

    def prune(self, history: HistorySettings, now_ts: float) -> int:
        """Remove the stories that *history* does not keep at Unix time *now_ts*, and tell how many those were.

        Only of requests whose reply a broker has acknowledged. A removed request is not known any more.
        """

    def close(self) -> None:
        """Let go of everything; where the ledger is shared, others may take over at once."""
