"""What a node remembers, through restarts and kills."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from pibot_mesh.node.core import MAX_FORGOTTEN
from pibot_mesh.node.epochs import MAX_EPOCHS
from pibot_mesh.node.events import Entry, Forgotten, Note, Remembered, Save, SaveOutput, SaveStop, SendResult
from pibot_mesh.node.journal import MAX_BOOTS, Journal, needs_sync
from pibot_mesh.node.start_reason import LastProcess
from pibot_mesh.protocol.messages import (
    Cause,
    Limits,
    Output,
    Result,
    State,
    Task,
    Timing,
    ToolCall,
    Usage,
    WireError,
)

TASK = Task(
    "t1",
    "r1",
    "call",
    3,
    "press",
    {"deep": [{"x": None}], "word": "中文 é 😀"},
    "an instruction",
    "a context",
    ("press", "read"),
    "safe",
    1.5,
    2.5,
    Limits(1, 2, 3),
)
RESULT = Result(
    "t1",
    "r1",
    3,
    State.UNKNOWN,
    Output("text", {"value": [1, 2.5, None, "x"]}),
    WireError("interrupted", "the node restarted", retryable=True),
    (ToolCall("press", {"a": 1}, None, "actuate"), ToolCall("read", {}, True), ToolCall("read", {}, False)),
    Usage(1, 2, 3, 4),
    Timing(0.25, 1.5),
    "b1",
    7,
    1000.5,
)


def test_every_field_survives_the_journal(tmp_path: Path) -> None:
    """Of tasks, results, tombstones and the stop."""
    entries = (
        Entry(TASK, "ended", RESULT),
        Entry(Task("t2", "r1", "call", tool="read"), "queued"),
        Entry(Task("t3", "r1", "agent", instruction="look", ask=("press",)), "running", None, RESULT.tool_calls),
    )
    journal = Journal(tmp_path / "node.sqlite")
    journal.write([*(Save(entry, True) for entry in entries), Forgotten({"t9": 4}), SaveStop(True)])
    journal.write([Forgotten({"t8": 1, "t9": 5})])
    journal.close()

    remembered = Journal(tmp_path / "node.sqlite").read()

    assert remembered == Remembered(entries, {"t8": 1, "t9": 5}, is_stopped=True)
    assert list(remembered.forgotten) == ["t8", "t9"], "the oldest first"


def test_what_each_output_was_at_survives_with_its_cause(tmp_path: Path) -> None:
    """The last of each; of a kill nothing more is needed than that it was written."""
    by_task, by_rule = Cause("task", "t1", "r1", "asked", "b1", 3, 1000.5), Cause("rule", "cool")
    journal = Journal(tmp_path / "node.sqlite")
    journal.write(
        [SaveOutput("fan", True, by_task), SaveOutput("lamp", 40.5, by_task), SaveOutput("led", "#ff8800", by_rule)]
    )
    journal.write([SaveOutput("fan", False, by_rule)])
    journal.close()

    found = Journal(tmp_path / "node.sqlite").outputs()

    assert found == {"fan": (False, by_rule), "lamp": (40.5, by_task), "led": ("#ff8800", by_rule)}
    assert found["fan"][0] is False
    assert not needs_sync([SaveOutput("fan", True, by_rule)])


def test_a_new_journal_remembers_nothing(tmp_path: Path) -> None:
    """No stop holds."""
    journal = Journal(tmp_path / "node.sqlite")

    assert journal.read() == Remembered()
    assert journal.outputs() == {}


def test_a_task_is_replaced_by_what_is_known_of_it_later_and_gone_when_forgotten(tmp_path: Path) -> None:
    """One row a task; and the stop is what it was last."""
    journal = Journal(tmp_path / "node.sqlite")
    journal.write([Save(Entry(TASK, "queued"), False), SaveStop(True)])
    journal.write([Save(Entry(TASK, "running"), False), SaveStop(False)])
    assert journal.read() == Remembered((Entry(TASK, "running"),))

    journal.write([Forgotten({"t1": 3})])
    assert journal.read() == Remembered(forgotten={"t1": 3})


def test_tombstones_are_bounded(tmp_path: Path) -> None:
    """The oldest goes first."""
    journal = Journal(tmp_path / "node.sqlite")
    for begin in range(0, MAX_FORGOTTEN + 100, 100):
        journal.write([Forgotten({f"t{i}": 1 for i in range(begin, begin + 100)})])

    remembered = list(journal.read().forgotten)

    assert (len(remembered), remembered[0]) == (MAX_FORGOTTEN, "t100")


@pytest.mark.parametrize(
    ("effect", "is_synced"),
    [
        (Save(Entry(TASK, "running"), True), True),
        (Save(Entry(TASK, "running"), False), False),
        (SaveStop(False), True),
        (Forgotten({"t1": 1}), False),
        (SendResult(RESULT), False),
    ],
)
def test_only_what_may_not_be_lost_with_the_power_is_synced(
    effect: Save | SaveStop | Forgotten, is_synced: bool
) -> None:
    """A sync costs an SD card its life."""
    assert needs_sync([Note("x"), effect]) is is_synced


def test_what_is_not_for_the_journal_does_not_touch_it(tmp_path: Path) -> None:
    """No transaction for a log line."""
    journal = Journal(tmp_path / "node.sqlite")
    journal.close()

    journal.write([Note("x"), SendResult(RESULT)])


def test_the_epoch_of_a_request_is_the_highest_and_outlives_its_tasks(tmp_path: Path) -> None:
    """So that a master that lost it is not obeyed after a restart; of a request without one there is none."""
    path = tmp_path / "node.sqlite"
    journal = Journal(path)
    for name, request, epoch in [("t1", "r1", 2), ("t2", "r1", 1), ("t3", "r2", 4), ("t4", "r3", 0)]:
        journal.write([Save(Entry(Task(name, request, "call", tool="read", epoch=epoch), "queued"), False)])
    journal.write([Forgotten({"t1": 1, "t2": 1, "t3": 1, "t4": 1})])
    journal.close()

    assert Journal(path).read().epochs == {"r1": 2, "r2": 4}


def test_the_epochs_are_bounded(tmp_path: Path) -> None:
    """The one that was written longest ago goes first."""
    journal = Journal(tmp_path / "node.sqlite")
    for number in range(MAX_EPOCHS + 1):
        journal.write([Save(Entry(Task("t1", f"r{number}", "call", tool="read", epoch=1), "queued"), False)])
    journal.write([Forgotten({"t1": 1})])

    epochs = journal.read().epochs
    assert (len(epochs), next(iter(epochs))) == (MAX_EPOCHS, "r1")


def test_it_knows_the_processes_that_had_it_before(tmp_path: Path) -> None:
    """The last hundred."""
    path = tmp_path / "node.sqlite"
    journal = Journal(path)
    assert journal.begin("b0") == frozenset()
    for number in range(1, MAX_BOOTS + 2):
        assert f"b{number - 1}" in journal.begin(f"b{number}")
    journal.close()

    earlier = Journal(path).begin("last")
    assert (len(earlier), "b1" in earlier) == (MAX_BOOTS, False)


def test_it_knows_how_the_process_before_ended(tmp_path: Path) -> None:
    """In good order only where that was written; each beginning is one without an end again."""
    path = tmp_path / "node.sqlite"

    def next_process() -> tuple[Journal, LastProcess | None]:
        journal = Journal(path)
        return journal, journal.last_process()

    journal, last = next_process()
    assert last is None
    journal.begin("b1", "m1")
    journal.close()

    journal, last = next_process()
    assert last == LastProcess("m1", is_ended=False)
    journal.begin("b2", "m2")
    journal.end()
    journal.close()

    journal, last = next_process()
    assert last == LastProcess("m2", is_ended=True)
    journal.begin("b3", "m2")
    journal.close()

    journal, last = next_process()
    assert last == LastProcess("m2", is_ended=False)
    assert journal.read() == Remembered(), "the stop stands in the same table, and is another's"
    journal.close()


def test_a_journal_of_an_old_version_does_not_know_how_its_last_process_ended(tmp_path: Path) -> None:
    """It knows that there was one."""
    journal = Journal(tmp_path / "node.sqlite")
    with journal._database.transaction(durable=False) as connection:
        connection.execute("INSERT INTO boot (id) VALUES ('b1')")

    assert journal.last_process() == LastProcess()


WRITER = """
import itertools, sys
from pathlib import Path
from pibot_mesh.node.events import Entry, Forgotten, Save
from pibot_mesh.node.journal import Journal
from pibot_mesh.protocol.messages import Result, State, Task

