"""``pibot why``: which output is meant, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pibot_mesh.cli.causes import Asked, UnknownOutput, Why, ago, cause_text, find_output, sentences
from pibot_mesh.cli.mesh_view import MeshView
from pibot_mesh.protocol.codec import encode
from pibot_mesh.protocol.messages import Cause, DeviceSpec, NodeCard
from pibot_mesh.protocol.topics import Address, Kind

NOW_TS = 1_700_000_000.0
FAN = DeviceSpec("fan", "out", "relay", "fan", "kitchen")


def mesh() -> MeshView:
    """A kitchen and an attic, each with a fan; the attic has a lamp over the bench, and is offline."""
    view = MeshView()
    lamp = DeviceSpec("lamp_2", "out", "light", "lamp", "attic", dimmable=True, label="Bench light")
    see(view, "pi-3", FAN, DeviceSpec("door", "in", "contact"))
    see(view, "loft", DeviceSpec("fan", "out", "relay", "fan", "attic"), lamp)
    view.see(Address(Kind.NODE_STATUS, node="pi-3"), b"online")
    view.see(Address(Kind.OUTPUT, node="pi-3", device="fan"), b"ON")
    cause = Cause("task", "t1", "r1", ts=NOW_TS - 750)
    view.see(Address(Kind.OUTPUT_CAUSE, node="pi-3", device="fan"), encode(cause))
    return view


def see(view: MeshView, node: str, *devices: DeviceSpec) -> None:
    """A node shows its card."""
    view.see(Address(Kind.NODE_CARD, node=node), encode(NodeCard(node, "b", "1", devices=devices)))


@pytest.fixture
def clock() -> Callable[[float], str]:
    """One that stands still."""
    return lambda _: "14:03:22"


@pytest.mark.parametrize("words", ["pi-3/fan", "PI-3/Fan", "kitchen fan", "the fan in the kitchen", "pi-3 fan"])
def test_an_output_is_found_by_its_topic_or_by_words(words: str) -> None:
    """Of its node, its room, its name."""
    why = find_output(mesh(), words)

    assert (why.node, why.output, why.is_online, why.value) == ("pi-3", "fan", True, True)
    assert why.cause == Cause("task", "t1", "r1", ts=NOW_TS - 750)


@pytest.mark.parametrize("words", ["lamp", "bench light", "bench", "lamp_2", "loft/lamp_2"])
def test_where_one_node_has_it_its_name_or_label_is_enough(words: str) -> None:
    """What it has not said is not known."""
    why = find_output(mesh(), words)

    assert (why.node, why.output, why.is_online, why.value, why.cause) == ("loft", "lamp_2", False, None, None)
    assert why.title == "Bench light on loft"


def test_of_a_node_without_a_card_what_it_has_said_counts() -> None:
    """A broker may have forgotten the card."""
    view = MeshView()
    view.see(Address(Kind.OUTPUT, node="shed", device="pump"), b"OFF")

    assert find_output(view, "pump").title == "pump on shed"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("fan", "more than one output is called 'fan': name one of loft/fan, pi-3/fan"),
        ("pi-3/fam", "pi-3 has no output 'fam': it has pi-3/fan"),
        ("loft/fam", "loft has no output 'fam': it has loft/fan, loft/lamp_2"),
        (
            "p-3/fan",
            "no output is called 'p-3/fan' (did you mean 'pi-3/fan'?): there are loft/fan, loft/lamp_2, pi-3/fan",
        ),
        ("door", "no output is called 'door': there are loft/fan, loft/lamp_2, pi-3/fan"),
        ("?", "no output is called '?': there are loft/fan, loft/lamp_2, pi-3/fan"),
    ],
)
def test_what_is_not_clear_is_asked_back(words: str, says: str) -> None:
    """With what there is."""
    with pytest.raises(UnknownOutput) as caught:
        find_output(mesh(), words)

    assert str(caught.value) == says


def test_without_any_output_there_is_nothing_to_name() -> None:
    """Nor does a list of hundreds help anybody."""
    view = MeshView()
    see(view, "bare")
    with pytest.raises(UnknownOutput, match="no node has shown an output yet"):
        find_output(view, "fan")
    with pytest.raises(UnknownOutput, match="bare has no output 'fan': it has no outputs"):
        find_output(view, "bare/fan")

    see(view, "wall", *(DeviceSpec(f"led{number}", "out", "led") for number in range(10)))
    with pytest.raises(UnknownOutput, match=r"wall/led7 and 2 more$"):
        find_output(view, "wall/fan")


def test_a_sentence_says_what_since_when_and_by_whom(clock: Callable[[float], str]) -> None:
    """With the words of the request where they are known, else with where to find them."""
    why = find_output(mesh(), "kitchen fan")

    assert sentences(why, now_ts=NOW_TS, clock=clock, asked=Asked("turn on the fan")) == [
        'fan on pi-3 is ON since 14:03:22 (12 minutes ago): set by task t1 of request r1 ("turn on the fan")'
    ]
    assert sentences(why, now_ts=NOW_TS, clock=clock)[1:] == [
        "'pibot history r1' tells the request, on the master's machine."
    ]


def test_what_an_offline_node_said_last_is_marked_so(clock: Callable[[float], str]) -> None:
    """It may be otherwise by now."""
    why = Why("pi-3", "fan", is_online=False, spec=FAN, value=False, cause=Cause("stop", ts=NOW_TS))

    assert sentences(why, now_ts=NOW_TS, clock=clock) == [
        "fan on pi-3 is OFF since 14:03:22 (just now): set by the emergency stop",
        "pi-3 is offline: this is what it said last.",
    ]


@pytest.mark.parametrize(
    ("why", "says"),
    [
        (Why("a", "fan", True), "fan on a has not said what it is at"),
        (Why("a", "fan", True, value="#ff8800"), "fan on a is #ff8800, and its node did not say why"),
        (Why("a", "fan", True, FAN, True, Cause("start", ts=12.0)), "fan on a is ON: its value from the node's start"),
    ],
)
def test_what_is_not_known_is_not_made_up(why: Why, says: str, clock: Callable[[float], str]) -> None:
    """A Pi has no clock until the network tells it the time."""
    assert sentences(why, now_ts=NOW_TS, clock=clock) == [says]


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (Cause("start"), "its value from the node's start"),
        (Cause("task", "t1"), "set by task t1"),
        (Cause("request", "r1"), "set by request r1"),
        (Cause("rule", "cool", reason="temperature above 28"), "set by the rule cool: temperature above 28"),
        (Cause("person"), "set by a person"),
        (Cause("person", "x1"), "set by a person (id x1)"),
        (Cause("timer", reason="its time is over"), "set by its timer: its time is over"),
        (Cause("safety", reason="no master for 120 s"), "set by safety: no master for 120 s"),
        (Cause("safety", "max_on_s", reason="on for 60 s"), "set by safety (max_on_s): on for 60 s"),
        (Cause("stop", reason="emergency stop"), "set by the emergency stop"),
        (Cause("stop", reason="it holds"), "set by the emergency stop: it holds"),
    ],
)
def test_every_cause_has_its_words(cause: Cause, says: str) -> None:
    """The node's own reason comes last."""
    assert cause_text(cause) == says


