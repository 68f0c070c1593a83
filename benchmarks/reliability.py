"""Nothing lost, nothing twice, while workers and brokers are killed: the mesh and its peers in one run.

    .venv/bin/python benchmarks/reliability.py [--peers A,B] [--faults A,B] [--seeds N] [--quick] [--json FILE]

The peers are NATS JetStream with explicit acknowledgement, Celery on Redis with late acknowledgement, and a bare MQTT
client at QoS 1. 200 tasks are submitted, one every 20 ms; each takes 5 to 30 ms and in the middle of that appends its
id to a file. docs/reliability.md says how each system is set up, what is counted, and what is fair about it.
Exits 0 whatever comes of the others, and 1 where the mesh lost a task or did one twice, or could not be tried.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from reliability_peers.bare_mqtt import BareMqtt
from reliability_peers.celery_redis import CeleryRedis
from reliability_peers.counting import Count, together
from reliability_peers.mesh import Mesh
from reliability_peers.nats import Nats
from reliability_peers.order import Order
from reliability_peers.peer import HOST, Peer, PeerError, find_program
from reliability_peers.trial import Trial

from pibot_mesh.mqtt.private import next_free_port

MESH: Final = Mesh("mesh", is_safe_to_retry=False)
MESH_SAFE: Final = Mesh("mesh-safe", is_safe_to_retry=True)
PEERS: Final[tuple[Peer, ...]] = (MESH, MESH_SAFE, Nats(), CeleryRedis(), BareMqtt())
FAULTS: Final[Mapping[str, Mapping[str, int]]] = {
    "worker": {"worker": 5},
    "broker": {"broker": 3},
    "both": {"worker": 5, "broker": 3},
    "all": {"worker": 5, "broker": 3, "master": 3},
}
"""How often each part is killed. ``all`` is for the mesh alone: the others have no master."""
RECOVERY_LIMIT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done in one trial, and how often a part is killed at most."""

    tasks: int
    every_s: float
    seeds: int
    kills: int


WHOLE: Final = Size(tasks=200, every_s=0.020, seeds=3, kills=5)
QUICK: Final = Size(tasks=20, every_s=0.100, seeds=1, kills=2)
"""Slower, so that the few tasks are still there to be harmed."""


# Environments


def python_of(env: Path, peer: Peer) -> str:
    """The interpreter that runs *peer*: this one where it needs nothing of its own."""
    return str(env / peer.name / "bin" / "python") if peer.requirements else sys.executable


def is_installed(env: Path, peer: Peer) -> bool:
    marker = env / peer.name / "requirements.json"
    return marker.exists() and json.loads(marker.read_text()) == list(peer.requirements)


