"""What the master remembers of a conversation: through restarts, in order, and never too much."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

from pibot_mesh.master.conversation import MAX_SIZE, MAX_TEXT, exchanges
from pibot_mesh.master.events import Exchange, Origin, Record, Save
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.master.planner import OfflinePlanner, Situation
from pibot_mesh.master.store import Known
from pibot_mesh.protocol.codec import to_dict
from pibot_mesh.protocol.messages import Output, Plan, Reply, Request, State, Step, StepResult, ToolCall
from tests.unit.master.offline.house import HOUSE, card, steps


def record(number: int, session: str | None, text: str = "", *, reply: str | None = "done") -> Record:
    """One request that arrived in second *number*."""
    request = Request(f"r{number}", text or f"text {number}", session=session)
    answer = None if reply is None else Reply(request.id, State.COMPLETED, reply)
    return Record(request, Origin(), State.COMPLETED, accepted_ts=number, reply=answer)


def texts(said: list[Exchange]) -> list[str]:
    return [exchange.text for exchange in said]


def test_a_session_has_its_own_requests_the_oldest_first(tmp_path: Path) -> None:
    """Those of other sessions, and of none, are not among them; in the order in which they came, however stored."""
    ledger = Ledger(tmp_path / "master.sqlite")
    for number, session in ((3, "a"), (1, "a"), (2, "b"), (4, None)):
        ledger.write([Save(record(number, session))])
    ledger.write([Save(replace(record(1, "a"), is_sent=True))])

    assert ledger.conversation("a") == [
        Exchange("text 1", Reply("r1", State.COMPLETED, "done")),
        Exchange("text 3", Reply("r3", State.COMPLETED, "done")),
    ]
    assert texts(ledger.conversation("b")) == ["text 2"]
    assert ledger.conversation("c") == []


def test_only_what_has_a_reply_was_said(tmp_path: Path) -> None:
    """The request that is being worked on is not a part of what it goes on from."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(record(1, "a")), Save(record(2, "a", reply=None)), Save(record(3, "a"))])

    assert texts(ledger.conversation("a")) == ["text 1", "text 3"]
    assert texts(ledger.conversation("a", limit=1)) == ["text 3"]
    assert texts(exchanges([record(2, "a", reply=None), record(1, "a")])) == ["text 1"]