def test_a_long_request_is_cut_and_plain_text_is_named() -> None:
    """Whoever typed it had no name."""
    assert cause_text(Cause("request", "r1"), Asked("fan on", is_plain=True)) == (
        'set by request r1 ("fan on", asked in plain text)'
    )
    assert cause_text(Cause("request", "r1"), Asked("x" * 100)) == f'set by request r1 ("{"x" * 79}…")'


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0.0, "just now"),
        (2.9, "2 seconds ago"),
        (60.0, "1 minute ago"),
        (7199.0, "1 hour ago"),
        (200_000.0, "2 days ago"),
    ],
)
def test_how_long_ago_is_said_in_one_unit(seconds: float, says: str) -> None:
    """Nobody needs the seconds of last week."""
    assert ago(seconds) == says


def test_json_holds_the_same() -> None:
    """For programs."""
    facts = find_output(mesh(), "kitchen fan").to_json(Asked("turn on the fan"))

    cause = facts.pop("cause")
    assert facts == {"node": "pi-3", "output": "fan", "online": True, "value": True, "request_text": "turn on the fan"}
    assert isinstance(cause, dict)
    assert (cause["by"], cause["id"], cause["request"], cause["ts"]) == ("task", "t1", "r1", NOW_TS - 750)
    assert Why("a", "fan", True).to_json(None)["cause"] is None
