"""What an agent costs beside its model: PiBot's core, a bare httpx loop and four agent frameworks, in one run.

    .venv/bin/python benchmarks/agent_overhead.py [--rounds N] [--peers A,B] [--quick] [--json FILE]

The model is a server on loopback that answers at once, the same for all; every peer streams and has one tool, and its
answer and the tool's results are checked. A peer runs in a process and an environment of its own, which is made with
pip at the first run (--env says where). Rounds go from peer to peer, so that a busy machine troubles all alike.
Prints medians, and their ratios to the bare httpx loop; the machine's speed cancels out of those. Exits 0 however slow
we are, and 1 where a peer gave wrong results or we could not be measured.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAMS: Final = Path(__file__).resolve().with_suffix("").with_name("agent_overhead_peers")
DELTAS: Final = 12
"""Pieces of the final text of a run with tools."""
PROCESS_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One program that is measured; *name* is its environment's, too. *shown* is the package whose version is shown."""

    name: str
    program: str
    shown: str
    requirements: tuple[str, ...]
    arguments: tuple[str, ...] = ()


def pibot_requirements(extra: str = "") -> tuple[str, ...]:
    """What setup.cfg says that a node installs, and the *extra* on top."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    if extra:
        lines += setup["options.extras_require"][extra].splitlines()
    return tuple(line for line in lines if line)


PEERS: Final = (
    Peer("httpx", "bare_httpx.py", "httpx", ("httpx",)),
    Peer("pibot", "pibot_core.py", "pibot-mesh", pibot_requirements(), ("standard",)),
    Peer("pibot-openai", "pibot_core.py", "openai", pibot_requirements("llm"), ("openai",)),
    Peer("openai", "bare_openai.py", "openai", ("openai",)),
    Peer("smolagents", "smolagents_agent.py", "smolagents", ("smolagents[openai]",)),
    Peer("agents-sdk", "agents_sdk.py", "openai-agents", ("openai-agents",)),
    Peer("langgraph", "langgraph_graph.py", "langgraph", ("langgraph<2", "langchain-openai<2")),
    Peer("pydantic-ai", "pydantic_agent.py", "pydantic-ai-slim", ("pydantic-ai-slim[openai]<3",)),
)
STREAMED: Final = ("httpx", "pibot", "pibot-openai")
"""Get the long streams in every round; the others, which take up to half a minute for them, in the first."""


@dataclass(frozen=True, slots=True)
class Step:
    """Runs of one kind: *warmup* of them are not counted."""

    turns: int
    deltas: int
    warmup: int
    runs: int
    skip_over_s: float | None = None
    """Skipped where a run of the step before took longer."""


SHORT: Final = Step(turns=2, deltas=DELTAS, warmup=8, runs=40)
LONG: Final = Step(turns=20, deltas=DELTAS, warmup=1, runs=6)
STREAMS: Final = (
    Step(turns=1, deltas=5_000, warmup=0, runs=1),
    Step(turns=1, deltas=20_000, warmup=0, runs=1, skip_over_s=8),
)
QUICK: Final = (Step(turns=2, deltas=DELTAS, warmup=3, runs=8), Step(turns=20, deltas=DELTAS, warmup=0, runs=1))


@dataclass(frozen=True, slots=True)
class Figures:
    """What one peer took, as medians; None where a step was skipped."""

    version: str
    import_s: float
    short_ms: float
    short_cpu_ms: float
    long_ms: float
    long_cpu_ms: float
    rss_mb: float
    peak_mb: float
    stream_5000_ms: float | None
    stream_20000_ms: float | None
    stream_growth_mb: float | None
    """The most held while 20,000 deltas came, less what was held before any stream."""


@dataclass(frozen=True, slots=True)
class StepAnswer:
    """What a peer says of one step: each run's time, and its memory behind them."""

    times_s: list[float]
    cpu_s: list[float]
    rss_kb: int
    peak_kb: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one process of a peer says: its steps, up to the first that was skipped."""

    import_s: float
    steps: list[StepAnswer]


class PeerError(Exception):
    """A peer could not be run, or what it did was wrong."""


# Environments


def python_of(env: Path) -> Path:
    return env / "bin" / "python"


def is_installed(env: Path, peer: Peer) -> bool:
    marker = env / "requirements.json"
    return marker.exists() and json.loads(marker.read_text()) == list(peer.requirements)


def install(env: Path, peer: Peer) -> None:
    """Make the environment of *peer*, if it is not there. Raises PeerError."""
    if is_installed(env, peer):
        return
    print(f"installing {peer.name}: {' '.join(peer.requirements)}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(env)],
        [str(python_of(env)), "-m", "pip", "install", "--quiet", *peer.requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"{peer.name} cannot be installed: {last_lines(done.stderr)}")
    (env / "requirements.json").write_text(json.dumps(peer.requirements))


def version_of(env: Path, peer: Peer) -> str:
    program = f"from importlib.metadata import version; print(version({peer.shown!r}))"
    if peer.shown == "pibot-mesh":
        program = "import pibot_mesh; print(pibot_mesh.__version__)"
    done = subprocess.run([python_of(env), "-c", program], capture_output=True, text=True, check=True, env=clean())
    return done.stdout.strip()


def last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-6:])


# Runs


def clean() -> dict[str, str]:
    """The environment variables of a peer: no proxies, no keys, no telemetry, and our package from this tree."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "LANGSMITH_TRACING": "false",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    return {**kept, **quiet, "PYTHONPATH": str(ROOT)}


