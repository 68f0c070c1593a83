"""The MQTT client against the real Mosquitto: what is delivered, what is kept, and what is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from pibot_mesh.config.settings import BrokerSettings
from pibot_mesh.errors import BrokerError, PayloadTooLarge, PublishRefused, QueueFull
from pibot_mesh.mqtt.client import MqttClient, Subscription, Will
from tests.brokers import HOST, Mosquitto, Recorder, abort, free_port, needs_mosquitto, socket_of, until

pytestmark = needs_mosquitto


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    """A Mosquitto of the test's own."""
    with Mosquitto() as broker:
        yield broker


async def test_a_message_goes_out_and_comes_back_on_mqtt_5(broker: Mosquitto) -> None:
    """Payload, correlation and response topic arrive as they were sent."""
    async with Recorder(broker.settings, "a", "t/#") as recorder:
        recorder.client.publish("t/x", b"\x00\xff", qos=1, correlation=b"c", response_topic="t/reply")
        await until(lambda: recorder.received, "the message")

        [message] = recorder.received
        assert recorder.client.protocol == "5"
        assert (message.topic, message.payload, message.qos) == ("t/x", b"\x00\xff", 1)
        assert (message.correlation, message.response_topic, message.retain) == (b"c", "t/reply", False)


async def test_an_acknowledged_message_is_told_once(broker: Mosquitto) -> None:
    """on_ack is called when the broker has the message, not before and not twice."""
    acks: list[str] = []
    async with Recorder(broker.settings, "a") as recorder:
        recorder.client.publish("t", b"x", qos=1, on_ack=lambda: acks.append("t"))
        assert acks == []
        await until(lambda: acks, "the acknowledgement")
        recorder.client.publish("t", b"y", qos=1, on_ack=lambda: acks.append("u"))
        await until(lambda: len(acks) > 1, "the second acknowledgement")

    assert acks == ["t", "u"]


async def test_the_will_fires_when_the_socket_breaks_and_not_after_stop(broker: Mosquitto) -> None:
    """A client that vanishes is told to the others; one that leaves is not."""
    async with Recorder(broker.settings, "watcher", "w/#") as watcher:
        for name in ("leaves", "vanishes"):
            will = Will(f"w/{name}", b"offline", delay_s=0)
            client = MqttClient(broker.settings, client_id=name, on_message=lambda _: None, will=will)
            await client.start()
            await client.wait_connected(5)
            if name == "leaves":
                await client.stop()
            else:
                abort(client)
        await until(lambda: watcher.received, "the will")

        assert [(message.topic, message.payload) for message in watcher.received] == [("w/vanishes", b"offline")]
        await client.stop()


async def test_a_short_absence_does_not_fire_a_delayed_will(broker: Mosquitto) -> None:
    """With a will delay, a client that is back at once was never gone."""
    async with Recorder(broker.settings, "watcher", "w/#") as watcher:
        will = Will("w/status", b"offline", delay_s=60)
        async with Recorder(broker.settings, "blinks", will=will) as blinking:
            abort(blinking.client)
            await until(lambda: blinking.connects == 2, "the second connection")
        watcher.client.publish("w/end", b"", qos=1)
        await until(lambda: watcher.received, "the end marker")

        assert [message.topic for message in watcher.received] == ["w/end"]


async def test_after_a_killed_broker_everything_goes_on(broker: Mosquitto) -> None:
    """Subscriptions are restored; what was handed over meanwhile arrives once, in order, after on_connect's state."""
    async with Recorder(broker.settings, "a", "t/#") as recorder:
        recorder.state = ("t/state", b"1")
        broker.kill()
        await until(lambda: recorder.disconnects, "the loss")
        for number in range(100):
            recorder.client.publish("t/event", b"%d" % number, qos=1)
        recorder.client.publish("t/old-state", b"old", qos=1, retain=True)
        recorder.client.publish("t/delta", b"lost", qos=0)
        broker.start()
        await until(lambda: len(recorder.received) >= 101, "all messages")
        recorder.client.publish("t/end", b"", qos=1)
        await until(lambda: recorder.received[-1].topic == "t/end", "the end marker")

        assert [message.topic for message in recorder.received] == ["t/state", *["t/event"] * 100, "t/end"]
        assert [message.payload for message in recorder.received[1:-1]] == [b"%d" % number for number in range(100)]
        assert recorder.client.dropped == 2


