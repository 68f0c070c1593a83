"""Where settings say that the broker is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.broker_section import parse_brokers
from pibot_mesh.config.loader import check_file, load_node
from pibot_mesh.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    """A node's file."""
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_broker_is_looked_for_where_the_file_or_the_variable_says_so(tmp_path: Path) -> None:
    """Otherwise never: its address may be one of the defaults, but nobody is asked for it."""
    asks = write(tmp_path, "broker: {discover: true}")

    assert load_node(asks, {}).broker.discover
    assert load_node(None, {"PIBOT_BROKER": " mdns "}).broker.discover
    assert not load_node(None, {}).broker.discover


def test_an_address_in_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """And the other way round: mdns there goes before an address in the file."""
    asks = write(tmp_path, "broker: {discover: true}")
    broker = load_node(asks, {"PIBOT_BROKER": "hub:1884"}).broker
    assert (broker.discover, broker.addresses) == (False, (("hub", 1884),))

    names = write(tmp_path, "broker: {host: hub, port: 1884}")
    assert load_node(names, {"PIBOT_BROKER": "mdns"}).broker.discover


@pytest.mark.parametrize("key", ["host: hub", "port: 1884", "others: [hub]"])
def test_an_address_and_a_search_exclude_each_other(key: str, tmp_path: Path) -> None:
    """Nobody would know which of the two holds."""
    [problem] = check_file(write(tmp_path, f"broker:\n  discover: true\n  {key}\n"))

    name = key.partition(":")[0]
    assert problem.endswith(f"c.yaml:3: broker.{name}: goes with no 'discover: true': give one of the two")


def test_a_search_with_tls_needs_an_authority_of_ones_own(tmp_path: Path) -> None:
    """The system trusts the certificate of whoever announces a broker under a name that is his."""
    [problem] = check_file(write(tmp_path, "broker: {discover: true, tls: true}"))
    assert "broker.tls: with 'discover: true', name a ca_file of your own" in problem

    (tmp_path / "ca.crt").touch()
    assert check_file(write(tmp_path, "broker: {discover: true, tls: {ca_file: ca.crt}}")) == []


def test_a_search_is_no_server_of_a_cluster() -> None:
    """Found or named, but not some of each."""
    with pytest.raises(ConfigError, match="broker 'hub,mdns': mdns stands alone, in place of all addresses"):
        parse_brokers("hub,mdns")
