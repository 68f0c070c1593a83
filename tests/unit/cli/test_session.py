"""Which conversation a request of the command line belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from click.testing import CliRunner

from pibot_mesh.cli.conversation import Conversation
from pibot_mesh.cli.main import pibot
from pibot_mesh.cli.options import Connection
from pibot_mesh.client import Client
from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import Reply, Request, State

MESH = Connection(BrokerSettings(), "pibot")


class _Client:
    """Notes the session of each request, and answers."""

    def __init__(self) -> None:
        self.sessions: list[str | None] = []

    async def ask(self, _: str, *, session: str | None, request_id: str, **__: Any) -> Reply:
        self.sessions.append(session)
        return Reply(request_id, State.COMPLETED, "done")


class _Signals:
    cancel_request: Callable[[], None] | None = None


async def test_a_prompt_is_one_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line that is typed into ``pibot up`` goes on from the ones before; another ``pibot up`` has its own."""
    client, other = _Client(), _Client()
    conversation = Conversation(cast(Client, client), MESH, _Signals())
    for text in ("turn on the fan on worker-1", "and now off again"):
        assert await conversation.request(text) == 0
    await Conversation(cast(Client, other), MESH, _Signals()).request("turn it off")

    [session] = set(client.sessions)
    assert decode(Request, encode(Request("r", "x", session=session))).session == session
    assert set(other.sessions).isdisjoint(client.sessions)
    assert capsys.readouterr().out.count("done") == 3


@pytest.mark.parametrize("name", ["a b", "", "ä", "x" * 65, "a/b"])
def test_a_session_has_the_form_of_an_id(name: str) -> None:
    """Anything else is refused before a broker is looked for, and says what is expected."""
    result = CliRunner().invoke(pibot, ["ask", "--session", name, "turn it off"])

    assert result.exit_code == 2
    assert "--session" in result.stderr
    assert "1 to 64 letters, digits" in result.stderr


async def test_a_client_refuses_a_session_that_is_no_id() -> None:
    """Before anything is sent."""
    with pytest.raises(ProtocolError, match="session"):
        await Client().ask("turn it off", session="a b")
