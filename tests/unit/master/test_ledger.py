"""What the master remembers, through restarts and kills."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.errors import StoreError
from pibot_mesh.master.events import CountUsage, Note, Origin, Record, Save, SendEvent
from pibot_mesh.master.ledger import STAYS_S, Ledger
from pibot_mesh.master.ledger_file import LedgerFile
from pibot_mesh.master.store import Known, Story
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import (
    Condition,
    Event,
    Limits,
    Output,
    Plan,
    Reply,
    ReplyTiming,
    Request,
    State,
    Step,
    StepResult,
    ToolCall,
    Usage,
    WireError,
)

REQUEST = Request("r1", "把风扇打开 😀", "pibot/reply/me", "n1", "plan_only", 12.5, Limits(1, 2, 3))
PLAN = Plan(
    "offline",
    (
        Step("s1", "call", "n1", ("attic",), "read", {"a": {"$ref": "s1.x"}}, "look", ("t",), ("s1",), None, 3.5),
        Step("s2", tool="t", when=Condition("s1.x", "above", 28)),
        Step("s3", tool="t", when=Condition("s1.x", "equals", text="ON")),
    ),
    "zh-cn",
    "complex",
)
STEPS = (
    StepResult(
        "s1",
        State.FAILED,
        "n1",
        "r1-s1",
        4,
        Output("text", {"value": [1, None]}),
        WireError("busy", "later", True),
        (ToolCall("t", {"a": 1}, None, "actuate"),),
    ),
    StepResult("s2", State.SKIPPED),
)
REPLY = Reply(
    "r1",
    State.UNKNOWN,
    "说完了",
    "llm",
    PLAN,
    STEPS,
    Usage(1, 2, 3, 4),
    ReplyTiming(0.5, 2.5),
    WireError("timeout", "too late"),
    "m1",
    9,
    1000.5,
)
RECORD = Record(
    REQUEST, Origin(True, "pibot/reply/x", "eA==", 17), State.UNKNOWN, 999.5, PLAN, STEPS, True, REPLY, False
)


def test_every_field_survives_the_ledger(tmp_path: Path) -> None:
    """Of the request, where it came from, its plan, its steps and its reply."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Note("x"), Save(RECORD)])
    ledger.close()

    again = Ledger(tmp_path / "master.sqlite")

    assert again.find("r1") == Known(RECORD)
    assert again.keep_up() == [RECORD]
    assert again.find("r2") is None


def test_what_the_broker_has_is_finished_and_still_known(tmp_path: Path) -> None:
    """A request with a known id is never run again."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(RECORD)])
    ledger.write([Save(replace(RECORD, is_sent=True))])

    assert ledger.keep_up() == []
    assert ledger.find("r1") == Known(replace(RECORD, is_sent=True))


def test_unfinished_requests_come_the_oldest_first(tmp_path: Path) -> None:
    """With or without a plan or a reply."""
    ledger = Ledger(tmp_path / "master.sqlite")
    records = [
        Record(Request(name, "x"), Origin(), State.SUBMITTED, accepted_ts=ts)
        for name, ts in (("b", 2.0), ("a", 3.0), ("c", 1.0))
    ]
    ledger.write([Save(record) for record in records])

    assert [record.request.id for record in ledger.keep_up()] == ["c", "b", "a"]


def test_of_several_records_of_one_request_the_last_counts(tmp_path: Path) -> None:
    """Effects of one batch."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(RECORD), Save(replace(RECORD, state=State.COMPLETED))])

    found = ledger.find("r1")
    assert found is not None
    assert found.record.state is State.COMPLETED


