"""When Home Assistant is told what, by a clock of the tests' own."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from pibot_mesh.master.events import Note
from pibot_mesh.master.home_assistant import discovery
from pibot_mesh.master.home_assistant.delivery import canonical, step
from pibot_mesh.master.home_assistant.discovery import (
    BIRTH_S,
    KEPT_WITHIN_S,
    REST_S,
    SETTLE_S,
    STALE_S,
    Builders,
    Discovery,
    Publish,
)
from pibot_mesh.master.home_assistant.model import Built, Flaw, Payload
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard, RoutineState

NAMING = Naming("pibot")
AGREES_S = 0.001
TICK_S = 0.4
MORNING = RoutineState("morning", "schedule", "At seven", "turn on the lamp", True)


def card(node: str, **devices: str) -> NodeCard:
    """The card of a node with *devices*: name → kind."""
    return NodeCard(
        node, "b1", "1.0", devices=tuple(DeviceSpec(name, "out", kind, name) for name, kind in devices.items())
    )


def node_payload(card: NodeCard) -> Built:
    """A component a device. A device of the kind ``odd`` cannot be shown as it is."""
    if card.node == "broken":
        raise RuntimeError("a bug")
    components: dict[str, JSON] = {
        device.id: {"p": device.kind, "name": device.name} for device in card.devices if device.kind != "odd"
    }
    flaws = tuple(Flaw(device.id, "is odd") for device in card.devices if device.kind == "odd")
    return Built({"dev": card.node, "cmps": components}, flaws)


def master_payload(routines: Sequence[RoutineState]) -> Built:
    """A component a routine."""
    return Built({"dev": "master", "cmps": {each.id: {"p": "switch", "name": each.says} for each in routines}})


def check(topic: str, payload: Payload) -> list[Flaw]:
    """Home Assistant knows no ``bad`` platform, and no node of the name ``wrong``."""
    faults = [Flaw(key, "no such platform") for key, value in payload["cmps"].items() if value["p"] == "bad"]
    return faults + [Flaw("dev", "no such device") for _ in [0] if payload["dev"] == "wrong"]


class Broker:
    """Keeps what is published to it, until it loses it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}


class House:
    """A discovery, its broker and a clock."""

    def __init__(self, broker: Broker | None = None, *, is_on: bool = True, is_leading: bool = True) -> None:
        self.now = 100.0
        self.broker = broker or Broker()
        self.discovery = Discovery(
            NAMING,
            Builders(self.build, master_payload, check),
            jitter=random.Random(1),
            is_on=is_on,
            is_leading=is_leading,
        )
        self.published: list[tuple[float, str, bytes]] = []
        self.notes: list[Note] = []
        self.built: list[float] = []
        self.is_acknowledging = True

    def build(self, card: NodeCard) -> Built:
        self.built.append(self.now)
        return node_payload(card)

    def connect(self) -> None:
        """And hear what the broker keeps."""
        self.discovery.connected(self.now)
        for topic, payload in list(self.broker.kept.items()):
            self.discovery.hear_config(topic, payload, self.now, is_retained=True)

    def cards(self, *cards: NodeCard) -> None:
        for each in cards:
            self.discovery.card(each.node, each, self.now)

    def go(self, seconds: float) -> None:
        """Let time pass, with a tick whenever one is asked for, and some for nothing."""
        until = self.now + seconds
        for _ in range(10_000):
            for effect in self.discovery.tick(self.now):
                self.perform(effect)
            wake_at = self.discovery.wake_at()
            if self.now >= until and (wake_at is None or wake_at > until):
                return
            in_a_while = min(self.now + TICK_S, until)
            self.now = in_a_while if wake_at is None else max(self.now, min(wake_at, in_a_while))
        pytest.fail("it wants to be woken for ever")

    def perform(self, effect: Publish | Note) -> None:
        if isinstance(effect, Note):
            self.notes.append(effect)
            return
        node = NAMING.node_of(effect.topic)
        assert node is not None
        self.published.append((self.now, node, effect.payload))
        if self.is_acknowledging:
            self.keep(effect.topic, effect.payload)
            self.discovery.acknowledged(effect.topic, effect.payload, self.now)

    def keep(self, topic: str, payload: bytes) -> None:
        self.broker.kept.pop(topic, None)
        if payload:
            self.broker.kept[topic] = payload

    def told(self) -> list[tuple[str, JSON]]:
        """What was published since the last time: whose components, or None for an empty payload."""
        told = [(node, json.loads(payload)["cmps"] if payload else None) for _, node, payload in self.published]
        self.published.clear()
        return told

    def lines(self) -> list[str]:
        """What was logged since the last time."""
        lines = [note.text for note in self.notes]
        self.notes.clear()
        return lines

    def stands(self) -> dict[str, JSON]:
        """What the broker keeps of whom."""
        return {topic.split("/")[3]: json.loads(payload)["cmps"] for topic, payload in self.broker.kept.items()}


