"""Rules that are to hold from now on: "whenever ..., turn on the fan". Pure.

They are reflexes, and each is kept by one node, alone: it must have what is looked at and what is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline.finding import Finder
from pibot_mesh.master.offline.groups import Group, Premise, Run
from pibot_mesh.master.offline.referents import Referents, only_measure
from pibot_mesh.master.offline.refusals import Refusals, Refused
from pibot_mesh.master.offline.vocabulary import Device, Vocabulary
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import NodeCard

ADDING: Final = "reflex_add"
REMOVING: Final = "reflex_remove"
LISTING: Final = "reflex_list"
_STATES: Final[Mapping[str, str]] = {"is_on": "ON", "is_off": "OFF"}


@dataclass(frozen=True, slots=True)
class Watched:
    """What a rule looks at: a device, and the arguments of `ADDING` that say how it must be."""

    device: Device
    args: Mapping[str, JSON]


class Lasting:
    """Finds out what a rule means, on *cards*."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        cards: Mapping[str, NodeCard],
        refusals: Refusals,
        finder: Finder,
        referents: Referents,
    ) -> None:
        self._vocabulary = vocabulary
        self._cards = cards
        self._refusals = refusals
        self._finder = finder
        self._referents = referents

    def condition(self, premise: Premise) -> Watched:
        """What *premise* looks at. Raises Refused."""
        device, measure = self._device(premise)
        if premise.happens:
            args = self._happening(premise, device)
        elif premise.op in ("above", "below"):
            args = {premise.op: plain(premise.limit)}
            if measure is not None:
                args["measure"] = measure
            elif not device.spec.unit:
                raise self._unknown(premise)
        else:
            raise Refused(self._refusals.not_understood(premise.text))
        if premise.item.for_s:
            args["for_s"] = plain(premise.item.for_s)
        return Watched(device, {"device": device.spec.id, **args})

    def args(self, watched: Watched, output: Device, order: Mapping[str, JSON]) -> dict[str, JSON]:
        """The arguments for a rule that does *order* to *output*. Raises Refused where one node cannot keep it."""
        if watched.device.node != output.node:
            names = {"sensor": self._named(watched.device), "output": self._named(output)}
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "reflex_apart", **names)
        self._require(output.node, ADDING)
        args = {**watched.args, "then_device": output.spec.id, "then_value": order["value"]}
        if "for_s" in order:
            args["then_for_s"] = order["for_s"]
        return args

    def nodes(self, group: Group) -> list[str]:
        """The nodes whose rules are asked for. Raises Refused where none keeps any."""
        named = self._finder.nodes(group)
        for node in named:
            self._require(node, LISTING)
        found = named or [node for node in self._cards if self._has(node, LISTING)]
        if not found:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "reflexes_nowhere")
        return found

    def node_of(self, id_: str, group: Group) -> str:
        """The one node that keeps the rule *id_*. Raises Refused where it is not just one."""
        named = self._finder.nodes(group)
        nodes = [node for node, card in self._cards.items() if any(reflex.id == id_ for reflex in card.reflexes)]
        nodes = [node for node in nodes if not named or node in named]
        if not nodes:
            place = self._vocabulary.language.all_of(named)
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "reflex_not_at", reflex=id_, node=place)
        if len(nodes) > 1:
            candidates = self._vocabulary.language.any_of(nodes)
            raise self._refusals.refused(ErrorCode.AMBIGUOUS, "which", thing=id_, candidates=candidates)
        self._require(nodes[0], REMOVING)
        return nodes[0]

    def _device(self, premise: Premise) -> tuple[Device, str | None]:
        """The device that *premise* is about and, where it gives several quantities, which of them."""
        item = premise.item
        if item.is_it:
            last = None if item.where else self._referents.last_reading()
            if last is None:
                raise self._unknown(premise)
            return last
        if item.is_many or item.thing is None:
            raise self._unknown(premise)
        run = Run(item, (item.where,) if item.where else ())
        [device, *others] = self._finder.devices(run, premise.scope, "Read")
        if others:
            raise self._unknown(premise)
        return device, only_measure(device, item.thing.measure_of(device))

    def _happening(self, premise: Premise, device: Device) -> dict[str, JSON]:
        if device.spec.direction == "in" and premise.happens in _STATES and not device.spec.unit:
            return {"state": _STATES[premise.happens]}
        if premise.happens not in device.spec.events or premise.item.for_s:
            raise self._refusals.refused(
                ErrorCode.NOT_UNDERSTOOD, "reflex_event", device=self._named(device), clause=premise.text
            )
        return {"event": premise.happens}

    def _named(self, device: Device) -> str:
        name = self._vocabulary.name(device.spec)
        return self._vocabulary.language.say("candidate", device=name, node=device.node)

    def _has(self, node: str, tool: str) -> bool:
        return any(spec.name == tool for spec in self._cards[node].tools)

    def _require(self, node: str, tool: str) -> None:
        if not self._has(node, tool):
            raise self._refusals.refused(ErrorCode.UNKNOWN_TOOL, "reflexes_not_at", node=node)

    def _unknown(self, premise: Premise) -> Refused:
        return self._refusals.refused(ErrorCode.AMBIGUOUS, "no_reading", clause=premise.text)


def plain(number: float) -> int | float:
    """*number*, whole where it is."""
    return int(number) if number == int(number) else number
