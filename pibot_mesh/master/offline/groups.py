"""Clauses gathered into groups of one verb, with what they leave unsaid filled in. Pure.

"Turn on the fan and the lamp on worker-1" is two pieces, "turn on the fan" and "the lamp on worker-1"; the verb goes on
to the second, the place back to the first. A place, a time or a state that stands after the thing goes back to things
of the same verb that have none; a place before the thing ("the kitchen fan and lamp") goes on to the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline.clauses import Clause, Link
from pibot_mesh.master.offline.refusals import Refusals, Refused
from pibot_mesh.master.offline.text import key
from pibot_mesh.master.offline.vocabulary import Place, Thing, Vocabulary

_SECONDS: Final = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
_ONCE: Final = ("thing", "state", "value", "limit", "op")
"""Slots that a clause may fill only once."""

Where = tuple[Place, ...]
"""Places that hold at once: "in the kitchen on worker-1"."""
THERE: Final = Place("", "")
"""Stands for wherever the request before was about."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a verb is about, as far as it was said. *of* stands before the thing, *places* after it.

    *is_it*: it is what was named before. *reflex* is the id of one.
    """

    text: str
    thing: Thing | None = None
    is_it: bool = False
    is_everything: bool = False
    is_all: bool = False
    is_everywhere: bool = False
    is_implied: bool = False
    of: Where = ()
    places: Where = ()
    state: str | None = None
    value: float | None = None
    for_s: float | None = None
    reflex: str = ""

    @property
    def has_noun(self) -> bool:
        """Whether it says what is meant."""
        return self.thing is not None or self.is_it or self.is_everything

    @property
    def has_state(self) -> bool:
        """Whether it says what an output is to be."""
        return self.state is not None or self.value is not None

    @property
    def is_state_alone(self) -> bool:
        """Whether it says no more than that: "off again for ten minutes"."""
        return self.has_state and not (self.has_noun or self.where or self.is_everywhere)

    @property
    def where(self) -> Where:
        """All places, before and after the thing."""
        return (*self.of, *self.places)

    @property
    def is_many(self) -> bool:
        """Whether every device that fits is meant."""
        return self.is_all or self.is_everywhere or self.is_everything or bool(self.thing and self.thing.is_many)


@dataclass(frozen=True, slots=True)
class Run:
    """A thing and all places at which it is meant; *carried* are places from a neighbour, good where they fit."""

    item: Item
    wheres: tuple[Where, ...] = ()
    carried: tuple[Where, ...] = ()


@dataclass(slots=True)
class Group:
    """One verb with its things. *premise* is the condition that it depends on; *is_else* where that must not hold.

    *goes_on*: it continues the request before, as "and the humidity?" does.
    """

    intent: str
    text: str
    link: Link
    sentence: int
    items: list[Item] = field(default_factory=list)
    scope: Where = ()
    goes_on: bool = False
    premise: Premise | None = None
    is_else: bool = False
    stage: int = 0


@dataclass(slots=True, eq=False)
class Premise:
    """A condition: the reading that it is about, and what it is compared with.

    *is_lasting*: what depends on it is to be done whenever it holds, from now on. It may then be about what *happens*
    at an input instead.
    """

    item: Item
    op: str
    limit: float
    text: str
    link: Link
    sentence: int
    scope: Where = ()
    stage: int = 0
    is_lasting: bool = False
    happens: str = ""


class Gatherer:
    """Gathers the clauses of one text."""

    def __init__(self, vocabulary: Vocabulary, refusals: Refusals) -> None:
        self._vocabulary = vocabulary
        self._refusals = refusals

    def gather(self, clauses: Sequence[Clause]) -> list[Group | Premise]:
        """Groups and conditions, in the order in which they were said. Raises Refused."""
        parts: list[Group | Premise] = []
        scope: tuple[int, Where] = (-1, ())
        for index, clause in enumerate(clauses):
            item = self._item(clause)
            if clause.intent in ("Condition", "Whenever"):
                parts.append(self._premise(clause, item, scope))
                continue
            if clause.intent != "More":
                parts.append(self._group(clause, clause.intent, item, scope))
                continue
            last = parts[-1] if parts and isinstance(parts[-1], Group) else None
            if last is None or last.sentence != clause.sentence:
                if not item.has_noun and item.where and _is_followed(clauses, index):
                    scope = (clause.sentence, item.where)
                    continue
                parts.append(self._first(clause, item, scope))
            elif clause.link in ("then", "else") and not _is_completed_by(last, clause, item):
                parts.append(self._next(clause, item, last))
            else:
                self._add(parts, last, clause, item)
        if parts and isinstance(parts[0], Group) and parts[0].link in ("and", "then"):
            parts[0].goes_on = True
        return parts

    def _group(self, clause: Clause, intent: str, item: Item, scope: tuple[int, Where]) -> Group:
        said = self._places(clause.slots.get("scope", ()), clause)
        around = scope[1] if scope[0] == clause.sentence else ()
        goes_on = "follows" in clause.slots
        return Group(intent, clause.text, clause.link, clause.sentence, [item], (*around, *said), goes_on)

    def _first(self, clause: Clause, item: Item, scope: tuple[int, Where]) -> Group:
        """A clause without a verb that stands alone: "everything off", "off again", "the temperature on worker-2"."""
        if item.is_state_alone:
            item = replace(item, is_it=True)
        if item.has_noun and item.has_state:
            return self._group(clause, "SetOutput", item, scope)
        if item.thing and item.for_s is None and self._is_read_only(item.thing):
            return self._group(clause, "Read", item, scope)
        raise Refused(self._refusals.not_understood(clause.text))

    def _is_read_only(self, thing: Thing) -> bool:
        devices = [device for device in self._vocabulary.devices if thing.fits(device)]
        return bool(thing.measures or devices) and all(device.spec.direction != "out" for device in devices)

    def _next(self, clause: Clause, item: Item, last: Group) -> Group:
        """The same verb again, later or otherwise: "turn on the fan, then the lamp", "then off"."""
        if last.intent == "SetOutput" and item.is_state_alone:
            item = replace(item, is_it=True)
        if not item.has_noun and not item.where:
            raise Refused(self._refusals.not_understood(clause.text))
        before = last.items[-1]
        if last.intent == "SetOutput" and not item.has_state:
            first = next((said for said in last.items if said.has_state), before)
            item = replace(item, state=first.state, value=first.value)
        if not item.has_noun and last.intent in ("SetOutput", "Read"):
            item = _with_noun_of(before, item)
        return Group(last.intent, clause.text, clause.link, clause.sentence, [item], last.scope)

    def _add(self, parts: list[Group | Premise], last: Group, clause: Clause, item: Item) -> None:
        is_place = bool(item.where or item.is_everywhere) and not item.has_noun
        sets = item.has_state
        if last.intent == "Read" and sets and item.has_noun:
            parts.append(self._first(clause, item, (clause.sentence, last.scope)))
        elif last.intent in ("NodeStatus", "List") and is_place and not sets:
            last.items.append(item)
        elif last.intent not in ("SetOutput", "Read") or (last.intent == "Read" and (sets or item.for_s is not None)):
            raise Refused(self._refusals.not_understood(clause.text))
        elif item.has_noun or is_place:
            last.items.append(item)
        else:
            last.items[-1] = self._merged(last.items[-1], item, clause)

    def _merged(self, before: Item, more: Item, clause: Clause) -> Item:
        """*before* with the state, value or time that a piece of its own adds to it."""
        said = {name: getattr(more, name) for name in ("state", "value", "for_s") if getattr(more, name) is not None}
        if any(getattr(before, name) is not None for name in said):
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "twice", clause=f"{before.text}, {clause.text}")
        return replace(before, **said)

    def _premise(self, clause: Clause, item: Item, scope: tuple[int, Where]) -> Premise:
        around = scope[1] if scope[0] == clause.sentence else ()
        premise = Premise(item, "", 0.0, clause.text, clause.link, clause.sentence, around)
        premise.is_lasting = clause.intent == "Whenever"
        happens, op, limit = (clause.slots.get(name) for name in ("happens", "op", "limit"))
        if premise.is_lasting and happens:
            premise.happens = str(happens[0])
            return premise
        if not op or not limit or not isinstance(limit[0], (int, float)):
            raise Refused(self._refusals.not_understood(clause.text))
        value = float(limit[0])
        premise.op, premise.limit = str(op[0]), -abs(value) if "minus" in clause.slots else value
        return premise

    def _item(self, clause: Clause) -> Item:
        slots = clause.slots
        if any(len(slots.get(name, ())) > 1 for name in _ONCE):
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "twice", clause=clause.text)
        value = _number(slots, "value")
        thing = slots.get("thing")
        return Item(
            text=clause.text,
            thing=self._thing(thing[0], clause) if thing else None,
            is_it="it" in slots,
            is_everything="everything" in slots,
            is_all="all" in slots,
            is_everywhere="everywhere" in slots,
            is_implied="implied" in slots,
            of=self._places(slots.get("of", ()), clause),
            places=(
                *self._places((*slots.get("place", ()), *slots.get("also", ())), clause),
                *((THERE,) if "there" in slots else ()),
            ),
            state=_state(slots),
            value=-abs(value) if value is not None and "minus" in slots else value,
            for_s=_duration(slots),
            reflex=str(slots.get("reflex", ("",))[0]),
        )

    def _thing(self, said: object, clause: Clause) -> Thing:
        thing = said if isinstance(said, Thing) else self._vocabulary.things.get(key(str(said)))
        if thing is None:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=clause.text)
        return thing

    def _places(self, said: Sequence[object], clause: Clause) -> Where:
        places: list[Place] = []
        for one in said:
            place = one if isinstance(one, Place) else self._vocabulary.places.get(key(str(one)))
            if place is None:
                raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=clause.text)
            places.append(place)
        return tuple(places)


def _with_noun_of(before: Item, item: Item) -> Item:
    return replace(item, thing=before.thing, is_it=before.is_it, is_everything=before.is_everything)


def _is_completed_by(last: Group, clause: Clause, item: Item) -> bool:
    """Whether *item* is the state that *last* still lacks, and no order after it: 把灯再打开."""
    lacks_state = last.intent == "SetOutput" and not any(said.has_state for said in last.items)
    return lacks_state and item.is_state_alone and clause.link == "then"


def _is_followed(clauses: Sequence[Clause], index: int) -> bool:
    return index + 1 < len(clauses) and clauses[index + 1].sentence == clauses[index].sentence


def _state(slots: Mapping[str, tuple[object, ...]]) -> str | None:
    """``on`` or ``off``; a sentence file may say ``state: off``, which YAML reads as false."""
    said = slots.get("state")
    if not said:
        return None
    return ("on" if said[0] else "off") if isinstance(said[0], bool) else str(said[0])


def _number(slots: Mapping[str, tuple[object, ...]], name: str) -> float | None:
    said = slots.get(name)
    return float(said[0]) if said and isinstance(said[0], (int, float)) else None


def _duration(slots: Mapping[str, tuple[object, ...]]) -> float | None:
    said = [
        float(number) * seconds
        for name, seconds in _SECONDS.items()
        for number in slots.get(name, ())
        if isinstance(number, (int, float))
    ]
    return sum(said) if said else None


def completed(items: Sequence[Item]) -> list[Item]:
    """*items* with states, values and times that their neighbours say for them."""
    whole = list(items)
    for index in range(1, len(whole)):
        before, item = whole[index - 1], whole[index]
        if item.state is None and item.value is None:
            whole[index] = replace(item, state=before.state, value=before.value)
        elif item.state is None and before.state is not None and item.value is not None:
            whole[index] = replace(item, state=before.state)
    for index in range(len(whole) - 2, -1, -1):
        item, after = whole[index], whole[index + 1]
        if item.state is None and item.value is None:
            item = replace(item, state=after.state, value=after.value)
        if item.for_s is None and items[index + 1].state is None:
            item = replace(item, for_s=after.for_s)
        whole[index] = item
    return whole


def runs(items: Sequence[Item]) -> list[Run] | None:
    """Each thing with all its places; None where it cannot be said which thing is meant at a place.

    A place without a thing belongs to the thing before it ("the fan on worker-1 and worker-2"), or, where there is
    none, to the next one ("the kitchen and bedroom lights").
    """
    found: list[Run] = []
    waiting: list[Where] = []
    for index, item in enumerate(items):
        if item.has_noun:
            if waiting and not item.of:
                return None
            wheres = (*waiting, item.where) if item.where or waiting else ()
            found.append(Run(item, wheres))
            waiting = []
        elif not found:
            waiting.append(item.where)
        else:
            following = next((later for later in items[index:] if later.has_noun), None)
            if following is not None and following.of:
                return None
            last = found[-1]
            if (last.item.state, last.item.value, last.item.for_s) != (item.state, item.value, item.for_s):
                found.append(Run(_with_noun_of(last.item, item), (item.where,)))
            elif item.is_everywhere:
                found[-1] = replace(last, item=replace(last.item, is_everywhere=True))
            else:
                found[-1] = replace(last, wheres=(*last.wheres, item.where))
    return None if waiting else _carried(found)


def _carried(found: list[Run]) -> list[Run]:
    """Runs without places get those of a later run ("the fan and the lamp on worker-1"), else of an earlier one."""
    whole = list(found)
    for index in range(len(whole) - 2, -1, -1):
        run, after = whole[index], whole[index + 1]
        if run.wheres or run.item.is_everywhere or run.item.of:
            continue
        if after.item.is_everywhere:
            whole[index] = replace(run, item=replace(run.item, is_everywhere=True))
        elif not after.item.of:
            whole[index] = replace(run, carried=after.wheres or after.carried)
    for index in range(1, len(whole)):
        run, before = whole[index], whole[index - 1]
        if not (run.wheres or run.carried or run.item.is_everywhere):
            if before.item.of:
                whole[index] = replace(run, carried=before.wheres)
            elif not before.wheres and before.carried:
                whole[index] = replace(run, carried=before.carried)
    return whole