async def test_an_unacknowledged_message_is_not_lost_with_the_connection(broker: Mosquitto) -> None:
    """A message that the frozen broker did not take is sent again on the next connection; a retained one is not."""
    async with Recorder(broker.settings, "a", "t/#") as recorder:
        broker.freeze()
        recorder.client.publish("t/event", b"kept", qos=1)
        recorder.client.publish("t/again", b"its sender repeats it", qos=1, keep=False)
        recorder.client.publish("t/state", b"stale", qos=1, retain=True)
        broker.restart()
        await until(lambda: recorder.received, "the message")
        recorder.client.publish("t/end", b"", qos=1)
        await until(lambda: recorder.received[-1].topic == "t/end", "the end marker")

        assert [message.topic for message in recorder.received] == ["t/event", "t/end"]


async def test_a_message_that_was_not_acknowledged_comes_again(broker: Mosquitto) -> None:
    """The broker redelivers it, marked as a duplicate; the acknowledgement of the first delivery then means nothing."""
    async with Recorder(broker.settings, "a", "t/#", is_acknowledging=False) as recorder:
        recorder.client.publish("t/task", b"x", qos=1)
        await until(lambda: recorder.received, "the message")
        abort(recorder.client)
        await until(lambda: len(recorder.received) == 2, "the message again")
        first, second = recorder.received
        assert (first.dup, second.dup) == (False, True)

        recorder.client.ack(first)
        await recorder.settle()
        abort(recorder.client)
        await until(lambda: len(recorder.received) == 3, "the message a third time")
        recorder.client.ack(recorder.received[2])
        recorder.client.ack(recorder.received[2])
        await recorder.settle()
        abort(recorder.client)
        await until(lambda: recorder.connects == 4, "the fourth connection")
        recorder.client.publish("t/end", b"", qos=1)
        await until(lambda: recorder.received[-1].topic == "t/end", "the end marker")

        assert len(recorder.received) == 4


async def test_an_mqtt_5_broker_holds_back_what_is_not_stored(broker: Mosquitto) -> None:
    """No more than a hundred messages come before the first is acknowledged."""
    async with (
        Recorder(broker.settings, "slow", "t", is_acknowledging=False) as slow,
        Recorder(broker.settings, "fast", "t") as fast,
    ):
        for number in range(150):
            fast.client.publish("t", b"%d" % number, qos=1)
        await until(lambda: len(fast.received) == 150, "all messages at the one that acknowledges")

        assert len(slow.received) <= 100
        for number in range(150):
            await until(partial(slow.has_received, number + 1), "more messages")
            slow.client.ack(slow.received[number])
        assert [message.payload for message in slow.received] == [b"%d" % number for number in range(150)]


async def test_too_large_is_refused_before_it_is_sent() -> None:
    """Our own limit, and the one that an MQTT 5 broker names: both without losing the connection."""
    with Mosquitto(["max_packet_size 2000"]) as broker:
        async with Recorder(broker.settings, "a", "t/#") as recorder:
            with pytest.raises(PayloadTooLarge, match="65537 bytes, at most 65536 are allowed"):
                recorder.client.publish("t", b"x" * 65_537, qos=1)
            with pytest.raises(PayloadTooLarge, match="1990 bytes, and the broker takes packets of at most 2000"):
                recorder.client.publish("t", b"x" * 1990)
            recorder.client.publish("t/fits", b"x" * 1900, qos=1)
            await until(lambda: recorder.received, "what fits")

            assert recorder.disconnects == []


async def test_what_a_later_broker_finds_too_large_is_told_and_forgotten() -> None:
    """A message that waited must not end each connection anew."""
    port = free_port()
    async with Recorder(BrokerSettings(HOST, port), "a", "t/#", wait=False) as recorder:
        recorder.client.publish("t/large", b"x" * 3000, qos=1)
        recorder.client.publish("t/small", b"x", qos=1)
        with Mosquitto(["max_packet_size 2000"], port=port):
            await until(lambda: recorder.received, "the small one")

            assert recorder.received[0].topic == "t/small"
            [error] = recorder.errors
            assert isinstance(error, PayloadTooLarge)
            await recorder.client.stop()