@contextmanager
def model_server() -> Iterator[str]:
    """The base URL of the model that answers at once; it has a process of its own, and ends with this block."""
    command = [sys.executable, str(PROGRAMS / "server.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"


def run_once(peer: Peer, env: Path, base_url: str, steps: list[Step]) -> Answer:
    """What one process of *peer* says. Raises PeerError where it failed, or its results are wrong."""
    wire = [{name: getattr(step, name) for name in Step.__slots__} for step in steps]
    command = [str(python_of(env)), str(PROGRAMS / peer.program), base_url, json.dumps(wire), *peer.arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=clean(), timeout=PROCESS_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{peer.name} did not end within {PROCESS_TIMEOUT_S:g} s") from error
    if done.returncode:
        raise PeerError(f"{peer.name} failed: {last_lines(done.stderr)}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Answer(said["import_s"], [StepAnswer(**step) for step in said["steps"]])


def figures(version: str, answers: list[Answer]) -> Figures:
    """The medians over all rounds that had the step."""
    short, long, small, large = ([answer.steps[n] for answer in answers if n < len(answer.steps)] for n in range(4))
    growths = [answer.steps[3].peak_kb - answer.steps[1].rss_kb for answer in answers if len(answer.steps) > 3]
    return Figures(
        version=version,
        import_s=median(answer.import_s for answer in answers),
        short_ms=median_ms(step.times_s for step in short),
        short_cpu_ms=median_ms(step.cpu_s for step in short),
        long_ms=median_ms(step.times_s for step in long),
        long_cpu_ms=median_ms(step.cpu_s for step in long),
        rss_mb=median(step.rss_kb for step in long) / 1024,
        peak_mb=median(step.peak_kb for step in long) / 1024,
        stream_5000_ms=median_ms(step.times_s for step in small) if small else None,
        stream_20000_ms=median_ms(step.times_s for step in large) if large else None,
        stream_growth_mb=median(growths) / 1024 if growths else None,
    )


def median_ms(runs_s: Iterable[list[float]]) -> float:
    """The median of the runs of all rounds."""
    return median(chain.from_iterable(runs_s)) * 1000


def measure(peers: list[Peer], envs: Path, rounds: int, *, is_quick: bool) -> tuple[dict[str, Figures], list[str]]:
    """The figures of every peer that went well, by name, and what was wrong with the others."""
    answers: dict[str, list[Answer]] = {peer.name: [] for peer in peers}
    problems: dict[str, str] = {}
    with model_server() as base_url:
        for number in range(rounds):
            turned = peers[number % len(peers) :] + peers[: number % len(peers)]
            for peer in (peer for peer in turned if peer.name not in problems):
                tell(f"round {number + 1} of {rounds}: {peer.name}")
                steps = [*(QUICK if is_quick else (SHORT, LONG))]
                has_streams = peer.name in STREAMED or (number == 0 and not is_quick)
                steps += STREAMS if has_streams else ()
                try:
                    answers[peer.name].append(run_once(peer, envs / peer.name, base_url, steps))
                except PeerError as error:
                    problems[peer.name] = str(error)
    tell("")
    sound = [peer for peer in peers if peer.name not in problems]
    found = {peer.name: figures(version_of(envs / peer.name, peer), answers[peer.name]) for peer in sound}
    return found, list(problems.values())


# What it says


def tell(text: str) -> None:
    """Show *text* in place of what was told before, to a person who watches."""
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr, flush=True)


def table(found: dict[str, Figures]) -> str:
    """One line for each peer, the quickest first."""
    base = found["httpx"]
    speeds = ("version", "2 turns", "x httpx", "cpu", "20 turns", "x httpx", "cpu")
    heads = ("", *speeds, "memory", "peak", "import", "5,000 deltas", "20,000 deltas", "grows by")
    rows = [
        (
            name,
            one.version,
            f"{one.short_ms:.2f} ms",
            f"{one.short_ms / base.short_ms:.2f}",
            f"{one.short_cpu_ms:.2f} ms",
            f"{one.long_ms:.1f} ms",
            f"{one.long_ms / base.long_ms:.2f}",
            f"{one.long_cpu_ms:.1f} ms",
            f"{one.rss_mb:.1f} MB",
            f"{one.peak_mb:.1f} MB",
            f"{one.import_s:.2f} s",
            shown(one.stream_5000_ms, "ms", 0),
            shown(one.stream_20000_ms, "ms", 0),
            shown(one.stream_growth_mb, "MB", 1),
        )
        for name, one in sorted(found.items(), key=lambda item: item[1].short_ms)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for first, *others in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def shown(value: float | None, unit: str, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f} {unit}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a promise of ours holds."""

    says: str
    value: float
    limit: float

    @property
    def is_held(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{'held  ' if self.is_held else 'MISSED'} {self.says}: {self.value:.2f} (at most {self.limit:.2f})"


def verdicts(found: dict[str, Figures]) -> list[Verdict]:
    """What issue 3 promises of the standard-library path."""
    base, ours = found["httpx"], found["pibot"]
    said = [
        Verdict("two turns, times the bare httpx loop's time", ours.short_ms / base.short_ms, 1.2),
        Verdict("twenty turns, times the bare httpx loop's time", ours.long_ms / base.long_ms, 1.2),
        Verdict("memory, MB", ours.rss_mb, 30),
    ]
    others = [one.rss_mb for name, one in found.items() if name != "pibot"]
    said.append(Verdict("memory, MB, beside the least of the others", ours.rss_mb, min(others)))
    if ours.stream_5000_ms and ours.stream_20000_ms and ours.stream_growth_mb is not None:
        said += [
            Verdict(
                "20,000 deltas, times the time of 5,000 (4 is linear)", ours.stream_20000_ms / ours.stream_5000_ms, 5
            ),
            Verdict("MB that a stream of 20,000 deltas adds", ours.stream_growth_mb, 4),
        ]
    return said


def chosen(names: str) -> list[Peer]:
    """The peers with these names; the bare loop and ours are always among them."""
    known = {peer.name: peer for peer in PEERS}
    wanted = names.split(",") if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"no peer is named {', '.join(unknown)}; there are {', '.join(known)}")
    return [peer for name, peer in known.items() if name in {"httpx", "pibot", *wanted}]


def set_up(peers: list[Peer], envs: Path, *, may_install: bool) -> list[Peer]:
    """Those of *peers* that can be run; the others are named."""
    ready = []
    for peer in peers:
        env = envs / peer.name
        try:
            if may_install:
                install(env, peer)
            elif not is_installed(env, peer):
                raise PeerError(f"{peer.name} is not installed, and --skip-install is given")
            ready.append(peer)
        except PeerError as error:
            print(f"skipped: {error}", file=sys.stderr)
    return ready


def require(names: Collection[str], what: str) -> None:
    """End here where there is nothing to compare."""
    if not {"httpx", "pibot"} <= set(names):
        sys.exit(f"the bare httpx loop and pibot could not both be {what}: there is nothing to compare")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all peers (default: 5)")
    parser.add_argument("--peers", default="", help=f"some of {','.join(peer.name for peer in PEERS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="one short round, to see whether all of it works")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--env", type=Path, default=Path.home() / ".cache/pibot-bench", help="where peers are installed"
    )
    parser.add_argument("--skip-install", action="store_true", help="measure only what is installed already")
    arguments = parser.parse_args()
    begun = time.monotonic()
    peers = set_up(chosen(arguments.peers), arguments.env, may_install=not arguments.skip_install)
    require({peer.name for peer in peers}, "set up")
    rounds = 1 if arguments.quick else max(1, arguments.rounds)
    found, problems = measure(peers, arguments.env, rounds, is_quick=arguments.quick)
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    require(found, "measured")
    said = verdicts(found)
    length = "one short round: too little to judge times by" if arguments.quick else f"{rounds} rounds"
    print(table(found), *said, f"{length}; {time.monotonic() - begun:.0f} s", sep="\n")
    if arguments.json:
        peers_json = {name: {field: getattr(one, field) for field in Figures.__slots__} for name, one in found.items()}
        verdicts_json = [{"says": v.says, "value": v.value, "limit": v.limit, "is_held": v.is_held} for v in said]
        whole = {"rounds": rounds, "python": sys.version.split()[0], "peers": peers_json, "verdicts": verdicts_json}
        arguments.json.write_text(json.dumps(whole, indent=1))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
