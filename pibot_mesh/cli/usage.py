"""``pibot usage``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

import click

from pibot_mesh.cli.ledger_options import ledger_options, ledger_settings, reading
from pibot_mesh.cli.screen import clean, say, say_json

if TYPE_CHECKING:
    from rich.table import Table

    from pibot_mesh.config.settings import Prices
    from pibot_mesh.master.usage import Part, Sum
    from pibot_mesh.protocol.codec import JSON

_WIDE: Final = 200
"""Columns where there is no terminal, so that nothing is folded in a pipe or a file."""


@click.command("usage")
@click.option("--by", type=click.Choice(["day", "node", "request"]), default="day", help="What each line is for.")
@click.option("--days", type=click.IntRange(1, 400), default=30, show_default=True, help="So many, with today.")
@ledger_options
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object.")
def command(
    *, by: str, days: int, config: str | None, state_dir: str | None, ledger: str | None, is_json: bool
) -> None:
    """Show what the model was used for, by the ledger of the master on this machine.

    Tokens and calls by day, node or request, and what they cost where the file names prices. The node "master" is the
    master itself. The master may run meanwhile; "pibot up" keeps its ledger in ~/.local/state/pibot/up/PORT.
    """
    from datetime import datetime, timedelta

    from pibot_mesh.master.usage import sums, total

    settings = ledger_settings(config, state_dir, ledger)
    since = str((datetime.now().astimezone() - timedelta(days=days - 1)).date())
    with reading(settings) as reader:
        rows = reader.usage(since)
    lines = sums(rows, cast("Part", by))
    if by != "day":
        lines.sort(key=lambda line: line.usage.input + line.usage.output, reverse=True)
    if is_json:
        say_json(_as_json(by, since, lines, total(rows), settings.prices))
    elif not rows:
        say(f"The model was not used {'today' if days == 1 else f'in the last {days} days'}.")
    else:
        _print(_table(by, [*lines, total(rows)], settings.prices))


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def _table(by: str, lines: Sequence[Sum], prices: Prices | None) -> Table:
    """*lines*, of which the last is the total."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_footer=True)
    *others, whole = [_cells(line, prices) for line in lines]
    titles = ["calls", "input", "cached", "output", *([f"cost ({clean(prices.currency)})"] if prices else [])]
    table.add_column(by, "total", overflow="fold")
    for title, end in zip(titles, whole, strict=True):
        table.add_column(title, end, justify="right")
    for line, cells in zip(lines, others, strict=False):
        table.add_row(Text(clean(line.name), style="bold"), *cells)
    return table


def _cells(line: Sum, prices: Prices | None) -> list[str]:
    from pibot_mesh.master.usage import cost

    counts = (line.calls, line.usage.input, line.usage.cached, line.usage.output)
    return [f"{count:,}" for count in counts] + ([f"{cost(line.usage, prices):.4f}"] if prices else [])


def _as_json(by: str, since: str, lines: Sequence[Sum], whole: Sum, prices: Prices | None) -> dict[str, JSON]:
    currency = prices.currency if prices else None
    each = [{by: line.name, **_numbers(line, prices)} for line in lines]
    return {"since": since, "by": by, "currency": currency, "usage": each, "total": _numbers(whole, prices)}


def _numbers(line: Sum, prices: Prices | None) -> dict[str, JSON]:
    from dataclasses import asdict

    from pibot_mesh.master.usage import cost

    money = {"cost": round(cost(line.usage, prices), 6)} if prices else {}
    return {"calls": line.calls, **asdict(line.usage), **money}