async def test_a_refused_publish_is_an_error_and_not_sent_again() -> None:
    """0x87 comes through on_error with the topic; on_ack is not called for it."""
    acks: list[str] = []
    with Mosquitto() as broker:
        (broker.folder / "acl").write_text("topic readwrite allowed\n")
        (broker.folder / "acl").chmod(0o600)
        broker.add(f"acl_file {broker.folder / 'acl'}")
        broker.restart()
        async with Recorder(broker.settings, "a", "allowed") as recorder:
            recorder.client.publish("forbidden", b"x", qos=1, on_ack=lambda: acks.append("forbidden"))
            recorder.client.publish("allowed", b"x", qos=1, on_ack=lambda: acks.append("allowed"))
            await until(lambda: acks and recorder.errors, "both answers")

            assert acks == ["allowed"]
            [error] = recorder.errors
            assert isinstance(error, PublishRefused)
            assert error.topic == "forbidden"
            assert "0x87" in error.reason


async def test_a_full_outbox_drops_the_droppable_first_then_says_so(broker: Mosquitto) -> None:
    """What is lost without a broker is counted, and an error where it mattered."""
    broker.kill()
    async with Recorder(broker.settings, "a", "t", wait=False, max_queued=3) as recorder:
        recorder.client.publish("t", b"delta", qos=1, droppable=True)
        for payload in (b"1", b"2", b"3", b"4"):
            recorder.client.publish("t", payload, qos=1)

        assert [type(error) for error in recorder.errors] == [QueueFull]
        assert recorder.client.dropped == 2
        broker.start()
        await until(lambda: len(recorder.received) == 3, "what was kept")
        assert [message.payload for message in recorder.received] == [b"1", b"2", b"3"]


async def test_what_expired_while_it_waited_is_not_sent(broker: Mosquitto) -> None:
    """Nothing stale goes out after an outage."""
    broker.kill()
    async with Recorder(broker.settings, "a", "t/#", wait=False) as recorder:
        recorder.client.publish("t/stale", b"x", qos=1, expiry_s=0)
        recorder.client.publish("t/fresh", b"x", qos=1, expiry_s=60)
        broker.start()
        await until(lambda: recorder.received, "the fresh one")

        assert [message.topic for message in recorder.received] == ["t/fresh"]


