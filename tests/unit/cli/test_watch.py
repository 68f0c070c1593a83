"""What ``pibot watch`` shows of a message."""

from __future__ import annotations

import sys

import pytest

from pibot_mesh.cli import watch
from pibot_mesh.mqtt.client import Message
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.messages import Event


@pytest.mark.parametrize(("kind", "is_whole"), [("tool_end", False), ("approval_required", True)])
def test_a_long_message_is_cut_on_a_terminal_but_not_a_question(
    kind: str, is_whole: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever approves a call must have seen all of it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    args: dict[str, JSON] = {"text": "x" * 500 + " and the end"}
    payload = encode(Event("r1", kind, "b", 1, 0.0, {"call": "0a1b", "tool": "mail", "args": args}))

    watch._show(0.0, Message("pibot/request/r1/event", payload, 1, False), False)

    assert ("and the end" in " ".join(capsys.readouterr().out.split())) == is_whole