def test_what_is_not_for_the_ledger_does_not_touch_it(tmp_path: Path) -> None:
    """No sync for a log line."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.close()

    ledger.write([Note("x")])


# Stories


def event(run: str, seq: int, kind: str = "turn_start", **data: JSON) -> SendEvent:
    return SendEvent(Event(run, kind, "b1", seq, 1000.0 + seq, data))


def stored(request_id: str, *, ended_ts: float, is_sent: bool = True) -> Record:
    """A request that took five seconds."""
    reply = Reply(request_id, State.COMPLETED, "done", ts=ended_ts)
    return Record(Request(request_id, "x"), Origin(), State.COMPLETED, ended_ts - 5, reply=reply, is_sent=is_sent)


def ids(ledger: Ledger) -> list[str]:
    return [record.request.id for record in ledger.recent(1000)]


def test_a_story_is_the_record_and_its_events_in_order(tmp_path: Path) -> None:
    """Over a restart of the master, whose events begin to be numbered anew; nothing of other requests."""
    ledger = Ledger(tmp_path / "master.sqlite")
    told = [event("r1", 7), event("r1", 8, "tool_start", name="t", arguments="{}"), event("r1", 0)]
    ledger.write([Save(RECORD), told[0], event("r2", 1), told[1]])
    ledger.close()
    again = Ledger(tmp_path / "master.sqlite")
    again.write([told[2]])

    whole = Story(RECORD, tuple(effect.event for effect in told))
    assert again.story("r1") == whole
    assert LedgerFile(tmp_path / "master.sqlite").story("r1") == whole
    assert again.story("r2") is None
    assert LedgerFile(tmp_path / "master.sqlite").story("r2") is None


def test_pieces_of_an_answer_are_no_part_of_a_story(tmp_path: Path) -> None:
    """They stand in its whole message."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(RECORD), event("r1", 0, "message_delta"), event("r1", 1, "tool_update"), event("r1", 2)])

    story = ledger.story("r1")
    assert story is not None
    assert [told.seq for told in story.events] == [2]


def test_events_of_what_is_not_in_the_ledger_are_not_kept(tmp_path: Path) -> None:
    """A refused request leaves nothing behind, and is new when it comes again."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([event("r1", 0)])
    ledger.write([Save(RECORD)])

    assert ledger.story("r1") == Story(RECORD)


def test_events_alone_are_not_synced_to_the_disk(tmp_path: Path) -> None:
    """An agent tells a lot, and a card syncs slowly."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(RECORD)])

    def way() -> int:
        [[number]] = ledger._database._connection.execute("PRAGMA synchronous").fetchall()
        return int(number)

    normal, full = 1, 2
    ledger.write([event("r1", 0), CountUsage("n1", "r1", "m", Usage(1), 1000.0)])
    assert way() == normal
    ledger.write([event("r1", 1), Save(RECORD)])
    assert way() == full


def test_the_last_requests_come_the_newest_first(tmp_path: Path) -> None:
    """By when they were accepted, whatever was written last; the same to who only reads."""
    ledger = Ledger(tmp_path / "master.sqlite")
    for number in (2, 3, 1):
        ledger.write([Save(stored(f"r{number}", ended_ts=number))])
    ledger.write([Save(stored("r2", ended_ts=2))])

    assert ids(ledger) == ["r3", "r2", "r1"]
    assert [record.request.id for record in LedgerFile(tmp_path / "master.sqlite").recent(2)] == ["r3", "r2"]


def test_ids_are_found_by_how_they_begin(tmp_path: Path) -> None:
    """Every character that an id may have counts as itself."""
    ledger = Ledger(tmp_path / "master.sqlite")
    names = ("a_1", "a-1", "a1", "aZz", "azz", "b")
    ledger.write([Save(stored(name, ended_ts=number)) for number, name in enumerate(names)])
    file = LedgerFile(tmp_path / "master.sqlite")

    assert file.ids("a", 10) == ["azz", "aZz", "a1", "a-1", "a_1"]
    assert file.ids("a", 2) == ["azz", "aZz"]
    assert file.ids("a_", 10) == ["a_1"]
    assert file.ids("azz", 10) == ["azz"]
    assert file.ids("c", 10) == []


# What is not kept


NOW = 1_700_000_000.0
DAY_S = 24 * 3600.0
FOR_EVER = HistorySettings(days=0, megabytes=0)


