"""A small disk of a party's own, in a mount namespace of its process: the rights of an ordinary user will do."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_PIECE: Final = 4096
_SCRIPT: Final = 'mount -t tmpfs -o size=16m none "$0" && eval "$1" && shift && exec "$@"'


class Disk:
    """A tmpfs of 16 MB on *folder*, which only the party sees that is started with `prefix`.

    *before* are further words of a shell for that start, with the folder as ``$0``.
    """

    def __init__(self, folder: Path, before: str = "true") -> None:
        self.folder = folder
        self._before = before
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def prefix(self) -> list[str]:
        """What a party's command begins with. The process keeps its id."""
        return ["unshare", "-rm", "sh", "-c", _SCRIPT, str(self.folder), self._before]

    def seen_by(self, pid: int) -> Path:
        """The folder, as the process *pid* sees it."""
        return Path(f"/proc/{pid}/root{self.folder.resolve()}")

    def fill(self, pid: int) -> None:
        """Not a byte is left."""
        try:
            with (self.seen_by(pid) / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(_PIECE))
        except OSError:
            return

    def make_room(self, pid: int) -> None:
        """What filled it is removed."""
        (self.seen_by(pid) / "filler").unlink()


@functools.cache
def can_mount() -> bool:
    """Whether this user may have mounts of their own here: some systems and containers do not let them."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, check=False, timeout=10
    )
    return tried.returncode == 0


needs_disk = pytest.mark.skipif(
    not can_mount(), reason="no mounts of one's own: user namespaces are not allowed on this system"
)
