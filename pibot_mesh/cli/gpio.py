"""``pibot gpio``."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pibot_mesh.cli.exits import FAILED, INTERRUPTED
from pibot_mesh.cli.options import environment
from pibot_mesh.cli.screen import WIDE, log_in_words, say, say_json
from pibot_mesh.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from rich.table import Table

    from pibot_mesh.cli.gpio_test import Ask
    from pibot_mesh.cli.gpio_view import PinView
    from pibot_mesh.config.settings import DeviceSettings, NodeSettings
    from pibot_mesh.hardware.board import Board
    from pibot_mesh.protocol.messages import OutputValue

F = TypeVar("F", bound=Callable[..., Any])

_FIRST_READING_S: Final = 10.0
"""How long a sensor may take for its first reading."""
_REDRAW_S: Final = 0.25
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals beside Ctrl-C after which outputs must be safe: a closed terminal is one."""


def node_options(function: F) -> F:
    """Add ``--config``, ``--simulate`` and ``--state-dir``: which node's devices these are."""
    config = click.option("--config", metavar="FILE", help="The node's file.")
    simulate = click.option("--simulate", is_flag=True, help="Touch no pins.")
    state_dir = click.option(
        "--state-dir", metavar="DIR", help="The folder with the node's journal; or PIBOT_STATE_DIR."
    )
    return config(simulate(state_dir(function)))


@click.group("gpio")
def command() -> None:
    """Show and try the pins of this machine, without a broker.

    Pins have one owner: neither works while the node runs.
    """


@command.command("read")
@click.option("--once", "is_once", is_flag=True, help="Show it once, and end.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object, and end.")
@node_options
def read(is_once: bool, is_json: bool, config: str | None, simulate: bool, state_dir: str | None) -> None:
    """Show the devices of this machine, until Ctrl-C.

    It switches nothing: of an output it says only what its pin is driven at, where the system tells that. With --once
    and --json it ends with 2 where an input or a sensor gave nothing.
    """
    log_in_words(logging.WARNING)
    with _alone(config, simulate, state_dir) as settings:
        code = _run(_read(settings, is_once=is_once or is_json, is_json=is_json))
    click.get_current_context().exit(code)