FAN = {"fan": {"p": "switch", "name": "fan"}}


def started(*cards: NodeCard, broker: Broker | None = None) -> House:
    """A house in which all is told."""
    house = House(broker)
    house.connect()
    house.cards(*cards)
    house.go(60)
    house.published.clear()
    house.notes.clear()
    return house


def test_nothing_is_told_without_a_broker() -> None:
    """And nobody need wake it."""
    house = House()
    house.cards(card("porch", fan="switch"))

    assert house.discovery.wake_at() is None
    assert house.discovery.tick(house.now) == []


def test_a_node_is_told_of_once() -> None:
    """As soon as it has settled; then nothing is due."""
    house = House()
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.go(SETTLE_S - AGREES_S)
    assert house.told() == []

    house.go(600)

    assert house.told() == [("porch", FAN)]
    assert house.discovery.wake_at() is None


def test_after_a_restart_nothing_is_told_again() -> None:
    """Neither of nodes nor of the master: the broker keeps it."""
    house = House()
    house.connect()
    house.discovery.routines([MORNING], house.now)
    house.cards(card("porch", fan="switch"))
    house.go(60)
    assert [node for node, _ in house.told()] == ["master", "porch"], "the master first: the nodes are below it"

    again = House(house.broker)
    again.discovery.routines([MORNING], again.now)
    again.connect()
    again.cards(card("porch", fan="switch"))
    again.go(600)

    assert again.told() == []


def test_what_the_broker_keeps_is_waited_for() -> None:
    """It tells one after the other; while it does, nothing is published."""
    broker = started(card("porch", fan="switch")).broker
    house = House()
    house.discovery.connected(house.now)
    house.cards(card("porch", fan="switch"))
    house.go(SETTLE_S - AGREES_S)
    house.discovery.hear_config(NAMING.config_topic("attic"), b"{}", house.now, is_retained=True)
    house.go(SETTLE_S - AGREES_S)
    [(topic, payload)] = broker.kept.items()
    house.discovery.hear_config(topic, payload, house.now, is_retained=True)
    house.go(10)

    assert house.told() == []


def test_what_the_broker_keeps_is_not_waited_for_without_end() -> None:
    """A broker may have very much to tell."""
    house = House()
    house.discovery.connected(house.now)
    house.cards(card("porch", fan="switch"))
    for _ in range(9):
        house.discovery.hear_config(NAMING.config_topic("attic"), b"{}", house.now, is_retained=True)
        house.go(KEPT_WITHIN_S / 8)

    assert house.told() == [("porch", FAN)]


def test_changes_are_told_of_together() -> None:
    """What comes within a second of the first one."""
    house = started(card("porch", fan="switch"))
    house.cards(card("porch", fan="switch", bell="light"))
    house.go(SETTLE_S / 2)
    house.cards(card("porch", lamp="light"), replace(card("porch", fan="switch", lamp="light"), seq=9))
    house.go(60)

    assert house.told() == [("porch", {**FAN, "lamp": {"p": "light", "name": "lamp"}})]


def test_a_device_is_left_in_peace_for_a_while() -> None:
    """Home Assistant would lose components of the second payload."""
    house = started(card("porch"))
    for number in range(20):
        house.cards(card("porch", **{f"fan{number}": "switch"}))
        house.go(1)
    house.go(60)

    times = [at for at, _, _ in house.published]
    assert len(times) > 2
    assert all(later - earlier >= REST_S for earlier, later in itertools.pairwise(times))


def test_a_card_that_shows_the_same_is_no_change() -> None:
    """Each start of a node brings one with another boot."""
    house = started(card("porch", fan="switch"))
    house.cards(replace(card("porch", fan="switch"), boot="b2", seq=7))
    house.go(60)

    assert house.told() == []


