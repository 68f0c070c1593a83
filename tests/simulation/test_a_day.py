"""24 hours of a greenhouse in some seconds: it keeps every promise, and finds out whoever breaks one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.simulation.day_mutations import MUTATIONS, Mutation
from tests.simulation.greenhouse import LIVELY, MARCH, MAX_GROWN, OCTOBER, ONCE, Greenhouse

DAYS: Final = ((3, OCTOBER), (2, MARCH))
"""Seeds, and the days that they are lived on: such where no jump of the clock leaps over what is due once a day."""

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize(("seed", "day"), DAYS)
def test_a_day_keeps_every_promise(seed: int, day: str, tmp_path: Path) -> None:
    """Nothing on too long or together, nothing due missed or made twice, no drift, and nothing left over."""
    greenhouse = Greenhouse(seed, day, tmp_path, is_traced=day == MARCH)

    greenhouse.live()

    assert greenhouse.grown < MAX_GROWN
    assert [key for key in LIVELY if not greenhouse.tally[key]] == [], greenhouse.tally
    assert {name: greenhouse.diary.count(name) for name in ONCE} == dict.fromkeys(ONCE, 1)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.part.__name__)
def test_a_broken_part_is_found_out(mutation: Mutation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the days that the real parts live through."""
    monkeypatch.setattr(mutation.module, mutation.name, mutation.part)

    with pytest.raises(AssertionError, match=mutation.finds):
        _live_all(tmp_path)


def _live_all(folder: Path) -> None:
    for seed, day in DAYS:
        Greenhouse(seed, day, folder).live()
