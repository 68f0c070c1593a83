"""A node's journal and the master's ledger survive kill -9 in the middle of their writes: 500 times each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 100
SEEDS = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("store", ["journal", "ledger"])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_stored_is_there_whole_however_often_its_writer_is_killed(
    store: str, seed: int, tmp_path: Path
) -> None:
    """All that the writer said to be written; of the write that was cut off, all or nothing; and the file is sound."""
    command = [sys.executable, "-m", "tests.faults.killed_store", store, str(tmp_path / "store"), str(KILLS), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    kills, writes, unsaid = (int(word) for word in done.stdout.split() if word.isdecimal())
    assert kills == KILLS
    assert writes > KILLS
    assert unsaid < KILLS, "none was killed before its write was whole"
