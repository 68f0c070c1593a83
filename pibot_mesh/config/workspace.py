"""What must not lie where agents read and write."""

from __future__ import annotations

from pathlib import Path

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.source import KeyPath, Problem


def check_workspace(draft: Draft, at: KeyPath, workspace: Path, state_dir: Path) -> None:
    """Note what the agents' *workspace*, named at *at* or the default one, has inside that agents must not reach.

    These are the file that says all this, the files that it names (keys, the soul, sentences), and *state_dir*.
    """
    for path, file in draft.named.items():
        if lies_in(file, workspace):
            text = f"lies in the workspace {workspace}, where agents could read and write it: keep it elsewhere"
            draft.note(Problem(path, text))
    at = at if draft.is_set(at) else ()
    if draft.file_path is not None and lies_in(draft.file_path, workspace):
        draft.note(Problem(at, f"this file lies in {workspace}, and agents could write it: choose another folder"))
    elif lies_in(state_dir, workspace):
        draft.note(Problem(at, f"state_dir lies in {workspace}, and agents could write it: choose another folder"))


def lies_in(path: Path, folder: Path) -> bool:
    """Whether *path*, or what it leads to where it is a link, lies in *folder* or is that; links are followed."""
    place = folder.resolve()
    named = path.parent.resolve() / path.name
    return named.is_relative_to(place) or path.resolve().is_relative_to(place)