async def test_a_callback_that_raises_ends_nothing(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, the message is not delivered for ever, and the next one arrives."""
    received: list[bytes] = []

    def on_message(message: object) -> None:
        received.append(b"")
        if len(received) == 1:
            raise RuntimeError("a bug of the service")

    client = MqttClient(
        broker.settings, client_id="a", on_message=on_message, subscriptions=[Subscription("t")], session_expiry_s=60
    )
    await client.start()
    try:
        await client.wait_connected(5)
        client.publish("t", b"", qos=1)
        client.publish("t", b"", qos=1)
        await until(lambda: len(received) == 2, "the second message")

        assert client.is_connected
        assert "a bug of the service" in caplog.text
    finally:
        await client.stop()


async def test_stop_sends_what_was_handed_over(broker: Mosquitto) -> None:
    """A farewell published just before stop arrives."""
    async with Recorder(broker.settings, "watcher", "t/#") as watcher:
        async with Recorder(broker.settings, "leaves") as leaving:
            for number in range(200):
                leaving.client.publish("t/qos1", b"%d" % number, qos=1)
            leaving.client.publish("t/qos0", b"bye")
            await leaving.client.stop()
        await until(lambda: len(watcher.received) == 201, "all that was handed over")


async def test_stop_is_quick_while_nobody_answers() -> None:
    """A peer that accepts and says nothing does not hold up stop, nor does one that is not there."""
    with socket.create_server((HOST, 0)) as silent:
        for port in (silent.getsockname()[1], free_port()):
            client = MqttClient(BrokerSettings(HOST, port), client_id="a", on_message=lambda _: None)
            await client.start()
            client.publish("t", b"x", qos=1)
            with pytest.raises(BrokerError):
                await client.wait_connected(0.1)
            began = time.monotonic()
            await client.stop()

            assert time.monotonic() - began < 2
            assert not client.is_connected


async def test_stop_is_quick_with_a_frozen_broker(broker: Mosquitto) -> None:
    """What it does not take is given up after a second."""
    async with Recorder(broker.settings, "a") as recorder:
        broker.freeze()
        recorder.client.publish("t", b"x", qos=1)
        began = time.monotonic()
        await recorder.client.stop()

        assert time.monotonic() - began < 2


async def test_without_a_broker_the_reason_is_one_line() -> None:
    """It names the address and what happened."""
    port = free_port()
    client = MqttClient(BrokerSettings(HOST, port), client_id="a", on_message=lambda _: None)
    await client.start()
    with pytest.raises(BrokerError) as caught:
        await client.wait_connected(0.3)
    await client.stop()

    assert str(caught.value) == (
        f"no connection within 0.3 s; broker at {HOST}:{port}: connection refused: is the broker running?"
    )


async def test_an_unknown_host_is_named() -> None:
    """A typing error in the address reads as one."""
    client = MqttClient(BrokerSettings("no-such-host.invalid", 1883), client_id="a", on_message=lambda _: None)
    await client.start()
    with pytest.raises(BrokerError, match=r"broker at no-such-host\.invalid:1883: "):
        await client.wait_connected(0.5)
    await client.stop()


async def test_a_wrong_password_is_said_in_words_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The username is named, the password is in no log, error or repr."""
    with Mosquitto() as broker:
        broker.replace("allow_anonymous true", "allow_anonymous false")
        broker.restart()
        settings = replace(broker.settings, username="worker-1", password="hunter2")
        caplog.set_level("DEBUG")
        client = MqttClient(settings, client_id="worker-1", on_message=lambda _: None)
        await client.start()
        with pytest.raises(BrokerError, match="the username 'worker-1' or its password is wrong") as caught:
            await client.wait_connected(1)
        await client.stop()

    assert "hunter2" not in caplog.text + str(caught.value) + repr(client) + repr(settings)


async def test_two_clients_with_one_id_do_not_fight(broker: Mosquitto) -> None:
    """They evict each other a few times; then one says so and stays away for seconds."""
    async with Recorder(broker.settings, "same") as first, Recorder(broker.settings, "same") as second:
        await until(lambda: first.errors or second.errors, "the error")
        evicted, other = (first, second) if first.errors else (second, first)
        await until(lambda: other.client.is_connected, "the other one")

        [error] = evicted.errors
        assert str(error).endswith("another program seems to use our client id 'same'; give each an id of its own")
        with pytest.raises(BrokerError, match="another program seems to use our client id 'same'"):
            await evicted.client.wait_connected(1)
        assert other.client.is_connected


async def test_a_broker_that_is_killed_again_and_again_is_not_taken_for_an_evicted_client(broker: Mosquitto) -> None:
    """Each time we are back at once."""
    async with Recorder(broker.settings, "a") as recorder:
        for number in range(2, 6):
            broker.kill()
            await until(lambda: not recorder.client.is_connected, "the loss")
            await until(lambda: "refused" in recorder.client.last_problem, "an attempt in vain")
            broker.start()
            await until(partial(recorder.has_connected, number), "the next connection", timeout_s=5)

        assert recorder.errors == []


async def test_small_packets_are_sent_at_once(broker: Mosquitto) -> None:
    """TCP_NODELAY is set: without it a QoS 1 round trip waits for delayed acknowledgements of TCP."""
    async with Recorder(broker.settings, "a") as recorder:
        assert socket_of(recorder.client).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_without_a_session_nothing_is_kept_for_us(broker: Mosquitto) -> None:
    """session_expiry_s 0: what was not acknowledged is gone with the connection."""
    async with Recorder(broker.settings, "a", "t/#", is_acknowledging=False, session_expiry_s=0) as recorder:
        recorder.client.publish("t/x", b"", qos=1)
        await until(lambda: recorder.received, "the message")
        abort(recorder.client)
        await until(lambda: recorder.connects == 2, "the second connection")
        recorder.client.publish("t/end", b"", qos=1)
        await until(lambda: recorder.received[-1].topic == "t/end", "the end marker")

        assert len(recorder.received) == 2


async def test_a_topic_that_is_none_is_refused_at_once(broker: Mosquitto) -> None:
    """Not only once there is a connection."""
    async with Recorder(broker.settings, "a") as recorder:
        for topic in ("", "a/#", "a/+/b", "a\0b"):
            with pytest.raises(ValueError, match="no topic to publish to"):
                recorder.client.publish(topic, b"", qos=1)
        with pytest.raises(ValueError, match="0 or 1"):
            recorder.client.publish("a", b"", qos=2)
