"""Long outputs of tools: cut for the model, whole in a file."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import uuid
from pathlib import Path

from pibot_mesh.agent.threads import in_thread
from pibot_mesh.protocol.fit import cut_middle

_log = logging.getLogger(__name__)


class OutputFolder:
    """Keeps what is over *limit_bytes* in *folder*, by default a temporary one that goes with this object."""

    def __init__(self, limit_bytes: int, folder: Path | None = None) -> None:
        self._limit = limit_bytes
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._making = threading.Lock()

    def is_long(self, text: str) -> bool:
        """Whether *text* is over the limit."""
        return len(text) * 4 > self._limit and len(text.encode(errors="replace")) > self._limit

    async def kept(self, call: str, text: str) -> str:
        """*text* as a model sees it: where it is long, its beginning and end, and the file that has the whole of it."""
        if not self.is_long(text):
            return text
        shown = self.cut(text)
        name = f"{re.sub(r'[^A-Za-z0-9_-]', '_', call)[:40]}-{uuid.uuid4().hex[:8]}.txt"
        try:
            path = await in_thread(lambda: self._write(name, text))
        except Exception as error:  # noqa: BLE001 - a full disk or no thread left: the model gets what is shown
            _log.warning("the whole output of call %s could not be kept: %s", call, error)
            return shown
        return f"{shown}\n[The whole output is in {path}]"

    def cut(self, text: str) -> str:
        """*text* without its middle, where it is long."""
        return cut_middle(text, self._limit) if self.is_long(text) else text

    def _write(self, name: str, text: str) -> Path:
        with self._making:  # several tools of one batch end at the same time
            if self._folder is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="pibot-output-")
                self._folder = Path(self._temporary.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        path.write_text(text, "utf-8", errors="replace")
        return path
