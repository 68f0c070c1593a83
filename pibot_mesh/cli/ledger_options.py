"""Reading a ledger: the options that say where it is, and the file or the database that they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from pibot_mesh.cli.options import environment

if TYPE_CHECKING:
    from pibot_mesh.config.settings import MasterSettings
    from pibot_mesh.master.events import Record
    from pibot_mesh.master.store import Story
    from pibot_mesh.master.usage import UsageRow

F = TypeVar("F", bound=Callable[..., Any])


class Reader(Protocol):
    """A ledger that is only read. Raises StoreError."""

    def usage(self, since_day: str) -> list[UsageRow]:
        """What the model was used for from *since_day* (``2025-03-01``) on."""

    def recent(self, limit: int) -> list[Record]:
        """The last *limit* requests, the newest first."""

    def story(self, request_id: str) -> Story | None:
        """The whole story of one request."""

    def ids(self, beginning: str, limit: int) -> list[str]:
        """The ids that begin so, at most *limit*, the newest first."""

    def close(self) -> None:
        """Let go of it."""


def ledger_options(function: F) -> F:
    """Add ``--config``, ``--state-dir`` and ``--ledger``."""
    config = click.option(
        "--config", metavar="FILE", help="The master's file: it says where the ledger is, and the prices."
    )
    state_dir = click.option(
        "--state-dir", metavar="DIR", help="The folder with the master's ledger; or PIBOT_STATE_DIR."
    )
    ledger = click.option(
        "--ledger",
        metavar="ADDRESS",
        callback=_check_ledger,
        help="The PostgreSQL ledger that masters share; or PIBOT_LEDGER.",
    )
    return config(state_dir(ledger(function)))


def _check_ledger(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from pibot_mesh.config.loader import load_master
    from pibot_mesh.errors import ConfigError

    if value is not None:
        try:
            load_master(None, {"PIBOT_LEDGER": value})
        except ConfigError as error:
            raise click.BadParameter(str(error).partition(": ")[2], ctx, parameter) from None
    return value


def ledger_settings(config: str | None, state_dir: str | None, ledger: str | None) -> MasterSettings:
    """The settings of the master whose ledger is meant. A folder that is named means the file in it."""
    from dataclasses import replace

    from pibot_mesh.config.loader import load_master

    settings = load_master(config, environment(None, None, PIBOT_STATE_DIR=state_dir, PIBOT_LEDGER=ledger))
    return settings if ledger or not state_dir else replace(settings, ledger=None)


@contextmanager
def reading(settings: MasterSettings) -> Iterator[Reader]:
    """The ledger that *settings* name, to be read while its masters may write. Raises StoreError."""
    reader = _open(settings)
    try:
        yield reader
    finally:
        reader.close()


def _open(settings: MasterSettings) -> Reader:
    if settings.ledger is None:
        from pibot_mesh.master.ledger_file import LedgerFile

        return LedgerFile(settings.state_dir.expanduser() / "master.sqlite")
    from pibot_mesh.master.postgres import PostgresLedger

    return PostgresLedger.reader(settings.ledger, root=settings.root)
