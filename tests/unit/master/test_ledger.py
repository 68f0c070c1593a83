"""What the master remembers, through restarts and kills."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from pibot_mesh.master.events import Note, Origin, Record, Save
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.protocol.messages import (
    Condition,
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

    assert again.find("r1") == RECORD
    assert again.unfinished() == [RECORD]
    assert again.find("r2") is None


def test_what_the_broker_has_is_finished_and_still_known(tmp_path: Path) -> None:
    """A request with a known id is never run again."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(RECORD)])
    ledger.write([Save(replace(RECORD, is_sent=True))])

    assert ledger.unfinished() == []
    assert ledger.find("r1") == replace(RECORD, is_sent=True)


def test_unfinished_requests_come_the_oldest_first(tmp_path: Path) -> None:
    """With or without a plan or a reply."""
    ledger = Ledger(tmp_path / "master.sqlite")
    records = [
        Record(Request(name, "x"), Origin(), State.SUBMITTED, accepted_ts=ts)
        for name, ts in (("b", 2.0), ("a", 3.0), ("c", 1.0))
    ]
    ledger.write([Save(record) for record in records])

    assert [record.request.id for record in ledger.unfinished()] == ["c", "b", "a"]


def test_of_several_records_of_one_request_the_last_counts(tmp_path: Path) -> None:
    """Effects of one batch."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(RECORD), Save(replace(RECORD, state=State.COMPLETED))])

    found = ledger.find("r1")
    assert found is not None
    assert found.state is State.COMPLETED


def test_what_is_not_for_the_ledger_does_not_touch_it(tmp_path: Path) -> None:
    """No sync for a log line."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.close()

    ledger.write([Note("x")])


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
        found = {record.request.id: record.state for record in ledger.unfinished()}
        ledger.close()
        for request, state in said.items():
            assert found[request] in (state, State.COMPLETED)
        assert len(found) <= len(said) + round_ + 1, "at most one more a kill than was said"
    assert list(tmp_path.glob("*.broken-*")) == []
