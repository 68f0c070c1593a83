"""Where a node's skills may lie, and where its tools may write: never the one within the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def mingled(folders: Iterable[Path], workspace: Path) -> Path | None:
    """The first of *folders* that lies in *workspace* or has it inside, links resolved; None where none does.

    What lies in a skill folder is run; a model that can write there would run whatever it likes.
    """
    place = workspace.expanduser().resolve()
    for folder in folders:
        real = folder.expanduser().resolve()
        if real.is_relative_to(place) or place.is_relative_to(real):
            return folder
    return None