def test_the_state_of_a_routine_is_no_change() -> None:
    """It has topics of its own. What it is called, and that there is one more, are."""
    evening = replace(MORNING, id="evening", says="At nine")
    house = started()
    house.discovery.routines([MORNING], house.now)
    house.go(60)
    house.published.clear()
    house.discovery.routines([replace(MORNING, is_on=False, last_ts=5.0, next_ts=9.0, boot="b2", seq=7)], house.now)
    house.go(60)
    assert house.told() == []

    house.discovery.routines([MORNING, evening], house.now)
    house.go(60)
    [(_, components)] = house.told()
    house.discovery.routines([evening, MORNING], house.now)
    house.go(60)
    assert {key: each["name"] for key, each in components.items()} == {"morning": "At seven", "evening": "At nine"}
    assert house.told() == []


def test_a_component_that_went_away_is_removed_and_then_left_out() -> None:
    """The second step comes when Home Assistant has taken the first."""
    house = started(card("porch", fan="switch", lamp="light"))
    house.cards(card("porch", fan="switch"))
    house.go(2)
    assert house.told() == [("porch", {**FAN, "lamp": {"p": "light"}})]
    house.go(60)

    assert house.told() == [("porch", FAN)]


def test_a_removal_is_finished_by_the_next_process() -> None:
    """From what the broker keeps."""
    house = started(card("porch", fan="switch", lamp="light"))
    house.cards(card("porch", fan="switch"))
    house.go(2)
    again = House(house.broker)
    again.connect()
    again.cards(card("porch", fan="switch"))
    again.go(REST_S - AGREES_S)
    assert again.told() == []
    again.go(60)

    assert again.told() == [("porch", FAN)]


def test_a_component_comes_on_another_platform_in_two_steps() -> None:
    """The switch goes, then the light comes."""
    house = started(card("porch", fan="switch"))
    house.cards(card("porch", fan="light"))
    house.go(60)

    assert house.told() == [("porch", {"fan": {"p": "switch"}}), ("porch", {"fan": {"p": "light", "name": "fan"}})]


def test_a_node_whose_card_is_taken_away_goes() -> None:
    """Once, and it is logged; a node that never was is no news."""
    house = started(card("porch", fan="switch"))
    house.discovery.card("porch", None, house.now)
    house.discovery.card("attic", None, house.now)
    house.go(60)

    assert house.told() == [("porch", None)]
    assert house.lines() == ["Home Assistant: node porch is taken away there"]
    assert house.broker.kept == {}


def test_a_node_that_comes_back_is_there_again() -> None:
    """Not at once: Home Assistant is still clearing up."""
    house = started(card("porch", fan="switch"))
    house.discovery.card("porch", None, house.now)
    house.go(2)
    house.cards(card("porch", fan="switch"))
    house.go(60)

    (first, _, nothing), (second, _, payload) = house.published
    assert (nothing, second - first >= REST_S) == (b"", True)
    assert json.loads(payload)["cmps"] == FAN


def test_what_is_left_of_a_node_without_a_card_goes() -> None:
    """Nodes have some seconds after the connection was made."""
    broker = started(card("porch", fan="switch"), card("attic", fan="switch")).broker
    house = House(broker)
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.go(STALE_S - AGREES_S)
    assert house.told() == []
    house.go(1)

    assert house.told() == [("attic", None)]


def test_a_card_that_went_while_nobody_looked_takes_the_device_along() -> None:
    """The broker has kept the device, and not the card."""
    house = started(card("porch", fan="switch"))
    house.discovery.disconnected()
    house.go(60)
    house.connect()
    house.go(60)

    assert house.told() == [("porch", None)]


def test_a_card_that_cannot_be_read_takes_nothing_away() -> None:
    """A node may be newer than its master."""
    broker = started(card("porch", fan="switch")).broker
    house = House(broker)
    house.connect()
    house.discovery.unreadable_card("porch")
    house.go(60)

    assert house.told() == []


def test_what_a_newer_master_tells_of_a_card_that_cannot_be_read_stays() -> None:
    """Also where this one comes to lead long after."""
    house = House(is_leading=True)
    house.connect()
    house.discovery.unreadable_card("porch")
    house.go(60)
    house.discovery.lead(False, house.now)
    house.discovery.hear_config(NAMING.config_topic("porch"), canonical({"cmps": FAN}), house.now, is_retained=False)
    house.go(60)
    house.discovery.lead(True, house.now)
    house.go(60)

    assert house.told() == []


