"""The broker, looked for on the local network: brokers announce themselves there by mDNS, as ``_mqtt._tcp``.

Nothing says that a broker is ours: whoever is on the network can announce one. docs/discovery.md says what helps.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

from pibot_mesh.config.settings import Address, BrokerSettings, address_text
from pibot_mesh.errors import ConfigError
from pibot_mesh.mqtt.connection import ConnectFailed

if TYPE_CHECKING:
    from zeroconf import Zeroconf

_log = logging.getLogger(__name__)

SERVICE: Final = "_mqtt._tcp.local."
WITHIN_S: Final = 3.0
"""Seconds in which a broker must have answered."""
OTHERS_S: Final = 0.25
"""Seconds to wait for others after the first: whoever shares a name on the network answers up to 0.12 s late."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A broker that announced itself: under which *name*, on which *host* (``hub.local``), and where that is."""

    name: str
    host: str
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return f"{self.name!r} on {self.host} ({', '.join(address_text(*address) for address in self.addresses)})"


Search: TypeAlias = Callable[[float], Awaitable[Sequence[Announcement]]]
"""Looks for brokers for so many seconds at most. Raises OSError where there is no network to look on."""


class Discovery:
    """Finds the broker; each time anew, since its address may change. Raises ConfigError without zeroconf."""

    def __init__(self, search: Search | None = None) -> None:
        if search is None:
            require_zeroconf()
        self._search = search or browse
        self._said: Announcement | None = None

    async def find(self, within_s: float = WITHIN_S) -> Announcement:
        """The broker that announces itself; of several, the first by name. Raises ConnectFailed."""
        try:
            found = chosen(await self._search(within_s))
        except OSError as error:
            raise ConnectFailed(f"no network to look for a broker on: {error.strerror or error}") from None
        if found is None:
            raise ConnectFailed(
                f"no MQTT broker announced itself as _mqtt._tcp on this network within {within_s:g} s: is it on, and "
                "does it announce itself? docs/discovery.md says how; or name its address"
            )
        broker, others = found
        if broker != self._said:
            self._said = broker
            _log.info("found the broker %s", broker)
            if others:
                _log.warning(
                    "%d brokers announce themselves here: using %s, the first by name, and not %s",
                    1 + len(others),
                    broker,
                    "; ".join(map(str, others)),
                )
        return broker


def discovery_for(settings: BrokerSettings) -> Discovery | None:
    """How to find the broker of *settings*; None where they have its address. Raises ConfigError without zeroconf."""
    if not settings.discover:
        return None
    if settings.password is not None and settings.tls is None:
        _log.warning("the broker is looked for without TLS: whoever announces one gets our password")
    return Discovery()


def chosen(found: Sequence[Announcement]) -> tuple[Announcement, tuple[Announcement, ...]] | None:
    """The broker to use, and the others: the first by name is used. None where there is none."""
    if not found:
        return None
    first, *others = sorted(found, key=lambda each: (each.name, each.host))
    return first, tuple(others)


def require_zeroconf() -> None:
    """Raise ConfigError where the library for mDNS is not installed."""
    if find_spec("zeroconf") is None:
        raise ConfigError(["looking for a broker by mDNS needs zeroconf: pip install 'pibot-mesh[discovery]'"])


async def browse(within_s: float, interfaces: Sequence[str] | None = None) -> list[Announcement]:
    """The brokers that answer within *within_s* seconds, a quarter of a second after the first at the latest.

    *interfaces* are the addresses of ours to ask from; None: all. Raises OSError where there is no network.
    """
    from zeroconf import InterfaceChoice, ServiceStateChange
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

    names, is_heard = set[str](), asyncio.Event()
    loop = asyncio.get_running_loop()

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:  # noqa: ARG001
        if state_change is ServiceStateChange.Removed:
            names.discard(name)
        else:
            names.add(name)
            is_heard.set()

    ends_at = loop.time() + within_s
    network = AsyncZeroconf(interfaces=list(interfaces) if interfaces is not None else InterfaceChoice.All)
    try:
        browser = AsyncServiceBrowser(network.zeroconf, SERVICE, handlers=[changed])
        try:
            async with asyncio.timeout_at(ends_at - OTHERS_S):
                await is_heard.wait()
        except TimeoutError:
            return []
        await asyncio.sleep(OTHERS_S)
        await browser.async_cancel()
        left_s = max(OTHERS_S, ends_at - loop.time())
        found = await asyncio.gather(*(_asked(network.zeroconf, name, left_s) for name in sorted(names)))
    finally:
        await network.async_close()
    return [each for each in found if each is not None]


async def _asked(network: Zeroconf, name: str, within_s: float) -> Announcement | None:
    """Where the broker announced as *name* is; None where it does not say so in time."""
    from zeroconf.asyncio import AsyncServiceInfo

    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(network, within_s * 1000):
        return None
    hosts = info.parsed_scoped_addresses()
    if not hosts or not info.port:
        return None
    host = (info.server or "").rstrip(".")
    addresses = tuple((each, info.port) for each in sorted(hosts, key=lambda each: ":" in each))
    return Announcement(name.removesuffix(f".{SERVICE}"), host, addresses)


@asynccontextmanager
async def announced(host: str, port: int, interfaces: Sequence[str] | None = None) -> AsyncIterator[str]:
    """Announce a broker of this machine while the block runs; gives the name under which it is announced.

    *host* is the address on which it listens, or one that stands for all. Raises ConfigError without zeroconf, and
    OSError where there is no network.
    """
    require_zeroconf()
    from zeroconf import InterfaceChoice
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    machine = re.sub(r"[^A-Za-z0-9]+", "-", platform.node().split(".", 1)[0]).strip("-") or "machine"
    network = AsyncZeroconf(interfaces=list(interfaces) if interfaces is not None else InterfaceChoice.All)
    try:
        info = AsyncServiceInfo(
            SERVICE,
            f"PiBot Mesh on {machine}.{SERVICE}",
            parsed_addresses=_reachable(host),
            port=port,
            # Not the machine's own name: its mDNS service would take us for another machine of that name.
            server=f"pibot-{machine.lower()}-{port}.local.",
        )
        await (await network.async_register_service(info, allow_name_change=True))
        try:
            yield info.name.removesuffix(f".{SERVICE}")
        finally:
            await (await network.async_unregister_service(info))
    finally:
        await network.async_close()


def _reachable(host: str) -> list[str]:
    """The addresses at which others find what listens on *host*."""
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - nothing is bound here
        return [str(socket.getaddrinfo(host, None)[0][4][0])]
    from ifaddr import get_adapters

    found = [str(each.ip) for adapter in get_adapters() for each in adapter.ips if each.is_IPv4]
    return [address for address in found if not address.startswith("127.")]
