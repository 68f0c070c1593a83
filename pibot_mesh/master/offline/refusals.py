"""What is said where nothing is done: why, and which sentences come near. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline.sentences import Language
from pibot_mesh.master.offline.text import key
from pibot_mesh.master.offline.vocabulary import Device, Place, Thing, Vocabulary, select

SUGGESTIONS: Final = 3
_SHOWN: Final = 80
"""Characters of a text that are repeated to its author."""
_LISTED: Final = 10
"""Candidates or names that are listed; of more, it is said how many."""
_COMPARED: Final = 60
"""Devices whose names are compared with a text that was not understood."""
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is done, in words and in the *language* of the request. *suggestions* are sentences that work."""

    code: ErrorCode
    text: str
    language: str
    suggestions: tuple[str, ...] = ()


class Refused(Exception):
    """Ends the making of a plan."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.text)


class Refusals:
    """Words refusals in the language of a vocabulary, with the names that are in it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._language = vocabulary.language

    def refused(self, code: ErrorCode, response: str, **values: object) -> Refused:
        """An exception with the text of *response*."""
        if isinstance(clause := values.get("clause"), str):
            values["clause"] = shorten(clause)
        return Refused(Refusal(code, self._language.say(response, **values), self._language.code))

    def not_understood(self, clause: str) -> Refusal:
        """Nothing matches *clause*: what comes near it, and what is known."""
        say = self._language.say
        nearest = self.nearest(clause)
        parts = [say("not_understood", clause=shorten(clause)) if clause else say("empty")]
        if nearest:
            parts.append(say("nearest", sentences=self._language.any_of([f"“{sentence}”" for sentence in nearest])))
        parts.append(say("knows"))
        return Refusal(ErrorCode.NOT_UNDERSTOOD, " ".join(parts), self._language.code, nearest)

    def ambiguous(self, thing: str, devices: Sequence[Device]) -> Refused:
        """*thing* may be any of *devices*: asks back, with as few words for each as tell them apart."""
        names = self._distinct_names(devices)
        if len(names) > _LISTED:
            names = [*names[:_LISTED], self._language.say("candidates_more", count=len(names) - _LISTED)]
        return self.refused(ErrorCode.AMBIGUOUS, "which", thing=thing, candidates=self._language.any_of(names))

    def missing(self, thing: str, places: Sequence[Place], devices: Sequence[Device]) -> Refused:
        """There is no *thing* at all *places*; *devices* are there."""
        names = list(dict.fromkeys(self._vocabulary.name(device.spec) for device in devices))
        if len(names) > _LISTED:
            names = [*names[:_LISTED], self._language.say("candidates_more", count=len(names) - _LISTED)]
        where = " ".join(self.place(place) for place in places)
        response = ("none_at" if places else "none_there") if names else ("nothing_at" if places else "nothing_there")
        listed = self._language.responses["comma"].join(names)
        return self.refused(ErrorCode.NOT_UNDERSTOOD, response, thing=thing, place=where, names=listed)

    def not_output(self, device: Device) -> Refused:
        """*device* cannot be switched."""
        name = self._vocabulary.name(device.spec)
        return self.refused(ErrorCode.BAD_ARGUMENTS, "not_output", device=name, node=device.node)

    def place(self, place: Place) -> str:
        """``on worker-1``, ``in kitchen``."""
        return self._language.say("at_place" if place.node else "in_place", place=place.text)

    def nearest(self, text: str) -> tuple[str, ...]:
        """The sentences with names of this mesh that are most like *text*."""
        wanted = key(text[:200])
        sentences = examples(self._language, self._vocabulary, wanted)
        likeness = {sentence: difflib.SequenceMatcher(None, wanted, key(sentence)).ratio() for sentence in sentences}
        return tuple(sorted(sentences, key=lambda sentence: -likeness[sentence])[:SUGGESTIONS])

    def _distinct_names(self, devices: Sequence[Device]) -> list[str]:
        name, say = self._vocabulary.name, self._language.say
        ways: tuple[Callable[[Device], str], ...] = (
            lambda device: device.node,
            lambda device: name(device.spec),
            lambda device: say("candidate", device=name(device.spec), node=device.node),
            lambda device: say(
                "candidate_room", device=name(device.spec), room=device.spec.room or "-", node=device.node
            ),
        )
        for way in ways:
            names = [way(device) for device in devices]
            if len(set(names)) == len(names):
                return names
        return [say("candidate", device=device.spec.id, node=device.node) for device in devices]


