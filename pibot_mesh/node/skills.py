"""A node's own skills: loaded at its start, looked at every second, and said in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from pibot_mesh.agent.skills import Changes, SkillLoader
from pibot_mesh.agent.threads import in_thread
from pibot_mesh.errors import ToolError

_log = logging.getLogger(__name__)
POLL_S: Final = 1.0
"""How often the folders are looked at: a few system calls, and no file is opened."""
_PATIENCE_S: Final = 10.0
"""How long a start waits for skills, and after how long one that is still being loaded is named."""


class NodeSkills:
    """Keeps the skills of *loader* as their files are. *changed* is called in the loop after every change.

    Users' files run in a thread, so one that takes long or does not end holds up nothing but the other skills: the node
    goes on with the tools that it has.
    """

    def __init__(self, loader: SkillLoader, changed: Callable[[], None], *, node: str) -> None:
        self.loader = loader
        self._changed = changed
        self._node = node
        self._is_wanted = asyncio.Event()
        self._has_looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what is there, and go on looking. Returns after ten seconds in any case."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"skills of {self._node}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await self._has_looked.wait()

    async def stop(self) -> None:
        """Look no more. What is being loaded is left behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def reload(self) -> None:
        """Load everything again, soon."""
        self._is_wanted.set()

    async def _run(self) -> None:
        while True:
            everything = self._is_wanted.is_set()
            self._is_wanted.clear()
            try:
                if everything or self.loader.has_changed():
                    await self._refresh(everything)
            except ToolError as error:
                _log.warning("%s: skills cannot be loaded now: %s", self._node, error)
            except Exception:  # noqa: BLE001 - the top of a service loop: the next second brings another try
                _log.exception("a bug: the skills of %s could not be looked at", self._node)
            self._has_looked.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._is_wanted.wait()

    async def _refresh(self, everything: bool) -> None:
        loading = asyncio.ensure_future(in_thread(lambda: self.loader.load(everything=everything)))
        try:
            _, late = await asyncio.wait([loading], timeout=_PATIENCE_S)
            if late:
                _log.warning(
                    "%s: the skill %s is still being loaded, and all others wait for it: does it end?",
                    self._node,
                    self.loader.loading,
                )
            changes = self.loader.take(await loading)
        finally:
            loading.cancel()
        self._say(changes)
        if changes:
            self._changed()

    def _say(self, changes: Changes) -> None:
        for what, names in (("loaded", changes.loaded), ("loaded again", changes.reloaded), ("gone", changes.removed)):
            if names:
                _log.info("%s: skills %s: %s", self._node, what, ", ".join(names))
        for problem in changes.broken:
            _log.warning("%s: a skill is left out: %s", self._node, problem)
