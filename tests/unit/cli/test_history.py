"""``pibot history``: what was asked, from the ledger of this machine."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli.history_view import list_lines, story_lines
from pibot_mesh.cli.main import pibot
from pibot_mesh.master.events import CountUsage, Origin, Record, Save, SendEvent
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.master.store import Story
from pibot_mesh.master.usage import UsageRow
from pibot_mesh.protocol.codec import JSON, to_dict
from pibot_mesh.protocol.messages import (
    Event,
    Plan,
    Reply,
    ReplyTiming,
    Request,
    State,
    Step,
    StepResult,
    Usage,
)

AT = 1_700_000_000.0
PLAN = Plan("offline", (Step("s1", node="attic", tool="output_set", args={"device": "fan", "value": "ON"}),))


def record(request_id: str, text: str = "turn on the fan", *, state: State = State.COMPLETED, at: float = AT) -> Record:
    """A request that took 2.5 seconds, unless it is still worked on."""
    reply = Reply(request_id, state, "attic: the fan is on.", "offline", timing=ReplyTiming(0.1, 2.5), ts=at + 2.5)
    step = StepResult("s1", state, "attic", f"{request_id}-s1")
    request = Request(request_id, text, session="kitchen")
    found = Record(request, Origin(), state, at, PLAN, (step,), reply=reply, is_sent=True)
    return found if state.is_terminal else replace(found, reply=None, is_sent=False)


def event(request_id: str, at_s: float, kind: str, /, boot: str = "b1", **facts: JSON) -> Event:
    return Event(request_id, kind, boot, int(100 * at_s), AT + at_s, facts)


def story(request_id: str = "r1") -> list[Event]:
    """Of a request whose master was started anew in the middle, and which an agent went on with."""
    at_node: dict[str, JSON] = {"node": "attic", "task": f"{request_id}-s1", "step": "s1"}
    call: dict[str, JSON] = {"call": "c1", "tool": "mail"}
    return [
        event(request_id, 0, "request_accepted", text="turn on the fan"),
        event(request_id, 0.1, "request_planned", plan=to_dict(PLAN)),
        event(request_id, 0.11, "task_submitted", attempt=1, **at_node),
        event(request_id, 0.2, "task_accepted", **at_node),
        event(request_id, 0.3, "tool_start", name="memory_read", arguments="{}", **at_node),
        event(request_id, 0.4, "tool_end", name="memory_read", text="the attic is hot", **at_node),
        event(request_id, 0.5, "approval_required", args={"to": "ann"}, within_s=120, **call, **at_node),
        event(request_id, 1.0, "request_accepted", "b2", text="turn on the fan"),
        event(request_id, 1.1, "request_accepted", "b2", text="turn on the fan"),
        event(request_id, 1.2, "request_accepted", "b2", text="turn on the fan"),
        event(request_id, 1.5, "approval_answered", "b2", granted=True, reason="approved", **call, **at_node),
        event(request_id, 2.0, "cancel_requested", "b2", by="ann@porch, pibot cancel", reason="too loud"),
        event(request_id, 2.4, "step_ended", "b2", state="completed", text="fan is on", **at_node),
        event(request_id, 2.5, "request_ended", "b2", state="completed"),
    ]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that the times in the lines are the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of a master that was asked three things."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(record("abc-1-first")), *map(SendEvent, story("abc-1-first"))])
    ledger.write([Save(record("abc-1-second", "stop it", state=State.CANCELED, at=AT + 10))])
    ledger.write([Save(record("xyz", "go\non and on", state=State.WORKING, at=AT + 20))])
    ledger.write([CountUsage("attic", "abc-1-first", "m", Usage(100, 20, 10), AT)])
    ledger.close()
    return tmp_path


def history(state: Path, *args: str) -> Result:
    environment = {"PIBOT_STATE_DIR": "", "PIBOT_LEDGER": ""}
    return CliRunner(env=environment).invoke(pibot, ["history", "--state-dir", str(state), *args])


def test_the_last_requests_are_listed_with_the_newest_at_the_end(state: Path) -> None:
    """When, which, how it ended, how long it took, and the words; as much of the ids as tells them apart."""
    result = history(state)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "2023-11-14 22:13:20  abc-1-fi  completed          2.50 s  turn on the fan",
        "2023-11-14 22:13:30  abc-1-se  canceled           2.50 s  stop it",
        "2023-11-14 22:13:40  xyz       working                    go (+1 lines)",
    ]


def test_ids_that_begin_alike_are_shown_as_far_as_they_differ() -> None:
    """So that what is shown is enough for the whole story."""
    told = list_lines([record("kitchen-10"), record("kitchen-11")])

    assert [line.text.split()[2] for line in told] == ["kitchen-11", "kitchen-10"]


def test_as_many_are_listed_as_wanted(state: Path) -> None:
    """The last ones."""
    assert [line.split()[2] for line in history(state, "-n", "1").stdout.splitlines()] == ["xyz"]


def test_a_list_for_programs_is_an_object_a_line(state: Path) -> None:
    """With whole ids and texts."""
    told = [json.loads(line) for line in history(state, "--json", "--limit", "2").stdout.splitlines()]

    assert told[1] == {"id": "xyz", "accepted_ts": AT + 20, "state": "working", "text": "go\non and on", "took_s": None}
    assert (told[0]["id"], told[0]["took_s"]) == ("abc-1-second", 2.5)


def test_long_words_are_cut_where_a_terminal_ends() -> None:
    """Every request is one line."""
    [line] = list_lines([record("r1", "word " * 50)], columns=80)

    assert len(line.text) < 80
    assert line.text.endswith("…")


def test_a_story_is_told_from_the_beginning_to_the_end(state: Path) -> None:
    """The plan, the attempts, every event with its time, the return of the master, the reply, and what was used."""
    result = history(state, "abc-1-f")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "request abc-1-first",
        "  turn on the fan",
        "  accepted 2023-11-14 22:13:20, completed after 2.50 s, planned by the offline engine",
        "  in the conversation kitchen",
        "plan:",
        "  s1: attic: output_set(device=fan, value=ON)",
        "attempts:",
        "  s1 on attic, 0.11 s to 2.40 s: completed",
        "events:",
        "       0.00 s  accepted",
        "       0.10 s  planned",
        "       0.11 s  → s1 to attic",
        "       0.20 s  attic takes s1",
        "       0.30 s  attic: memory_read()",
        "       0.40 s  attic: memory_read gave: the attic is hot",
        '       0.50 s  ? attic wants to call mail(to="ann")',
        "       1.00 s  = the master was started anew",
        "       1.00 s  accepted again",
        "       1.50 s  ✓ approved: mail on attic",
        "       2.00 s  ! cancelled (ann@porch, pibot cancel: too loud)",
        "       2.40 s  ✓ s1 on attic: fan is on",
        "       2.50 s  ended: completed",
        "reply:",
        "  attic: the fan is on.",
        "used:",
        "  attic: 1 call, 100 tokens in, 10 out",
    ]


def test_a_story_for_programs_is_one_object(state: Path) -> None:
    """With the usage of the very request."""
    told = json.loads(history(state, "--json", "abc-1-first").stdout)

    assert told["id"] == "abc-1-first"
    assert told["usage"][0]["calls"] == 1
    assert len(told["events"]) == 14
    assert told["cancelled"] == {"at_s": 2.0, "by": "ann@porch, pibot cancel", "reason": "too loud"}


def test_what_is_open_or_unsent_is_told() -> None:
    """And attempts that are under way, or were not the first; nothing is made up for what is not there yet."""
    begun = record("r1", state=State.WORKING)
    lost = [
        event("r1", 0, "task_submitted", step="s1", node="attic", attempt=1),
        event("r1", 1, "node_lost", step="s1", node="attic"),
        event("r1", 2, "task_submitted", step="s1", node="hall", attempt=2),
    ]

    told = [line.text for line in story_lines(Story(begun, tuple(lost)), [])]
    assert told[2] == "  accepted 2023-11-14 22:13:20, working still"
    assert told[7:9] == ["  s1 on attic, 0.00 s to 1.00 s: lost", "  s1 on hall, attempt 2, 2.00 s to now: under way"]
    assert "reply:" not in told

    unsent = [line.text for line in story_lines(Story(replace(record("r1"), is_sent=False)), [])]
    assert "  no broker has acknowledged the reply yet" in unsent
    bare = replace(begun, plan=None, request=Request("r1", "x"), steps=())
    assert [line.text for line in story_lines(Story(bare), [])] == ["request r1", "  x", told[2]]


def test_where_masters_share_a_ledger_another_may_have_gone_on() -> None:
    """Nobody knows whether it was another one or the same, started anew."""
    shared = replace(record("r1"), epoch=2)

    told = [line.text for line in story_lines(Story(shared, tuple(story())), [])]

    assert "       1.00 s  = another master went on with it, or the same one, started anew" in told


@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        ("abc-1-", "more than one id begins with 'abc-1-': abc-1-second, abc-1-first"),
        ("nobody", "no request 'nobody' is in the ledger: 'pibot history' lists the last ones"),
    ],
)
def test_an_id_that_fits_none_or_several_is_told(state: Path, beginning: str, words: str) -> None:
    """With what to do, and 2."""
    result = history(state, beginning)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"pibot: {words}")
    assert len(result.stderr.splitlines()) == 1


def test_what_cannot_be_an_id_is_refused(state: Path) -> None:
    """Before a file is looked at."""
    result = history(state / "nowhere", "no id")

    assert result.exit_code == 2
    assert "an id is 1 to 64 letters" in result.stderr


def test_the_whole_id_goes_before_the_beginning_of_others(tmp_path: Path) -> None:
    """It could not be told apart else."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write([Save(record("a", "one")), Save(record("ab", "two"))])
    ledger.close()

    assert "\n  one\n" in history(tmp_path, "a").stdout


