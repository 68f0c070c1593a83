"""The table that a run writes: what is in it, and where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.table import BEGIN, END, Row, add_rows, main, read_rows, table_text, with_table

ROWS = [
    Row("cut", 40, 40, 0, 0, 1.0),
    Row("killed", 38, 39, 0, 0),
    Row("cut", 50, 52, 1, 0, 3.0),
    Row("cut", 1, 1, 0, 0, 2.0),
]


def test_rows_of_one_fault_are_one_line_with_sums_median_and_worst() -> None:
    """In the order in which the faults came first; the last line has the sums of all."""
    lines = table_text(ROWS).splitlines()

    assert lines[2:] == [
        "| cut | 3 | 91 | 93 | 1 | 0 | 2.00 s | 3.00 s |",
        "| killed | 1 | 38 | 39 | 0 | 0 |  |  |",
        "| **all** | 4 | 129 | 132 | 1 | 0 | 2.00 s | 3.00 s |",
    ]


def test_rows_of_several_runs_are_added_up(tmp_path: Path) -> None:
    """Each run adds its own to the file."""
    path = tmp_path / "rows"
    add_rows(path, ROWS[:1])
    add_rows(path, ROWS[1:])

    assert read_rows(path) == ROWS


def test_the_table_takes_the_place_of_the_one_before_and_the_prose_stays(tmp_path: Path) -> None:
    """Twice, so that the second finds the first."""
    document, rows = tmp_path / "document.md", tmp_path / "rows"
    document.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nMore.\n", encoding="utf-8")
    add_rows(rows, ROWS)
    main(str(rows), str(document))
    once = document.read_text(encoding="utf-8")
    main(str(rows), str(document))

    assert document.read_text(encoding="utf-8") == once
    assert once.startswith(f"# Title\n\n{BEGIN}\n\nRun on ")
    assert once.endswith(f" |\n\n{END}\n\nMore.\n")
    assert "old" not in once


def test_a_document_without_the_marks_is_not_touched() -> None:
    """It would be lost where the table goes."""
    with pytest.raises(ValueError, match="must have both lines"):
        with_table("# Title\n", "table")