journal = Journal(Path(sys.argv[1]))
for i in itertools.count(int(sys.argv[2])):
    task = Task(f"t{i}", "r1", "call", tool="press")
    journal.write([Save(Entry(task, "running"), bool(i % 2))])
    print("running", i, flush=True)
    journal.write([Save(Entry(task, "ended", Result(task.id, "r1", 1, State.COMPLETED)), True)])
    print("ended", i, flush=True)
    if i % 3 == 0:
        journal.write([Forgotten({task.id: 1})])
        print("forgotten", i, flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    """Twenty times over the same file: it opens, and all that was said to be written is there."""
    chance, path = random.Random(1), tmp_path / "node.sqlite"
    said: dict[str, str] = {}
    for round_ in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(1000 * round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 30)):
                phase, number = writer.stdout.readline().split()
                said[f"t{number}"] = phase
            writer.kill()
            for line in writer.stdout:
                if line.endswith("\n"):
                    phase, number = line.split()
                    said[f"t{number}"] = phase

        journal = Journal(path)
        remembered = journal.read()
        journal.close()
        found = {entry.task.id: entry.phase for entry in remembered.entries}
        found |= dict.fromkeys(remembered.forgotten, "forgotten")  # type: ignore[arg-type]
        order = ["running", "ended", "forgotten"]
        for task, phase in said.items():
            assert order.index(found[task]) >= order.index(phase)
        assert len(found) <= len(said) + round_ + 1, "at most one more a kill than was said"
    assert list(tmp_path.glob("*.broken-*")) == []
