"""The master's warnings and errors on ``master/log``."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final

from pibot_mesh.logs import Throttle
from pibot_mesh.mqtt.link import Link
from pibot_mesh.protocol.codec import dumps
from pibot_mesh.protocol.topics import Kind

_LOG_ROOT: Final = logging.getLogger("pibot_mesh")


class LogTopic(logging.Handler):
    """Publishes warnings and errors on ``master/log``, in bounded numbers."""

    def __init__(self, link: Link) -> None:
        super().__init__(logging.WARNING)
        self._link = link
        self._throttle = Throttle(burst=20)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def begin(self) -> None:
        """Publish what the package logs from now on; called in the loop."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        _LOG_ROOT.addHandler(self)

    def end(self) -> None:
        """Publish nothing more."""
        _LOG_ROOT.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Publish *record*, unless there were too many. Called in any thread; never raises."""
        try:
            if threading.get_ident() == self._thread:
                self._publish(record)
            elif self._loop is not None:
                self._loop.call_soon_threadsafe(self._publish, record)
        except Exception:  # noqa: BLE001 - as every handler of logging does: a log line must not end what logs
            self.handleError(record)

    def _publish(self, record: logging.LogRecord) -> None:
        if not self._link.is_connected or self._throttle.admit() is None:
            return
        line = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "source": record.name.removeprefix("pibot_mesh."),
            "message": record.getMessage()[:2000],
        }
        self._link.send(Kind.MASTER_LOG, dumps(line))