def test_a_broker_that_lost_all_gets_it_again() -> None:
    """Also what is of nodes that are away: their cards come when they do."""
    cards = (card("porch", fan="switch"), card("attic", lamp="light"))
    house = started(*cards, broker=started(*cards).broker)
    house.discovery.routines([], house.now)
    house.go(60)
    house.published.clear()
    stood = house.stands()
    house.discovery.disconnected()
    house.broker.kept.clear()
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.go(600)

    assert [node for node, _ in house.told()] == ["master", "attic", "porch"]
    assert house.stands() == stood


def test_a_connection_that_was_lost_and_came_back_changes_nothing() -> None:
    """All stands."""
    house = started(card("porch", fan="switch"))
    house.discovery.disconnected()
    house.go(5)
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.go(60)

    assert house.told() == []


def test_what_is_not_acknowledged_is_sent_on_the_next_connection() -> None:
    """Not before: it may be under way."""
    house = House()
    house.is_acknowledging = False
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.go(60)
    assert house.told() == [("porch", FAN)]

    house.discovery.disconnected()
    house.is_acknowledging = True
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.go(60)

    assert house.told() == [("porch", FAN)]


def test_a_late_acknowledgement_is_not_taken_for_that_of_the_next_payload() -> None:
    """And what is under way counts as what stands."""
    house = started(card("porch", fan="switch"))
    house.is_acknowledging = False
    house.cards(card("porch", fan="switch", lamp="light"))
    house.go(2)
    [(_, _, first)] = house.published
    house.cards(card("porch", fan="switch"))
    house.go(REST_S)
    house.discovery.acknowledged(NAMING.config_topic("porch"), first, house.now)
    house.go(60)

    assert [sorted(components) for _, components in house.told()] == [["fan", "lamp"], ["fan", "lamp"], ["fan"]]


def test_what_somebody_takes_away_comes_again() -> None:
    """In a while."""
    house = started(card("porch", fan="switch"))
    house.broker.kept.clear()
    house.discovery.hear_config(NAMING.config_topic("porch"), b"", house.now, is_retained=False)
    house.go(REST_S - AGREES_S)
    assert house.told() == []
    house.go(1)

    assert house.told() == [("porch", FAN)]


def test_devices_of_other_meshes_are_let_alone() -> None:
    """Whatever is said of them."""
    house = House()
    house.connect()
    other = Naming("home/pibot").config_topic("porch")
    house.discovery.hear_config(other, b'{"cmps":{}}', house.now, is_retained=True)
    house.discovery.hear_config("homeassistant/switch/fan/config", b"{}", house.now, is_retained=True)
    house.go(60)

    assert house.told() == []


def test_when_home_assistant_comes_all_is_told_again() -> None:
    """In a while of chance, once, the master first, one after the other."""
    house = started(card("porch", fan="switch"), card("attic", lamp="light"))
    house.discovery.routines([], house.now)
    house.go(60)
    house.published.clear()
    born_at = house.now
    for _ in range(10):
        house.discovery.hear_birth(b"online", house.now, is_retained=False)
        house.go(0.1)
    house.go(60)

    times = [at - born_at for at, _, _ in house.published]
    assert times[0] == pytest.approx(random.Random(1).uniform(*BIRTH_S)), "the first word counts"
    assert times == sorted(set(times))
    assert [node for node, _ in house.told()] == ["master", "attic", "porch"]


@pytest.mark.parametrize(("payload", "is_retained"), [(b"offline", False), (b"online", True), (b"", False)])
def test_other_words_of_home_assistant_change_nothing(payload: bytes, is_retained: bool) -> None:
    """That it goes, and what is old."""
    house = started(card("porch", fan="switch"))
    house.discovery.hear_birth(payload, house.now, is_retained=is_retained)
    house.go(60)

    assert house.told() == []


def test_nothing_is_told_to_home_assistant_of_what_is_not_there() -> None:
    """A node that was taken away need not be taken away again."""
    house = started(card("porch", fan="switch"))
    house.discovery.card("porch", None, house.now)
    house.go(60)
    house.published.clear()
    house.discovery.hear_birth(b"online", house.now, is_retained=False)
    house.go(60)

    assert house.told() == []


