"""What the model was used for: kept in the ledger, added up, and what it costs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pibot_mesh.config.settings import Prices
from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import CountUsage, Note, Origin, Record, Save
from pibot_mesh.master.ledger import USAGE_KEPT_S, Ledger, day_of
from pibot_mesh.master.ledger_file import LedgerFile
from pibot_mesh.master.store import Known
from pibot_mesh.master.usage import Sum, UsageRow, cost, sums, total
from pibot_mesh.protocol.messages import Request, State, Usage

NOON = time.mktime((2025, 3, 1, 12, 0, 0, 0, 0, -1))
DAY_S = 24 * 3600.0
PRICES = Prices(input=2.0, output=8.0, cached=0.5, currency="EUR")


def count(
    node: str = "attic", request: str = "r1", model: str = "m", usage: Usage = Usage(100, 20, 10, 5), ts: float = NOON
) -> CountUsage:
    return CountUsage(node, request, model, usage, ts)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "master.sqlite")
    yield opened
    opened.close()


# The ledger


def test_usage_is_added_up_by_day_node_request_and_model(ledger: Ledger) -> None:
    """In one row each, with the number of calls; what differs in one of them stands apart."""
    ledger.write([count(), count(usage=Usage(1, 2, 3, 4)), count("cellar")])
    ledger.write([count(), count(request="r2"), count(model="other"), count(ts=NOON + DAY_S)])

    rows = {(row.day, row.node, row.request, row.model): row for row in ledger.usage("2025-01-01")}

    assert set(rows) == {
        ("2025-03-01", "attic", "r1", "m"),
        ("2025-03-01", "cellar", "r1", "m"),
        ("2025-03-01", "attic", "r2", "m"),
        ("2025-03-01", "attic", "r1", "other"),
        ("2025-03-02", "attic", "r1", "m"),
    }
    assert rows["2025-03-01", "attic", "r1", "m"] == UsageRow(
        "2025-03-01", "attic", "r1", "m", Usage(201, 42, 23, 14), 3
    )


def test_it_is_stored_with_what_else_the_core_wants_stored(ledger: Ledger, tmp_path: Path) -> None:
    """In one batch, and there after a restart."""
    record = Record(Request("r1", "x"), Origin(), State.SUBMITTED)
    ledger.write([Save(record), count(), Note("x")])
    ledger.close()

    again = Ledger(tmp_path / "master.sqlite")

    assert again.find("r1") == Known(record)
    assert again.used_on("2025-03-01") == {"attic": 110}
    again.close()


def test_what_a_node_used_on_a_day_is_input_and_output(ledger: Ledger) -> None:
    """For the gateway's limits, after a restart of the master."""
    ledger.write([count(), count(request="r2"), count("cellar", usage=Usage(5, 0, 6)), count(ts=NOON - DAY_S)])

    assert ledger.used_on("2025-03-01") == {"attic": 220, "cellar": 11}
    assert ledger.used_on("2025-03-09") == {}


def test_only_what_is_not_older_is_shown(ledger: Ledger) -> None:
    """The oldest day first."""
    ledger.write([count(ts=NOON), count(ts=NOON - 2 * DAY_S), count(ts=NOON - DAY_S)])

    assert [row.day for row in ledger.usage("2025-02-28")] == ["2025-02-28", "2025-03-01"]


def test_what_is_older_than_a_year_and_a_month_is_forgotten(ledger: Ledger) -> None:
    """Or a card would fill up."""
    ledger.write([count(ts=NOON), count(ts=NOON + DAY_S)])
    ledger.write([count(ts=NOON + USAGE_KEPT_S + DAY_S)])

    assert [row.day for row in ledger.usage("2000-01-01")] == ["2025-03-02", day_of(NOON + USAGE_KEPT_S + DAY_S)]


def test_a_day_is_the_calendars_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Midnight is where the house is."""
    late = 1740868200.0  # 2025-03-01 22:30 UTC
    try:
        for zone, day in (("UTC", "2025-03-01"), ("Asia/Shanghai", "2025-03-02")):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert day_of(late) == day
    finally:
        monkeypatch.undo()
        time.tzset()


def old_ledger(path: Path) -> None:
    """The file of a version that counted nothing."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE request (id TEXT PRIMARY KEY, is_done INTEGER, ts REAL, record TEXT)")
    connection.close()


def test_a_ledger_of_an_earlier_version_opens(tmp_path: Path) -> None:
    """And counts from then on."""
    old_ledger(tmp_path / "master.sqlite")

    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([count()])

    assert ledger.used_on("2025-03-01") == {"attic": 110}
    ledger.close()


