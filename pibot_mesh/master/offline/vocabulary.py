"""What can be named: the devices, measures, rooms and nodes of the live cards, in the words of one language. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hassil.expression import TextChunk
from hassil.intents import SlotList, TextSlotList, TextSlotValue, WildcardSlotList

from pibot_mesh.master.offline.sentences import Language
from pibot_mesh.master.offline.text import MINUS_SIGN, key
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard

MEASURE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a measure must look like to be referred to by a condition."""
_NUMBER = re.compile(rf"{MINUS_SIGN}?\d+(?:\.\d+)?")
_TRAILING_NUMBER = re.compile(r"(?P<name>.*\S) (?P<number>\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """One device of an online node. *names*, *room* and *labels* are keys, to be compared with what was said."""

    node: str
    spec: DeviceSpec
    names: frozenset[str]
    room: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Thing:
    """What a word can mean: devices with this name, of these kinds or directions, or with one of these measures."""

    text: str
    kinds: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    measures: frozenset[str] = frozenset()
    is_many: bool = False
    names: frozenset[str] = frozenset()

    def fits(self, device: Device) -> bool:
        """Whether *device* can be meant."""
        return bool(
            self.is_name_of(device)
            or device.spec.kind in self.kinds
            or device.spec.direction in self.directions
            or self.measure_of(device)
        )

    def is_name_of(self, device: Device) -> bool:
        """Whether *device* is called just so."""
        return not self.names.isdisjoint(device.names)

    def measure_of(self, device: Device) -> str | None:
        """The measure of *device* that is meant, if one is."""
        return next((measure for measure in device.spec.measures if measure in self.measures), None)


@dataclass(frozen=True, slots=True)
class Place:
    """A node (*node*), a label or a room. An offline node has a name and nothing else."""

    text: str
    key: str
    node: str | None = None
    is_online: bool = True


class Vocabulary:
    """The words of *language* for what is on *cards*; *known* are nodes that exist, online or not."""

    def __init__(self, language: Language, cards: Mapping[str, NodeCard], known: Collection[str] = ()) -> None:
        self.language = language
        self.nodes = tuple(cards)
        self.devices = tuple(_devices(cards))
        self._by_id = {(device.node, device.spec.id): device for device in self.devices}
        self._rooms = frozenset(device.room for device in self.devices if device.room)
        self.things = self._all_things()
        self.places = self._all_places(cards, known)
        self.reflexes = {key(reflex.id): reflex.id for card in cards.values() for reflex in card.reflexes}
        self.masks = tuple(
            name
            for name in sorted((*self.things, *self.places), key=len, reverse=True)
            if any(language.words[words].search(name) for words in ("negation", "question_start", "question_anywhere"))
        )
        """Names with a word that would otherwise be taken for a negation or a question."""
        self._thing_values = [(name, TextSlotValue(TextChunk(name), thing)) for name, thing in self.things.items()]
        self._place_values = [(name, TextSlotValue(TextChunk(name), place)) for name, place in self.places.items()]
        self._reflex_values = [(name, TextSlotValue(TextChunk(name), id_)) for name, id_ in self.reflexes.items()]
        self._number_values = [
            (word, TextSlotValue(TextChunk(word), number)) for word, number in language.numbers.items()
        ]

    def lists(self, text: str) -> dict[str, SlotList]:
        """The slot lists for *text*: only what stands in it, so that matching takes no longer in a larger mesh."""
        numbers = [
            TextSlotValue(TextChunk(digits), float(digits.replace(MINUS_SIGN, "-")))
            for digits in sorted(set(_NUMBER.findall(text)))
        ]
        return {
            "thing": TextSlotList("thing", [value for name, value in self._thing_values if name in text]),
            "place": TextSlotList("place", [value for name, value in self._place_values if name in text]),
            "reflex": TextSlotList("reflex", [value for name, value in self._reflex_values if name in text]),
            "number": TextSlotList(
                "number",
                numbers + [value for word, value in self._number_values if word in text],
            ),
            "rest": WildcardSlotList("rest"),
        }

    def device(self, node: str, device: str) -> Device | None:
        """The device with this id on this node, where the node is online and has it."""
        return self._by_id.get((node, device))

    def is_at(self, device: Device, place: Place) -> bool:
        """Whether *device* is at *place*.

        A device without a room of its own is where its node's labels say; one with a room is there, and also at a
        label that is no room of any device (``downstairs``).
        """
        if place.node is not None and device.node == place.node:
            return True
        if device.room == place.key:
            return True
        return place.key in device.labels and (not device.room or place.key not in self._rooms)

    def nodes_at(self, place: Place, cards: Mapping[str, NodeCard]) -> list[str]:
        """The nodes at *place*: the node itself, those with the label, else those with devices in the room."""
        if place.node is not None:
            return [place.node]
        labelled = [node for node, card in cards.items() if place.key in {key(label) for label in card.labels}]
        return labelled or list(dict.fromkeys(device.node for device in self.devices if device.room == place.key))

    def name(self, device: DeviceSpec) -> str:
        """What *device* is called in an answer."""
        name = device.name or device.id.replace("-", " ").replace("_", " ")
        return self.language.names.get(key(name), name)

    def _all_things(self) -> dict[str, Thing]:
        things: dict[str, Thing] = {}
        for name, thing in self._named():
            before = things.get(name)
            things[name] = thing if before is None else _both(before, thing)
        return {name: thing for name, thing in things.items() if name}

    def _named(self) -> Iterator[tuple[str, Thing]]:
        for kind in self.language.kinds:
            for words, is_many in ((kind.words, False), (kind.many, True)):
                for word in words:
                    yield key(word), Thing(word, kind.kinds, kind.directions, is_many=is_many)
        measures = dict.fromkeys(measure for device in self.devices for measure in device.spec.measures)
        for measure in dict.fromkeys((*self.language.measures, *filter(MEASURE.fullmatch, measures))):
            yield from self._plurals(
                (*self.language.measures.get(measure, ()), measure.replace("_", " ")),
                Thing("", measures=frozenset([measure])),
            )
        for device in self.devices:
            called = self.name(device.spec)
            yield from self._plurals((*sorted(device.names), called), Thing("", names=device.names))

    def _plurals(self, words: Iterable[str], thing: Thing) -> Iterator[tuple[str, Thing]]:
        for word in words:
            one = _said(thing, word, is_many=False)
            yield key(word), one
            for ending in self.language.plural:
                yield key(word) + ending, _said(thing, word, is_many=True)

    def _all_places(self, cards: Mapping[str, NodeCard], known: Collection[str]) -> dict[str, Place]:
        places: dict[str, Place] = {}
        for room in dict.fromkeys(device.spec.room for device in self.devices if device.room):
            places.setdefault(key(room), Place(room, key(room)))
        for label in dict.fromkeys(label for card in cards.values() for label in card.labels):
            places.setdefault(key(label), Place(label, key(label)))
        for place in list(places.values()):
            if called := self.language.names.get(place.key):
                places.setdefault(key(called), Place(called, place.key))
        for node in (*cards, *sorted(set(known) - set(cards))):
            place = Place(node, key(node), node, node in cards)
            places[key(node)] = place
            if numbered := _TRAILING_NUMBER.fullmatch(key(node)):
                for number in (numbered["number"], *self._words_for(numbered["number"])):
                    places.setdefault(f"{numbered['name']}{number}", place)
                    places.setdefault(f"{numbered['name']} {number}", place)
        return {name: place for name, place in places.items() if name}

    def _words_for(self, number: str) -> list[str]:
        return [word for word, value in self.language.numbers.items() if value == float(number)]


def _devices(cards: Mapping[str, NodeCard]) -> Iterator[Device]:
    for node, card in cards.items():
        labels = frozenset(map(key, card.labels))
        for spec in card.devices:
            names = frozenset({key(spec.name), key(spec.id)} - {""})
            yield Device(node, spec, names, key(spec.room), labels)


def _said(thing: Thing, word: str, *, is_many: bool) -> Thing:
    return Thing(
        word, measures=thing.measures, is_many=is_many, names=frozenset([key(word)]) & thing.names or thing.names
    )


def _both(one: Thing, other: Thing) -> Thing:
    """A word with two meanings has both; it means one device where either meaning does."""
    return Thing(
        one.text,
        one.kinds | other.kinds,
        one.directions | other.directions,
        one.measures | other.measures,
        one.is_many and other.is_many,
        one.names | other.names,
    )


def select(
    vocabulary: Vocabulary, thing: Thing, places: Sequence[Sequence[Place]], *, is_all: bool = False
) -> list[Device]:
    """The devices that *thing* can mean at one of *places*, each of which is several that hold at once; any without.

    Where some of them are called just so, those that only are of the kind are left out, but for a plural or *is_all*.
    """
    here = [
        device
        for device in vocabulary.devices
        if not places or any(all(vocabulary.is_at(device, place) for place in where) for where in places)
    ]
    fitting = [device for device in here if thing.fits(device)]
    exact = [device for device in fitting if thing.is_name_of(device) or thing.measure_of(device)]
    return exact if exact and not (is_all or thing.is_many) else fitting