def test_an_empty_ledger_and_none_are_told_apart(tmp_path: Path) -> None:
    """0 and 2."""
    missing = history(tmp_path)
    Ledger(tmp_path / "master.sqlite").close()
    empty = history(tmp_path)

    assert (missing.exit_code, empty.exit_code) == (2, 0)
    assert "there is no ledger" in missing.stderr
    assert empty.stdout.startswith("Nothing was asked yet")


def test_it_is_read_while_a_master_writes(state: Path) -> None:
    """And nothing is changed by it."""
    ledger = Ledger(state / "master.sqlite")
    with ledger._database.transaction(durable=False) as connection:
        connection.execute("DELETE FROM request")
        assert "xyz" in history(state).stdout
    ledger.close()
    before = (state / "master.sqlite").read_bytes()
    history(state, "abc-1-first")
    assert (state / "master.sqlite").read_bytes() == before
    assert [path.name for path in state.iterdir()] == ["master.sqlite"]


# A ledger that masters share


class _Shared:
    """Stands for the ledger in PostgreSQL."""

    opened: tuple[str, str] = ("", "")
    is_closed = False

    @classmethod
    def reader(cls, url: str, *, root: str) -> _Shared:
        cls.opened, cls.is_closed = (url, root), False
        return cls()

    def recent(self, limit: int) -> list[Record]:
        return [record("abc-2"), record("abc-1")][:limit]

    def story(self, request_id: str) -> Story | None:
        return Story(record(request_id)) if request_id in ("abc-1", "abc-2") else None

    def ids(self, beginning: str, limit: int) -> list[str]:
        return [name for name in ("abc-2", "abc-1") if name.startswith(beginning)][:limit]

    def usage(self, _: str) -> list[UsageRow]:
        return [UsageRow("2023-11-14", "attic", "abc-1", "m", Usage(7, 0, 3), 1)]

    def close(self) -> None:
        type(self).is_closed = True


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> type[_Shared]:
    module = ModuleType("pibot_mesh.master.postgres")
    module.__dict__["PostgresLedger"] = _Shared
    monkeypatch.setitem(sys.modules, "pibot_mesh.master.postgres", module)
    return _Shared