# Reading beside a master


def test_another_program_reads_it_while_the_master_writes(ledger: Ledger, tmp_path: Path) -> None:
    """What is stored, without waiting and without writing."""
    ledger.write([count()])
    with ledger._database.transaction(durable=False) as connection:
        connection.execute("DELETE FROM usage")
        assert LedgerFile(tmp_path / "master.sqlite").usage("2025-01-01") == ledger.usage("2025-01-01") != []


def test_reading_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither beside the file of a master that has ended, nor in it; odd names are names too."""
    folder = tmp_path / "a b?#%"
    ledger = Ledger(folder / "master.sqlite")
    ledger.write([count()])
    ledger.close()
    before = (folder / "master.sqlite").read_bytes()

    [row] = LedgerFile(folder / "master.sqlite").usage("2025-01-01")

    assert row.usage == Usage(100, 20, 10, 5)
    assert [path.name for path in folder.iterdir()] == ["master.sqlite"]
    assert (folder / "master.sqlite").read_bytes() == before


def test_a_ledger_that_counted_nothing_has_nothing(tmp_path: Path) -> None:
    """One of an earlier version is not changed by looking at it."""
    old_ledger(tmp_path / "master.sqlite")

    assert LedgerFile(tmp_path / "master.sqlite").usage("2025-01-01") == []


def test_where_there_is_no_ledger_it_is_said(tmp_path: Path) -> None:
    """And none is made."""
    with pytest.raises(StoreError, match="there is no ledger: no master has kept its state in this folder"):
        LedgerFile(tmp_path / "nowhere" / "master.sqlite").usage("2025-01-01")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "master.sqlite"
    path.write_text("something else altogether, " * 100)

    with pytest.raises(StoreError, match=r"master\.sqlite: cannot be read"):
        LedgerFile(path).usage("2025-01-01")

    assert [each.name for each in tmp_path.iterdir()] == ["master.sqlite"]


def test_a_folder_that_nobody_may_look_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as one who may look everywhere, so the refusal is played."""

    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)

    with pytest.raises(StoreError, match=r"master\.sqlite: cannot be read: Permission denied"):
        LedgerFile(tmp_path / "master.sqlite").usage("2025-01-01")


# Sums and money


ROWS = (
    UsageRow("2025-03-01", "attic", "r1", "m", Usage(100, 20, 10, 5), 2),
    UsageRow("2025-03-01", "master", "r1", "m", Usage(50, 0, 5, 0), 1),
    UsageRow("2025-03-02", "attic", "r2", "m", Usage(1, 1, 1, 1), 1),
)


def test_usage_is_added_up_by_what_one_asks_for() -> None:
    """Names in the order in which they first come; the total is the same each time."""
    assert sums(ROWS, "day") == [
        Sum("2025-03-01", Usage(150, 20, 15, 5), 3),
        Sum("2025-03-02", Usage(1, 1, 1, 1), 1),
    ]
    assert sums(ROWS, "node") == [Sum("attic", Usage(101, 21, 11, 6), 3), Sum("master", Usage(50, 0, 5, 0), 1)]
    assert [line.name for line in sums(ROWS, "request")] == ["r1", "r2"]
    assert total(ROWS) == Sum("total", Usage(151, 21, 16, 6), 4)
    assert (sums([], "day"), total([])) == ([], Sum("total"))


@pytest.mark.parametrize(
    ("usage", "money"),
    [
        (Usage(1_000_000), 2.0),
        (Usage(1_000_000, 1_000_000), 0.5),
        (Usage(1_000_000, 400_000), 1.4),
        (Usage(0, 0, 1_000_000), 8.0),
        (Usage(0, 0, 1_000_000, 900_000), 8.0),
        (Usage(), 0.0),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, money: float) -> None:
    """Cached input has its own; reasoning is output already."""
    assert cost(usage, PRICES) == pytest.approx(money)


counts = st.integers(0, 10**9)


@given(st.lists(st.builds(lambda a, b, c: Usage(a + b, b, c), counts, counts, counts), max_size=5))
def test_the_money_of_the_sum_is_the_sum_of_the_money(usages: list[Usage]) -> None:
    """However the lines are cut."""
    rows = [UsageRow("d", "n", f"r{number}", "m", usage, 1) for number, usage in enumerate(usages)]

    assert cost(total(rows).usage, PRICES) == pytest.approx(sum(cost(usage, PRICES) for usage in usages))