def shorten(text: str) -> str:
    """At most `_SHOWN` characters of *text*."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def examples(language: Language, vocabulary: Vocabulary | None = None, like: str = "") -> list[str]:
    """The example sentences of *language*, with names of the devices that are there; with usual ones where none are.

    Names that stand in *like*, or come near it, are preferred. An example for which there is no device is left out.
    """
    if vocabulary is None:
        usual = _usual_names(language)
        return [text.format(**usual) for text in language.examples if set(_FIELD.findall(text)) <= set(usual)]
    ranked = _by_likeness(vocabulary, like)
    fitting = {role: list(islice(find(vocabulary, ranked), SUGGESTIONS)) for role, find in _ROLES.items()}
    filled = (_fill(text, vocabulary.nodes, fitting) for text in language.examples)
    return list(dict.fromkeys(text for text in filled if text is not None))


def _usual_names(language: Language) -> dict[str, str]:
    names = {"node": "worker-1"}
    for role, kind in (("output", "fan"), ("dimmable", "lamp"), ("input", "button")):
        if words := next((words.words for words in language.kinds if kind in words.kinds), None):
            names[role] = words[0]
    if "temperature" in language.measures:
        names["measure"] = language.measures["temperature"][0]
    return names


def _by_likeness(vocabulary: Vocabulary, like: str) -> list[Device]:
    """The devices, those named in *like* (by name, then by node) first."""

    def likeness(device: Device) -> tuple[int, int]:
        name = key(vocabulary.name(device.spec))
        match = difflib.SequenceMatcher(None, name, like, autojunk=False).find_longest_match()
        return -match.size, 0 if key(device.node) in like else 1

    devices = vocabulary.devices[:_COMPARED]
    return sorted(devices, key=likeness) if like else list(devices)


def _fill(text: str, nodes: Sequence[str], fitting: Mapping[str, Sequence[tuple[str, str]]]) -> str | None:
    """*text* with its pairs of device and node filled, each from another device where there are several."""
    fields = _FIELD.findall(text)
    roles = [field for field in fields if field != "node"]
    if not fields:
        return text
    if not roles:
        return text.replace("{node}", nodes[0]) if nodes else None
    values: list[str] = []
    used: dict[str, int] = {}
    for role in roles:
        if not fitting[role]:
            return None
        name, node = fitting[role][used.get(role, 0) % len(fitting[role])]
        used[role] = used.get(role, 0) + 1
        values += [node, name] if fields[0] == "node" else [name, node]
    rest = iter(values)
    return _FIELD.sub(lambda _: next(rest), text)


Fitting = Iterator[tuple[str, str]]


def _named(vocabulary: Vocabulary, devices: Sequence[Device], is_wanted: Callable[[Device], bool]) -> Fitting:
    """Name and node of the wanted devices, where the name means just one on the node."""
    for device in devices:
        if is_wanted(device):
            name = vocabulary.name(device.spec)
            thing = vocabulary.things.get(key(name))
            if thing is not None and _is_only(vocabulary, thing, device.node):
                yield name, device.node


def _measures(vocabulary: Vocabulary, devices: Sequence[Device]) -> Fitting:
    for device in devices:
        for measure in device.spec.measures:
            word = vocabulary.language.measures.get(measure, (measure.replace("_", " "),))[0]
            thing = vocabulary.things.get(key(word))
            if thing is not None and _is_only(vocabulary, thing, device.node):
                yield word, device.node
                break


def _is_only(vocabulary: Vocabulary, thing: Thing, node: str) -> bool:
    return len(select(vocabulary, thing, [[Place(node, key(node), node)]])) == 1


_ROLES: Final[Mapping[str, Callable[[Vocabulary, Sequence[Device]], Fitting]]] = {
    "output": lambda vocabulary, devices: _named(vocabulary, devices, lambda device: device.spec.direction == "out"),
    "dimmable": lambda vocabulary, devices: _named(vocabulary, devices, _is_dimmable),
    "input": lambda vocabulary, devices: _named(vocabulary, devices, lambda device: device.spec.direction == "in"),
    "measure": _measures,
}


def _is_dimmable(device: Device) -> bool:
    return device.spec.direction == "out" and device.spec.dimmable and device.spec.kind != "fan"
