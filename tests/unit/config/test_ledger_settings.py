"""Where the ledger is, and how long histories are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.loader import check_file, load_master
from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    """A master's file."""
    path = folder / "c.yaml"
    path.write_text(text, "utf-8")
    return path


def ledger(folder: Path, address: str, **env: str) -> str | None:
    """The address that a master's file and variables name."""
    return load_master(write(folder, f"master:\n  ledger: '{address}'\n"), env).ledger


def problem(folder: Path, address: str, **env: str) -> str:
    """The one thing that is wrong, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        ledger(folder, address, **env)
    [only] = caught.value.problems
    return only.replace(f"{folder}/", "")


def test_histories_are_kept_for_thirty_days_by_default(tmp_path: Path) -> None:
    """And two hundred megabytes of them; without a file, in a file of one's own."""
    settings = load_master(write(tmp_path, "history: {}"), {})

    assert settings.history == HistorySettings(days=30, megabytes=200)
    assert settings.ledger is None


def test_limits_can_be_set_and_taken_away(tmp_path: Path) -> None:
    """A limit of 0 is none; fractions count."""
    text = "history:\n  days: 0\n  megabytes: 0.5\n"

    assert load_master(write(tmp_path, text), {}).history == HistorySettings(days=0, megabytes=0.5)


def test_a_limit_below_nothing_is_refused(tmp_path: Path) -> None:
    """In words."""
    with pytest.raises(ConfigError, match=r"c.yaml:1: history.days: a number from 0 to 36500 is expected, not -1"):
        load_master(write(tmp_path, "history: {days: -1}"), {})


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://pibot@db.local/pibot",
        "postgres://db.local:5433/pibot",
        "postgresql:///pibot",
        "postgresql://[::1]:5432/pibot?sslmode=require",
        "postgresql://pibot@one:5432,two:5432/pibot?target_session_attrs=read-write",
        "postgresql://pi%40home@%2Fvar%2Frun%2Fpostgresql/pibot",
    ],
)
def test_addresses_as_postgresql_knows_them(tmp_path: Path, address: str) -> None:
    """With or without a user, a host, a port and options; several hosts of a cluster."""
    assert ledger(tmp_path, address) == address


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (
            "mysql://db/pibot",
            "an address such as postgresql://pibot@db.local/pibot is expected, not 'mysql://db/pibot'",
        ),
        ("db.local", "an address such as postgresql://pibot@db.local/pibot is expected, not 'db.local'"),
        ("postgresql://db.local", "the name of the database is missing"),
        ("postgresql://db.local/", "the name of the database is missing"),
        ("postgresql://db.local:70000/pibot", "a port is a number from 1 to 65535, not 70000"),
        ("postgresql://db local/pibot", "is expected"),
        ("postgresql://db:x/pibot", "'db:x' is no host"),
        ("postgresql://u:secret@word@db/pibot", "is expected, not this"),
        ("postgresql://u:secret/word@db", "is expected, not this"),
    ],
)
def test_what_is_no_address_is_told(tmp_path: Path, address: str, words: str) -> None:
    """With file, line and key, and never with what may be a password."""
    told = problem(tmp_path, address)

    assert told.startswith("c.yaml:2: master.ledger: ")
    assert words in told
    assert "secret" not in told


@pytest.mark.parametrize(
    "address", ["postgresql://pibot:s3cret@db/pibot", "postgresql://db/pibot?sslmode=require&password=s3cret"]
)
def test_a_password_has_no_place_in_the_file(tmp_path: Path, address: str) -> None:
    """Others may read it; it is not repeated, and the words say where it belongs."""
    told = problem(tmp_path, address)

    assert "c.yaml:2: master.ledger: a password does not belong here" in told
    assert ".pgpass" in told
    assert "PIBOT_LEDGER" in told
    assert "s3cret" not in told
    assert check_file(tmp_path / "c.yaml") == [f"{tmp_path}/{told}"]


def test_the_variable_may_hold_the_whole_address(tmp_path: Path) -> None:
    """It goes before the file, and is not shown."""
    whole = "postgresql://pibot:s3cret@db/pibot"
    settings = load_master(write(tmp_path, "master: {ledger: 'postgresql://elsewhere/x'}"), {"PIBOT_LEDGER": whole})

    assert settings.ledger == whole
    assert "s3cret" not in repr(settings)
    assert load_master(None, {"PIBOT_LEDGER": whole}).ledger == whole


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    """Not the file."""
    assert problem(tmp_path, "postgresql://db/pibot", PIBOT_LEDGER="db/pibot").startswith(
        "PIBOT_LEDGER (environment): "
    )
