"""The reliability benchmark: what it counts as lost and twice, and its short trial of the mesh on real processes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.brokers import needs_mosquitto

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DEADLINE_S = 120.0


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that counts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("reliability_peers.counting")


def test_a_task_that_was_taken_or_even_called_done_and_has_no_effect_is_lost(counting: ModuleType) -> None:
    """Neither the broker's word nor a reply makes up for an effect; silence does not either."""
    said = {"a": "accepted", "b": "completed"}
    assert counting.count(["a", "b", "c"], [], said, []).lost == 3


def test_a_task_of_which_nobody_knows_is_not_lost_but_counted_by_itself(counting: ModuleType) -> None:
    """What was said to be unknown, or not done, stands in columns of its own, with what really happened."""
    done = [counting.Done("a", 1.0), counting.Done("c", 1.5)]
    said = {"a": "unknown", "b": "unknown", "c": "refused", "d": "refused"}
    found = counting.count("abcd", done, said, [])
    assert (found.lost, found.unknown, found.unknown_done, found.refused, found.refused_done) == (0, 2, 1, 2, 1)


def test_an_effect_that_happened_again_counts_whatever_was_said(counting: ModuleType) -> None:
    """Twice is twice, also for a task that was reported as unknown, and counts once however often it was."""
    done = [counting.Done(task, at_s) for task, at_s in (("a", 1.0), ("a", 2.0), ("a", 3.0), ("b", 2.0), ("b", 2.5))]
    assert counting.count("ab", done, {"a": "unknown", "b": "accepted"}, []).twice == 2


def test_recovery_goes_from_a_restart_to_the_next_effect(counting: ModuleType) -> None:
    """Effects before the restart do not count, and a restart after which none came is told."""
    done = [counting.Done("a", 1.0), counting.Done("b", 4.5), counting.Done("c", 5.0)]
    restarts = [counting.Restart("worker", 2.0), counting.Restart("broker", 4.0), counting.Restart("worker", 6.0)]
    found = counting.count("abc", done, {}, restarts)
    assert (found.recoveries_s, found.unrecovered, found.kills) == ((2.5, 0.5), 1, {"worker": 2, "broker": 1})


def test_trials_add_up(counting: ModuleType) -> None:
    """Several trials are one, with the median over all their recoveries."""
    one = counting.count("a", [counting.Done("a", 5.0)], {}, [counting.Restart("worker", 4.0)])
    other = counting.count("b", [counting.Done("b", 9.0)], {}, [counting.Restart("worker", 6.0)])
    both = counting.together([one, other])
    assert (both.tasks, both.kills, both.recovery_s, both.worst_s) == (2, {"worker": 2}, 2.0, 3.0)


@needs_mosquitto
def test_the_mesh_loses_nothing_and_does_nothing_twice_while_its_node_is_killed(tmp_path: Path) -> None:
    """The benchmark itself, with few tasks: the node is killed amid its work, and every task is accounted for."""
    figures = tmp_path / "figures.json"
    options = ["--quick", "--peers", "mesh", "--faults", "worker", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "reliability.py"), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    [row] = json.loads(figures.read_text())["rows"]
    assert row["kills"]["worker"] > 0
    assert (row["tasks"], row["lost"], row["twice"], row["refused_done"]) == (20, 0, 0, 0)
