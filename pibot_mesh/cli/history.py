"""``pibot history``."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.ledger_options import Reader, ledger_options, ledger_settings, reading
from pibot_mesh.cli.options import check_id
from pibot_mesh.cli.screen import say, say_json

if TYPE_CHECKING:
    from pibot_mesh.cli.story import Line
    from pibot_mesh.master.store import Story
    from pibot_mesh.master.usage import UsageRow

_NAMED: Final = 5
"""So many ids are named where the beginning of one fits several."""


@click.command("history")
@click.argument("request_id", metavar="[ID]", required=False, callback=check_id)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="So many requests, the last."
)
@ledger_options
@click.option("--json", "is_json", is_flag=True, help="Print JSON: an object a line, or one for the request ID.")
def command(
    *, request_id: str | None, limit: int, config: str | None, state_dir: str | None, ledger: str | None, is_json: bool
) -> None:
    """Show the last requests, by the ledger of the master on this machine; or the whole story of the request ID.

    The beginning of an id is enough. The master may run meanwhile; "pibot up" keeps its ledger in
    ~/.local/state/pibot/up/PORT.
    """
    with reading(ledger_settings(config, state_dir, ledger)) as reader:
        if request_id is not None:
            _tell(reader, request_id, is_json)
        else:
            _list(reader, limit, is_json)


def _list(reader: Reader, limit: int, is_json: bool) -> None:
    from pibot_mesh.cli.history_view import list_lines
    from pibot_mesh.master.history import summary_json

    records = reader.recent(limit)
    if is_json:
        for record in reversed(records):
            say_json(summary_json(record))
    elif not records:
        say("Nothing was asked yet, or nothing of it is kept any more.")
    else:
        _print(list_lines(records, columns=shutil.get_terminal_size().columns if sys.stdout.isatty() else None))


def _tell(reader: Reader, beginning: str, is_json: bool) -> None:
    from pibot_mesh.cli.history_view import story_lines
    from pibot_mesh.master.history import story_json

    story = _found(reader, beginning)
    rows = _usage_rows(reader, story)
    if is_json:
        say_json(story_json(story, rows))
    else:
        _print(story_lines(story, rows))


def _found(reader: Reader, beginning: str) -> Story:
    from pibot_mesh.cli.main import Failure

    story = reader.story(beginning)
    if story is not None:
        return story
    ids = reader.ids(beginning, _NAMED + 1)
    if len(ids) > 1:
        more = ", ..." if len(ids) > _NAMED else ""
        raise Failure(f"more than one id begins with {beginning!r}: {', '.join(ids[:_NAMED])}{more}")
    story = reader.story(ids[0]) if ids else None
    if story is None:
        raise Failure(
            f"no request {beginning!r} is in the ledger: 'pibot history' lists the last ones (one that was refused at "
            "once is not kept)"
        )
    return story


def _usage_rows(reader: Reader, story: Story) -> list[UsageRow]:
    """The rows of usage from the day before the request on: the master may live by another time zone."""
    from pibot_mesh.master.ledger import day_of

    return reader.usage(day_of(story.record.accepted_ts - 24 * 3600))


def _print(lines: list[Line]) -> None:
    for line in lines:
        say(line.text, tone=line.tone, dim=line.dim)
