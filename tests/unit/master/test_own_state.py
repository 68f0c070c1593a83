"""What displays and automations are told of the master."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from pibot_mesh.master.events import Origin, Record
from pibot_mesh.master.own_state import MAX_ARGS, OwnState, cut, cut_bytes
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import MAX_SHOWN, MAX_TOLD, MAX_WORDS, Event, MasterState, Reply, Request, State


class Requests:
    """Requests as a core knows them."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.open: list[str] = []
        self.asking: set[tuple[str, str]] = set()

    def ask(self, request_id: str, text: str = "turn on the fan", session: str | None = None) -> Event:
        request = Request(request_id, text, session=session)
        self.records[request_id] = Record(request, Origin(), State.SUBMITTED)
        self.open.append(request_id)
        return Event(request_id, "request_accepted", "b1", 1, data={"text": text})

    def wait(self, request_id: str, call: str, **data: JSON) -> Event:
        self.asking.add((request_id, call))
        return approval(request_id, call, **data)

    @property
    def open_requests(self) -> int:
        return len(self.open)

    @property
    def newest(self) -> str | None:
        return self.open[-1] if self.open else None

    def held(self, request_id: str) -> Record | None:
        return self.records.get(request_id)

    def is_asking(self, request_id: str, call: str) -> bool:
        return (request_id, call) in self.asking


def approval(request_id: str, call: str, **data: JSON) -> Event:
    facts: Mapping[str, JSON] = {"tool": "output_set", "args": {"device": "heater"}, "node": "porch", **data}
    return Event(request_id, "approval_required", "b1", 2, data={"call": call, **facts})


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def own(requests: Requests) -> OwnState:
    return OwnState(requests, boot="b1")


def said(own: OwnState) -> MasterState:
    state = own.news()
    assert state is not None, "there is news"
    return state


def test_a_master_that_has_just_started_is_idle(own: OwnState) -> None:
    """And says so once."""
    assert said(own) == MasterState("idle", boot="b1", seq=1)
    assert own.news() is None


def test_the_last_answer_is_known_after_a_restart(own: OwnState) -> None:
    """Of the last request that has one; the text is that of the last request, which may still be open."""
    earlier = [
        Record(Request("r3", "turn off the fan"), Origin(), State.WORKING),
        Record(Request("r2", "open the door"), Origin(), State.REJECTED, reply=Reply("r2", State.REJECTED, "no")),
        Record(Request("r1", "status"), Origin(), State.COMPLETED, reply=Reply("r1", State.COMPLETED, "all is well")),
    ]

    own.recall(earlier)

    state = said(own)
    assert (state.asked, state.answer, state.outcome) == ("turn off the fan", "no", State.REJECTED)


def test_what_nobody_may_know_is_said_again(own: OwnState) -> None:
    """After a new connection."""
    said(own)

    own.forget_said()

    assert said(own).state == "idle"


def test_a_request_is_shown_from_its_text_to_its_answer(own: OwnState, requests: Requests) -> None:
    """First it works, then it has an answer, and how it ended."""
    assert own.hear(requests.ask("r1", "turn on the fan"), 1.0) is None
    working = said(own)
    requests.open.clear()
    event = own.replied(Reply("r1", State.COMPLETED, "porch: the fan is on."), 2.5)
    idle = said(own)

    assert (working.state, working.open, working.request, working.asked) == ("working", 1, "r1", "turn on the fan")
    assert (idle.state, idle.open, idle.request, idle.answer, idle.outcome) == (
        "idle", 0, None, "porch: the fan is on.", State.COMPLETED,
    )  # fmt: skip
    assert event is not None
    assert (event.event_type, event.id, event.text, event.asked, event.state, event.ts) == (
        "answered", "r1", "porch: the fan is on.", "turn on the fan", State.COMPLETED, 2.5,
    )  # fmt: skip


@pytest.mark.parametrize("state", [State.FAILED, State.REJECTED, State.CANCELED, State.UNKNOWN])
def test_a_request_that_was_not_done_has_failed(own: OwnState, requests: Requests, state: State) -> None:
    """Whatever the reason was."""
    requests.ask("r1", session="kitchen")

    event = own.replied(Reply("r1", state, "no"), 1.0)

    assert event is not None
    assert (event.event_type, event.state, event.session) == ("failed", state, "kitchen")


def test_a_reply_to_a_request_that_was_refused_at_the_door_is_told(own: OwnState) -> None:
    """Nobody knows what it asked."""
    event = own.replied(Reply("r9", State.REJECTED, "too many open requests"), 1.0)

    assert event is not None
    assert (event.event_type, event.asked, event.session) == ("failed", "", None)


def test_a_reply_that_is_published_again_is_no_news(own: OwnState, requests: Requests) -> None:
    """An automation would speak it twice. Of very many, only the last ones are remembered."""
    requests.ask("r1")

    assert own.replied(Reply("r1", State.COMPLETED, "done"), 1.0) is not None
    assert own.replied(Reply("r1", State.COMPLETED, "done"), 2.0) is None
    for number in range(1000):
        own.replied(Reply(f"x{number}", State.COMPLETED, "done"), 3.0)
    assert own.replied(Reply("r1", State.COMPLETED, "done"), 4.0) is not None


