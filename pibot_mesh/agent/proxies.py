"""The proxies that the environment names: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from pibot_mesh.agent.transport import TransportError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that speaks HTTP. *authorization* is the header that lets us in; empty for none."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy on the way to *host*; None where the environment names none. Raises TransportError for a wrong one."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request  # large, and rarely needed

    known = urllib.request.getproxies()
    address = known.get(scheme) or known.get("all") or ""
    if not address or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    return _parse(address)


def _parse(address: str) -> Proxy:
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port or 80
    except ValueError:
        raise TransportError("setup", "the proxy that the environment names has no port that is a number") from None
    if parts.scheme != "http" or not parts.hostname:
        raise TransportError(
            "setup",
            f"a proxy at {parts.scheme}:// is not known here: name one at http://, or install the openai package",
        )
    if parts.username is None:
        return Proxy(parts.hostname, port)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(parts.hostname, port, "Basic " + base64.b64encode(login.encode("utf-8")).decode("ascii"))
