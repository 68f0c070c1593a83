"""What a master's file says of schedules, triggers and the house's place, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.loader import load_schema
from pibot_mesh.config.routine_section import place_settings, schedule_settings, trigger_settings
from pibot_mesh.config.settings import Place, ScheduleSettings, TriggerSettings
from pibot_mesh.config.source import read_yaml
from pibot_mesh.errors import ConfigError

Read = Callable[[str], tuple[Place, tuple[ScheduleSettings, ...], tuple[TriggerSettings, ...]]]

BELL = "node: porch, device: button, event: pressed, request: ring"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The three sections of a file."""

    def read(text: str) -> tuple[Place, tuple[ScheduleSettings, ...], tuple[TriggerSettings, ...]]:
        path = tmp_path / "c.yaml"
        path.write_text(text, "utf-8")
        draft = Draft(read_yaml(path), {})
        draft.check(load_schema("master"))
        place = place_settings(draft)
        found = (place, schedule_settings(draft, place), trigger_settings(draft))
        draft.finish()
        return found

    return read


def problems(read: Read, text: str) -> list[str]:
    """All that is wrong, without the file's name and line."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [problem.split("c.yaml:", 1)[1].split(": ", 1)[1] for problem in caught.value.problems]


def test_schedules_and_triggers_are_read(read: Read) -> None:
    """With all that may be said of them."""
    place, schedules, triggers = read(
        """
place: {latitude: 52.5, longitude: 13.4, time_zone: Europe/Berlin}
schedules:
  morning: {at: "0 7  * * 1-5", request: turn on the lamp, missed: run, late_s: 600}
  dusk: {at: sunset, offset_s: -1800, request: turn on the lights, is_on: false}
triggers:
  doorbell: {node: porch, device: button, event: pressed, request: ring, rest_s: 5}
"""
    )

    assert place == Place(52.5, 13.4, "Europe/Berlin")
    assert schedules == (
        ScheduleSettings("morning", "turn on the lamp", "0 7 * * 1-5", missed="run", late_s=600),
        ScheduleSettings("dusk", "turn on the lights", "sunset", offset_s=-1800, is_on=False),
    )
    assert triggers == (TriggerSettings("doorbell", "ring", "porch", "button", "pressed", rest_s=5),)


def test_a_file_need_not_have_any(read: Read) -> None:
    """Then there are none."""
    assert read("{}") == (Place(), (), ())


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (
            "0 25 * * *",
            "bad hour; five cron words are expected (minute, hour, day, month, weekday: '0 7 * * 1-5'), or ",
        ),
        ("0 7 * *", "five cron words are expected"),
        ("0 0 7 * * *", "five cron words are expected"),
        ("@daily", "five cron words are expected"),
        (
            "sunst",
            "five cron words are expected (minute, hour, day, month, weekday: '0 7 * * 1-5'), or sunrise or sunset ",
        ),
        ("0 0 31 2 *", "bad day-of-month; "),
    ],
)
def test_words_that_are_no_time_are_refused(read: Read, at: str, why: str) -> None:
    """With the place in the file, and what is expected."""
    [problem] = problems(read, f"schedules: {{morning: {{at: '{at}', request: go}}}}")

    assert problem.startswith(f"schedules.morning.at: {at!r} is no time: {why}")


def test_a_slip_in_a_word_of_the_sun_is_seen(read: Read) -> None:
    """The nearest is named."""
    [problem] = problems(read, "schedules: {morning: {at: Sunsett, request: go}}")

    assert problem.endswith("(did you mean 'sunset'?)")


def test_the_sun_needs_a_place(read: Read) -> None:
    """It is said what to add; where the place is wrong itself, only that is said."""
    text = "schedules: {dusk: {at: sunset, request: go}}"

    add = "add 'place: {latitude: ..., longitude: ...}', in degrees"
    assert problems(read, text) == [f"schedules.dusk.at: sunset needs the place of the house: {add}"]
    assert problems(read, f"place: {{latitude: 91, longitude: 13}}\n{text}") == [
        "place.latitude: a number from -90 to 90 is expected, not 91"
    ]


def test_a_place_has_both_its_numbers(read: Read) -> None:
    """Or none."""
    assert problems(read, "place: {latitude: 52}") == [
        "place.longitude: is missing: add it, in degrees, or take latitude away"
    ]
    assert problems(read, "place: {longitude: 13}") == [
        "place.latitude: is missing: add it, in degrees, or take longitude away"
    ]


@pytest.mark.parametrize("name", ["Europe/Berln", "../../etc/passwd", "Europe"])
def test_a_time_zone_must_be_known(read: Read, name: str) -> None:
    """The nearest is named."""
    [problem] = problems(read, f"place: {{time_zone: {name}}}")

    assert problem.startswith(f"place.time_zone: {name!r} is no time zone such as Europe/Berlin")
    assert ("did you mean 'Europe/Berlin'?" in problem) == (name == "Europe/Berln")


def test_where_the_machine_knows_no_time_zones_it_says_how_it_learns_them(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small system comes without."""
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    [problem] = problems(read, "place: {time_zone: Europe/Nowhere}")

    assert problem.endswith("this machine knows none (pip install tzdata)")


def test_an_offset_is_for_the_sun(read: Read) -> None:
    """A clock's time can be said as it is."""
    assert problems(read, "schedules: {morning: {at: 0 7 * * *, offset_s: 60, request: go}}") == [
        "schedules.morning.offset_s: is for sunrise and sunset only: say the time itself in 'at'"
    ]


def test_a_name_is_used_once(read: Read) -> None:
    """Schedules and triggers are switched by the same topics."""
    [problem] = problems(read, f"schedules: {{bell: {{at: 0 7 * * *, request: go}}}}\ntriggers: {{bell: {{{BELL}}}}}")

    assert problem.startswith("triggers.bell: this name is a schedule's already")


def test_all_that_is_wrong_is_told_at_once(read: Read) -> None:
    """By the lines of the file; of a schedule that the schema refuses, nothing else is said."""
    text = f"""
schedules:
  Morning: {{at: 0 7 * * *, request: go}}
  noon: {{at: 0 12 * * *, request: ""}}
  dusk: {{at: sundown, request: go, missed: maybe}}
  night: {{at: 0 22 x * *, request: go}}
triggers:
  bell: {{{BELL}, rest_s: -1}}
  gate: {{node: Porch, device: gate, event: opened}}
"""

    assert [each.split(": ", 1)[0] for each in problems(read, text)] == [
        "schedules.Morning",
        "schedules.noon.request",
        "schedules.dusk.missed",
        "schedules.night.at",
        "triggers.bell.rest_s",
        "triggers.gate.node",
        "triggers.gate.request",
    ]
