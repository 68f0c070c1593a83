"""What a node's file says of its skills."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.loader import check_file, load_node
from pibot_mesh.config.settings import SHIPPED_SKILLS, SkillSettings
from pibot_mesh.config.skill_folders import mingled


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    return path


def test_without_a_word_everything_shipped_is_on_and_no_program_is_allowed() -> None:
    """And skills lie where the node's state is."""
    assert load_node(None, {}).skills == SkillSettings(None, None, (), SHIPPED_SKILLS)


def test_folders_and_workspace_are_relative_to_the_file(tmp_path: Path) -> None:
    """Wherever the node is started from."""
    (tmp_path / "mine").mkdir()
    path = write(
        tmp_path,
        f"skills: {{folders: [mine, '{tmp_path}/mine'], workspace: files, programs: [df, /usr/bin/uptime], "
        "shipped: [timers, devices]}\n",
    )

    assert load_node(path, {}).skills == SkillSettings(
        (tmp_path / "mine", tmp_path / "mine"), tmp_path / "files", ("df", "/usr/bin/uptime"), ("devices", "timers")
    )


def test_nothing_can_be_on(tmp_path: Path) -> None:
    """Nor is any folder looked at."""
    path = write(tmp_path, "skills: {folders: [], shipped: []}\n")

    assert load_node(path, {}).skills == SkillSettings((), None, (), ())


@pytest.mark.parametrize(
    ("skills", "words"),
    [
        ("{folders: [nowhere]}", "skills.folders[0]: there is no folder"),
        ("{folders: [node.yaml]}", "skills.folders[0]: there is no folder"),
        ("{folders: mine}", "skills.folders: "),
        ("{shipped: [gpio]}", "skills.shipped[0]: "),
        ("{shipped: [files, files]}", "skills.shipped: "),
        ("{programs: [../sh]}", "skills.programs[0]: "),
        ("{programs: ['df -h']}", "skills.programs[0]: "),
        ("{folders: [mine], workspace: mine}", "skills.workspace: must not lie in"),
        ("{folders: [mine], workspace: mine/files}", "skills.workspace: must not lie in"),
        ("{folders: [mine], workspace: .}", "skills.workspace: must not lie in"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, skills: str, words: str) -> None:
    """With file, line and path."""
    (tmp_path / "mine").mkdir()

    [problem] = check_file(write(tmp_path, f"state_dir: state\nskills: {skills}\n"))

    assert problem.startswith(f"{tmp_path / 'node.yaml'}:2: {words}")


def test_the_default_folder_counts_as_well(tmp_path: Path) -> None:
    """What is written into the workspace would be run."""
    [problem] = check_file(write(tmp_path, "state_dir: state\nskills:\n  workspace: state\n"))

    assert "skills.workspace: must not lie in" in problem


def test_a_link_hides_nothing(tmp_path: Path) -> None:
    """Both are followed."""
    (tmp_path / "skills").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "skills")

    assert mingled([tmp_path / "skills"], tmp_path / "link" / "files") == tmp_path / "skills"
    assert mingled([tmp_path / "link"], tmp_path / "skills") == tmp_path / "link"
    assert mingled([tmp_path / "skills", tmp_path / "other"], tmp_path / "workspace") is None
    assert mingled([], tmp_path) is None
