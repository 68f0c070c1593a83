"""docs/devices.md: written from the table of kinds, and right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import pibot_mesh
from pibot_mesh.config.loader import load_node
from pibot_mesh.hardware.kind import Kind
from pibot_mesh.hardware.kinds import KINDS
from pibot_mesh.hardware.reference import EXAMPLES, Direction, example, kinds_reference
from pibot_mesh.node.check import check_node

CHECKOUT = Path(pibot_mesh.__file__).parent.parent


def reference() -> str:
    """All of it."""
    return "\n".join(kinds_reference(direction) for direction in get_args(Direction))


def test_the_examples_are_right(tmp_path: Path) -> None:
    """Each block as it stands can be copied into a node's file."""
    blocks = re.findall(r"```yaml\n(.*?)```", reference(), re.DOTALL)
    assert sum(block.count("kind: ") for block in blocks) == len(KINDS)
    for block in blocks:
        path = tmp_path / "node.yaml"
        path.write_text(f"node: {{simulate: true}}\n{block}", "utf-8")
        assert load_node(path, {}, check=check_node).devices


def test_every_kind_has_an_example_of_its_own_kind() -> None:
    """And no example is of a kind that is gone."""
    assert set(EXAMPLES) <= set(KINDS)
    assert all(f"{{kind: {kind.name}" in example(kind) for kind in KINDS.values())


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_key_of_a_kind_is_told(kind: Kind) -> None:
    """In its own table, or in that of its direction."""
    text = kinds_reference(kind.direction)
    assert f"| `{kind.name}` | {kind.says}" in text
    assert all(f"| `{key}` |" in text for key in kind.options)


def test_the_reference_is_up_to_date() -> None:
    """scripts/docs-devices > docs/devices.md"""
    script = CHECKOUT / "scripts" / "docs-devices"
    if not script.exists():
        pytest.skip("not a checkout")
    written = subprocess.run(
        [sys.executable, script], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"}
    )
    assert (CHECKOUT / "docs" / "devices.md").read_text("utf-8") == written.stdout
