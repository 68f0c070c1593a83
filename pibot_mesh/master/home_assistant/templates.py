"""Templates that Home Assistant evaluates: from the mesh's payloads to what an entity takes, and back. Pure text.

Whatever comes, they render without a warning in its log. Where there is nothing to say they render nothing, which
leaves the entity as it is, or ``None``, which makes its state unknown. A topic that was cleared has an empty payload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

IS_ON: Final = "{{ 'ON' if value == 'ON' or value|float(0) > 0 else 'OFF' if value else none }}"
"""From the state of a dimmable output."""
BRIGHTNESS: Final = "{{ 100 if value == 'ON' else value|float(0) }}"
"""Percent. A light takes no notice of 0: it keeps the brightness with which it is turned on again."""
SPEED: Final = "{{ 100 if value == 'ON' else value|float(0)|round(0, 'ceil')|int or '' }}"
"""Whole percent, and nothing for 0: a fan that is off keeps its last speed."""
AT_LAST_SPEED: Final = "{{ value if value == 'OFF' else this.attributes.get('percentage') or 100 }}"
"""To turn a fan on as it was. Home Assistant sends this before a speed too: ON would be full speed for a moment."""
LEVEL: Final = "{{ 100 if value == 'ON' else 0 if value == 'OFF' else value if value|is_number else '' }}"
"""Percent."""
NUMBER: Final = "{{ value if value|is_number else none }}"
HAS_COLOR: Final = "{{ 'OFF' if value in ['OFF', '0', '#000000'] else 'ON' if value else none }}"
"""From the state of an output in color: it is on where it is not black."""
COLOR: Final = (
    "{% if value[:1] == '#' %}"
    "{{ value[1:3]|int(0, 16) }},{{ value[3:5]|int(0, 16) }},{{ value[5:7]|int(0, 16) }}"
    "{% endif %}"
)
COLOR_SET: Final = "{{ '#%02x%02x%02x' % (red, green, blue) }}"
_IS_OBJECT: Final = "value_json is mapping"
_MAX_CUT: Final = 1000
"""Characters. Home Assistant keeps no history of an entity with more than 16 KiB of attributes."""
_NOT_SHOWN: Final = ("v", "boot", "seq", "device")


def quoted(text: str) -> str:
    """*text* as a string in a template."""
    inner = json.dumps(text, ensure_ascii=False)[1:-1].replace("'", "\\'")
    return f"'{inner}'"


def picked(key: str, *, among: Iterable[str] = ()) -> str:
    """The value at *key* of an object. Of words only one that is *among* these."""
    value = f"value_json.get({quoted(key)})"
    condition = f"{_IS_OBJECT} and {value} in {_listed(among)}" if among else _IS_OBJECT
    return f"{{{{ {value} if {condition} else none }}}}"


def said(key: str, *, otherwise: str = "none") -> str:
    """The words at *key*; where there are none, *otherwise*."""
    return f"{{{{ value_json.get({quoted(key)}) or {otherwise} if {_IS_OBJECT} else {otherwise} }}}}"


def flag(key: str) -> str:
    """``ON`` where the value at *key* is true or not 0, else ``OFF``."""
    return f"{{{{ ('ON' if value_json.get({quoted(key)}) else 'OFF') if {_IS_OBJECT} else '' }}}}"


def available_with(*keys: str) -> str:
    """``online`` where there is something at each of the *keys*, else ``offline``."""
    conditions = " and ".join((_IS_OBJECT, *(f"value_json.get({quoted(key)})" for key in keys)))
    return f"{{{{ 'online' if {conditions} else 'offline' }}}}"


def attributes(*keys: str, cut: Iterable[str] = ()) -> str:
    """An object with what is at the *keys*, and the beginning of the texts that are to be *cut*."""
    pairs = ", ".join([*map(_pair, keys), *map(_cut_pair, cut)])
    return f"{{{{ {{{pairs}}}|to_json if {_IS_OBJECT} else '{{}}' }}}}"


def inner(key: str) -> str:
    """The object at *key*, or an empty one."""
    return f"{{{{ (value_json.get({quoted(key)}) or {{}})|to_json if {_IS_OBJECT} else '{{}}' }}}}"


def event(device: str, types: Iterable[str], *, renamed: Mapping[str, str] | None = None) -> str:
    """A node's event, where it is one of *device* and of these *types*, without what is only for the mesh.

    Types that are *renamed* bear another name in Home Assistant.
    """
    kept = f"value_json.items()|rejectattr(0, 'in', {_listed(_NOT_SHOWN)})"
    event_type = "value_json.get('event_type')"
    for own, theirs in (renamed or {}).items():
        kept = f"{kept}, event_type={quoted(theirs)} if {event_type} == {quoted(own)} else {event_type}"
    condition = f"value_json.get('device') == {quoted(device)} and {event_type} in {_listed(types)}"
    return f"{{% if {_IS_OBJECT} and {condition} %}}{{{{ dict({kept})|to_json }}}}{{% endif %}}"


def event_with(
    types: Iterable[str], keys: Iterable[str], part: str, inner_keys: Iterable[str], *, cut: Iterable[str] = ()
) -> str:
    """An event of one of the *types*, with what `attributes` gives, and what is at the *inner_keys* of its *part*."""
    pairs = [*map(_pair, ("event_type", *keys)), *map(_cut_pair, cut)]
    pairs += [f"{quoted(key)}: part.get({quoted(key)})" for key in inner_keys]
    condition = f"{_IS_OBJECT} and value_json.get('event_type') in {_listed(types)}"
    return (
        f"{{% if {condition} %}}{{% set part = value_json.get({quoted(part)}) or {{}} %}}"
        f"{{{{ {{{', '.join(pairs)}}}|to_json }}}}{{% endif %}}"
    )


def order(action: str, *keys: str) -> str:
    """An order to the master, about what the button's own attributes show at the *keys*."""
    shown = "".join(f", {quoted(key)}: this.attributes.get({quoted(key)})" for key in keys)
    return f"{{{{ {{'action': {quoted(action)}{shown}, 'by': 'Home Assistant'}}|to_json }}}}"


def _pair(key: str) -> str:
    return f"{quoted(key)}: value_json.get({quoted(key)})"


def _cut_pair(key: str) -> str:
    return f"{quoted(key)}: (value_json.get({quoted(key)}) or '')[:{_MAX_CUT}]"


def _listed(words: Iterable[str]) -> str:
    return f"[{', '.join(map(quoted, words))}]"