def test_who_follows_says_nothing_until_it_leads() -> None:
    """Then what differs: here a node that came when the former leader had gone. A birth of long ago is over."""
    broker = started(card("porch", fan="switch")).broker
    house = House(broker, is_leading=False)
    house.connect()
    house.cards(card("porch", fan="switch"), card("attic", lamp="light"))
    house.discovery.hear_birth(b"online", house.now, is_retained=False)
    house.go(60)
    assert house.told() == []
    assert house.discovery.wake_at() is None

    house.discovery.lead(True, house.now)
    house.discovery.lead(True, house.now)
    house.go(60)
    assert [node for node, _ in house.told()] == ["attic"]

    house.discovery.hear_birth(b"online", house.now, is_retained=False)
    house.discovery.lead(False, house.now)
    house.discovery.lead(True, house.now)
    house.go(60)
    assert house.told() == []


def test_without_discovery_what_was_shown_goes_once() -> None:
    """Also what is the master's; then there is silence, whatever happens."""
    broker = started(card("porch", fan="switch")).broker
    broker.kept[NAMING.config_topic("master")] = canonical({"cmps": {}})
    house = House(broker, is_on=False)
    house.discovery.routines([MORNING], house.now)
    house.connect()
    house.cards(card("porch", fan="switch"))
    house.discovery.unreadable_card("attic")
    house.go(60)
    assert sorted(house.told()) == [("master", None), ("porch", None)]
    assert sorted(house.lines()) == [
        "Home Assistant: node porch is taken away there",
        "Home Assistant: the master is taken away there",
    ]

    house.discovery.hear_birth(b"online", house.now, is_retained=False)
    house.discovery.disconnected()
    house.connect()
    house.go(60)
    assert house.told() == []


def test_flaws_are_named_once() -> None:
    """With node and device; what is new of them, again."""
    house = House()
    house.connect()
    house.cards(card("porch", fan="switch", door="odd", gate="bad"))
    house.go(60)
    assert house.told() == [("porch", FAN)]
    assert house.lines() == [
        "Home Assistant: node porch: door: is odd",
        "Home Assistant: node porch: gate: is left out: no such platform",
    ]

    house.cards(card("porch", fan="switch", door="odd", gate="bad", lamp="light"))
    house.go(60)
    assert house.lines() == []

    house.cards(card("porch", fan="switch", bell="odd"))
    house.go(60)
    assert house.lines() == ["Home Assistant: node porch: bell: is odd"]


def test_of_a_device_that_is_wrong_what_stands_stays() -> None:
    """It is not sent, not even when Home Assistant comes."""
    broker = Broker()
    broker.kept[NAMING.config_topic("wrong")] = canonical({"cmps": FAN})
    house = House(broker)
    house.connect()
    house.cards(card("wrong", lamp="light"))
    house.discovery.hear_birth(b"online", house.now, is_retained=False)
    house.go(60)

    assert house.told() == []
    assert house.lines()[0] == "Home Assistant: node wrong: dev: no such device"


def test_a_bug_with_one_node_is_not_the_others() -> None:
    """It is raised once."""
    house = House()
    house.connect()
    house.cards(card("broken"), card("porch", fan="switch"))
    with pytest.raises(RuntimeError):
        house.go(60)
    house.go(60)

    assert house.told() == [("porch", FAN)]


