"""``pibot usage``: what the model was used for, from the ledger of this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli.main import pibot
from pibot_mesh.master.events import CountUsage
from pibot_mesh.master.ledger import Ledger, day_of
from pibot_mesh.protocol.messages import Usage

DAY_S = 24 * 3600.0
MODEL = """\
model:
  prices: {input: 2, output: 8, cached: 0.5, currency: EUR}
"""


@pytest.fixture
def now() -> float:
    """Noon of today, so that no test meets midnight between two of its lines."""
    year, month, day, *_ = time.localtime()
    return time.mktime((year, month, day, 12, 0, 0, 0, 0, -1))


@pytest.fixture
def state(tmp_path: Path, now: float) -> Path:
    """The folder of a master that has used its model on two days."""
    ledger = Ledger(tmp_path / "master.sqlite")
    ledger.write(
        [
            CountUsage("attic", "r1", "m", Usage(400_000, 100_000, 2_000, 5), now),
            CountUsage("attic", "r1", "m", Usage(600_000, 0, 3_000), now),
            CountUsage("master", "r1", "m", Usage(1_000, 0, 100), now),
            CountUsage("master", "r2", "m", Usage(2_000_000, 0, 400), now - DAY_S),
        ]
    )
    ledger.close()
    return tmp_path


def usage(state: Path, *args: str) -> Result:
    return CliRunner(env={"PIBOT_STATE_DIR": ""}).invoke(pibot, ["usage", "--state-dir", str(state), *args])


def lines(result: Result) -> list[list[str]]:
    """The words of each line of the table."""
    assert result.exit_code == 0, result.output
    return [words for line in result.stdout.splitlines() if (words := line.split()) and "─" not in line]


def test_it_is_shown_by_day(state: Path, now: float) -> None:
    """With a line for all together."""
    assert lines(usage(state)) == [
        ["day", "calls", "input", "cached", "output"],
        [day_of(now - DAY_S), "1", "2,000,000", "0", "400"],
        [day_of(now), "3", "1,001,000", "100,000", "5,100"],
        ["total", "4", "3,001,000", "100,000", "5,500"],
    ]


def test_it_is_shown_by_node_with_the_thirstiest_first(state: Path) -> None:
    """The master's own planning stands among them."""
    assert [line[:2] for line in lines(usage(state, "--by", "node"))[1:]] == [
        ["master", "2"],
        ["attic", "2"],
        ["total", "4"],
    ]


def test_it_is_shown_by_request(state: Path) -> None:
    """Whatever nodes had a part in it."""
    assert [line[:3] for line in lines(usage(state, "--by", "request"))[1:]] == [
        ["r2", "1", "2,000,000"],
        ["r1", "3", "1,001,000"],
        ["total", "4", "3,001,000"],
    ]


def test_days_are_counted_with_today(state: Path, now: float) -> None:
    """Older ones are left out, of the total too."""
    assert [line[:2] for line in lines(usage(state, "--days", "1"))[1:]] == [[day_of(now), "3"], ["total", "3"]]


def test_money_is_shown_where_there_are_prices(state: Path, tmp_path: Path) -> None:
    """From the master's file, in its currency."""
    config = tmp_path / "master.yaml"
    config.write_text(MODEL)

    shown = lines(usage(state, "--by", "node", "--config", str(config)))

    assert shown[0][-2:] == ["cost", "(EUR)"]
    assert [line[-1] for line in shown[1:]] == ["4.0060", "1.8900", "5.8960"]


def test_programs_get_it_as_json(state: Path, tmp_path: Path, now: float) -> None:
    """One object, with the numbers as numbers."""
    config = tmp_path / "master.yaml"
    config.write_text(MODEL)

    told = json.loads(usage(state, "--json", "--days", "2", "--config", str(config)).stdout)

    assert told["since"] == day_of(now - DAY_S)
    assert (told["by"], told["currency"]) == ("day", "EUR")
    assert told["usage"][1] == {
        "day": day_of(now),
        "calls": 3,
        "input": 1_001_000,
        "cached": 100_000,
        "output": 5_100,
        "reasoning": 5,
        "cost": pytest.approx(1.8928),
    }
    assert told["total"]["calls"] == 4
    assert told["total"]["cost"] == pytest.approx(5.896)


def test_json_without_prices_has_no_money(state: Path) -> None:
    """Rather than a nought."""
    told = json.loads(usage(state, "--json").stdout)

    assert told["currency"] is None
    assert "cost" not in told["total"]


@pytest.mark.parametrize(("args", "words"), [((), "in the last 30 days"), (("--days", "1"), "today")])
def test_nothing_used_is_said(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    """No empty table; for programs, an empty one."""
    Ledger(tmp_path / "master.sqlite").close()

    result = usage(tmp_path, *args)

    assert result.exit_code == 0
    assert result.stdout == f"The model was not used {words}.\n"
    assert json.loads(usage(tmp_path, "--json").stdout)["usage"] == []


def test_no_ledger_is_said_in_words(tmp_path: Path) -> None:
    """With the place where it was looked for, and 2."""
    result = usage(tmp_path)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"pibot: {tmp_path}/master.sqlite: there is no ledger")
    assert list(tmp_path.iterdir()) == []


def test_the_masters_file_says_where_the_ledger_is(state: Path, tmp_path: Path) -> None:
    """As for the master itself."""
    config = tmp_path / "elsewhere.yaml"
    config.write_text(f"state_dir: {state}\n")

    result = CliRunner(env={"PIBOT_STATE_DIR": ""}).invoke(pibot, ["usage", "--config", str(config), "--json"])

    assert json.loads(result.stdout)["total"]["calls"] == 4