def test_what_ended_long_ago_goes_with_its_events(tmp_path: Path) -> None:
    """What the model was used for stays."""
    ledger = Ledger(tmp_path / "master.sqlite")
    for name, ended_ts in (("old", NOW - 31 * DAY_S), ("new", NOW - 29 * DAY_S)):
        ledger.write([Save(stored(name, ended_ts=ended_ts)), event(name, 0)])
    ledger.write([CountUsage("n1", "old", "m", Usage(1), NOW)])

    assert ledger.prune(HistorySettings(), NOW) == 1

    assert ids(ledger) == ["new"]
    assert ledger.find("old") is None
    assert [row.request for row in ledger.usage("2000-01-01")] == ["old"]
    assert ledger._database.rows("SELECT request FROM event") == [("new",)]
    assert ledger.prune(HistorySettings(), NOW) == 0


def test_what_has_not_ended_well_stays_however_old(tmp_path: Path) -> None:
    """Without a reply, or with one that no broker has: this is what the ledger is for."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(Record(Request("open", "x"), Origin(), State.WORKING, accepted_ts=1.0))])
    ledger.write([Save(stored("unsent", ended_ts=2.0, is_sent=False))])

    assert ledger.prune(HistorySettings(days=0.001, megabytes=0.001), NOW) == 0
    assert ids(ledger) == ["open", "unsent"]


def test_what_ended_within_the_hour_stays_however_much_it_is(tmp_path: Path) -> None:
    """Whoever asked may still send it again, and it must not be done twice."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(stored("late", ended_ts=NOW - STAYS_S + 1)), Save(stored("gone", ended_ts=NOW - STAYS_S - 1))])
    long_one = stored("long", ended_ts=NOW - 1)
    ledger.write([Save(replace(long_one, accepted_ts=NOW - 40 * DAY_S))])

    assert ledger.prune(HistorySettings(days=0.001, megabytes=0.001), NOW) == 1
    assert ids(ledger) == ["late", "long"]


def test_the_newest_megabytes_are_kept(tmp_path: Path) -> None:
    """The oldest go first, and hardly more than must."""
    ledger = Ledger(tmp_path / "master.sqlite")
    for number in range(100):
        record = stored(f"r{number:03d}", ended_ts=NOW - 2 * DAY_S + number)
        ledger.write([Save(record), *(event(f"r{number:03d}", seq, text="x" * 1000) for seq in range(20))])

    removed = ledger.prune(HistorySettings(days=0, megabytes=1), NOW)

    left = ids(ledger)
    assert removed == 100 - len(left)
    assert left == [f"r{number:03d}" for number in reversed(range(removed, 100))]
    assert 17 < len(left) < 45, "21 KB each, and 20 go at once"


def test_without_limits_everything_is_kept(tmp_path: Path) -> None:
    """A limit of 0 is none."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(stored("old", ended_ts=1.0))])

    assert ledger.prune(FOR_EVER, NOW) == 0
    assert ids(ledger) == ["old"]


def test_a_file_that_was_large_becomes_small_again(tmp_path: Path) -> None:
    """But for some room that it keeps."""
    path = tmp_path / "master.sqlite"
    ledger = Ledger(path)
    for number in range(40):
        record = stored(f"r{number}", ended_ts=NOW - 2 * DAY_S)
        ledger.write([Save(record), *(event(f"r{number}", seq, text="x" * 50_000) for seq in range(10))])
    ledger.close()
    assert path.stat().st_size > 18_000_000

    again = Ledger(path)
    assert again.prune(HistorySettings(days=1), NOW) == 40
    again.close()

    assert path.stat().st_size < 9_500_000


def test_writing_goes_on_while_old_stories_are_removed(tmp_path: Path) -> None:
    """Between two steps of it, from another thread."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(stored(f"r{number}", ended_ts=1.0 + number)) for number in range(2000)])
    with ThreadPoolExecutor(1) as threads:
        pruning = threads.submit(ledger.prune, HistorySettings(), NOW)
        written = 0
        while not pruning.done():
            ledger.write([Save(stored(f"new{written}", ended_ts=NOW))])
            written += 1

    assert pruning.result() == 2000
    assert written > 1
    assert len(ids(ledger)) == written


