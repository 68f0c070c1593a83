"""The soul: what a model is told about how to be the master. A file of the user's own, or the shipped one."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.config.workspace import lies_in
from pibot_mesh.errors import ConfigError

MAX_BYTES: Final = 64 * 1024
"""A longer file is refused: it goes with every request for a plan."""
_NAMES: Final = ("soul.md", "SOUL.md")


@cache
def shipped_soul() -> str:
    """The soul that comes with the package."""
    return (resources.files("pibot_mesh") / "shipped" / "soul.md").read_text("utf-8")


def load_soul(settings: MasterSettings) -> str:
    """The file that *settings* name, else ``soul.md`` or ``SOUL.md`` in the state folder, else the shipped one.

    Raises ConfigError for a file that cannot be read, is empty, larger than 64 KB or no UTF-8, and for one that lies in
    the master's workspace, where agents can write.
    """
    state_dir = settings.state_dir.expanduser()
    found = settings.soul or next((state_dir / name for name in _NAMES if (state_dir / name).is_file()), None)
    if found is None:
        return shipped_soul()
    path = found.expanduser()
    workspace = workspace_of(settings)
    if lies_in(path, workspace):
        raise ConfigError([f"{path}: soul: lies in {workspace}, where agents can write: keep it elsewhere"])
    return _read(path)


def workspace_of(settings: MasterSettings) -> Path:
    """The folder that the master's own tools for files stay in."""
    return (settings.workspace or settings.state_dir / "master-workspace").expanduser()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: soul: cannot be read: {error.strerror or error}"]) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(
            [f"{path}: soul: is larger than {MAX_BYTES // 1024} KB, and goes with every request: shorten it"]
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: soul: is not UTF-8 at byte {error.start}: save it as UTF-8"]) from None
    if not text.strip():
        raise ConfigError([f"{path}: soul: is empty: write it, or take the file away for the shipped one"])
    return text
