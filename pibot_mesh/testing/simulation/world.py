"""A whole mesh in memory: masters, nodes, people and a broker, and what goes wrong between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pibot_mesh.master.core import EARLY_S
from pibot_mesh.testing.simulation.client import Client
from pibot_mesh.testing.simulation.faults import BY_NAME
from pibot_mesh.testing.simulation.ledger import MemoryLedger, SharedLedger
from pibot_mesh.testing.simulation.master import MasterProcess
from pibot_mesh.testing.simulation.mischief import Mischief
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.network import LATE_S, Broker
from pibot_mesh.testing.simulation.node import NodeProcess
from pibot_mesh.testing.simulation.people import People
from pibot_mesh.testing.simulation.promises import Promises
from pibot_mesh.testing.simulation.trace import Trace

SETTLE_S: Final = 600.0
"""After the last fault, how long it may take until all has ended: a request's time, and that of its questions."""
_LOOK_EVERY_S: Final = 10.0
_REST_S: Final = EARLY_S + 1.0
"""So long a master still holds an order about a request that is another's."""
_MOST_LEFT: Final[Mapping[str, int]] = {
    "_closed": 1_000,
    "_ended_tasks": 1_000,
    "_told_to_end": 1_000,
    "_deliveries": 1_000,
    "_forgotten": 5_000,
    "_orders": 256,
}
"""What a core may keep when all is over, by the name of its table; of the others nothing."""
_AS_THEY_ARE: Final = frozenset({"_boot", "_model", "_ask", "_tools"})


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is, and how bad: *faults* is ``usual``, ``harsh`` or ``none``."""

    nodes: int = 30
    requests: int = 300
    masters: int = 1
    faults: str = "usual"

    @property
    def asking_s(self) -> float:
        """For how long people ask."""
        return max(60.0, self.requests / (0.12 * max(self.nodes, 4) + 2))

    @property
    def open_requests(self) -> int:
        """How many requests a master may have open."""
        return max(10, self.requests // 4)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a world is built of; a test of the tests puts broken ones in."""

    master: type[MasterProcess] = MasterProcess
    node: type[NodeProcess] = NodeProcess
    ledger: type[MemoryLedger] = MemoryLedger
    shared_ledger: type[SharedLedger] = SharedLedger


class World:
    """Everything that one seed makes. `live` it, and look at `promises`, `nature.tally` and the ledger."""

    def __init__(self, seed: int, size: Size = Size(), *, parts: Parts = Parts(), is_told: bool = False) -> None:
        self.size = size
        self.nature = Nature(seed, BY_NAME[size.faults], Trace(is_told=is_told))
        self.broker = Broker(self.nature)
        self.ledger = parts.ledger() if size.masters == 1 else parts.shared_ledger(self.nature)
        self.promises = Promises(self.nature, self.ledger)
        self.people = People(self.nature, self.broker, lambda: [node.name for node in self.nodes if not node.is_gone])
        self.promises.approved = self.people.approved
        self._parts = parts
        self.masters = [self._new_master(number) for number in range(1, size.masters + 1)]
        self.nodes = [self._new_node(number) for number in range(1, size.nodes + 1)]
        self._mischief = Mischief(self)

    @property
    def processes(self) -> list[MasterProcess | NodeProcess]:
        """Masters and nodes, those that left included."""
        return [*self.masters, *self.nodes]

    @property
    def clients(self) -> list[Client]:
        """The clients of the processes that are up."""
        return [process.client for process in self.processes if process.is_up]

    def live(self) -> None:
        """People ask while things go wrong; then nothing goes wrong any more, and all must come to its end."""
        for process in self.processes:
            self.nature.after(self.nature.between(0.0, 2.0), process.start)
        for number in range(1, self.size.requests + 1):
            self.nature.after(self.nature.between(3.0, self.size.asking_s), self.people.ask, number)
        self._mischief.begin()
        self.nature.run(self.size.asking_s + 10.0)
        self._mischief.end()
        self.settle()

    def settle(self) -> None:
        """Wait until all has ended. Raises BrokenPromise where it does not."""
        nature, latest = self.nature, self.nature.now + SETTLE_S
        nature.run(max(LATE_S))
        while nature.now < latest and not self.is_quiet:
            nature.run(_LOOK_EVERY_S)
        nature.run(_REST_S)
        self.promises.check_ended(self.ledger.records)
        unanswered = sorted(self.people.wishes.keys() - self.people.answered)
        self.promises.check(not unanswered, "nobody ever answered", unanswered[0] if unanswered else "")
        self._check_rest()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is left to do. A master that lost a request learns it when it has something to write."""
        nodes = [node for node in self.nodes if not node.is_gone]
        processes: list[MasterProcess | NodeProcess] = [*self.masters, *nodes]
        return (
            self.people.is_content
            and all(process.is_up and not process.is_frozen for process in processes)
            and all(master.core.open_requests == 0 for master in self.masters)
            and all(record.is_sent for record in self.ledger.records.values())
            and all(not node.journal.entries for node in nodes)
            and not any(process.client.waiting for process in processes)
        )

    def join(self) -> None:
        """A new node comes."""
        node = self._new_node(len(self.nodes) + 1)
        self.nodes.append(node)
        node.start()

    def _new_master(self, number: int) -> MasterProcess:
        size, nature = self.size, self.nature
        return self._parts.master(
            nature,
            self.broker,
            f"master{number}",
            self.promises,
            ledger=self.ledger,
            plans=self.people.plans,
            open_requests=size.open_requests,
        )

    def _new_node(self, number: int) -> NodeProcess:
        return self._parts.node(self.nature, self.broker, f"n{number}", self.promises)

    # What is left

    def _check_rest(self) -> None:
        check = self.promises.check
        for node in self.nodes:
            if not node.is_gone:
                left = ", ".join(node.journal.entries)
                check(not left, f"{node.name} holds results that nobody lets it forget: {left}", left.split(",")[0])
                self._check_tables(node.name, node.core)
        for master in self.masters:
            self._check_tables(master.name, master.core)
            for name, member in master.pool.members.items():
                tasks = ", ".join([*member.open_tasks, *member.sent])
                check(not tasks, f"{master.name} counts tasks to {name} that have ended: {tasks}", tasks.split(",")[0])
        for process in self.processes:
            if not process.is_gone:
                check(process.client.is_bounded, f"{process.name} has too much to send")

    def _check_tables(self, who: str, core: object) -> None:
        """No table of a core grows for ever."""
        timers = [key for key in vars(vars(core)["_timers"])["_due"] if key[0] != "silence"]
        self.promises.check(not timers, f"{who}: there are timers left: {_some(timers)}")
        for name, table in sorted(vars(core).items()):
            if name in _AS_THEY_ARE or not hasattr(table, "__len__"):
                continue
            most = _MOST_LEFT.get(name, 0)
            self.promises.check(len(table) <= most, f"{who}: {len(table)} left in {name}: {_some(table)}")


def _some(table: object) -> str:
    return str(list(table)[:5]) if isinstance(table, (dict, list, set)) else repr(table)[:200]
