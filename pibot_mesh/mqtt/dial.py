"""The parts of connecting that block or that only translate: a thread for TCP and TLS, and errors in words."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho

from pibot_mesh.config.settings import Tls


def send_at_once(_client: paho.Client, _data: object, sock: paho.SocketLike) -> None:
    """TCP_NODELAY: without it a QoS 1 round trip takes 40 ms more (the peer's delayed acknowledgement)."""
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def keep_queued(_client: paho.Client, _data: object, _sock: paho.SocketLike) -> None:
    """Nothing is written before the loop has taken over; being registered keeps paho from writing by itself."""


def tls_context(tls: Tls, server_name: str | None = None) -> ssl.SSLContext:
    """Trust and our own certificate. Raises OSError for files that are missing or no certificates.

    With *server_name*, the certificate must be for that name, and not for the host that is connected to.
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if server_name is not None:
        wrap = context.wrap_socket

        def wrap_named(sock: socket.socket, **options: Any) -> ssl.SSLSocket:
            return wrap(sock, **{**options, "server_hostname": server_name})

        context.wrap_socket = wrap_named  # type: ignore[assignment,method-assign]  # paho would name the address
    return context


def in_words(error: Exception) -> str:
    """Why connecting failed, in one line, without what nobody can act on."""
    match error:
        case ConnectionRefusedError():
            return "connection refused: is the broker running?"
        case socket.gaierror():
            return "no such host"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed ({error.reason or error}): does this port speak TLS?"
        case TimeoutError():
            return "no answer"
        case FileNotFoundError():
            return f"a file of the tls settings is missing{': ' + str(error.filename) if error.filename else ''}"
        case OSError() if error.strerror:
            return error.strerror[0].lower() + error.strerror[1:]
    return " ".join(str(error).split())


def in_thread(connect: Callable[[], None], discard: Callable[[], None]) -> asyncio.Future[None]:
    """Run *connect* in a thread of its own; *discard* undoes it where nobody waits any more.

    Not in the loop's executor: name resolution cannot be interrupted, and the loop would wait for it at its end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def deliver(error: Exception | None) -> None:
        if done.cancelled():
            discard()
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(None)

    def run() -> None:
        error: Exception | None = None
        try:
            connect()
        except Exception as caught:  # noqa: BLE001 - it is raised again in the loop
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, error)
        except RuntimeError:  # the loop has ended meanwhile
            discard()

    threading.Thread(target=run, name="pibot-mqtt-connect", daemon=True).start()
    return done
