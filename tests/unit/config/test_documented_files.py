"""What the guides show of a node's file can be written so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pibot_mesh.config.loader import load_node
from pibot_mesh.node.check import check_node

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = [
    pytest.param(text, id=f"{path.stem}-{number}")
    for path in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", path.read_text("utf-8"), re.S | re.M), 1)
    if re.search(r"^devices:", text, re.M)
]


@pytest.mark.skipif(not EXAMPLES, reason="not a checkout")
@pytest.mark.parametrize("text", EXAMPLES)
def test_what_a_guide_shows_of_devices_can_be_loaded(text: str, tmp_path: Path) -> None:
    """As it stands there, in a file of its own; some kinds can only be simulated."""
    path = tmp_path / "node.yaml"
    path.write_text(text if re.search(r"^node:", text, re.M) else f"{text}node: {{simulate: true}}\n", "utf-8")

    assert load_node(path, env={}, check=check_node).devices
