"""From what stands at the broker to what is to stand there, so that Home Assistant loses nothing on the way. Pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pibot_mesh.errors import ProtocolError
from pibot_mesh.master.home_assistant.model import Built, Flaw, Payload
from pibot_mesh.protocol.codec import JSON, MAX_PAYLOAD, loads

Check: TypeAlias = Callable[[str, Payload], list[Flaw]]
"""Everything that Home Assistant would drop, or warn of, in a payload for a topic."""

_BUG: Final = "the device stays as it was: this is a bug, please report it with the line above"


@dataclass(frozen=True, slots=True)
class Sendable:
    """What may be sent of a device, and what is wrong with the rest. None: nothing may, and what stands stays."""

    payload: bytes | None
    flaws: tuple[Flaw, ...]


def sendable(topic: str, built: Built, check: Check) -> Sendable:
    """*built* without the components that *check* finds fault with, in canonical form.

    Where it is too large for a message, its diagnostics stay behind, and then its last components. Nothing is sendable
    where that does not help, or where the fault is none of a component's.
    """
    payload, too_large = _fitting(built.payload)
    if payload is None:
        return Sendable(None, (*built.flaws, *too_large))
    components = payload.get("cmps", {})
    faults = check(topic, payload)
    of_components = [Flaw(fault.where, f"is left out: {fault.text}") for fault in faults if fault.where in components]
    of_root = [fault for fault in faults if fault.where not in components]
    flaws = (*built.flaws, *too_large, *of_components, *of_root)
    if of_root:
        return Sendable(None, (*flaws, Flaw("payload", _BUG)))
    return Sendable(canonical(_without(payload, {fault.where for fault in of_components})), flaws)


def step(stands: bytes, wanted: bytes) -> bytes:
    """What to publish next on the way from the payload that *stands* to the one that is *wanted*. Empty: none at all.

    A component that is not wanted any more, or on another platform, is named once more with its platform alone: that is
    how Home Assistant is told to remove it. Leaving it out would leave it there. The next step is then without it.
    """
    if not stands or not wanted or stands == wanted:
        return wanted
    old, payload = _components(stands), json.loads(wanted)
    new: Mapping[str, JSON] = payload["cmps"]
    removals = {
        key: {"p": component["p"]}
        for key, component in old.items()
        if len(component) > 1 and (key not in new or new[key]["p"] != component["p"])
    }
    if not removals:
        return wanted
    text = canonical({**payload, "cmps": {**new, **removals}})
    return text if len(text) <= MAX_PAYLOAD else canonical({**payload, "cmps": removals})


def canonical(payload: Payload) -> bytes:
    """The one form of a payload, to compare it by."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def in_canonical_form(payload: bytes) -> bytes:
    """What a broker keeps, in the one form; as it is where it is no JSON object."""
    try:
        value = loads(payload)
    except ProtocolError:
        return payload
    return canonical(value) if isinstance(value, dict) else payload


def _fitting(payload: Payload) -> tuple[Payload | None, list[Flaw]]:
    """What of *payload* fits into a message, and what is to be said of the rest."""
    size = len(canonical(payload))
    if size <= MAX_PAYLOAD:
        return payload, []
    flaws = [Flaw("payload", f"{size} bytes, at most {MAX_PAYLOAD} fit: no diagnostics are shown")]
    payload = _without(payload, {key for key, each in payload["cmps"].items() if each.get("ent_cat") == "diagnostic"})
    size, keys = len(canonical(payload)), list(payload["cmps"])
    if size <= MAX_PAYLOAD:
        return payload, flaws
    count = bisect_right(
        range(1, len(keys) + 1), MAX_PAYLOAD, key=lambda n: len(canonical(_without(payload, keys[n:])))
    )
    too_much = f"still {size} bytes: the last {len(keys) - count} of {len(keys)} are not shown, from {keys[count]} on"
    return _without(payload, keys[count:]) if count else None, [*flaws, Flaw("payload", too_much)]


def _components(payload: bytes) -> dict[str, dict[str, JSON]]:
    """Those of a payload that anybody may have written: what could not be written again has none."""
    try:
        components = loads(payload)["cmps"].items()
    except (ProtocolError, LookupError, TypeError, AttributeError):
        return {}
    return {key: value for key, value in components if isinstance(value, dict) and isinstance(value.get("p"), str)}


def _without(payload: Payload, keys: Collection[str]) -> Payload:
    components = {key: value for key, value in payload["cmps"].items() if key not in keys}
    return {**payload, "cmps": components}
