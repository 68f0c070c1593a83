"""SQLite files that survive what happens to a Raspberry Pi."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pibot_mesh.errors import StoreError
from pibot_mesh.protocol.messages import Output
from pibot_mesh.storage import Alone, Database

SCHEMA = "CREATE TABLE IF NOT EXISTS word (text TEXT PRIMARY KEY) WITHOUT ROWID;"


def write(database: Database, *words: str, durable: bool = False) -> None:
    with database.transaction(durable=durable) as connection:
        for word in words:
            connection.execute("INSERT INTO word VALUES (?)", (word,))


def words(database: Database) -> list[str]:
    return [word for [word] in database.rows("SELECT text FROM word ORDER BY text")]


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the default of the settings writes it; it is never a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Database(Path("~/state/ledger.sqlite"), SCHEMA).path == tmp_path / "state" / "ledger.sqlite"
    assert not (tmp_path / "~").exists()


def test_without_a_home_directory_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is an error of the mesh, which the command line can show."""

    def no_home(_: Path) -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(StoreError, match="there is no home directory: name another folder"):
        Database(Path("~/ledger.sqlite"), SCHEMA)


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path, durable: bool) -> None:
    """In a folder that is made for it; synced to disk only where that is asked for."""
    path = tmp_path / "deep" / "down" / "ledger.sqlite"
    database = Database(path, SCHEMA)
    write(database, "a", "b", durable=durable)
    assert database._connection.execute("PRAGMA synchronous").fetchall() == [(2 if durable else 1,)]
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    database.close()

    assert words(Database(path, SCHEMA)) == ["a", "b"]


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """Whether SQLite refuses or the program stumbles."""
    path = tmp_path / "ledger.sqlite"
    database = Database(path, SCHEMA)
    write(database, "a")

    with pytest.raises(StoreError, match=r"ledger\.sqlite: cannot be written: UNIQUE constraint"):
        write(database, "b", "a")
    with contextlib.suppress(ZeroDivisionError), database.transaction(durable=False) as connection:
        connection.execute("INSERT INTO word VALUES ('c')")
        raise ZeroDivisionError

    assert words(database) == ["a"]
    write(database, "d")
    assert words(database) == ["a", "d"]


def test_who_reads_does_not_wait_for_who_writes_and_sees_what_is_stored_for_good(tmp_path: Path) -> None:
    """A slow disk must not hold up the loop."""
    database = Database(tmp_path / "ledger.sqlite", SCHEMA)
    write(database, "a")

    with database.transaction(durable=True) as connection:
        connection.execute("INSERT INTO word VALUES ('b')")
        assert words(database) == ["a"]

    assert words(database) == ["a", "b"]


@pytest.mark.parametrize(
    "damage", [b"this is no database, whatever it was " * 200, b"SQLite format 3\x00" + b"\xff" * 9000]
)
def test_a_damaged_file_is_set_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes) -> None:
    """An empty one takes its place: a node with a bad card goes on."""
    path = tmp_path / "node.sqlite"
    path.write_bytes(damage)
    Path(f"{path}-wal").write_bytes(b"and its log")

    database = Database(path, SCHEMA)

    write(database, "a")
    assert words(database) == ["a"]
    [aside] = [file for file in tmp_path.glob("*.broken-*") if not file.name.endswith(("-wal", "-shm"))]
    assert aside.read_bytes() == damage
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert aside.name in record.getMessage()
    assert str(path) in record.getMessage()


def test_a_file_with_a_damaged_page_is_set_aside(tmp_path: Path) -> None:
    """Its head is right, its pages are not."""
    path = tmp_path / "node.sqlite"
    database = Database(path, SCHEMA)
    write(database, *[f"{i:0200}" for i in range(1000)])
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:20000] = b"\xaa" * (20000 - 4096)
    path.write_bytes(content)

    assert words(Database(path, SCHEMA)) == []
    assert list(tmp_path.glob("node.sqlite.broken-*")) != []


def test_a_damaged_file_that_cannot_be_set_aside_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is read-only, say."""
    path = tmp_path / "node.sqlite"
    path.write_bytes(b"no database " * 500)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)

    with pytest.raises(StoreError, match=r"node\.sqlite: is damaged, and cannot be set aside: .*Permission denied"):
        Database(path, SCHEMA)


def test_a_folder_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "state").write_text("not a folder")

    with pytest.raises(StoreError, match=r"state/node\.sqlite: cannot be created: "):
        Database(tmp_path / "state" / "node.sqlite", SCHEMA)


def test_a_file_that_cannot_be_opened_is_an_error_in_words(tmp_path: Path) -> None:
    """A folder stands where the file should be: nothing is set aside."""
    (tmp_path / "node.sqlite").mkdir()

    with pytest.raises(StoreError, match=r"node\.sqlite: cannot be opened: unable to open database file"):
        Database(tmp_path / "node.sqlite", SCHEMA)
    assert [file.name for file in tmp_path.iterdir()] == ["node.sqlite"]


def test_a_full_disk_is_an_error_in_words_and_over_when_there_is_room(tmp_path: Path) -> None:
    """As SQLite reports it."""
    database = Database(tmp_path / "node.sqlite", SCHEMA)
    [[pages]] = database._connection.execute("PRAGMA page_count").fetchall()
    database._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StoreError, match="database or disk is full"):
        write(database, *[f"{i:0500}" for i in range(100)])

    database._connection.execute("PRAGMA max_page_count = 100000")
    write(database, "a")
    assert words(database) == ["a"]


def test_a_closed_file_cannot_be_read(tmp_path: Path) -> None:
    """It says so, with its name."""
    database = Database(tmp_path / "node.sqlite", SCHEMA)
    database.close()

    with pytest.raises(StoreError, match=r"node\.sqlite: cannot be read"):
        database.rows("SELECT 1")


@pytest.mark.parametrize("text", ["{", '{"text": 5}', "[]"])
def test_what_another_version_wrote_is_an_error_in_words(tmp_path: Path, text: str) -> None:
    """With what to do; it is not thrown away."""
    database = Database(tmp_path / "node.sqlite", SCHEMA)
    write(database, text)

    with pytest.raises(StoreError, match=r"holds what this version cannot read .* move the file away"):
        database.messages(Output, "SELECT text FROM word")


def test_a_store_error_is_an_os_error(tmp_path: Path) -> None:
    """So that callers who know nothing of the mesh can catch it; the cause is kept."""
    (tmp_path / "node.sqlite").mkdir()

    with pytest.raises(OSError, match="cannot be opened") as caught:
        Database(tmp_path / "node.sqlite", SCHEMA)

    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


def test_a_file_that_one_process_has_is_refused_to_another_in_words(tmp_path: Path) -> None:
    """It names the process that has it; and is free when that is killed."""
    path = tmp_path / "state" / "node-n1.lock"
    program = "import sys, time; from pathlib import Path; from pibot_mesh.storage import Alone\n"
    program += "here = Alone(Path(sys.argv[1]), 'node n1'); print('has it', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(StoreError, match=f"node-n1.lock: node n1 runs already, as process {other.pid}: end that"):
            Alone(path, "node n1")
        other.kill()
    Alone(path, "node n1").close()
    Alone(path, "node n1").close()


def test_a_file_for_one_process_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/n1.lock: cannot be written: "):
        Alone(tmp_path / "file" / "n1.lock", "node n1")
