"""What Home Assistant would drop or warn of in what is published for it, before it is sent. Pure.

As release 2026.11 was seen to do it: an unknown key at the root, in ``dev`` or in ``o`` drops the whole device without
a word to the user, an error in a component drops that entity, and unknown keys inside a component are passed over.
Templates are not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pibot_mesh.errors import ProtocolError
from pibot_mesh.master.home_assistant.class_rules import DROPS_ENTITY, class_flaw, state_class_of
from pibot_mesh.master.home_assistant.component_rules import component_misfits, shared_misfits
from pibot_mesh.master.home_assistant.keys import COMPONENT, DEVICE, ENTITIES, ORIGIN, PLATFORMS, ROOT, SHARED
from pibot_mesh.master.home_assistant.model import Flaw, Payload
from pibot_mesh.master.home_assistant.values import spelled_out, text_problem, url_problem
from pibot_mesh.protocol.codec import JSON, dumps

__all__ = ["check", "check_all", "class_flaw", "state_class_of"]

_DROPS_DEVICE: Final = "drops the whole device"
_CONFIG_TOPIC: Final = re.compile(r"[^+#]+/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")


def check(topic: str, payload: Payload) -> list[Flaw]:
    """Everything that Home Assistant would drop or warn of in one device's payload, which stands at *topic*.

    Short and long keys are understood. What is too large to be sent is not looked into. Never raises, whatever JSON the
    payload is.
    """
    flaws = [*_address(topic)]
    try:
        dumps(payload)
    except ProtocolError as error:
        return [*flaws, Flaw("payload", f"the broker does not get it: {error}")]
    if (root := _spelled_root(payload)) is None:
        return [*flaws, _lost("payload", "it is no JSON object")]
    flaws += [*_root(root), *_device(root.get("device")), *_origin(root.get("origin"))]
    components = _components(root)
    for name, values in components.items():
        flaws += _component(name, values, root)
    return [*flaws, *_same_ids(components), *_names(components, root.get("device"))]


def check_all(payloads: Mapping[str, Payload]) -> dict[str, list[Flaw]]:
    """`check` of every payload, by its topic, with what collides between devices: a unique id that two of them have."""
    flaws = {topic: check(topic, payload) for topic, payload in payloads.items()}
    owners: dict[tuple[str, str], str] = {}
    for topic, payload in payloads.items():
        for name, values in _components(_spelled_root(payload) or {}).items():
            identity = _identity(values)
            if identity is not None and owners.setdefault(identity, topic) != topic:
                what = f"{owners[identity]} has the same unique id {identity[1]!r}: give it another"
                flaws[topic].append(Flaw(name, f"{_says(DROPS_ENTITY)}: {what}"))
    return flaws


def _says(outcome: str) -> str:
    return f"Home Assistant {outcome}"


def _lost(where: str, what: str) -> Flaw:
    return Flaw(where, f"{_says(_DROPS_DEVICE)}: {what}")


def _spelled_root(payload: JSON) -> dict[str, JSON] | None:
    return spelled_out(payload, ROOT) if isinstance(payload, Mapping) else None


def _address(topic: str) -> Iterator[Flaw]:
    if not _CONFIG_TOPIC.fullmatch(topic):
        what = "it must end in /device/ID/config or /device/NODE/ID/config, with ids of letters, digits, '_' and '-'"
        yield Flaw("topic", f"{_says('does not see this device')}: {topic!r}: {what}")


def _root(root: Mapping[str, JSON]) -> Iterator[Flaw]:
    for key in sorted(root.keys() - ROOT.values(), key=str):
        hint = "'~' is for components" if key == "~" else "take it out"
        yield _lost(str(key), f"unknown key at the root: {hint}")
    if "components" not in root and "child_devices" not in root:
        yield _lost("cmps", "there are no components")
    if not isinstance(root.get("child_devices", []), list):
        yield _lost("child_devices", "it is no list")
    for misfit in shared_misfits(root, ("availability_topic", "command_topic", "state_topic"), is_root=True):
        yield _lost("root", misfit.text)


def _device(device: JSON) -> Iterator[Flaw]:
    if not isinstance(device, dict):
        yield _lost("dev", "it is missing, and says which device this is")
        return
    values = spelled_out(device, DEVICE)
    yield from _own_keys("dev", values, DEVICE)
    ids, connections = values.get("identifiers"), values.get("connections")
    if not ids and not connections:
        yield _lost("dev", "it has no ids: name one that stays the same")
    if any(map(text_problem, ids if isinstance(ids, list) else [ids or ""])):
        yield _lost("dev", "its ids are not all texts")
    pairs = connections if isinstance(connections, list) else []
    if connections and not (pairs and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)):
        yield _lost("dev", "its connections are no pairs of a kind and an address")
    if "name" not in values:
        yield Flaw("dev", f"{_says('shows it under another name')}: it has none: give it one")


def _origin(origin: JSON) -> Iterator[Flaw]:
    if not isinstance(origin, dict):
        yield _lost("o", "it is missing, and says what found the device")
        return
    values = spelled_out(origin, ORIGIN)
    yield from _own_keys("o", values, ORIGIN)
    if "name" not in values:
        yield _lost("o", "it has no name: give it one")


def _own_keys(where: str, values: Mapping[str, JSON], names: Mapping[str, str]) -> Iterator[Flaw]:
    for key, value in values.items():
        if key not in names.values():
            yield _lost(where, f"unknown key {key!r}: take it out")
        elif key in ("configuration_url", "support_url"):
            if problem := url_problem(value):
                yield _lost(where, f"{key} {problem}")
        elif key not in ("identifiers", "connections") and (problem := text_problem(value)):
            yield _lost(where, f"{key} {problem}")


def _components(root: Mapping[str, JSON]) -> dict[str, JSON]:
    """The components by name, with their keys written out."""
    found = root.get("components", {})
    if not isinstance(found, dict):
        return {"cmps": None}
    return {name: spelled_out(each, COMPONENT) if isinstance(each, dict) else None for name, each in found.items()}


def _component(name: str, values: JSON, root: Mapping[str, JSON]) -> Iterator[Flaw]:
    if values is None:
        yield _lost(name, "it is no JSON object")
        return
    platform = values.get("platform")
    if platform is None:
        yield _lost(name, "it has no platform: give it 'p', such as 'sensor'")
    elif not isinstance(platform, str) or platform not in PLATFORMS:
        yield _lost(name, f"there is no platform {platform!r}: there are {', '.join(sorted(PLATFORMS))}")
    elif platform in ENTITIES and len(values) > 1:
        # What is its platform alone takes an entity away, and needs nothing else.
        if "unique_id" not in values:
            yield _lost(name, "it has no unique_id: give it one")
        elif text_problem(values["unique_id"]):
            yield _lost(name, "unique_id is not a text")
        inherited = {key: root[key] for key in SHARED & root.keys() if key not in values}
        for misfit in component_misfits(platform, values, inherited):
            yield Flaw(name, f"{_says(misfit.outcome)}: {misfit.text}")


def _same_ids(components: Mapping[str, JSON]) -> Iterator[Flaw]:
    first: dict[tuple[str, str], str] = {}
    for name, values in components.items():
        identity = _identity(values)
        if identity is not None and first.setdefault(identity, name) != name:
            what = f"{first[identity]} has the same unique id {identity[1]!r}: give it another"
            yield Flaw(name, f"{_says(DROPS_ENTITY)}: {what}")


def _identity(values: JSON) -> tuple[str, str] | None:
    """What tells an entity from all others: its id, of its platform."""
    if values is None or text_problem(values.get("unique_id")) or text_problem(values.get("platform")):
        return None
    return str(values["platform"]), str(values["unique_id"])


def _names(components: Mapping[str, JSON], device: JSON) -> Iterator[Flaw]:
    """Home Assistant puts the device's name before each entity's."""
    device_name = spelled_out(device, DEVICE).get("name") if isinstance(device, dict) else None
    first: dict[tuple[str, str], str] = {}
    for component, values in components.items():
        if (identity := _identity(values)) is None or identity[0] not in ENTITIES:
            continue
        platform, name = identity[0], values.get("name")
        if not isinstance(name, str):
            if "name" not in values and values.get("device_class") is None:
                yield Flaw(component, f"{_says(f'calls it MQTT {platform}')}: it has no name: give it one")
            continue
        if isinstance(device_name, str) and f"{name} ".lower().startswith(f"{device_name} ".lower()):
            shown = f"{device_name} {name}"
            yield Flaw(component, f"{_says(f'shows {shown!r}')}: take the device's name out of the entity's")
        other = first.setdefault((platform, name.lower()), component)
        if other != component:
            what = f"{other} has the same name {name!r}: give it another"
            yield Flaw(component, f"{_says('tells it by a number')}: {what}")
