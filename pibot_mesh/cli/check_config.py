"""``pibot check-config``."""

from __future__ import annotations

import click

from pibot_mesh.cli.screen import say


@click.command("check-config")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def command(files: tuple[str, ...]) -> None:
    """Say everything that is wrong with configuration files, a master's or a node's.

    The environment does not count. Ends with 2 where anything is wrong.
    """
    from pibot_mesh.cli.exits import FAILED
    from pibot_mesh.config.loader import check_file
    from pibot_mesh.node.check import check_node

    is_wrong = False
    for file in files:
        problems = check_file(file, check=check_node) or _sentence_problems(file)
        for problem in problems:
            say(problem, tone="bad")
        if not problems:
            say(f"{file}: ok", tone="good")
        is_wrong = is_wrong or bool(problems)
    if is_wrong:
        click.get_current_context().exit(FAILED)


def _sentence_problems(file: str) -> list[str]:
    """What is wrong with the sentence templates that a master's file names."""
    from pibot_mesh.config.loader import load_master, role_of
    from pibot_mesh.config.source import read_yaml
    from pibot_mesh.errors import ConfigError

    if role_of(read_yaml(file)) != "master" or not (sentences := load_master(file, {}).sentences):
        return []
    from pibot_mesh.master.offline import OfflineEngine

    try:
        OfflineEngine(sentences)
    except ConfigError as error:
        return list(error.problems)
    return []