def test_the_last_ten_are_remembered(tmp_path: Path) -> None:
    """However long a session goes on."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(record(number, "a")) for number in range(50)])

    assert texts(ledger.conversation("a")) == [f"text {number}" for number in range(40, 50)]
    assert texts(ledger.conversation("a", limit=2)) == ["text 48", "text 49"]


def test_the_query_needs_no_look_at_other_requests(tmp_path: Path) -> None:
    """A ledger grows for years."""
    Ledger(tmp_path / "master.sqlite").close()

    with sqlite3.connect(tmp_path / "master.sqlite") as connection:
        query = "EXPLAIN QUERY PLAN SELECT record FROM request WHERE session = 'a' ORDER BY ts DESC"
        [[*_, way]] = connection.execute(query).fetchall()

    assert "request_session" in way


def test_long_texts_are_cut_in_the_middle() -> None:
    """Wherever they stand; what they belong to stays whole, so that "it" is still known."""
    long = f"begin {'x' * 7900} end"
    plan = Plan(
        "llm",
        (
            Step("s1", "agent", "n1", instruction=long),
            Step("s2", node="n1", tool="t", args={"device": "fan", "x": [long]}),
        ),
    )
    call = ToolCall("output_set", {"device": "fan", "text": long}, True)
    result = StepResult("s1", State.COMPLETED, "n1", output=Output(long, {"value": long, "n": 1}), tool_calls=(call,))
    said = record(1, "a", long)
    said = replace(said, reply=Reply("r1", State.COMPLETED, long, "llm", plan, (result,)))

    [exchange] = exchanges([said])

    reply = exchange.reply
    assert reply.plan is not None
    instruction = reply.plan.steps[0].instruction or ""
    for text in (exchange.text, reply.text, instruction, reply.results[0].output.text):
        assert len(text) <= MAX_TEXT
        assert text.startswith("begin x")
        assert text.endswith("x end")
        assert "left out" in text
    assert len(json.dumps(to_dict(reply))) < 8 * MAX_TEXT
    assert reply.plan.steps[1].args["device"] == "fan"
    assert reply.results[0].tool_calls[0].args["device"] == "fan"
    assert (reply.results[0].node, reply.results[0].output.data["n"]) == ("n1", 1)


def test_of_large_requests_fewer_are_remembered(tmp_path: Path) -> None:
    """All that is remembered is at most 64 KB, and the last request at least is there."""
    ledger = Ledger(tmp_path / "master.sqlite")

    def large(number: int, results: int) -> Record:
        step = StepResult("s1", State.COMPLETED, "n1", output=Output("😀" * 400))
        said = record(number, "a")
        assert said.reply is not None
        return replace(said, reply=replace(said.reply, results=(step,) * results))

    ledger.write([Save(large(number, 10)) for number in range(10)])
    said = ledger.conversation("a")
    size = sum(len(json.dumps(to_dict(exchange.reply), ensure_ascii=False).encode()) for exchange in said)
    assert MAX_SIZE / 2 < size <= MAX_SIZE
    assert texts(said) == [f"text {number}" for number in range(10 - len(said), 10)]

    ledger.write([Save(large(10, 100))])
    assert texts(ledger.conversation("a")) == ["text 10"]


def test_a_ledger_of_a_version_without_conversations_is_taken_over(tmp_path: Path) -> None:
    """What it holds is still there, and sessions are kept from then on."""
    path = tmp_path / "master.sqlite"
    old = record(1, None, reply=None)
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE request "
            "(id TEXT PRIMARY KEY, is_done INTEGER NOT NULL, ts REAL NOT NULL, record TEXT NOT NULL)"
            ";CREATE INDEX request_open ON request (id) WHERE is_done = 0;"
        )
        connection.execute("INSERT INTO request VALUES ('r1', 0, 1.0, ?)", [json.dumps(to_dict(old))])
    connection.close()

    ledger = Ledger(path)
    assert ledger.keep_up() == [old]
    ledger.write([Save(replace(old, is_sent=True)), Save(record(2, "a"))])
    ledger.close()

    again = Ledger(path)
    assert texts(again.conversation("a")) == ["text 2"]
    assert again.find("r1") == Known(replace(old, is_sent=True))
    assert list(tmp_path.glob("*.broken-*")) == []


def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The device that was named before is read back from the file."""
    engine = OfflineEngine()
    plan = engine.plan("turn on the fan on worker-1", HOUSE)
    assert isinstance(plan, Plan)
    said = record(1, "kitchen", "turn on the fan on worker-1")
    result = StepResult("s1", State.COMPLETED, "worker-1", output=Output("fan is on", {"value": "ON"}))
    said = replace(said, reply=Reply("r1", State.COMPLETED, "on", "offline", plan, (result,)))
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(said)])
    ledger.close()

    again = Ledger(tmp_path / "master.sqlite")

    outcome = engine.plan("and now off again", HOUSE, conversation=again.conversation("kitchen"))
    assert steps(outcome) == ["worker-1 fan = OFF"]
    assert not isinstance(engine.plan("and now off again", HOUSE, conversation=again.conversation("hall")), Plan)


async def test_the_offline_planner_knows_what_was_said() -> None:
    """The situation that it plans in holds the conversation."""
    first = OfflineEngine().plan("turn on the fan on worker-1", HOUSE)
    assert isinstance(first, Plan)
    said = Exchange("x", Reply("r1", State.COMPLETED, "done", plan=first))
    planner = OfflinePlanner()
    try:
        request = Request("r2", "and now off again")
        planning = await planner.plan(request, Situation(HOUSE, card("master"), conversation=[said]))
        alone = await planner.plan(request, Situation(HOUSE, card("master")))
    finally:
        planner.close()

    assert isinstance(planning.outcome, Plan)
    assert steps(planning.outcome) == ["worker-1 fan = OFF"]
    assert not isinstance(alone.outcome, Plan)