def test_a_ledger_of_a_version_without_stories_opens(tmp_path: Path) -> None:
    """What it holds is there, can be read as it is, and gets a story from then on."""
    path = tmp_path / "master.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE request (id TEXT PRIMARY KEY, is_done INTEGER NOT NULL, ts REAL NOT NULL,"
            " record TEXT NOT NULL, session TEXT);"
            "CREATE INDEX request_open ON request (id) WHERE is_done = 0;"
        )
        connection.execute("INSERT INTO request VALUES ('r1', 0, 1.0, ?, NULL)", [json.dumps(to_dict(RECORD))])
    connection.close()
    before = path.read_bytes()

    assert LedgerFile(path).story("r1") == Story(RECORD)
    assert path.read_bytes() == before

    ledger = Ledger(path)
    ledger.write([event("r1", 0)])
    assert ledger.story("r1") == Story(RECORD, (event("r1", 0).event,))
    assert ledger._database.rows("PRAGMA auto_vacuum") == [(2,)], "it can give room back"


def test_what_this_version_cannot_read_is_named(tmp_path: Path) -> None:
    """The file, and what is wrong in it."""
    path = tmp_path / "master.sqlite"
    ledger = Ledger(path)
    ledger.write([Save(RECORD)])
    ledger._database._connection.execute("UPDATE request SET record = '{}'")
    ledger.close()

    with pytest.raises(StoreError, match=r"master\.sqlite: holds what this version cannot read"):
        LedgerFile(path).recent(1)


def test_settings_survive(tmp_path: Path) -> None:
    """Each by its name; what is forgotten is gone, and a file of an earlier version has room for them."""
    ledger = Ledger(tmp_path / "master.sqlite")
    with ledger._database.transaction(durable=True) as connection:
        connection.execute("DROP TABLE setting")
    ledger.close()
    ledger = Ledger(tmp_path / "master.sqlite")
    for name, value in [("routine/x", "one"), ("routine/x", "two"), ("routine/%", "three"), ("other/x", "four")]:
        ledger.write_setting(name, value)
    ledger.write_setting("other/x", None)
    ledger.close()

    again = Ledger(tmp_path / "master.sqlite")

    assert again.read_settings("") == {"routine/x": "two", "routine/%": "three"}
    assert again.read_settings("routine/%") == {"routine/%": "three"}
    again.close()


WRITER = """
import itertools, sys
from pathlib import Path
from pibot_mesh.master.events import Origin, Record, Save
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.protocol.messages import Reply, Request, State

ledger = Ledger(Path(sys.argv[1]))
for i in itertools.count(int(sys.argv[2])):
    request = Request(f"r{i}", "do it")
    ledger.write([Save(Record(request, Origin(), State.SUBMITTED))])
    print("submitted", i, flush=True)
    reply = Reply(request.id, State.COMPLETED, "done")
    ledger.write([Save(Record(request, Origin(), State.COMPLETED, reply=reply))])
    print("completed", i, flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    """Twenty times over the same file: it opens, and all that was said to be written is there."""
    chance, path = random.Random(2), tmp_path / "master.sqlite"
    said: dict[str, str] = {}
    for round_ in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(1000 * round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 30)):
                state, number = writer.stdout.readline().split()
                said[f"r{number}"] = state
            writer.kill()
            for line in writer.stdout:
                if line.endswith("\n"):
                    state, number = line.split()
                    said[f"r{number}"] = state

        ledger = Ledger(path)
        found = {record.request.id: record.state for record in ledger.keep_up()}
        ledger.close()
        for request, state in said.items():
            assert found[request] in (state, State.COMPLETED)
        assert len(found) <= len(said) + round_ + 1, "at most one more a kill than was said"
    assert list(tmp_path.glob("*.broken-*")) == []
