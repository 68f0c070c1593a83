"""A broker that announces itself on the network is found, and found again where it moves."""

from __future__ import annotations

import functools
import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pibot_mesh.config.settings import BrokerSettings, Tls
from pibot_mesh.errors import BrokerError, ConfigError
from pibot_mesh.mqtt import discovery
from pibot_mesh.mqtt.connection import ConnectFailed
from pibot_mesh.mqtt.discovery import Announcement, Discovery, Search, announced, browse, chosen
from tests.brokers import DEADLINE_S, HOST, Mosquitto, Recorder, free_port, needs_mosquitto, needs_openssl, until

LOOPBACK = (HOST,)


def broker(name: str, port: int = 1883, host: str = "hub.local") -> Announcement:
    """A broker on this machine that announces itself as *name*."""
    return Announcement(name, host, ((HOST, port),))


def finding(*found: Announcement) -> Search:
    """A search that finds these."""

    async def search(_: float) -> Sequence[Announcement]:
        return found

    return search


@needs_mosquitto
async def test_a_client_finds_the_broker_that_announces_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """By real mDNS, on the loopback interface; nobody tells the client a port."""
    monkeypatch.setattr(discovery, "browse", functools.partial(browse, interfaces=LOOPBACK))
    with Mosquitto() as mosquitto:
        async with announced(HOST, mosquitto.port, LOOPBACK) as name:
            async with Recorder(BrokerSettings(discover=True), "node"):
                pass
            found = {each.name: each for each in await browse(3.0, LOOPBACK)}

    assert name.startswith("PiBot Mesh on ")
    assert found[name].addresses == ((HOST, mosquitto.port),)
    assert found[name].host.endswith(".local")


@needs_mosquitto
async def test_a_client_follows_the_broker_to_another_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks anew each time that it has to connect."""
    with Mosquitto() as old, Mosquitto() as new:
        here = [broker("hub", old.port)]

        async def search(_: float) -> Sequence[Announcement]:
            return tuple(here)

        monkeypatch.setattr(discovery, "browse", search)
        async with Recorder(BrokerSettings(discover=True), "node") as node:
            here[:] = [broker("hub", new.port)]
            old.kill()
            await until(lambda: node.has_connected(2), "the node is connected to the other broker")


async def test_where_no_broker_announces_itself_the_error_says_so() -> None:
    """With what to do, and not with an address that nobody gave."""
    with pytest.raises(ConnectFailed, match=r"no MQTT broker announced itself as _mqtt._tcp on this network within 3"):
        await Discovery(finding()).find()


async def test_a_client_that_finds_no_broker_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on looking: the next search may find one."""
    looked = []

    async def search(within_s: float) -> Sequence[Announcement]:
        looked.append(within_s)
        return ()

    monkeypatch.setattr(discovery, "browse", search)
    async with Recorder(BrokerSettings(discover=True), "node", wait=False) as node:
        await until(lambda: len(looked) >= 3, "it looks again")
        with pytest.raises(BrokerError, match="announced itself") as caught:
            await node.client.wait_connected(0.01)

    assert HOST not in str(caught.value)


async def test_without_a_network_nothing_is_found() -> None:
    """A Pi that starts before its Wi-Fi tries again, as without a broker."""

    async def search(_: float) -> Sequence[Announcement]:
        raise OSError(101, "Network is unreachable")

    with pytest.raises(ConnectFailed, match="no network to look for a broker on: Network is unreachable"):
        await Discovery(search).find()


async def test_of_several_brokers_the_first_by_name_is_used(caplog: pytest.LogCaptureFixture) -> None:
    """Every time the same; the log warns of it once, and names them all."""
    caplog.set_level(logging.WARNING)
    finder = Discovery(finding(broker("shed", 1), broker("house", 2), broker("attic", 3)))

    found = [await finder.find(), await finder.find()]

    assert found == [broker("attic", 3)] * 2
    [warning] = caplog.messages
    assert warning.startswith("3 brokers announce themselves here: using 'attic' on hub.local (127.0.0.1:3)")
    assert "'house' on hub.local (127.0.0.1:2); 'shed' on hub.local (127.0.0.1:1)" in warning


def test_one_broker_is_chosen_without_others() -> None:
    """And none where there is none."""
    assert chosen([broker("hub")]) == (broker("hub"), ())
    assert chosen([]) is None


async def test_without_the_library_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not as a broker that cannot be reached."""
    monkeypatch.setattr(discovery, "find_spec", lambda _: None)

    with pytest.raises(ConfigError, match=r"pip install 'pibot-mesh\[discovery\]'"):
        Recorder(BrokerSettings(discover=True), "node")


async def test_a_password_without_tls_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Anybody can announce a broker, and is sent the password."""
    Recorder(BrokerSettings(username="node", password="s3cret", discover=True), "node")

    assert "whoever announces one gets our password" in caplog.text
    assert "s3cret" not in caplog.text


@needs_openssl
@needs_mosquitto
@pytest.mark.parametrize("is_ours", [True, False])
async def test_the_certificate_must_be_for_the_announced_host(
    is_ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the connection goes to an address, which stands in no certificate."""
    make_certificate(tmp_path, "hub.local")
    port = free_port()
    lines = [f"listener {port} {HOST}", "allow_anonymous true"]
    lines += [f"certfile {tmp_path}/server.crt", f"keyfile {tmp_path}/server.key"]
    monkeypatch.setattr(discovery, "browse", finding(broker("hub", port, "hub.local" if is_ours else "thief.local")))
    settings = BrokerSettings(tls=Tls(tmp_path / "ca.crt"), discover=True)
    with Mosquitto(port=port, config="\n".join(lines)):
        async with Recorder(settings, "node", wait=False) as node:
            if is_ours:
                await node.client.wait_connected(DEADLINE_S)
            else:
                await until(lambda: node.client.last_problem, "it says why not")
                assert "its certificate is not trusted" in node.client.last_problem
                assert not node.client.is_connected


def make_certificate(folder: Path, name: str) -> None:
    """An authority, and a certificate of it for *name*."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={name}")
    (folder / "names").write_text(f"subjectAltName=DNS:{name}")
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.crt", *sign)
