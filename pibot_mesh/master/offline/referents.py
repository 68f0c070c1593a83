"""What "it" and "there" mean: what the text itself has named, else what its conversation has named last. Pure.

A conversation is remembered by the plans and results of its replies, so it does not matter in which words, in which
language or by which engine a device was named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Exchange
from pibot_mesh.master.offline.groups import Where
from pibot_mesh.master.offline.refusals import Refusals
from pibot_mesh.master.offline.text import key
from pibot_mesh.master.offline.vocabulary import MEASURE, Device, Place, Thing, Vocabulary
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Reply, State

MASTER: Final = "master"
_READING: Final = ("sensor_read", "input_read")
_LASTING: Final = ("reflex_add", "reflex_remove", "reflex_list")
"""Nothing was read or switched by these: what they are about is not what comes next."""


@dataclass(frozen=True, slots=True)
class Mention:
    """What one step or tool call of an earlier request was about: a device, or a whole node where *device* is None.

    *measure* is what was read of a sensor. *was_skipped*: the step was not needed.
    """

    node: str
    tool: str
    device: str | None = None
    measure: str | None = None
    was_skipped: bool = False


class Referents:
    """What can be meant at each place of one text; *pin* is the node that everything is meant on.

    `reading` refers to the last reading of the text, `by_measure` to the last of each measure.
    """

    def __init__(
        self, vocabulary: Vocabulary, refusals: Refusals, pin: Place | None, conversation: Sequence[Exchange]
    ) -> None:
        self.pin = pin
        self.reading: str | None = None
        self.by_measure: dict[str, str] = {}
        self._vocabulary = vocabulary
        self._refusals = refusals
        self._conversation = conversation
        self._mentions = last_mentions(conversation, of_devices=True)
        self._named: tuple[Device, ...] | None = None

    def note_reading(self, step: str, measure: str) -> str:
        """From here on, "it" in a condition is the *measure* that *step* reads. Returns the reference to it."""
        self.reading = self.by_measure[measure] = f"{step}.values.{measure}"
        return self.reading

    def name(self, outputs: Iterable[Device]) -> None:
        """From here on, "it" is these."""
        self._named = tuple(outputs)

    def it(self, clause: str, *, acts: bool) -> list[Device]:
        """The devices of "it"; outputs alone where *acts*, if there are any. Raises Refused."""
        if self._named is None:
            return self._remembered(clause, acts=acts)
        if not self._named:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=clause)
        return list(self._named)

    def implied(self, thing: Thing) -> list[Device]:
        """The devices that "it" may be and *thing* can mean. Raises Refused where one of them is offline."""
        if self._named is None:
            meant = _preferred(self._mentions, acts=True)
            self._require_online(mention for mention in meant if mention.tool not in _READING)
            found = [self._device(mention) for mention in meant]
            return [device for device in dict.fromkeys(found) if device is not None and thing.fits(device)]
        return [device for device in self._named if thing.fits(device)]

    def last_reading(self) -> tuple[Device, str] | None:
        """The one sensor and measure that the conversation has read last, where the text names nothing else.

        Raises Refused where its node is offline.
        """
        read = [mention for mention in self._mentions if mention.tool == "sensor_read"]
        if self._named is not None or len({(mention.node, mention.device) for mention in read}) != 1:
            return None
        self._require_online(read)
        device = self._device(read[0])
        if device is None or (self.pin is not None and device.node != self.pin.node):
            return None
        measure = only_measure(device, self.measure_of(device))
        return None if measure is None else (device, measure)

    def measure_of(self, device: Device) -> str | None:
        """The one measure of *device* that the conversation has read last."""
        at = (device.node, device.spec.id)
        read = {mention.measure for mention in self._mentions if (mention.node, mention.device) == at}
        measure = read.pop() if len(read) == 1 else None
        return measure if measure in device.spec.measures else None

    def places(self) -> tuple[Where, ...]:
        """Where the last request was about: nodes, each with the room of the device, where it has one."""
        return tuple(dict.fromkeys(self._where(mention) for mention in last_mentions(self._conversation)))

    def _where(self, mention: Mention) -> Where:
        node = Place(mention.node, key(mention.node), mention.node, mention.node in self._vocabulary.nodes)
        device = self._device(mention)
        return (node, Place(device.spec.room, device.room)) if device is not None and device.room else (node,)

    def _remembered(self, clause: str, *, acts: bool) -> list[Device]:
        mentions = _preferred(self._mentions, acts=acts)
        if not mentions:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_it", clause=clause)
        self._require_online(mentions)
        return list(dict.fromkeys(self._checked(mention, acts=acts) for mention in mentions))

    def _checked(self, mention: Mention, *, acts: bool) -> Device:
        device = self._device(mention)
        if device is None:
            said = str(mention.device).replace("_", " ").replace("-", " ")
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "gone", device=said, node=mention.node)
        if self.pin is not None and device.node != self.pin.node:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "pinned", node=self.pin.text, place=device.node)
        if acts and device.spec.direction != "out":
            raise self._refusals.not_output(device)
        return device

    def _require_online(self, mentions: Iterable[Mention]) -> None:
        away = next((mention.node for mention in mentions if mention.node not in self._vocabulary.nodes), None)
        if away is not None:
            raise self._refusals.refused(ErrorCode.OFFLINE, "offline", node=away)

    def _device(self, mention: Mention) -> Device | None:
        return self._vocabulary.device(mention.node, mention.device) if mention.device is not None else None


def only_measure(device: Device, named: str | None) -> str | None:
    """The one measure of *device* that is meant, fit to be referred to; None where it may be one of several."""
    measures = [named] if named else list(device.spec.measures)
    return measures[0] if len(measures) == 1 and MEASURE.fullmatch(measures[0]) else None


def last_mentions(conversation: Sequence[Exchange], *, of_devices: bool = False) -> list[Mention]:
    """What the last request was about that was about any node, or, with *of_devices*, about any device.

    Nothing where a question back stands after it: whoever was asked "which lamp?" may mean that lamp.
    """
    for exchange in reversed(conversation):
        reply = exchange.reply
        if reply.plan is None and reply.error is not None and reply.error.code == ErrorCode.AMBIGUOUS:
            return []
        mentions = [mention for mention in _mentions(reply) if mention.device is not None or not of_devices]
        if mentions:
            return list(dict.fromkeys(mentions))
    return []


def _mentions(reply: Reply) -> Iterator[Mention]:
    results = {result.step: result for result in reply.results}
    for step in reply.plan.steps if reply.plan is not None else ():
        result = results.get(step.id)
        node = result.node if result is not None and result.node is not None else step.node
        was_skipped = result is not None and result.state is State.SKIPPED
        if step.tool in _LASTING:
            continue
        yield from _mention(node, step.tool or "", step.args, was_skipped=was_skipped)
        for call in result.tool_calls if result is not None else ():
            yield from _mention(node, call.name, call.args)


def _mention(node: str | None, tool: str, args: Mapping[str, JSON], *, was_skipped: bool = False) -> Iterator[Mention]:
    """What a call on *node* is about; nothing for one of the master's tools that is about no node."""
    about = _text(args, "node") if node == MASTER else node
    if about is not None:
        yield Mention(about, tool, _text(args, "device"), _text(args, "measure"), was_skipped)


def _text(args: Mapping[str, JSON], name: str) -> str | None:
    value = args.get(name)
    return value if isinstance(value, str) else None


def _preferred(mentions: Sequence[Mention], *, acts: bool) -> list[Mention]:
    """Those of *mentions* that are meant: to act on, outputs before others; what was not skipped before what was."""
    outputs = [mention for mention in mentions if mention.tool not in _READING] if acts else []
    chosen = outputs or list(mentions)
    return [mention for mention in chosen if not mention.was_skipped] or chosen