def test_a_bug_beyond_a_builder_is_met_seldom_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that met it without a pause would do nothing else, and fill the log."""
    house = started(card("attic", lamp="light"), card("porch", fan="switch"))

    def odd(stands: bytes, wanted: bytes) -> bytes:
        if b"lamp" in wanted:
            raise RuntimeError("a bug")
        return step(stands, wanted)

    monkeypatch.setattr(discovery, "step", odd)
    for node, device in (("attic", "lamp"), ("porch", "fan")):
        house.cards(card(node, **{device: "light"}, heater="switch"))
    bugs = 0
    until = house.now + 20
    while house.now < until:
        try:
            house.go(until - house.now)
        except RuntimeError:
            bugs += 1

    assert [node for node, _ in house.told()] == ["porch", "porch"]
    assert bugs <= 20 / REST_S + 1


def test_of_a_device_that_is_gone_nothing_is_remembered() -> None:
    """Whoever may publish a card or a payload could have the master remember any number."""
    house = started(card("porch", fan="switch"))
    house.discovery.card("porch", None, house.now)
    for number in range(20):
        house.discovery.card(f"a{number}", None, house.now)
        house.discovery.hear_config(NAMING.config_topic(f"c{number}"), b"", house.now, is_retained=False)
    house.go(60)

    assert house.told() == [("porch", None)]
    assert house.discovery._devices == {}


def test_no_tick_has_to_do_with_many() -> None:
    """A thousand nodes at once would stop the master for a while: neither where they are new nor where all stands."""
    cards = [card(f"n{number}", fan="switch") for number in range(100)]
    broker = Broker()
    for publishes in (100, 0):
        house = House(broker)
        house.connect()
        house.cards(*cards)
        house.go(30)
        assert (len(set(house.built)), len(house.told())) == (100, publishes)


class Chance:
    """A house, and everything that may happen to it, by the dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.house = House()
        self.cards: dict[str, NodeCard] = {}
        self.routines: list[RoutineState] = []
        self.published: list[tuple[float, str, bytes]] = []
        self.house.discovery.routines(self.routines, self.house.now)
        self.connect()

    def connect(self) -> None:
        self.house.connect()
        for node in self.shuffled(self.cards):
            self.house.cards(self.cards[node])

    def shuffled(self, nodes: Iterable[str]) -> list[str]:
        return self.dice.sample(sorted(nodes), len(list(nodes)))

    def happen(self) -> None:
        """One thing."""
        house, dice = self.house, self.dice
        node = dice.choice(("porch", "attic", "hall"))
        topic = NAMING.config_topic(node)
        match dice.randrange(12):
            case 0 | 1 | 2 | 3:
                kinds = {name: dice.choice(("switch", "light", "odd", "bad")) for name in "abcd" if dice.random() < 0.5}
                self.cards[node] = replace(card(node, **kinds), seq=dice.randrange(100))
                house.cards(self.cards[node])
            case 4:
                self.cards.pop(node, None)
                house.discovery.card(node, None, house.now)
            case 5:
                house.discovery.hear_birth(b"online", house.now, is_retained=False)
            case 6:
                payload = dice.choice((b"", b"nonsense", canonical({"cmps": {"x": {"p": "light", "y": 1}}})))
                house.keep(topic, payload)
                house.discovery.hear_config(topic, payload, house.now, is_retained=False)
            case 7:
                house.discovery.disconnected()
                house.go(dice.uniform(0, 20))
                if dice.random() < 0.3:
                    house.broker.kept.clear()
                elif topic in house.broker.kept:
                    self.cards.pop(node, None)
                self.connect()
                house.go(STALE_S + REST_S)
            case 8:
                house.is_acknowledging = False
                house.go(dice.uniform(0, 8))
                house.discovery.disconnected()
                house.is_acknowledging = True
                self.connect()
            case 9:
                self.restart()
            case 10:
                self.routines = [replace(MORNING, id=name) for name in ("one", "two") if dice.random() < 0.5]
                house.discovery.routines(self.routines, house.now)
            case 11:
                house.discovery.lead(False, house.now)
                house.go(dice.uniform(0, 20))
                house.discovery.lead(True, house.now)
        self.house.go(dice.choice((0.0, 0.3, 3.0, 30.0)))

    def restart(self) -> None:
        """A start takes its time. Of what was taken away a moment ago nothing is left that could tell of it."""
        self.published += self.house.published
        now = self.house.now + REST_S
        self.house = House(self.house.broker)
        self.house.now = now
        self.house.discovery.routines(self.routines, now)
        self.connect()

    def wanted(self) -> dict[str, JSON]:
        payloads = [node_payload(each).payload for each in self.cards.values()]
        payloads.append(master_payload(self.routines).payload)
        return {
            each["dev"]: {key: value for key, value in each["cmps"].items() if value["p"] != "bad"} for each in payloads
        }


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_in_the_end_all_stands(seed: int) -> None:
    """Nothing is published within five seconds of the last time of the same device, and in silence nothing at all."""
    chance = Chance(seed)
    for _ in range(60):
        chance.happen()
    chance.house.go(120)

    assert chance.house.stands() == chance.wanted()
    published = chance.published + chance.house.published
    last: dict[str, float] = {}
    for at, node, _ in published:
        assert at - last.get(node, float("-inf")) >= REST_S - 1e-9, f"{node} at {at}"
        last[node] = at
    chance.house.published.clear()
    chance.restart()
    chance.house.go(120)
    assert chance.house.published == []
