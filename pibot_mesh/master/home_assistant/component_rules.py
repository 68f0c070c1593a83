"""What Home Assistant drops or warns of in one component of a device's payload. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from pibot_mesh.master.home_assistant.class_rules import (
    DROPS_ENTITY,
    IGNORES,
    WARNS,
    Misfit,
    class_misfit,
    state_class_misfit,
)
from pibot_mesh.master.home_assistant.keys import AVAILABILITY, COUNTS, OPTIMISTIC, REQUIRED, SHARED_TOPICS, TOPICS
from pibot_mesh.master.home_assistant.values import (
    number_of,
    publish_problem,
    spelled_out,
    subscribe_problem,
    text_problem,
)
from pibot_mesh.protocol.codec import JSON

Values: TypeAlias = Mapping[str, JSON]
"""Keys, all written out, and their values."""

_LONGEST_STATE: Final = 255
_LEAST_STEP: Final = 0.001
_AVAILABILITIES: Final = frozenset(("availability", "availability_topic"))
_CLASS_AND_UNIT: Final = ("device_class", "unit_of_measurement")
_CATEGORIES: Final = ("config", "diagnostic")
_READING: Final = ("sensor", "binary_sensor")
_WORDS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "number": {"mode": ("auto", "box", "slider")},
    "text": {"mode": ("text", "password")},
    "light": {"schema": ("basic", "json", "template"), "on_command_type": ("first", "last", "brightness")},
}
_TEXTS: Final = ("encoding", "payload_available", "payload_not_available")


def component_misfits(platform: str, own: Values, inherited: Values) -> Iterator[Misfit]:
    """Everything that is wrong with a component of *platform* that has *own* keys, and takes *inherited* from the root.

    What is wrong with an inherited value by itself is the root's matter.
    """
    whole = {**inherited, **own}
    yield from _missing(platform, whole)
    yield from shared_misfits(own, (*TOPICS.get(platform, ()), *SHARED_TOPICS))
    if len(_AVAILABILITIES & whole.keys()) == 2 and len(_AVAILABILITIES & own.keys()) == 1:
        yield _drop(
            "it has one of 'availability' and 'availability_topic', and the root has the other: use the same key"
        )
    if own.get("name") is not None and text_problem(own["name"]):
        yield _drop("name is not a text")
    yield from _classes(platform, own)
    yield from _options(platform, own)
    yield from _category(platform, own)
    yield from _limits(platform, own)
    yield from _words(platform, own)
    yield from _entity_id(platform, own)
    yield from _guesses(platform, whole)


def shared_misfits(values: Values, topics: Sequence[str], *, is_root: bool = False) -> Iterator[Misfit]:
    """What is wrong with *topics*, availability and all else that may stand at the root too, which is the stricter."""
    for key in topics:
        # What ends so is sent to; everything else is heard.
        problem_of = publish_problem if key.endswith("command_topic") else subscribe_problem
        if key in values and (problem := problem_of(values[key])):
            yield _drop(f"{key} {problem}")
    for key in _TEXTS:
        if key in values and (problem := text_problem(values[key])):
            yield _drop(f"{key} {problem}")
    expiry = values.get("message_expiry_interval", 0)
    if not isinstance(expiry, dict) and (not isinstance(expiry, int) or expiry < 0):
        yield _drop(f"message_expiry_interval is {expiry!r}: it is a whole number of seconds")
    if values.keys() >= _AVAILABILITIES:
        yield _drop("it has both 'availability' and 'availability_topic': keep one of them")
    if values.get("availability_mode", "latest") not in ("all", "any", "latest"):
        yield _drop(f"availability_mode is {values['availability_mode']!r}: there are all, any and latest")
    qos = number_of(values.get("qos", 0))
    if qos is None or int(qos) not in (0, 1, 2):
        yield _drop(f"qos is {values['qos']!r}: there are 0, 1 and 2")
    listed = values.get("availability", [])
    for number, item in enumerate(listed if isinstance(listed, list) else [listed], 1):
        if problem := _availability_problem(item, is_root=is_root):
            yield _drop(f"availability {number} {problem}")


def _drop(text: str) -> Misfit:
    return Misfit(text, DROPS_ENTITY)


def _availability_problem(item: JSON, *, is_root: bool) -> str | None:
    if not isinstance(item, dict):
        return "is no object with a topic"
    values = spelled_out(item, AVAILABILITY)
    unknown = [key for key in values if key not in AVAILABILITY.values()]
    if unknown and is_root:
        return f"has the unknown key {unknown[0]!r}: take it out"
    if "topic" not in values:
        return "has no topic: give it one"
    problem = subscribe_problem(values["topic"])
    return f"topic {problem}" if problem else None


def _missing(platform: str, values: Values) -> Iterator[Misfit]:
    for key in REQUIRED.get(platform, ()):
        if key not in values:
            yield _drop(f"{key} is missing, which every {platform} needs")


def _classes(platform: str, values: Values) -> Iterator[Misfit]:
    known = {"sensor": ("device_class", "unit_of_measurement", "state_class"), "number": _CLASS_AND_UNIT}
    found = {key: values.get(key) for key in known.get(platform, ("device_class",))}
    for key, value in found.items():
        if isinstance(value, (list, dict)):
            yield _drop(f"{key} is not a text")
            return
    device_class, unit, state_class = (found.get(key) for key in known["sensor"])
    named = None if device_class is None else str(device_class)
    measured = None if unit is None else str(unit)
    if misfit := class_misfit(platform, named, measured):
        yield misfit
    if state_class is not None and (misfit := state_class_misfit(str(state_class), named, measured)):
        yield misfit


def _options(platform: str, values: Values) -> Iterator[Misfit]:
    if platform == "event" and values.get("event_types") == []:
        yield Misfit("event_types is empty: name the types that may come", "takes no event of it")
    if platform == "select" and values.get("options") == []:
        yield Misfit("options is empty: name what can be chosen", "shows nothing to choose from")
    if platform == "sensor":
        yield from _enum(values)


def _enum(values: Values) -> Iterator[Misfit]:
    is_enum = str(values.get("device_class")).lower() == "enum"
    if values.get("options") is None:
        if is_enum:
            yield Misfit("an enum without options: name the states that it may have", "takes any text as its state")
        return
    if values["options"] == []:
        yield _drop("options is empty: name the states that it may have")
    if not is_enum:
        yield _drop("options are for device class 'enum': set it, or take them out")
    if values.get("state_class") or values.get("unit_of_measurement"):
        yield _drop("options go with no state_class and no unit_of_measurement: take those out")


def _category(platform: str, values: Values) -> Iterator[Misfit]:
    if "entity_category" not in values:
        return
    category = values["entity_category"]
    if category not in _CATEGORIES:
        yield _drop(f"entity_category is {category!r}: there are config and diagnostic, or leave it out")
    elif category == "config" and platform in _READING:
        yield _drop(f"entity_category is 'config', and a {platform} sets nothing: only 'diagnostic' fits")


def _limits(platform: str, values: Values) -> Iterator[Misfit]:
    if platform == "text":
        yield from _text_limits(values)
    if platform == "number":
        yield from _number_limits(values)
    if platform == "fan":
        yield from _fan_limits(values)
    for key, least in COUNTS.get(platform, {}).items():
        if key in values and ((number := number_of(values[key])) is None or number < least):
            yield _drop(f"{key} is {values[key]!r}: it is a number from {least}")


def _text_limits(values: Values) -> Iterator[Misfit]:
    least, most = number_of(values.get("min", 0)), number_of(values.get("max", _LONGEST_STATE))
    if least is None or most is None or not 0 <= least <= most <= _LONGEST_STATE:
        given = f"min {values.get('min', 0)!r} and max {values.get('max', _LONGEST_STATE)!r}"
        yield _drop(f"{given} of a text: they are characters from 0 to {_LONGEST_STATE}, the smaller one first")


def _number_limits(values: Values) -> Iterator[Misfit]:
    least, most, step = (number_of(values.get(key, usual)) for key, usual in (("min", 0), ("max", 100), ("step", 1)))
    given = f"min {values.get('min', 0)!r} and max {values.get('max', 100)!r}"
    if least is None or most is None or least > most:
        yield _drop(f"{given} of a number: they are numbers, the smaller one first")
    elif least == most:
        yield Misfit(f"{given} of a number: let them differ", "has only one value to choose")
    if step is None or step < _LEAST_STEP:
        yield _drop(f"step is {values['step']!r}: it is a number from {_LEAST_STEP:g}")


def _fan_limits(values: Values) -> Iterator[Misfit]:
    least, most = number_of(values.get("speed_range_min", 1)), number_of(values.get("speed_range_max", 100))
    if least is None or most is None or not 1 <= least < most:
        yield _drop("speed_range_min and speed_range_max are whole numbers from 1, the smaller one first")


def _words(platform: str, values: Values) -> Iterator[Misfit]:
    for key, known in _WORDS.get(platform, {}).items():
        if key in values and values[key] not in known:
            yield _drop(f"{key} is {values[key]!r}: there are {', '.join(known)}")
    if "icon" in values and ":" not in str(values["icon"]):
        yield _drop(f"icon is {values['icon']!r}: icons are of the form 'mdi:fan'")


def _entity_id(platform: str, values: Values) -> Iterator[Misfit]:
    if "object_id" in values:
        yield Misfit("object_id is no longer known: write default_entity_id, with the platform before it", IGNORES)
    if "default_entity_id" not in values:
        return
    wanted = values["default_entity_id"]
    if text_problem(wanted):
        yield _drop("default_entity_id is not a text")
        return
    domain, _, name = str(wanted).partition(".")
    if domain != platform and name:
        yield Misfit(f"default_entity_id is {wanted!r}, and this is a {platform}: write {platform}.{name}", WARNS)
    elif not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name):
        text = f"default_entity_id is {wanted!r}: write {platform}. and small letters, digits and single '_'"
        yield Misfit(text, "makes another id of it")


def _guesses(platform: str, values: Values) -> Iterator[Misfit]:
    """A command without a state: the switch in Home Assistant flips, whatever the device does."""
    if platform in OPTIMISTIC and "state_topic" not in values:
        yield Misfit(f"a {platform} without state_topic: name the topic that has its state", "guesses its state")
    for key in TOPICS.get(platform, ()):
        aspect = key.removesuffix("_command_topic")
        if key in values and aspect not in (key, "white") and f"{aspect}_state_topic" not in values:
            yield Misfit(f"{key} without {aspect}_state_topic: name that too", "guesses it")
