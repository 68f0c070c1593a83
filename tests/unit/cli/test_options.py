"""What another ``pibot`` must be told to find the same mesh."""

from __future__ import annotations

import shlex

import pytest

from pibot_mesh.cli.options import Connection, connection
from pibot_mesh.config.settings import BrokerSettings


@pytest.mark.parametrize(
    ("broker", "options"),
    [
        (BrokerSettings(), ""),
        (BrokerSettings("::1", 1884), "--broker '[::1]:1884'"),
        (BrokerSettings(others=(("b", 1883),)), "--broker 127.0.0.1:1883,b:1883"),
        (BrokerSettings(discover=True), "--broker mdns"),
    ],
)
def test_the_options_lead_to_the_same_servers(broker: BrokerSettings, options: str) -> None:
    """Nothing is said where the default holds; what is said is understood."""
    assert Connection(broker, "pibot").options == options
    if options:
        [_, value] = shlex.split(options)
        assert connection(value, None).broker == broker