def test_a_shared_ledger_is_read_as_well(shared: type[_Shared]) -> None:
    """Named as an option or by the variable; it is let go of, whatever comes of it."""
    address = "postgresql://db/pibot"

    result = CliRunner().invoke(pibot, ["history", "--ledger", address, "abc-1"])
    assert result.stdout.startswith("request abc-1\n")
    assert "  attic: 1 call, 7 tokens in, 3 out" in result.stdout
    assert (shared.opened, shared.is_closed) == ((address, "pibot"), True)

    by_variable = CliRunner(env={"PIBOT_LEDGER": address, "PIBOT_ROOT": "home"}).invoke(pibot, ["history", "abc"])
    assert by_variable.stderr.startswith("pibot: more than one id begins with 'abc': abc-2, abc-1")
    assert (shared.opened, shared.is_closed) == ((address, "home"), True)


def test_usage_is_read_from_a_shared_ledger(shared: type[_Shared]) -> None:
    """As the master's file names it."""
    result = CliRunner().invoke(pibot, ["usage", "--ledger", "postgresql://db/pibot", "--json"])

    assert json.loads(result.stdout)["total"]["input"] == 7
    assert shared.is_closed


def test_the_masters_file_names_the_shared_ledger(shared: type[_Shared], tmp_path: Path) -> None:
    """With the root of the mesh, which several may share it by."""
    config = tmp_path / "master.yaml"
    config.write_text("root: home\nmaster: {ledger: 'postgresql://db/pibot'}\n")

    result = CliRunner(env={"PIBOT_LEDGER": ""}).invoke(pibot, ["history", "--config", str(config), "--json"])

    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["abc-1", "abc-2"]
    assert shared.opened == ("postgresql://db/pibot", "home")


def test_a_folder_that_is_named_means_the_file_in_it(shared: type[_Shared], state: Path) -> None:
    """Whatever the environment says."""
    shared.opened = ("", "")
    result = CliRunner(env={"PIBOT_LEDGER": "postgresql://db/pibot"}).invoke(
        pibot, ["history", "--state-dir", str(state), "-n", "1"]
    )

    assert "xyz" in result.stdout
    assert shared.opened == ("", "")


def test_a_wrong_address_is_told_as_the_option_that_it_is() -> None:
    """In the words of the configuration."""
    result = CliRunner().invoke(pibot, ["history", "--ledger", "mysql://db/pibot"])

    assert result.exit_code == 2
    assert re.search(r"--ledger.*an address such as\s+postgresql://", result.stderr, re.DOTALL)
    assert "environment" not in result.stderr
