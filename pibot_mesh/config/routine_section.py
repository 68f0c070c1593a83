"""Where a file says what is asked of the mesh without a person: schedules by time, and triggers by events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, cast

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import Place, ScheduleSettings, TriggerSettings
from pibot_mesh.config.source import KeyPath, Problem, suggestion
from pibot_mesh.config.words import show

_SUN: Final = ("sunrise", "sunset")
_EXPECTED: Final = (
    "five cron words are expected (minute, hour, day, month, weekday: '0 7 * * 1-5'), or sunrise or sunset"
)
_PLACE: Final[KeyPath] = ("place",)


def place_settings(draft: Draft) -> Place:
    """Where the house is, and its time zone."""
    latitude, longitude = _degrees(draft, "latitude"), _degrees(draft, "longitude")
    if (latitude is None) != (longitude is None) and not draft.is_refused(_PLACE):
        given, missing = ("latitude", "longitude") if longitude is None else ("longitude", "latitude")
        draft.note(Problem((*_PLACE, missing), f"is missing: add it, in degrees, or take {given} away"))
    return Place(latitude, longitude, _time_zone(draft))


def schedule_settings(draft: Draft, place: Place) -> tuple[ScheduleSettings, ...]:
    """The requests that are made at a time. Those at sunrise and sunset need to know the *place*."""
    return tuple(_schedule(draft, ("schedules", name), place) for name in _names(draft, "schedules"))


def trigger_settings(draft: Draft) -> tuple[TriggerSettings, ...]:
    """The requests that are made when something happens."""
    for name in _names(draft, "triggers"):
        if draft.is_set(("schedules", name)):
            text = "this name is a schedule's already: give the trigger another, since both are switched by their names"
            draft.note(Problem(("triggers", name), text))
    return tuple(_trigger(draft, ("triggers", name)) for name in _names(draft, "triggers"))


def _names(draft: Draft, section: str) -> list[str]:
    """The entries of *section* of which nothing was refused."""
    values = cast(dict[str, object], draft.get((section,), {}))
    return [name for name in values if not draft.is_refused((section, name))]


def _schedule(draft: Draft, at: KeyPath, place: Place) -> ScheduleSettings:
    usual = ScheduleSettings("", "", "")
    schedule = ScheduleSettings(
        id=str(at[-1]),
        request=draft.text((*at, "request")),
        at=" ".join(draft.text((*at, "at")).split()),
        offset_s=draft.number((*at, "offset_s"), usual.offset_s),
        missed=cast(Literal["skip", "run"], draft.text((*at, "missed"), usual.missed)),
        late_s=draft.number((*at, "late_s"), usual.late_s),
        is_on=bool(draft.get((*at, "is_on"), usual.is_on)),
    )
    if schedule.at in _SUN:
        if place.latitude is None and not draft.is_refused(_PLACE):
            add = "add 'place: {latitude: ..., longitude: ...}', in degrees"
            draft.note(Problem((*at, "at"), f"{schedule.at} needs the place of the house: {add}"))
        return schedule
    text = _wrong_words(schedule.at)
    if text is not None:
        draft.note(Problem((*at, "at"), f"{show(schedule.at)} is no time: {text}"))
    elif schedule.offset_s:
        draft.note(Problem((*at, "offset_s"), "is for sunrise and sunset only: say the time itself in 'at'"))
    return schedule


def _trigger(draft: Draft, at: KeyPath) -> TriggerSettings:
    usual = TriggerSettings("", "", "", "", "")
    return TriggerSettings(
        id=str(at[-1]),
        request=draft.text((*at, "request")),
        node=draft.text((*at, "node")),
        device=draft.text((*at, "device")),
        event=draft.text((*at, "event")),
        rest_s=draft.number((*at, "rest_s"), usual.rest_s),
        is_on=bool(draft.get((*at, "is_on"), usual.is_on)),
    )


def _wrong_words(words: str) -> str | None:
    """What is wrong with cron *words*, or None."""
    from cronsim import CronSim, CronSimError

    if len(words.split()) != 5:  # cronsim takes seconds as a sixth word, which cron has not
        return _EXPECTED + suggestion(words.lower(), _SUN)
    try:
        CronSim(words, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        return f"{str(error).lower()}; {_EXPECTED}"
    return None


def _degrees(draft: Draft, name: str) -> float | None:
    at = (*_PLACE, name)
    return draft.number(at, 0.0) if draft.is_set(at) else None


def _time_zone(draft: Draft) -> str:
    from zoneinfo import ZoneInfo, available_timezones

    at = (*_PLACE, "time_zone")
    name = draft.text(at)
    try:
        if name:
            ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        known = tuple(available_timezones())
        hint = suggestion(name, known) if known else ": this machine knows none (pip install tzdata)"
        draft.note(Problem(at, f"{show(name)} is no time zone such as Europe/Berlin{hint}"))
        return ""
    return name
