"""Which broker is run: Mosquitto where it is installed, else the one inside this process."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pibot_mesh.errors import BrokerError

if TYPE_CHECKING:
    from pibot_mesh.mqtt.embedded import EmbeddedBroker
    from pibot_mesh.mqtt.private import PrivateMosquitto

Engine: TypeAlias = Literal["auto", "mosquitto", "amqtt"]
ENGINES: Final[tuple[Engine, ...]] = ("auto", "mosquitto", "amqtt")
DEFAULT_PORT: Final = 1883
_RACES: Final = 5
_LOOK_S: Final = 0.5


def make_broker(engine: Engine, host: str, port: int) -> PrivateMosquitto | EmbeddedBroker:
    """The broker of *engine*, not started yet. Raises BrokerError where there is none on this machine."""
    from pibot_mesh.mqtt.private import PrivateMosquitto, find_mosquitto

    if engine == "mosquitto" or (engine == "auto" and find_mosquitto() is not None):
        return PrivateMosquitto(host, port)
    if engine == "auto" and find_spec("amqtt") is None:
        raise BrokerError(
            'there is no broker on this machine: sudo apt-get install mosquitto, or pip install "pibot-mesh[embedded]"'
        )
    from pibot_mesh.mqtt.embedded import EmbeddedBroker

    return EmbeddedBroker(host, port)


def engine_name(broker: PrivateMosquitto | EmbeddedBroker) -> str:
    """What people call it."""
    return "Mosquitto" if type(broker).__name__ == "PrivateMosquitto" else "embedded broker (amqtt)"


async def ended(broker: PrivateMosquitto | EmbeddedBroker) -> None:
    """Wait until the program behind *broker* has ended without being told to. Never, for one in this process."""
    pid: int | None = getattr(broker, "pid", None)
    if pid is None:
        await asyncio.Event().wait()
        return
    while _exists(pid):  # noqa: ASYNC110 - nobody tells, and this is looked at twice a second
        await asyncio.sleep(_LOOK_S)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def start_broker(engine: Engine, host: str, port: int | None) -> PrivateMosquitto | EmbeddedBroker:
    """Start a broker on *port*; without one on 1883, or on the next free port. Raises BrokerError."""
    from pibot_mesh.mqtt.private import is_port_free, next_free_port

    for race in range(_RACES):
        chosen = next_free_port(host, DEFAULT_PORT) if port is None else port
        broker = make_broker(engine, host, chosen)
        try:
            await broker.start()
        except BrokerError:
            was_lost = port is None and not is_port_free(host, chosen)
            if not was_lost or race == _RACES - 1:
                raise
        else:
            return broker
    raise AssertionError("the last race raises or returns")
