"""Learned reflexes in their file."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.node.reflex_store import Learned, ReflexStore, dump, load

COOL = ReflexSettings(
    "cool",
    Condition("climate", "temperature", above=28, hysteresis=1, for_s=60),
    (Action("fan", True), Action("lamp", 40.0, 2.5), Action("strip", "#ff8800")),
    (Action("fan", False),),
)
DARK = ReflexSettings("dark", Condition("door", state=False), (Action("lamp", 0.0),))
LEARNED = Learned((COOL, DARK), {"cool": False, "bell": True})


def test_what_is_written_is_read_as_it_was() -> None:
    """Values keep their types: on is not 1, and 0 percent is not off."""
    again = load(dump(LEARNED))

    assert again == LEARNED
    assert [type(action.value) for action in again.reflexes[0].then] == [bool, float, str]
    assert type(again.reflexes[1].then[0].value) is float


async def test_a_file_is_kept_over_restarts(tmp_path: Path) -> None:
    """Its folder is made; without a file there is nothing; nothing else lies beside it."""
    file = tmp_path / "state" / "reflexes.json"
    assert ReflexStore(file).read() == Learned()

    await ReflexStore(file).write(lambda: LEARNED)

    assert ReflexStore(file).read() == LEARNED
    assert os.listdir(file.parent) == ["reflexes.json"]


async def test_the_last_of_several_is_what_stays(tmp_path: Path) -> None:
    """Each writes what there is when its turn comes, one after the other; one that nobody waits for as well."""
    store = ReflexStore(tmp_path / "reflexes.json")
    now = [Learned()]
    writing = [asyncio.create_task(store.write(lambda: now[0])) for _ in range(5)]
    await asyncio.sleep(0)
    now[0] = LEARNED
    writing[-1].cancel()

    results = await asyncio.gather(*writing, return_exceptions=True)

    assert isinstance(results[-1], asyncio.CancelledError)
    await store.write(lambda: now[0])
    assert store.read() == LEARNED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"v": 1, "learned": [{"id": "cool"}]}',
        b'{"v": 1, "learned": [{"id": "a", "when": {"device": "d", "state": true}, "then": []}]}',
        b'{"v": 1, "learned": [{"id": "a", "when": {"device": "d"}, "then": [{"device": "f", "value": null}]}]}',
        b'{"v": 99}',
        b'{"v": 1, "switched": {"cool": "yes"}}',
    ],
)
def test_a_damaged_file_is_set_aside_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """What was in it can still be looked at."""
    file = tmp_path / "reflexes.json"
    file.write_bytes(content)

    with caplog.at_level(logging.ERROR):
        assert ReflexStore(file, wall=lambda: 1234.5).read() == Learned()

    assert (tmp_path / "reflexes.json.broken-1234").read_bytes() == content
    assert not file.exists()
    assert f"{file} is damaged" in caplog.text
    assert "set aside as reflexes.json.broken-1234" in caplog.text


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And left where it is."""
    (tmp_path / "reflexes.json").mkdir()

    assert ReflexStore(tmp_path / "reflexes.json").read() == Learned()
    assert "cannot be read: Is a directory" in caplog.text


def test_a_number_that_is_none_is_damage(tmp_path: Path) -> None:
    """It is set aside, and the node starts: one of 400 digits is no float."""
    file = tmp_path / "reflexes.json"
    then = f'[{{"device":"fan","value":1{"0" * 400}}}]'
    file.write_text(f'{{"learned":[{{"id":"x","when":{{"device":"climate","above":1}},"then":{then}}}]}}')

    assert ReflexStore(file).read() == Learned()
    assert not file.exists()
