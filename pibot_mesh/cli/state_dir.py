"""Where ``pibot up`` keeps its state, and that no two of them keep it in the same place."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pibot_mesh.errors import StoreError


def default_state_dir() -> Path:
    """``$XDG_STATE_HOME/pibot/up``, or ``~/.local/state/pibot/up``. Raises StoreError where there is no home."""
    base = os.environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "pibot" / "up"
    except RuntimeError:
        raise StoreError("there is no home directory for the state: name a folder with --state-dir") from None


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Make *folder* and hold it until the block ends. Raises StoreError where another holds it or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(
            f"no state can be kept in {folder}: {error.strerror}; name another folder with --state-dir"
        ) from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(file, 20).decode("ascii", "replace").strip() or "unknown"
            raise StoreError(
                f"another 'pibot up' (process {holder}) keeps its state in {folder}: end it, or name another folder "
                "with --state-dir"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield folder
    finally:
        os.close(file)
