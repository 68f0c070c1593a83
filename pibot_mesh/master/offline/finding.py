"""The devices and nodes that are meant by what was said of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline.groups import THERE, Group, Item, Run, Where
from pibot_mesh.master.offline.referents import Referents
from pibot_mesh.master.offline.refusals import Refusals
from pibot_mesh.master.offline.vocabulary import Device, Thing, Vocabulary, select
from pibot_mesh.protocol.messages import NodeCard

_ANYTHING: Final = Thing("", directions=frozenset({"in", "out", "sensor"}), is_many=True)


class Finder:
    """Finds what is meant in one text, on *cards*; *referents* know what "it" and "there" are."""

    def __init__(
        self, vocabulary: Vocabulary, cards: Mapping[str, NodeCard], refusals: Refusals, referents: Referents
    ) -> None:
        self._vocabulary = vocabulary
        self._cards = cards
        self._refusals = refusals
        self._referents = referents
        self._pin = referents.pin

    def devices(self, run: Run, scope: Where, intent: str) -> list[Device]:
        """The devices that *run* means. Raises Refused where there are none, or several where one is meant."""
        if run.item.is_it:
            return self._it(run, scope, intent)
        if run.item.is_implied and run.item.thing and not run.wheres:
            said = self._referents.implied(run.item.thing)
            if said:
                return said
        around = (*scope, *([self._pin] if self._pin is not None else []))
        own = self._resolved([(*where, *around) for where in run.wheres or ((),)], run.item, intent)
        if not run.wheres and run.carried and not run.item.is_everywhere:
            carried = self._resolved([(*where, *around) for where in run.carried], run.item, intent)
            self._check_online(carried)
            if all(self._select(run.item, where, intent) for where in carried):
                own = carried
        self._check_online([*own, around])
        found: list[Device] = []
        for where in own:
            found += self._at(run.item, where, intent)
        return list(dict.fromkeys(found))

    def nodes(self, group: Group) -> list[str]:
        """The nodes that a status or list is about; none where no place was said."""
        wheres = [where for item in group.items if item.where for where in self._resolved([item.where], item)]
        self._check_online(wheres)
        pin = self._pin.node if self._pin is not None else None
        nodes: list[str] = []
        for where in wheres:
            for place in where:
                nodes += self._vocabulary.nodes_at(place, self._cards)
        if pin is None:
            return list(dict.fromkeys(nodes))
        if wheres and pin not in nodes:
            places = self._vocabulary.language.all_of([place.text for where in wheres for place in where])
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "pinned", node=pin, place=places)
        return [pin]

    def _it(self, run: Run, scope: Where, intent: str) -> list[Device]:
        devices = self._referents.it(run.item.text, acts=intent == "SetOutput")
        is_at_scope = all(self._vocabulary.is_at(device, place) for device in devices for place in scope)
        if run.wheres or THERE in scope or not is_at_scope:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=run.item.text)
        return devices

    def _resolved(self, wheres: Iterable[Where], item: Item, intent: str = "Read") -> list[Where]:
        """*wheres* with the places of the conversation for "there"; to act, these must be one, or a plural be meant."""
        resolved: list[Where] = []
        for where in wheres:
            if THERE not in where:
                resolved.append(where)
                continue
            places = self._referents.places()
            if not places:
                raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_there", clause=item.text)
            if len(places) > 1 and intent == "SetOutput" and not item.is_many:
                nodes = self._vocabulary.language.any_of([place[0].text for place in places])
                raise self._refusals.refused(ErrorCode.AMBIGUOUS, "which_there", clause=item.text, candidates=nodes)
            rest = tuple(place for place in where if place != THERE)
            resolved += [(*there, *rest) for there in places]
        return resolved

    def _at(self, item: Item, where: Where, intent: str) -> list[Device]:
        devices = self._select(item, where, intent)
        said = item.thing.text if item.thing else item.text
        if not devices:
            here = select(self._vocabulary, _ANYTHING, [where] if where else [])
            unfit = self._fitting(item, where)
            if intent == "SetOutput" and unfit:
                raise self._refusals.not_output(unfit[0])
            if self._pin is not None and len(where) > 1 and not here:
                places = self._vocabulary.language.all_of([place.text for place in where[:-1]])
                raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "pinned", node=self._pin.text, place=places)
            raise self._refusals.missing(said, where, here)
        if len(devices) > 1 and not item.is_many:
            raise self._refusals.ambiguous(said, devices)
        return devices

    def _select(self, item: Item, where: Where, intent: str) -> list[Device]:
        wanted = "out" if intent == "SetOutput" else "sensor" if item.is_everything else None
        return [device for device in self._fitting(item, where) if wanted in (None, device.spec.direction)]

    def _fitting(self, item: Item, where: Where) -> list[Device]:
        thing = _ANYTHING if item.thing is None else item.thing
        return select(self._vocabulary, thing, [where] if where else [], is_all=item.is_many)

    def _check_online(self, wheres: Sequence[Where]) -> None:
        for where in wheres:
            for place in where:
                if not place.is_online:
                    raise self._refusals.refused(ErrorCode.OFFLINE, "offline", node=place.text)