@command.command("test")
@click.argument("devices", metavar="[DEVICE...]", nargs=-1)
@node_options
def test(devices: tuple[str, ...], config: str | None, simulate: bool, state_dir: str | None) -> None:
    """Try the devices of this machine one by one: those that are named, or all.

    Each output is switched for a second, once you say so; the others are safe meanwhile. All are safe at the end, also
    after Ctrl-C. Ends with 2 where anything failed.
    """
    log_in_words(logging.ERROR)
    with _alone(config, simulate, state_dir) as settings:
        code = _run(_test(settings, _named(settings.devices, devices)))
    click.get_current_context().exit(code)


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Do *work* until it ends or a signal comes; it cleans up in either case."""

    async def main() -> int:
        own = asyncio.current_task()
        assert own is not None
        for number in _ENDING:
            asyncio.get_running_loop().add_signal_handler(number, own.cancel)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        return INTERRUPTED


@contextmanager
def _alone(config: str | None, is_forced: bool, state_dir: str | None) -> Iterator[NodeSettings]:
    """The settings of the node of this machine, which does not run meanwhile. Raises StoreError where it does."""
    from pibot_mesh.cli.node import node_settings
    from pibot_mesh.storage import Alone

    settings = node_settings(config, environment(None, None, PIBOT_STATE_DIR=state_dir), is_forced=is_forced)
    if not settings.devices:
        raise ConfigError([f"{config or 'the node'} has no devices: name its file with --config, or add --simulate"])
    lock = settings.state_dir.expanduser() / f"node-{settings.id}.lock"
    process = holder(lock)
    if process:
        raise StoreError(
            f"the node {settings.id} runs (process {process}) and has the pins: use 'pibot status' or 'pibot watch', "
            "or end it first"
        )
    alone = Alone(lock, f"node {settings.id}")
    try:
        yield settings
    finally:
        alone.close()


def holder(lock: Path) -> str:
    """The id of the process that has the file *lock* (see `pibot_mesh.storage.Alone`), or nothing."""
    try:
        with lock.open(encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except OSError:
        return ""
    return ""


def _named(devices: Sequence[DeviceSettings], names: Sequence[str]) -> list[DeviceSettings]:
    """The devices of these names, or all. Raises UsageError for a name that is none."""
    from pibot_mesh.config.source import suggestion

    known = {device.id: device for device in devices}
    for name in names:
        if name not in known:
            near = suggestion(name, known)
            raise click.UsageError(f"There is no device {name!r}{near}; there are: {', '.join(known)}.")
    return [known[name] for name in names] or list(devices)


# read


async def _read(settings: NodeSettings, *, is_once: bool, is_json: bool) -> int:
    from pibot_mesh.cli.gpio_view import PinView
    from pibot_mesh.hardware.board import Board
    from pibot_mesh.hardware.kinds import KINDS

    outputs = [device for device in settings.devices if KINDS[device.kind].direction == "out"]
    view, changed = PinView(settings.devices, _driven(settings, outputs)), asyncio.Event()

    def seen(change: Any) -> None:
        view.see(change, time.monotonic())
        changed.set()

    others = [device for device in settings.devices if device not in outputs]
    board = Board(others, simulate=settings.simulate, on_change=seen)
    await board.start()
    try:
        await _until_read(view, changed)
        if not is_once:
            await _show_live(view, settings)
    finally:
        await board.stop()
    if is_json:
        say_json(view.to_json(time.monotonic()))
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            console.width = WIDE
        console.print(_table(view, settings))
    return 0 if view.is_complete else FAILED


def _levels(settings: NodeSettings) -> Path:
    """Where simulated pins keep what they are at."""
    return settings.state_dir.expanduser() / f"pins-{settings.id}"


def _driven(settings: NodeSettings, outputs: Sequence[DeviceSettings]) -> dict[str, OutputValue]:
    """What outputs are at, of those that somebody drives, as the kernel tells it (of simulated ones, their file)."""
    from pibot_mesh.hardware.found import SimulatedLevels, driven_values
    from pibot_mesh.hardware.pins import open_factory

    if settings.simulate:
        levels = SimulatedLevels(_levels(settings))
        try:
            return levels.values(outputs)
        finally:
            levels.close()
    if not outputs:
        return {}
    factory = open_factory(simulate=False)
    try:
        return driven_values(factory.chip, outputs)
    finally:
        factory.close()


async def _until_read(view: PinView, changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_FIRST_READING_S):
            while not view.is_complete:
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return


async def _show_live(view: PinView, settings: NodeSettings) -> None:
    from rich.live import Live

    with Live(_table(view, settings), auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(_REDRAW_S)
            live.update(_table(view, settings), refresh=True)


def _table(view: PinView, settings: NodeSettings) -> Table:
    from rich import box
    from rich.table import Table

    what = f"node {settings.id}{', simulated pins' if settings.simulate else ''}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=what, title_justify="left")
    for column in ("device", "kind", "GPIO", "value", "last event", "read"):
        table.add_column(column, overflow="fold")
    for row in view.rows(time.monotonic()):
        age = f"{row.age} ago" if row.age else ""
        table.add_row(row.device, row.kind, row.pins, row.value, row.event, age, style="red" if row.is_missing else "")
    return table


# test


async def _test(settings: NodeSettings, devices: Sequence[DeviceSettings]) -> int:
    from pibot_mesh.cli.gpio_test import Walk, verdict_text
    from pibot_mesh.cli.typing_in import plain_lines
    from pibot_mesh.hardware.board import Board

    if settings.simulate:
        say("These pins are simulated: nothing will move.", tone="odd")
    walk = Walk(_asking(plain_lines()), is_simulated=settings.simulate)
    board = Board(
        settings.devices,
        simulate=settings.simulate,
        on_change=walk.heard,
        safety=settings.safety,
        levels=_levels(settings),
    )
    async with _safe(board):
        verdicts = await walk.through(board, devices)
    say()
    width = max(len(verdict.device) for verdict in verdicts)
    for verdict in verdicts:
        say(verdict_text(verdict, width), tone={"passed": "good", "failed": "bad", "skipped": ""}[verdict.outcome])
    return FAILED if any(verdict.outcome == "failed" for verdict in verdicts) else 0


@asynccontextmanager
async def _safe(board: Board) -> AsyncIterator[None]:
    """Run *board* with every output safe at the beginning and at the end, and not at its initial value."""
    from pibot_mesh.cli.gpio_test import CAUSE

    board.hold(True, CAUSE)
    try:
        await board.start()
        board.hold(False, CAUSE)
        # A person is there: what is for a house that is left to itself does not set in.
        board.reach(True, "")
        yield
    finally:
        await board.stop()


def _asking(lines: AsyncIterator[str]) -> Ask:
    async def ask(question: str) -> str | None:
        click.echo(question, nl=False)
        return await anext(lines, None)

    return ask
