"""``scripts/start``: what it does before it hands over, with stand-ins for Python and for ``pibot``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TOOLS = ("bash", "cksum", "dirname", "env", "grep", "readlink", "rm", "cat", "mkdir", "chmod")

pytestmark = pytest.mark.skipif(not (CHECKOUT / "scripts" / "start").exists(), reason="not in a checkout")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but the scripts, and a PATH with nothing but small tools."""
    checkout = tmp_path / "check out"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("start", "python.sh"):
        shutil.copy2(CHECKOUT / "scripts" / name, checkout / "scripts" / name)
    shutil.copy2(CHECKOUT / "setup.cfg", checkout)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        program = shutil.which(tool)
        assert program is not None
        (tmp_path / "bin" / tool).symlink_to(program)
    return checkout


def start(checkout: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run it from another folder."""
    elsewhere = checkout.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    env = {**os.environ, "PATH": str(checkout.parent / "bin")}
    return subprocess.run(
        [checkout / "scripts" / "start", *args],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def script(path: Path, *lines: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/usr/bin/env bash", *lines]) + "\n")
    path.chmod(0o755)


def fake_python(path: Path, *, pip: str) -> None:
    """A Python that is new enough, makes environments with itself inside, and whose pip does *pip*."""
    script(
        path,
        'case "$1 ${2:-}" in',
        '"--version "*) echo "Python 3.11.99" ;;',
        f'"-m venv") mkdir -p "$3/bin"; cat "{path}" >"$3/bin/python"; chmod +x "$3/bin/python" ;;',
        f'"-m pip") {pip} ;;',
        "esac",
    )


def test_without_python_it_says_what_to_install(checkout: Path) -> None:
    """Python and its venv, as Debian names them."""
    done = start(checkout)

    assert done.returncode != 0
    assert "Python 3.11" in done.stderr
    assert "sudo apt-get install python3 python3-venv" in done.stderr


def test_it_installs_once_and_hands_over(checkout: Path) -> None:
    """The first time it makes an environment; the arguments reach ``pibot up``, in the folder of the caller."""
    python = checkout.parent / "bin" / "python3"
    pibot = (
        "printf '#!/usr/bin/env bash\\necho \"$PWD: $*\"\\n' >.venv/bin/pibot; chmod +x .venv/bin/pibot; echo x >>pip"
    )
    fake_python(python, pip=pibot)

    first = start(checkout, "--ask", "turn on the fan")
    second = start(checkout, "--nodes", "2")

    elsewhere = checkout.parent / "elsewhere"
    assert (first.returncode, first.stdout) == (0, f"{elsewhere}: up --ask turn on the fan\n")
    assert (second.returncode, second.stdout) == (0, f"{elsewhere}: up --nodes 2\n")
    assert len(first.stderr.splitlines()) == 2
    assert second.stderr == ""
    assert (checkout / "pip").read_text() == "x\n"

    with (checkout / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    assert start(checkout).returncode == 0
    assert (checkout / "pip").read_text() == "x\nx\n"


def test_what_pip_complains_of_is_shown(checkout: Path) -> None:
    """And nothing is started; the next time it is tried again."""
    fake_python(checkout.parent / "bin" / "python3", pip="echo 'ERROR: no network' >&2; exit 1")

    for _ in range(2):
        done = start(checkout)
        assert done.returncode == 1
        assert "ERROR: no network" in done.stderr
        assert done.stdout == ""
