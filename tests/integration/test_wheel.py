"""The package works from a wheel, outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.brokers import needs_mosquitto

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from what git has and what is new, so that nothing left over from an earlier build gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        there = CHECKOUT / name
        if there.is_symlink() or not there.exists():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(there.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [found] = out.glob("*.whl")
    return found


def test_a_wheel_carries_sentences_schemas_soul_and_examples(wheel: Path) -> None:
    """What the program reads at run time, and what a user starts from, is in it; tests are not."""
    names = set(zipfile.ZipFile(wheel).namelist())

    for needed in (
        "py.typed",
        "config/master.schema.json",
        "config/node.schema.json",
        "shipped/soul.md",
        "shipped/config/master.yaml",
        "shipped/config/node.yaml",
        "shipped/config/home-assistant/dashboard.yaml",
        "shipped/config/home-assistant/blueprints/automation/pibot_assist.yaml",
        "shipped/config/sentences/en.yaml",
        "shipped/config/sentences/zh-cn.yaml",
        "shipped/config/systemd/pibot-node.service",
        "testing/__init__.py",
    ):
        assert f"pibot_mesh/{needed}" in names
    assert not [name for name in names if name.startswith("tests/")]


@needs_mosquitto
def test_an_installed_wheel_answers_a_request(wheel: Path, tmp_path: Path) -> None:
    """Installed elsewhere, run from elsewhere: ``pibot up --ask`` ends with 0 and the answer."""
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(home), "XDG_STATE_HOME": str(home)}

    where = subprocess.run(
        [sys.executable, "-c", "import pibot_mesh; print(pibot_mesh.__file__)"],
        cwd=home,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    asked = subprocess.run(
        [sys.executable, "-m", "pibot_mesh", "up", "--ask", "turn on the fan on worker-1"],
        cwd=home,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert where.stdout.startswith(str(site))
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "worker-1: the fan is on." in asked.stdout
