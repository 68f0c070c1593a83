"""``pibot master``."""

from __future__ import annotations

import asyncio

import click

from pibot_mesh.cli.options import environment, mesh_options


@click.command("master")
@click.argument("config", required=False)
@click.option("--config", "config_option", metavar="FILE", help="The same as CONFIG.")
@click.option("--state-dir", metavar="DIR", help="The folder for the ledger; or PIBOT_STATE_DIR.")
@mesh_options
def command(
    *, config: str | None, config_option: str | None, state_dir: str | None, broker: str | None, root: str | None
) -> None:
    """Run a master in the foreground, by the file CONFIG and the environment.

    Without CONFIG the defaults hold. It ends on Ctrl-C or SIGTERM, and waits for a broker that is not there yet.
    """
    from pibot_mesh.cli.model_options import model_words
    from pibot_mesh.cli.running import serve
    from pibot_mesh.config.loader import load_master
    from pibot_mesh.logs import log_to_terminal
    from pibot_mesh.master.service import Master

    env = environment(broker, root, PIBOT_STATE_DIR=state_dir)
    settings = load_master(config or config_option, env)
    log_to_terminal(settings.log_level)

    async def run() -> None:
        model = model_words(settings.model)
        shared = "" if settings.ledger is None else ", with a ledger that masters share"
        await serve(
            Master(settings), f"master: broker {settings.broker}, state in {settings.state_dir}{shared}, model: {model}"
        )

    asyncio.run(run())
