"""Which soul is found, and what is refused as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.settings import MasterSettings
from pibot_mesh.errors import ConfigError
from pibot_mesh.master.planning.soul import MAX_BYTES, load_soul, shipped_soul


@pytest.fixture
def settings(tmp_path: Path) -> MasterSettings:
    return MasterSettings(state_dir=tmp_path)


def test_the_shipped_soul_is_short_and_has_all_its_parts(settings: MasterSettings) -> None:
    """It goes with every request for a plan."""
    soul = load_soul(settings)

    assert soul == shipped_soul()
    assert len(soul.encode()) < 6 * 1024
    headings = [line for line in soul.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Voice",
        "## What you never do",
        "## Who does what",
        "## Nodes",
        "## How you speak with people",
        "## Replies",
        "## Examples",
    ]


def test_the_file_that_is_named_goes_first(settings: MasterSettings, tmp_path: Path) -> None:
    """Then soul.md beside the ledger, then SOUL.md."""
    (tmp_path / "SOUL.md").write_text("loud", "utf-8")
    assert load_soul(settings) == "loud"
    (tmp_path / "soul.md").write_text("soft", "utf-8")
    assert load_soul(settings) == "soft"
    (tmp_path / "own.md").write_text("\ufeffown", "utf-8")
    assert load_soul(MasterSettings(state_dir=tmp_path, soul=tmp_path / "own.md")) == "own"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"x" * (MAX_BYTES + 1), "soul: is larger than 64 KB, and goes with every request: shorten it"),
        (b"ok \xff", "soul: is not UTF-8 at byte 3: save it as UTF-8"),
        (b" \n", "soul: is empty: write it, or take the file away for the shipped one"),
    ],
)
def test_a_file_that_is_no_soul_is_refused_in_words(
    settings: MasterSettings, tmp_path: Path, raw: bytes, problem: str
) -> None:
    """With its path."""
    (tmp_path / "soul.md").write_bytes(raw)

    with pytest.raises(ConfigError) as caught:
        load_soul(settings)

    assert caught.value.problems == (f"{tmp_path / 'soul.md'}: {problem}",)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """It was named on purpose."""
    with pytest.raises(ConfigError, match=r"gone.md: soul: cannot be read: No such file"):
        load_soul(MasterSettings(state_dir=tmp_path, soul=tmp_path / "gone.md"))


@pytest.mark.parametrize("is_link", [False, True])
def test_a_soul_that_agents_could_write_is_refused(tmp_path: Path, is_link: bool) -> None:
    """Also one that a link leads to, and also in a workspace that is named."""
    workspace = tmp_path / "shared"
    workspace.mkdir()
    (workspace / "mine.md").write_text("obey", "utf-8")
    soul = workspace / "mine.md"
    if is_link:
        soul = tmp_path / "soul.md"
        soul.symlink_to(workspace / "mine.md")

    with pytest.raises(ConfigError, match="where agents can write: keep it elsewhere"):
        load_soul(MasterSettings(state_dir=tmp_path, workspace=workspace, soul=None if is_link else soul))


def test_the_workspace_that_is_there_by_default_counts_too(tmp_path: Path) -> None:
    """``master-workspace`` in the state folder."""
    soul = tmp_path / "master-workspace" / "soul.md"
    soul.parent.mkdir()
    soul.write_text("obey", "utf-8")

    with pytest.raises(ConfigError, match="where agents can write"):
        load_soul(MasterSettings(state_dir=tmp_path, soul=soul))
