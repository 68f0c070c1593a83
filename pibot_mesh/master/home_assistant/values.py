"""What Home Assistant takes as a text, a topic, a whole number or an address: each says why a value is none. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pibot_mesh.protocol.codec import JSON

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef]")


def spelled_out(values: Mapping[str, JSON], names: Mapping[str, str]) -> dict[str, JSON]:
    """*values* with short keys (of *names*: short → long) written out. A short key goes before the long one."""
    result = {key: value for key, value in values.items() if key not in names}
    return {**result, **{names[key]: value for key, value in values.items() if key in names}}


def text_problem(value: JSON) -> str | None:
    """Home Assistant turns numbers into text, and nothing else."""
    return "is not a text" if value is None or isinstance(value, (list, dict)) else None


def subscribe_problem(value: JSON) -> str | None:
    """Why nothing can be heard on *value*."""
    if problem := _topic_problem(value):
        return problem
    levels = str(value).split("/")
    if any("+" in level and level != "+" for level in levels):
        return f"is {value!r}: '+' stands for a whole level"
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return f"is {value!r}: '#' stands for all levels at the end"
    return None


def publish_problem(value: JSON) -> str | None:
    """Why nothing can be sent to *value*."""
    if problem := _topic_problem(value):
        return problem
    return f"is {value!r}: nothing is sent to several topics at once" if set(str(value)) & {"+", "#"} else None


def url_problem(value: JSON) -> str | None:
    """Why *value* is no address that Home Assistant shows as a link."""
    if isinstance(value, str):
        try:
            url = urlsplit(value)
            _ = url.port
        except ValueError:
            return f"is {value!r}, which is no address"
        if url.scheme in ("http", "https", "homeassistant") and url.hostname and " " not in url.hostname:
            return None
    return f"is {value!r}, which is no address of the form https://…"


def number_of(value: JSON) -> float | None:
    """*value* as a finite number, also from a text; None where it is none."""
    if not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _topic_problem(value: JSON) -> str | None:
    if problem := text_problem(value):
        return problem
    topic = str(value)
    if not topic:
        return "is empty"
    return f"is {topic!r}: a topic has no control characters" if _UNPRINTABLE.search(topic) else None
