"""``pibot ask``."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

import click

from pibot_mesh.cli.exits import INTERRUPTED, exit_code
from pibot_mesh.cli.options import Connection, connection, mesh_options
from pibot_mesh.cli.screen import clean, log_in_words, say, say_json

if TYPE_CHECKING:
    from pibot_mesh.cli.asking import Asking
    from pibot_mesh.protocol.messages import Event, Reply

_LAST_WORD_S: Final = 8.0
"""How long a cancelled request's reply is waited for: the master gives its nodes 5 s."""


class _Spinner(Protocol):
    def update(self, status: str) -> None: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


def _check_session(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    import re

    from pibot_mesh.protocol.codec import ID_PATTERN

    if value is not None and not re.fullmatch(ID_PATTERN, value):
        raise click.BadParameter("a name of 1 to 64 letters, digits, '_' or '-' is expected", ctx, parameter)
    return value


@click.command("ask")
@click.argument("words", metavar="TEXT", nargs=-1, required=True)
@click.option("--json", "is_json", is_flag=True, help="Print the reply as one JSON object (docs/protocol.md), no more.")
@click.option("--node", metavar="NAME", help="Do every step on this node.")
@click.option(
    "--session",
    metavar="NAME",
    callback=_check_session,
    help='Go on with the conversation of this name: "and now off again" is about the device before.',
)
@click.option("--plan-only", is_flag=True, help="Show what would be done, and do nothing.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 604_800),
    default=120.0,
    show_default=True,
    help="Seconds that it may take.",
)
@mesh_options
def command(
    *,
    words: tuple[str, ...],
    is_json: bool,
    node: str | None,
    session: str | None,
    plan_only: bool,
    timeout_s: float,
    broker: str | None,
    root: str | None,
) -> None:
    """Ask for something, and wait for the answer.

    The answer goes to standard output, progress to standard error. Ctrl-C cancels the request, and waits for what had
    been done by then; a second one does not wait. Where the master or the broker goes away, its return is waited for.
    """
    text = " ".join(words).strip()
    if not text:
        raise click.BadParameter("say what you want, such as: turn on the fan", param_hint="TEXT")
    log_in_words(logging.ERROR)
    mesh = connection(broker, root)
    show = _Show(mesh, is_json=is_json, shows_plan=not plan_only)
    choices = Choices(text, node, session, "plan_only" if plan_only else "auto", timeout_s)
    code = asyncio.run(_ask(mesh, choices, show))
    click.get_current_context().exit(code)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was asked for on the command line."""

    text: str
    node: str | None
    session: str | None
    mode: Literal["plan_only", "auto"]
    timeout_s: float


class _Show:
    """What is seen while a request runs: a spinner on a terminal, plain lines elsewhere, nothing for ``--json``."""

    def __init__(self, mesh: Connection, *, is_json: bool, shows_plan: bool) -> None:
        from pibot_mesh.cli.approval_prompt import can_ask_here
        from pibot_mesh.cli.story import Progress

        self.can_ask = can_ask_here() and not is_json
        """Whether questions are answered right here."""
        self._mesh = mesh
        self._progress = Progress()
        self._is_json = is_json
        self._skipped = set() if shows_plan else {"request_planned"}
        self._spinner: _Spinner | None = None

    def live(self) -> AbstractContextManager[object]:
        """A context in which a spinner turns, where there is a terminal for it."""
        if self._is_json or not (sys.stdout.isatty() and sys.stderr.isatty()):
            return nullcontext()
        from rich.console import Console

        status = Console(stderr=True).status("asking")
        self._spinner = status
        return status

    def event(self, event: Event) -> None:
        """Show one event."""
        from pibot_mesh.cli.story import event_lines

        if self._is_json:
            return
        doing = self._progress.after(event)
        if self._spinner is not None and doing is not None:
            from rich.markup import escape

            self._spinner.update(escape(clean(doing)))
        if event.type in self._skipped:
            return
        if event.type == "request_accepted":
            self._skipped.add(event.type)  # it is sent again to a master that comes back, which says so
        for line in event_lines(event, options=None if self.can_ask else self._mesh.options):
            say(line.text, tone=line.tone, dim=line.dim, err=True)

    def tell(self, line: str) -> None:
        """Show a line about the master or the broker."""
        if self._is_json:
            return
        say(line, tone="odd", err=True)
        if self._spinner is not None:
            self._spinner.update(line)

    @contextmanager
    def still(self) -> Iterator[None]:
        """A context in which no spinner turns."""
        if self._spinner is not None:
            self._spinner.stop()
        yield
        if self._spinner is not None:
            self._spinner.start()

    def interrupted(self) -> None:
        """Ctrl-C was pressed."""
        self._skipped.add("cancel_requested")
        if not self._is_json:
            say("cancelling; Ctrl-C again to leave at once", tone="odd", err=True)

    def reply(self, reply: Reply) -> None:
        """Show the answer."""
        from pibot_mesh.cli.story import reply_line
        from pibot_mesh.protocol.codec import VERSION, to_dict

        if self._is_json:
            say_json({"v": VERSION, **to_dict(reply)})
        else:
            line = reply_line(reply)
            say(line.text, tone=line.tone, bold=not line.tone)


async def _ask(mesh: Connection, choices: Choices, show: _Show) -> int:
    from pibot_mesh.cli.approval_prompt import ApprovalPrompt
    from pibot_mesh.cli.asking import Asking
    from pibot_mesh.cli.viewer import WAIT_S
    from pibot_mesh.client import Client, who

    async with Client(mesh.broker, root=mesh.root, wait_s=WAIT_S, by=who("pibot ask")) as client:
        asking = Asking(
            client,
            choices.text,
            node=choices.node,
            mode=choices.mode,
            timeout_s=choices.timeout_s,
            session=choices.session,
            tell=show.tell,
        )
        interrupts = _Interrupts(asking, show)
        prompt = ApprovalPrompt(asking.control, interrupts.came, show.still) if show.can_ask else None
        with show.live():
            async for event in asking:
                show.event(event)
                if prompt is not None:
                    prompt.see(event)
            if prompt is not None:
                await prompt.close()
        reply = asking.reply
    if reply is not None:
        show.reply(reply)
    if interrupts.number or reply is None:
        return INTERRUPTED
    return exit_code(reply.state)


class _Interrupts:
    """Ctrl-C: the first cancels the request, the second does not wait for its reply."""

    def __init__(self, asking: Asking, show: _Show) -> None:
        self.number = 0
        """How often it was pressed."""
        self._asking = asking
        self._show = show
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGINT, self.came)

    def came(self) -> None:
        """Ctrl-C was pressed."""
        self.number += 1
        if self.number > 1:
            self._asking.leave()
            return
        self._asking.cancel("Ctrl-C")
        self._show.interrupted()
        self._loop.call_later(_LAST_WORD_S, self._asking.leave)
