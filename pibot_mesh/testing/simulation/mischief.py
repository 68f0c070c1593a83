"""What goes wrong in a simulated world, and when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from pibot_mesh.testing.simulation.ledger import SharedLedger
from pibot_mesh.testing.simulation.master import MasterProcess
from pibot_mesh.testing.simulation.network import KEEPALIVE_S
from pibot_mesh.testing.simulation.node import MemoryJournal, NodeProcess
from pibot_mesh.testing.simulation.process import FREEZES_S

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.world import World

_MINUTE_S: Final = 60.0
_MASTER_SHARE: Final = 6
"""A master is one among many, and all depends on it: it meets so many times as much."""


class Mischief:
    """Does what the faults of *world* say, each at times of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._nature = world.nature
        self._is_over = False

    def begin(self) -> None:
        """From now on things go wrong."""
        faults = self._nature.faults
        each: list[tuple[float, Callable[[MasterProcess | NodeProcess], None]]] = [
            (faults.crash, lambda process: process.doom("die")),
            (faults.freeze, lambda process: process.doom("freeze")),
            (faults.freeze / 2, self._freeze),
            (faults.plug, self._pull_plug),
            (faults.cut, self._cut),
            (faults.half_cut, self._half_cut),
            (faults.slow_disk, self._slow_disk),
            (faults.broken_disk, self._break_disk),
            (faults.wall_jump, self._jump),
        ]
        for a_minute, each_of_them in each:
            self._again(a_minute * (len(self._world.nodes) + _MASTER_SHARE), partial(self._to_one, each_of_them))
        whole: list[tuple[float, Callable[[], None]]] = [
            (faults.partition, self._partition),
            (faults.broker_restart, self._restart_broker),
            (faults.join, self._join),
            (faults.leave, self._leave),
            (faults.swap, self._swap),
            (faults.stop, self._stop),
            (faults.ledger_restart, self._restart_ledger),
        ]
        for a_minute, of_all in whole:
            self._again(a_minute, of_all)

    def end(self) -> None:
        """Nothing goes wrong any more: what is broken is mended; whoever has gone for good stays away."""
        self._is_over = True
        self._nature.calm_down()
        for process in self._world.processes:
            process.disk.mend()
            process.spare()

    def _again(self, a_minute: float, do: Callable[[], None]) -> None:
        if a_minute > 0 and not self._is_over:
            self._nature.after(self._nature.chance.expovariate(a_minute / _MINUTE_S), self._do, a_minute, do)

    def _do(self, a_minute: float, do: Callable[[], None]) -> None:
        if not self._is_over:
            do()
            self._again(a_minute, do)

    def _to_one(self, do: Callable[[MasterProcess | NodeProcess], None]) -> None:
        do(self._one())

    def _one(self) -> MasterProcess | NodeProcess:
        """One of the processes, a master more often than another."""
        world, chance = self._world, self._nature.chance
        if chance.random() * (len(world.nodes) + _MASTER_SHARE) < _MASTER_SHARE:
            return chance.choice(world.masters)
        return chance.choice(world.nodes)

    # One process

    def _pull_plug(self, process: MasterProcess | NodeProcess) -> None:
        if process.is_up:
            self._nature.fault("power lost", process.name)
            process.die(is_plug=True)

    def _freeze(self, process: MasterProcess | NodeProcess) -> None:
        if process.is_up and not process.is_frozen:
            self._nature.fault("freeze", process.name)
            process.freeze(self._nature.chance.choice(FREEZES_S), is_clock_stopped=self._nature.happens(0.5))

    def _cut(self, process: MasterProcess | NodeProcess) -> None:
        if process.is_up and process.client.line is not None:
            self._nature.fault("connection cut", process.name)
            process.client.cut(is_quick=self._nature.happens(0.7))

    def _half_cut(self, process: MasterProcess | NodeProcess) -> None:
        if process.is_up and process.client.line is not None:
            is_up = self._nature.happens(0.5)
            self._nature.fault("one direction silent", process.name, "to the broker" if is_up else "from the broker")
            process.client.fall_silent(self._nature.between(1.0, 2 * KEEPALIVE_S), up=is_up, down=not is_up)

    def _slow_disk(self, process: MasterProcess | NodeProcess) -> None:
        self._nature.fault("slow disk", process.name)
        process.disk.be_slow(self._nature.between(2.0, 20.0))

    def _break_disk(self, process: MasterProcess | NodeProcess) -> None:
        self._nature.fault("broken disk", process.name)
        process.disk.be_broken(self._nature.between(1.0, 45.0))

    def _jump(self, process: MasterProcess | NodeProcess) -> None:
        self._nature.fault("wall clock jump", process.name)
        process.wall_offset += self._nature.between(-1e8, 1e8)

    # The whole mesh

    def _partition(self) -> None:
        nature, clients = self._nature, self._world.clients
        for_s = nature.between(2.0, 45.0)
        cut_off = [client for client in clients if nature.happens(0.3)]
        nature.fault("partition", "network", f"{len(cut_off)} for {for_s:.1f} s")
        self._world.broker.cut_off([client.id for client in cut_off], for_s)
        for client in cut_off:
            client.fall_silent(for_s, up=True, down=True)

    def _restart_broker(self) -> None:
        is_forgetful = self._nature.happens(self._nature.faults.forgetful)
        self._nature.fault("broker restart, store lost" if is_forgetful else "broker restart", "broker")
        self._world.broker.restart(away_s=self._nature.between(0.2, 8.0), is_forgetful=is_forgetful)

    def _join(self) -> None:
        self._nature.fault("node joins", "mesh")
        self._world.join()

    def _leave(self) -> None:
        there = [node for node in self._world.nodes if not node.is_gone]
        if len(there) > 2:  # somebody must be left to do something
            node = self._nature.chance.choice(there)
            self._nature.fault("node leaves", node.name)
            node.leave()

    def _swap(self) -> None:
        nature = self._nature
        there = [node for node in self._world.nodes if not node.is_gone]
        node, other = nature.chance.choice(there), nature.chance.choice(there)
        is_copy = other is not node and nature.happens(0.5)
        nature.fault("node swapped, with a copy of another" if is_copy else "node swapped", node.name, other.name)
        node.die(is_plug=True)
        node.swap(other.journal.copy() if is_copy else MemoryJournal())

    def _stop(self) -> None:
        self._nature.tally["emergency stop"] += 1
        self._world.people.pull_stop(self._nature.between(2.0, 30.0))

    def _restart_ledger(self) -> None:
        ledger = self._world.ledger
        if isinstance(ledger, SharedLedger):
            self._nature.fault("ledger restart", "ledger")
            ledger.restart(self._nature.between(0.5, 8.0))
