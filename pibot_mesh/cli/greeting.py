"""What ``pibot up`` says when it is ready: what runs, and what to try."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pibot_mesh import __version__
from pibot_mesh.agent.providers import is_configured
from pibot_mesh.cli.model_options import model_words
from pibot_mesh.cli.options import Connection
from pibot_mesh.cli.screen import say
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard

_SENTENCES: Final = (
    "turn on the fan on worker-1 and read the temperature on worker-2",
    "set the lamp in the kitchen to 40 % for 10 minutes",
    "if the temperature on the balcony is above 20, turn on the fan in the kitchen",
    "what can you do",
)
_FREE_WORDS: Final = ("I am cold and want to read: make the kitchen cosy",)
"""What no sentence template knows."""


def greet(mesh: Connection, broker_name: str, cards: Sequence[NodeCard], folder: Path, model: ModelSettings) -> None:
    """Print it all."""
    say(f"PiBot Mesh {__version__} is running.", bold=True)
    say(f"  broker  {broker_name} on {mesh.broker}")
    say(f"  master  state in {_short(folder)}")
    only = "" if is_configured(model) else ": only sentences like those below are understood"
    say(f"  model   {model_words(model)}{only}")
    places = [f"{card.node}{_room(card.devices)}" for card in cards]
    say(f"  nodes   {', '.join(places)}")
    if cards:
        say(f"          each with {', '.join(device.name for device in cards[0].devices)}; all simulated")
    say()
    say("Type a request, for example:")
    for sentence in [*_SENTENCES, *(_FREE_WORDS if is_configured(model) else ())]:
        say(f"  {sentence}", tone="key")
    say()
    say("From another terminal:")
    for line in commands(mesh):
        say(f"  {line}", tone="key")
    say()
    say("Ctrl-C, Ctrl-D or exit ends it.")
    say()


def commands(mesh: Connection) -> list[str]:
    """Lines to copy that watch and ask this very mesh."""
    where = "" if mesh.broker.host in ("127.0.0.1", "localhost") else f" -h {mesh.broker.host}"
    where += "" if mesh.broker.port == 1883 else f" -p {mesh.broker.port}"
    root = mesh.root
    return [
        f"mosquitto_sub{where} -v -t {_quote(f'{root}/#')}",
        f'mosquitto_pub{where} -t {shlex.quote(f"{root}/request")} -m "turn off the fan on worker-1"',
        f"{_program()} status --watch {mesh.options}".rstrip(),
    ]


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _program() -> str:
    """How this program is called from here."""
    own = Path(sys.argv[0])
    if own.name != "pibot":
        return "pibot"
    found = shutil.which("pibot")
    if found is not None and Path(found).resolve() == own.resolve():
        return "pibot"
    try:
        return shlex.quote(str(own.resolve().relative_to(Path.cwd())))
    except (ValueError, OSError):
        return shlex.quote(str(own))


def _room(devices: Sequence[DeviceSpec]) -> str:
    rooms = sorted({device.room for device in devices if device.room})
    return f" ({', '.join(rooms)})" if rooms else ""


def _short(folder: Path) -> str:
    try:
        return f"~/{folder.resolve().relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(folder)
