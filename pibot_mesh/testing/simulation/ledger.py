"""What simulated masters remember: a ledger of one, and one that several share. See `pibot_mesh.master.store`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import MasterEffect, Record, Save, SendEvent
from pibot_mesh.testing.simulation.nature import Nature

LEASE_S: Final = 5.0


class SimulatedLedger(Protocol):
    """What a simulated master needs of a ledger. Raises StoreError where it is away."""

    records: dict[str, Record]
    is_shared: bool

    def keep_up(self, boot: str) -> list[Record]:
        """Say that *boot* lives; what it takes over."""

    def is_leader(self, boot: str) -> bool:
        """Whether *boot* does what must be done once for all."""

    def find(self, request_id: str) -> Record | None:
        """One request."""

    def write(self, boot: str, effects: Sequence[MasterEffect]) -> frozenset[str]:
        """Store, and return the requests that are not *boot*'s."""

    def leave(self, boot: str) -> None:
        """The process *boot* has ended, and its connection with it."""


class MemoryLedger:
    """The ledger of one master."""

    is_shared = False

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}

    def keep_up(self, boot: str) -> list[Record]:  # noqa: ARG002 - there is one master
        """The records that still need work."""
        return [record for record in self.records.values() if not record.is_sent]

    def is_leader(self, boot: str) -> bool:  # noqa: ARG002
        """There is no other."""
        return True

    def find(self, request_id: str) -> Record | None:
        """One request."""
        return self.records.get(request_id)

    def write(self, boot: str, effects: Sequence[MasterEffect]) -> frozenset[str]:  # noqa: ARG002
        """Store all."""
        for effect in effects:
            if isinstance(effect, Save):
                self.save(effect.record)
        return frozenset()

    def save(self, record: Record) -> None:
        """Write one record."""
        self.records[record.request.id] = record

    def leave(self, boot: str) -> None:
        """It is all the same to a file."""


@dataclass(slots=True)
class _Row:
    record: Record
    owner: str
    epoch: int


class SharedLedger:
    """A ledger of several masters, each of whose requests is one master's, by a lease and an epoch."""

    is_shared = True

    def __init__(self, nature: Nature) -> None:
        self.records: dict[str, Record] = {}
        self._nature = nature
        self._rows: dict[str, _Row] = {}
        self._unsent: dict[str, None] = {}
        self._alive_until: dict[str, float] = {}
        self._leader: str | None = None
        self._away_until = 0.0

    def restart(self, away_s: float) -> None:
        """It is away for a while; sessions, and with them the leader's lock, are gone."""
        self._away_until = self._nature.now + away_s
        self._leader = None

    def keep_up(self, boot: str) -> list[Record]:
        """Lengthen the lease of *boot*, and give it what nobody holds any more."""
        self._must_be_there()
        now = self._nature.now
        self._alive_until[boot] = now + LEASE_S
        if self._leader is None:
            self._leader = boot
        taken = []
        for request_id in list(self._unsent):
            row = self._rows[request_id]
            if row.owner != boot and self._alive_until.get(row.owner, 0.0) < now:
                row.owner, row.epoch = boot, self.raised(row.epoch)
                row.record = self.records[request_id] = replace(row.record, epoch=row.epoch)
                taken.append(row.record)
        return taken

    def raised(self, epoch: int) -> int:
        """The epoch that follows *epoch*."""
        return epoch + 1

    def is_leader(self, boot: str) -> bool:
        """Whether *boot* holds the leader's lock."""
        return self._leader == boot

    def find(self, request_id: str) -> Record | None:
        """One request, whoever holds it."""
        self._must_be_there()
        return self.records.get(request_id)

    def write(self, boot: str, effects: Sequence[MasterEffect]) -> frozenset[str]:
        """Store what is of requests that *boot* holds, and return the others. Of a request, the last record counts."""
        self._must_be_there()
        records = {effect.record.request.id: effect.record for effect in effects if isinstance(effect, Save)}
        lost = {request_id for request_id, record in records.items() if not self._save(boot, record)}
        told = {effect.event.run for effect in effects if isinstance(effect, SendEvent)}
        return frozenset(lost | {request_id for request_id in told if self._is_of_another(boot, request_id)})

    def leave(self, boot: str) -> None:
        """The database sees that the connection of *boot* is gone."""
        self._alive_until.pop(boot, None)
        if self._leader == boot:
            self._leader = None

    def _save(self, boot: str, record: Record) -> bool:
        request_id = record.request.id
        row = self._rows.get(request_id)
        if row is None:
            if record.epoch > 1 or (record.origin.is_plain and self._leader != boot):
                return False
            row = self._rows[request_id] = _Row(record, boot, record.epoch)
        elif not self.is_owner(row.owner, row.epoch, boot, record.epoch):
            return False
        row.record = self.records[request_id] = record
        if record.is_sent:
            self._unsent.pop(request_id, None)
        else:
            self._unsent[request_id] = None
        return True

    def is_owner(self, owner: str, epoch: int, boot: str, written: int) -> bool:
        """Whether *boot*, which writes with the epoch *written*, holds what *owner* has with *epoch*."""
        return owner == boot and epoch == written

    def _is_of_another(self, boot: str, request_id: str) -> bool:
        row = self._rows.get(request_id)
        return row is not None and row.owner != boot

    def _must_be_there(self) -> None:
        if self._nature.now < self._away_until:
            raise StoreError("the database is away")
