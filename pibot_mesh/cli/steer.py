"""``pibot steer``."""

from __future__ import annotations

import asyncio
import logging

import click

from pibot_mesh.cli.options import check_id, connection, mesh_options
from pibot_mesh.cli.screen import log_in_words


def _check_tasks(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        check_id(ctx, parameter, value)
    return values


@click.command("steer")
@click.argument("request_id", metavar="REQUEST", callback=check_id)
@click.argument("words", metavar="TEXT", nargs=-1, required=True)
@click.option(
    "--task", "tasks", metavar="ID", multiple=True, callback=_check_tasks, help="Only this task. Repeat for more."
)
@mesh_options
def command(
    *, request_id: str, words: tuple[str, ...], tasks: tuple[str, ...], broker: str | None, root: str | None
) -> None:
    """Tell the agents that work on REQUEST something more: each reads it before its next step.

    "pibot watch 'request/+/event'" shows the ids of requests and tasks. Ends with 2 where no agent works on it.
    """
    from pibot_mesh.cli.control import give_order
    from pibot_mesh.protocol.messages import Control

    text = " ".join(words).strip()
    if not text or len(text) > 8000:
        raise click.BadParameter("say what they should know, in at most 8000 characters", param_hint="TEXT")
    log_in_words(logging.ERROR)
    order = Control("steer", text=text, tasks=tasks)
    click.get_current_context().exit(asyncio.run(give_order(connection(broker, root), request_id, order)))
