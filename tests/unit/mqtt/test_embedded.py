"""What the embedded broker gives amqtt to keep its subscriptions in."""

from __future__ import annotations

from amqtt.broker import Broker

from pibot_mesh.mqtt.embedded import Steady


def test_a_loop_over_subscriptions_outlives_changes() -> None:
    """A client subscribes, and another leaves, while amqtt waits in the middle of its loop."""
    subscriptions = Steady(a=[1, 2], b=[3])

    seen: list[object] = []
    for name in subscriptions:
        subscriptions[name + name] = []
        seen.append(name)
    for name, sessions in subscriptions.items():
        del subscriptions[name]
        seen += sessions

    assert seen == ["a", "b", 1, 2, 3]


def test_a_list_that_shrinks_skips_nobody() -> None:
    """A session that leaves must not take its neighbour's message along."""
    subscriptions = Steady(a=["first", "second"])

    reached = []
    for _, sessions in subscriptions.items():
        for session in sessions:
            reached.append(session)
            subscriptions["a"].clear()

    assert reached == ["first", "second"]


async def test_amqtt_still_keeps_its_subscriptions_where_we_put_ours() -> None:
    """The name is amqtt's own: a release that changes it must be noticed."""
    assert isinstance(
        vars(Broker({"listeners": {"default": {"type": "external"}}, "plugins": {}}))["_subscriptions"], dict
    )