def test_a_call_that_waits_is_shown_and_told(own: OwnState, requests: Requests) -> None:
    """With its exact arguments, so that a word about it is bound to it."""
    own.hear(requests.ask("r1", "turn on the heater"), 1.0)

    event = own.hear(requests.wait("r1", "c1"), 2.0)

    state = said(own)
    assert state.state == "needs_approval"
    assert state.pending is not None
    assert (state.pending.request, state.pending.call, state.pending.node) == ("r1", "c1", "porch")
    assert state.pending.says == 'output_set on porch with device: "heater"'
    assert event is not None
    assert (event.event_type, event.id, event.pending, event.asked) == (
        "needs_approval", "r1", state.pending, "turn on the heater",
    )  # fmt: skip


def test_of_several_calls_the_one_that_waits_longest_is_shown(own: OwnState, requests: Requests) -> None:
    """And after its answer, whoever gave it, the next."""
    own.hear(requests.ask("r1"), 1.0)
    own.hear(requests.wait("r1", "c1"), 2.0)
    own.hear(requests.wait("r1", "c2"), 3.0)
    first = said(own).pending

    requests.asking.remove(("r1", "c1"))
    second = said(own).pending
    requests.asking.clear()

    assert first is not None
    assert second is not None
    assert (first.call, second.call) == ("c1", "c2")
    assert said(own).state == "working"


def test_calls_of_one_name_are_two_where_their_requests_are(own: OwnState, requests: Requests) -> None:
    """A node names its calls as it likes."""
    first, second = requests.wait("r1", "c1"), requests.wait("r2", "c1")

    assert [own.hear(event, 1.0) is not None for event in (first, second)] == [True, True]
    requests.asking.remove(("r1", "c1"))

    pending = said(own).pending
    assert pending is not None
    assert pending.request == "r2"


def test_calls_that_were_answered_are_forgotten_though_nothing_is_said(own: OwnState, requests: Requests) -> None:
    """One of several masters may not speak for weeks."""
    for number in range(100):
        own.hear(requests.wait(f"r{number}", "c1"), 1.0)
        requests.asking.clear()

    assert len(own._waiting) == 1


def test_a_call_is_told_once(own: OwnState, requests: Requests) -> None:
    """Though an agent says it again."""
    event = requests.wait("r1", "c1")

    assert own.hear(event, 1.0) is not None
    assert own.hear(event, 2.0) is None


@pytest.mark.parametrize(
    "data",
    [{"tool": "no tool"}, {"tool": None}, {"args": "all"}, {"args": None}],
    ids=["a name that is none", "no name", "arguments that are none", "no arguments"],
)
def test_what_is_no_call_is_not_shown(own: OwnState, requests: Requests, data: dict[str, JSON]) -> None:
    """A node may say what it likes."""
    assert own.hear(requests.wait("r1", "c1", **data), 1.0) is None
    assert said(own).pending is None


def test_a_call_that_nobody_asks_is_not_shown(own: OwnState) -> None:
    """It was answered before this was read, or an agent made it up."""
    assert own.hear(approval("r1", "c1"), 1.0) is None
    assert own.hear(approval("r1", "no id at all"), 1.0) is None
    assert said(own).pending is None


def test_a_call_without_a_node_or_arguments_is_said_in_few_words(own: OwnState, requests: Requests) -> None:
    """The master's own, for example."""
    own.hear(requests.wait("r1", "c1", tool="wipe", args={}, node=None), 1.0)

    pending = said(own).pending

    assert pending is not None
    assert (pending.says, pending.node) == ("wipe", None)


def test_very_long_arguments_are_left_to_the_words(own: OwnState, requests: Requests) -> None:
    """Attributes have to stay small."""
    own.hear(requests.wait("r1", "c1", args={"text": "x" * MAX_ARGS}), 1.0)

    pending = said(own).pending

    assert pending is not None
    assert (pending.args, len(pending.says)) == ({}, MAX_WORDS)


def test_the_emergency_stop_is_shown_above_all(own: OwnState, requests: Requests) -> None:
    """Also while something runs, and until it ends."""
    own.hear(requests.ask("r1"), 1.0)
    own.stop(True)
    stopped = said(own)
    own.stop(False)

    assert (stopped.state, stopped.is_stopped) == ("stopped", True)
    assert (said(own).state, said_nothing(own)) == ("working", True)


def said_nothing(own: OwnState) -> bool:
    return own.news() is None


def test_long_texts_are_cut(own: OwnState, requests: Requests) -> None:
    """To what Home Assistant takes for a state, and for attributes."""
    own.hear(requests.ask("r1", "a" * 9000), 1.0)
    event = own.replied(Reply("r1", State.COMPLETED, "b" * 13_000), 2.0)

    state = said(own)

    assert event is not None
    assert [len(state.asked), len(state.answer), len(event.asked)] == [MAX_SHOWN] * 3
    assert len(event.text.encode()) == MAX_TOLD
    marked = own.replied(Reply("r2", State.COMPLETED, '"' * 13_000), 2.0)
    assert marked is not None
    assert MAX_TOLD - 2 <= len(json.dumps(marked.text, ensure_ascii=False).encode()) - 2 <= MAX_TOLD
    assert cut_bytes("日本語", 9) == "日本語"
    assert cut_bytes("日本語", 8) == "日…"
    assert cut_bytes('"' * 10, 20) == '"' * 10
    assert cut_bytes('"' * 11, 20) == '"' * 8 + "…"
    assert cut("abcd", 4) == "abcd"
    assert cut("abcde", 4) == "abc…"
