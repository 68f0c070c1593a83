"""What the client says of whoever gives orders with it."""

from __future__ import annotations

import getpass
import socket

import pytest

from pibot_mesh.client import who
from pibot_mesh.protocol.codec import decode, encode
from pibot_mesh.protocol.messages import Control


@pytest.fixture(autouse=True)
def porch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann's machine."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(socket, "gethostname", lambda: "porch")


def test_orders_name_the_user_the_machine_and_the_program() -> None:
    """A program of one's own may leave itself out."""
    assert who("pibot ask") == "ann@porch, pibot ask"
    assert who() == "ann@porch"


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username set in the environment")])
def test_a_user_without_a_name_can_give_orders_too(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container; Python 3.13 says so with another error than before."""

    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)

    assert who("pibot ask") == "somebody@porch, pibot ask"


def test_a_name_in_another_encoding_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is bytes, and Python keeps those that are not UTF-8 in its own way."""
    monkeypatch.setattr(getpass, "getuser", lambda: b"ann\xff".decode(errors="surrogateescape"))

    assert who() == "ann?@porch"
    encode(Control("cancel", by=who()))


def test_a_name_of_any_length_fits_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much of it is left out."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ann" * 100)

    order = Control("cancel", by=who("pibot ask"))

    assert decode(Control, encode(order)) == order
