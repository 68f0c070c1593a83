"""The table of what a mesh endures: ``python -m tests.faults.table ROWS DOCUMENT`` writes it between its marks.

ROWS is a file of rows as JSON, one a line, as a run of the tests leaves it where ``PIBOT_FAULT_ROWS`` names one.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pibot_mesh.mqtt.private import find_mosquitto

BEGIN: Final = "<!-- The table of the faults: begin. Written by scripts/reliability; what is changed here is lost. -->"
END: Final = "<!-- The table of the faults: end. -->"
ROWS_VARIABLE: Final = "PIBOT_FAULT_ROWS"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one fault, once. *duplicated* are effects and replies; None: there was nothing to recover from."""

    fault: str
    accepted: int
    replied: int
    duplicated: int
    lost: int
    recovery_s: float | None = None


def merged(rows: Iterable[Row]) -> list[list[str]]:
    """The cells of the table: a line for each fault, in the order in which they came first."""
    by_fault: dict[str, list[Row]] = {}
    for row in rows:
        by_fault.setdefault(row.fault, []).append(row)
    return [_cells(fault, same) for fault, same in by_fault.items()]


def table_text(rows: Sequence[Row]) -> str:
    """The table in Markdown, with its sums."""
    head = ["fault", "times", "accepted", "replied", "duplicated", "lost", "recovery, median", "worst"]
    lines = [head, ["---", *["---:"] * 7], *merged(rows), _cells("**all**", rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def add_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def with_table(document: str, table: str) -> str:
    """*document* with *table* between its marks. Raises ValueError where it does not have both, in this order."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document must have both lines: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def conditions() -> str:
    """When, where and with what the run was made, for people to read."""
    program = find_mosquitto() or "mosquitto"
    said = subprocess.run([program, "-h"], capture_output=True, text=True, check=False)
    broker = said.stdout.partition("\n")[0].removeprefix("mosquitto version ") or "unknown"
    return (
        f"Run on {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), "
        f"Python {platform.python_version()}, Mosquitto {broker}, paho-mqtt {version('paho-mqtt')}."
    )


def _cells(fault: str, rows: Sequence[Row]) -> list[str]:
    sums = [sum(column) for column in zip(*((r.accepted, r.replied, r.duplicated, r.lost) for r in rows), strict=True)]
    times = [row.recovery_s for row in rows if row.recovery_s is not None]
    recovery = [f"{statistics.median(times):.2f} s", f"{max(times):.2f} s"] if times else ["", ""]
    return [fault, str(len(rows)), *map(str, sums), *recovery]


def main(rows_file: str, document_file: str) -> None:
    """Write the table of *rows_file* into *document_file*."""
    document = Path(document_file)
    table = f"{conditions()}\n\n{table_text(read_rows(Path(rows_file)))}"
    document.write_text(with_table(document.read_text(encoding="utf-8"), table), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