def set_up(peer: Peer, env: Path, *, may_install: bool) -> None:
    """Make the environment of *peer*, if it is not there. Raises PeerError where it cannot be had."""
    for program in peer.programs:
        find_program(program)
    if not peer.requirements or is_installed(env, peer):
        return
    if not may_install:
        raise PeerError(f"{peer.name} is not installed, and --skip-install is given")
    print(f"installing {peer.name}: {' '.join(peer.requirements)}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(env / peer.name)],
        [python_of(env, peer), "-m", "pip", "install", "--quiet", *peer.requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError("pip cannot install it: " + "\n".join(done.stderr.strip().splitlines()[-6:]))
    (env / peer.name / "requirements.json").write_text(json.dumps(peer.requirements))


def versions_of(peer: Peer, env: Path) -> str:
    """The versions of the peer's package and of its servers, as they say them."""
    program = f"from importlib.metadata import version; print({peer.shown!r}, version({peer.shown!r}))"
    commands = [[python_of(env, peer), "-c", program]]
    commands += [[find_program(name), "-h" if name == "mosquitto" else "--version"] for name in peer.programs]
    said = [subprocess.run(one, capture_output=True, text=True, check=False).stdout for one in commands]
    return "; ".join(text.splitlines()[0] for text in said if text)


# Trials


def try_once(peer: Peer, env: Path, kills: Mapping[str, int], size: Size, seed: int, logs: Path | None) -> Count:
    """One trial, in a folder of its own. Raises PeerError."""
    with tempfile.TemporaryDirectory(prefix="pibot-reliability-", ignore_cleanup_errors=True) as made:
        folder = made
        if logs is not None:
            kept = logs / f"{peer.name}-{'-'.join(kills)}-{seed}"
            kept.mkdir(parents=True)
            folder = str(kept.resolve())
        is_safe = isinstance(peer, Mesh) and peer.is_safe_to_retry
        port, watch_port = free_ports()
        limited = {part: min(times, size.kills) for part, times in kills.items()}
        order = Order(folder, port, watch_port, size.tasks, size.every_s, seed, is_safe)
        return asyncio.run(Trial(peer, python_of(env, peer), order, limited).run())


def free_ports() -> tuple[int, int]:
    """Two ports below those that Linux gives to outgoing connections: one of these must not take a killed broker's."""
    first = next_free_port(HOST, random.randrange(20_000, 31_000))
    return first, next_free_port(HOST, first + 1)


@dataclass(frozen=True, slots=True)
class Row:
    """The trials of one system with one kind of fault."""

    peer: str
    fault: str
    trials: tuple[Count, ...]

    @property
    def sum(self) -> Count:
        return together(self.trials)


def has(peer: Peer, fault: str) -> bool:
    """Whether *peer* has the parts that *fault* kills."""
    return "master" not in FAULTS[fault] or isinstance(peer, Mesh)


def measure(
    peers: list[Peer], faults: list[str], env: Path, size: Size, logs: Path | None
) -> tuple[list[Row], list[str]]:
    """The rows of every system that could be tried, and what was wrong with the others."""
    problems: dict[str, str] = {}
    rows = []
    for fault in faults:
        trials: dict[str, list[Count]] = {peer.name: [] for peer in peers if has(peer, fault)}
        for seed in range(1, size.seeds + 1):
            for peer in (one for one in peers if one.name in trials and one.name not in problems):
                tell(f"{fault}, seed {seed} of {size.seeds}: {peer.name}")
                try:
                    trials[peer.name].append(try_once(peer, env, FAULTS[fault], size, seed, logs))
                except PeerError as error:
                    problems[peer.name] = str(error)
        rows += [Row(name, fault, tuple(counts)) for name, counts in trials.items() if counts]
    tell("")
    return rows, [f"{name}: {problem}" for name, problem in problems.items()]


# What it says


def tell(text: str) -> None:
    """Show *text* in place of what was told before, to a person who watches."""
    if sys.stderr.isatty():
        print(f"\r{text:60}\r", end="", file=sys.stderr, flush=True)


def table(rows: list[Row]) -> str:
    """One line for each system and kind of fault."""
    counted = ("tasks", "kills", "lost", "twice", "unknown", "refused")
    heads = ("killed", "", *counted, "recovery", "x mesh", "worst", "none", "last one after", "fell over")
    ours = {row.fault: row.sum.recovery_s for row in rows if row.peer == MESH.name}
    lines = [heads, *(cells(row, ours.get(row.fault)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for number, line in enumerate(lines):
        if number > 1 and line[0] != lines[number - 1][0]:
            texts.append("")
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
        texts.append("  ".join([*left, *right]))
    return "\n".join(texts)


def cells(row: Row, ours_s: float | None) -> tuple[str, ...]:
    one = row.sum
    is_ours = row.peer in {MESH.name, MESH_SAFE.name}
    ratio = "-" if one.recovery_s is None or not ours_s else f"{one.recovery_s / ours_s:.2f}"
    return (
        row.fault,
        row.peer,
        str(one.tasks),
        str(sum(one.kills.values())),
        str(one.lost),
        str(one.twice),
        f"{one.unknown} ({one.unknown_done} done)" if is_ours else "-",
        f"{one.refused} ({one.refused_done} done)" if is_ours else "-",
        seconds(one.recovery_s),
        ratio,
        seconds(one.worst_s),
        str(one.unrecovered),
        seconds(one.tail_s),
        str(one.fallen),
    )


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a promise of ours holds. *is_due* ones decide how the benchmark exits; times never do."""

    says: str
    value: float
    limit: float
    is_due: bool = True

    @property
    def is_held(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{'held  ' if self.is_held else 'MISSED'} {self.says}: {self.value:g} (at most {self.limit:g})"


def verdicts(rows: list[Row]) -> list[Verdict]:
    """What docs/reliability.md promises of the mesh; nothing, where it was not tried."""
    never = [row.sum for row in rows if row.peer == MESH.name]
    ours = [row.sum for row in rows if row.peer in {MESH.name, MESH_SAFE.name}]
    if not ours:
        return []
    said = [
        Verdict("tasks lost by the mesh", sum(one.lost for one in ours), 0),
        Verdict("tasks done twice by the mesh, where the tool may not be repeated", sum(one.twice for one in never), 0),
        Verdict("tasks done of which the mesh said that they were not", sum(one.refused_done for one in ours), 0),
    ]
    for row in rows:
        if row.peer == MESH.name and row.sum.recovery_s is not None:
            recovery_s = round(row.sum.recovery_s, 2)
            said.append(Verdict(f"median recovery in s, {row.fault} killed", recovery_s, RECOVERY_LIMIT_S, False))
    return said


def chosen(names: str, known: list[str], what: str) -> list[str]:
    """Those of *known* that *names* says; all, where it is empty."""
    wanted = names.split(",") if names else known
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no {what} is named {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in wanted]


def ready(names: list[str], env: Path, *, may_install: bool) -> tuple[list[Peer], bool]:
    """Those of the peers that can be run; the others are named. And whether the mesh is not among those."""
    peers, is_mesh_missing = [], False
    for peer in (peer for peer in PEERS if peer.name in names):
        try:
            set_up(peer, env, may_install=may_install)
            peers.append(peer)
        except PeerError as error:
            print(f"skipped: {peer.name}: {error}", file=sys.stderr)
            is_mesh_missing |= isinstance(peer, Mesh)
    return peers, is_mesh_missing


def main() -> None:
    names, faults = [peer.name for peer in PEERS], list(FAULTS)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", default="", help=f"some of {','.join(names)}; default: all")
    parser.add_argument("--faults", default="", help=f"some of {','.join(faults)}; default: all")
    parser.add_argument("--seeds", type=int, help=f"trials with each kind of fault (default: {WHOLE.seeds})")
    parser.add_argument("--quick", action="store_true", help="few tasks and one seed, to see whether all of it works")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--logs", type=Path, help="keep the files of every trial there, each in a new folder")
    parser.add_argument(
        "--env", type=Path, default=Path.home() / ".cache/pibot-bench", help="where peers are installed"
    )
    parser.add_argument("--skip-install", action="store_true", help="try only what is installed already")
    arguments = parser.parse_args()
    begun = time.monotonic()
    whole = QUICK if arguments.quick else WHOLE
    size = replace(whole, seeds=arguments.seeds or whole.seeds)
    peers, is_mesh_missing = ready(
        chosen(arguments.peers, names, "peer"), arguments.env, may_install=not arguments.skip_install
    )
    rows, problems = measure(peers, chosen(arguments.faults, faults, "fault"), arguments.env, size, arguments.logs)
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    said = verdicts(rows)
    print(table(rows), "", *said, sep="\n")
    for peer in peers:
        print(f"{peer.name}: {versions_of(peer, arguments.env)}")
    print(f"{size.tasks} tasks, {size.seeds} seeds; {time.monotonic() - begun:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(rows, said, peers, size, arguments.env), indent=1))
    has_failed = any(problem.startswith(MESH.name) for problem in problems)
    is_broken = any(verdict.is_due and not verdict.is_held for verdict in said)
    sys.exit(1 if has_failed or is_broken or is_mesh_missing else 0)


def as_json(rows: list[Row], said: list[Verdict], peers: list[Peer], size: Size, env: Path) -> dict[str, object]:
    return {
        "python": sys.version.split()[0],
        "versions": {peer.name: versions_of(peer, env) for peer in peers},
        "size": asdict(size),
        "rows": [
            {
                "peer": row.peer,
                "fault": row.fault,
                "recovery_s": row.sum.recovery_s,
                "worst_s": row.sum.worst_s,
                **asdict(row.sum),
                "trials": [asdict(trial) for trial in row.trials],
            }
            for row in rows
        ],
        "verdicts": [{"says": v.says, "value": v.value, "limit": v.limit, "is_held": v.is_held} for v in said],
    }


if __name__ == "__main__":
    main()
