"""Groups made into the steps of a plan, or refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline.clauses import Clause
from pibot_mesh.master.offline.groups import Gatherer, Group, Item, Premise, Run, Where, completed, runs
from pibot_mesh.master.offline.refusals import Refusals, Refused
from pibot_mesh.master.offline.text import key
from pibot_mesh.master.offline.vocabulary import MEASURE, Device, Place, Thing, Vocabulary, select
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition, NodeCard, Plan, Step

MASTER: Final = "master"
MAX_STEPS: Final = 100
MAX_FOR_S: Final = 7 * 24 * 3600.0
ACTING: Final = "output_set"

Op = Literal["above", "below", "at_least", "at_most", "equals", "differs"]
_OPS: Final[Mapping[str, Op]] = {"above": "above", "below": "below", "at_least": "at_least", "at_most": "at_most"}
_INVERSE: Final[Mapping[Op, Op]] = {
    "above": "at_most",
    "below": "at_least",
    "at_least": "below",
    "at_most": "above",
}


@dataclass(slots=True)
class _Made:
    """A step, and what only matters while the plan is made."""

    step: Step
    stage: int
    premise: Premise | None = None
    is_else: bool = False

    @property
    def device(self) -> tuple[str | None, object]:
        return self.step.node, self.step.args.get("device")


@dataclass(slots=True)
class _Readings:
    """What "it" can be: the last reading, and the last of each measure; *devices* are the outputs last named."""

    last: str | None = None
    by_measure: dict[str, str] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()


class Planner:
    """Makes the plan of one text. *pin* is the node that everything is meant on."""

    def __init__(
        self, vocabulary: Vocabulary, cards: Mapping[str, NodeCard], refusals: Refusals, pin: str | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._cards = cards
        self._refusals = refusals
        self._pin = Place(pin, key(pin), pin, pin in cards) if pin is not None else None
        self._made: list[_Made] = []
        self._readings = _Readings()
        self._refs: dict[int, str] = {}

    def plan(self, clauses: Sequence[Clause]) -> Plan:
        """The plan for *clauses*. Raises Refused."""
        if self._pin is not None and not self._pin.is_online:
            raise self._refusals.refused(ErrorCode.OFFLINE, "offline", node=self._pin.text)
        for group in self._ordered(Gatherer(self._vocabulary, self._refusals).gather(clauses)):
            if group.premise is not None and id(group.premise) not in self._refs:
                self._refs[id(group.premise)] = self._reading(group.premise)
            self._make(group)
        if len(self._made) > MAX_STEPS:
            raise self._refusals.refused(
                ErrorCode.NOT_UNDERSTOOD, "too_many_steps", count=len(self._made), limit=MAX_STEPS
            )
        steps = tuple(self._finished(index) for index in range(len(self._made)))
        is_ordered = any(step.after or step.when for step in steps)
        complexity: Literal["simple", "moderate", "complex"] = (
            "complex" if is_ordered else "moderate" if len(steps) > 1 else "simple"
        )
        return Plan("offline", steps, self._vocabulary.language.code, complexity)

    # --- What depends on what ---

    def _ordered(self, parts: Sequence[Group | Premise]) -> list[Group]:
        """The groups, each with its stage and its condition. Raises Refused where it is unclear what depends on one."""
        groups: list[Group] = []
        stage = 0
        premise: Premise | None = None
        is_else = False
        is_open = False  # the condition has nothing that depends on it yet
        for index, part in enumerate(parts):
            if part.link == "then" and index and not isinstance(parts[index - 1], Premise):
                stage += 1
            if isinstance(part, Premise):
                if is_open:
                    raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "nested")
                part.stage = stage
                is_else = False
                premise, is_open = part, self._goes_before(parts, index)
                if not is_open:
                    self._put_after(part, groups)
                continue
            if part.link == "else":
                if premise is None or is_open or is_else or premise.sentence != part.sentence:
                    raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "else_alone", clause=part.text)
                is_else = True
            elif premise is not None and premise.sentence != part.sentence:
                premise, is_else = None, False
            part.stage, part.premise, part.is_else = stage, premise, is_else
            is_open = False
            groups.append(part)
        return groups

    def _goes_before(self, parts: Sequence[Group | Premise], index: int) -> bool:
        """Whether what depends on the condition comes after it."""
        premise = parts[index]
        following = parts[index + 1] if index + 1 < len(parts) else None
        if following is None or following.sentence != premise.sentence or following.link == "else":
            return False
        before = parts[index - 1] if index and parts[index - 1].sentence == premise.sentence else None
        if isinstance(before, Group) and before.intent == "SetOutput" and premise.link in ("direct", "comma"):
            raise self._unclear(parts[index])
        return True

    def _put_after(self, premise: Premise, groups: Sequence[Group]) -> None:
        """The condition stands after what depends on it, which must be just one group."""
        candidates = [group for group in groups if group.sentence == premise.sentence]
        if len(candidates) != 1 or candidates[0].premise is not None:
            raise self._unclear(premise)
        candidates[0].premise = premise

    def _unclear(self, part: Group | Premise) -> Refused:
        return self._refusals.refused(ErrorCode.AMBIGUOUS, "which_order", clause=part.text)

    def _reading(self, premise: Premise) -> str:
        """The reference to what the condition is about; a step that reads it is made where there is none."""
        item = premise.item
        unknown = self._refusals.refused(ErrorCode.AMBIGUOUS, "no_reading", clause=premise.text)
        if not item.has_noun or item.is_it:
            if self._readings.last is None or item.where:
                raise unknown
            return self._readings.last
        if item.is_many or item.thing is None:
            raise unknown
        try:
            [device] = self._devices(Run(item, (item.where,) if item.where else ()), premise.scope, "Read")
        except Refused as refused:
            known = next((self._readings.by_measure.get(measure) for measure in item.thing.measures), None)
            if refused.refusal.code is not ErrorCode.AMBIGUOUS or known is None:
                raise
            return known
        measure = _only_measure(device, item)
        if measure is None:
            raise unknown
        step = self._add(device.node, "sensor_read", {"device": device.spec.id, "measure": measure}, premise.stage)
        ref = f"{step.id}.values.{measure}"
        self._readings.last = self._readings.by_measure[measure] = ref
        return ref

    # --- Steps ---

    def _make(self, group: Group) -> None:
        match group.intent:
            case "SetOutput":
                self._set(group)
            case "Read":
                self._read(group)
            case "NodeStatus":
                for node in self._nodes(group):
                    self._add_for(group, node, "system_status", {})
            case "MeshStatus" if self._pin is not None and self._pin.node is not None:
                self._add_for(group, self._pin.node, "system_status", {})
            case "MeshStatus":
                self._add_for(group, MASTER, "mesh_status", {})
            case "List":
                for args in [{"node": node} for node in self._nodes(group)] or [{}]:
                    self._add_for(group, MASTER, "mesh_list", args)
            case _:
                self._add_for(group, MASTER, "help", {"language": self._vocabulary.language.code})

    def _set(self, group: Group) -> None:
        meant: list[Device] = []
        for run in self._runs(group, completed(group.items)):
            devices = self._devices(run, group.scope, group.intent)
            for device in devices:
                self._add_for(group, device.node, ACTING, self._set_args(device, run.item))
            meant += devices
        self._readings.devices = tuple(meant)

    def _set_args(self, device: Device, item: Item) -> dict[str, JSON]:
        args: dict[str, JSON] = {"device": device.spec.id}
        if item.value is not None:
            args["value"] = self._level(device, item, item.value)
        elif item.state is not None:
            args["value"] = item.state.upper()
        else:
            thing = self._vocabulary.name(device.spec)
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_state", thing=thing)
        if item.for_s is not None:
            if not 0 < item.for_s <= MAX_FOR_S:
                raise self._refusals.refused(ErrorCode.BAD_ARGUMENTS, "no_time")
            args["for_s"] = _plain(item.for_s)
        return args

    def _level(self, device: Device, item: Item, value: float) -> int | float:
        if item.state == "off":
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "twice", clause=item.text)
        if not 0 <= value <= 100:
            raise self._refusals.refused(ErrorCode.BAD_ARGUMENTS, "no_range", value=f"{value:g}")
        if not device.spec.dimmable:
            name = self._vocabulary.name(device.spec)
            raise self._refusals.refused(
                ErrorCode.BAD_ARGUMENTS, "no_levels", device=name, node=device.node, value=f"{value:g}"
            )
        return _plain(value)

    def _read(self, group: Group) -> None:
        outputs: list[Device] = []
        for run in self._runs(group, group.items):
            devices = self._devices(run, group.scope, group.intent)
            self._readings.last = None
            is_general = run.item.is_everything or bool(run.item.thing and "sensor" in run.item.thing.directions)
            whole = self._whole_nodes(devices) if is_general and run.item.is_many else []
            for node in whole:
                self._add_for(group, node, "sensor_read_all", {})
            for device in devices:
                if device.node not in whole:
                    self._read_one(group, device, run.item, is_only=len(devices) == 1)
            outputs += [device for device in devices if device.spec.direction == "out"]
        self._readings.devices = tuple(outputs)

    def _whole_nodes(self, devices: Sequence[Device]) -> list[str]:
        """The nodes of *devices* all of whose sensors are among them."""
        chosen = set(map(id, devices))
        nodes = dict.fromkeys(device.node for device in devices)
        sensors = [device for device in self._vocabulary.devices if device.spec.direction == "sensor"]
        return [node for node in nodes if all(id(device) in chosen for device in sensors if device.node == node)]

    def _read_one(self, group: Group, device: Device, item: Item, *, is_only: bool) -> None:
        if device.spec.direction != "sensor":
            tool = "input_read" if device.spec.direction == "in" else "output_get"
            self._add_for(group, device.node, tool, {"device": device.spec.id})
            return
        args: dict[str, JSON] = {"device": device.spec.id}
        named = item.thing.measure_of(device) if item.thing else None
        if named is not None:
            args["measure"] = named
        step = self._add_for(group, device.node, "sensor_read", args)
        measure = _only_measure(device, item)
        if is_only and measure is not None:
            self._readings.last = self._readings.by_measure[measure] = f"{step.id}.values.{measure}"

    def _add_for(self, group: Group, node: str, tool: str, args: Mapping[str, JSON]) -> Step:
        for made in reversed(self._made):
            is_beside = (made.stage, made.premise, made.is_else) == (group.stage, group.premise, group.is_else)
            if is_beside and (made.step.node, made.step.tool, made.step.args) == (node, tool, args):
                return made.step
            if made.device == (node, args.get("device")) and ACTING in (made.step.tool, tool):
                break
        return self._add(node, tool, args, group.stage, group.premise, is_else=group.is_else)

    def _add(
        self,
        node: str,
        tool: str,
        args: Mapping[str, JSON],
        stage: int,
        premise: Premise | None = None,
        *,
        is_else: bool = False,
    ) -> Step:
        when = None
        if premise is not None:
            op = _OPS[premise.op]
            when = Condition(self._refs[id(premise)], _INVERSE[op] if is_else else op, _plain(premise.limit))
        step = Step(f"s{len(self._made) + 1}", node=node, tool=tool, args=args, when=when)
        self._made.append(_Made(step, stage, premise, is_else))
        return step

    def _finished(self, index: int) -> Step:
        """The step with what it waits for: all of the stages before, and steps on the same device where either acts."""
        made = self._made[index]
        before = self._made[:index]
        after = [other.step.id for other in before if other.stage < made.stage or _clash(other, made)]
        return replace(made.step, after=tuple(after))

    # --- Devices and nodes ---

    def _runs(self, group: Group, items: Sequence[Item]) -> list[Run]:
        found = runs(items)
        if not found:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=group.text)
        return found

    def _devices(self, run: Run, scope: Where, intent: str) -> list[Device]:
        """The devices that *run* means. Raises Refused where there are none, or several where one is meant."""
        if run.item.is_it:
            if not self._readings.devices or run.wheres:
                raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=run.item.text)
            return list(self._readings.devices)
        if run.item.is_implied and run.item.thing and not run.wheres:
            said = [device for device in self._readings.devices if run.item.thing.fits(device)]
            if said:
                return said
        around = (*scope, *([self._pin] if self._pin is not None else []))
        own = [(*where, *around) for where in run.wheres]
        if not own and run.carried and not run.item.is_everywhere:
            carried = [(*where, *around) for where in run.carried]
            self._check_online(carried)
            if all(self._select(run.item, where, intent) for where in carried):
                own = carried
        self._check_online([*own, around])
        found: list[Device] = []
        for where in own or [around]:
            found += self._at(run.item, where, intent)
        return list(dict.fromkeys(found))

    def _at(self, item: Item, where: Where, intent: str) -> list[Device]:
        devices = self._select(item, where, intent)
        said = item.thing.text if item.thing else item.text
        if not devices:
            here = select(self._vocabulary, _ANYTHING, [where] if where else [])
            unfit = self._fitting(item, where)
            if intent == "SetOutput" and unfit:
                name, node = self._vocabulary.name(unfit[0].spec), unfit[0].node
                raise self._refusals.refused(ErrorCode.BAD_ARGUMENTS, "not_output", device=name, node=node)
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

    def _nodes(self, group: Group) -> list[str]:
        """The nodes that a status or list is about; none where no place was said."""
        wheres = [item.where for item in group.items if item.where]
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


_ANYTHING: Final = Thing("", directions=frozenset({"in", "out", "sensor"}), is_many=True)


def _only_measure(device: Device, item: Item) -> str | None:
    """The one measure of *device* that is meant, fit to be referred to; None where it has several."""
    named = item.thing.measure_of(device) if item.thing else None
    measures = [named] if named else list(device.spec.measures)
    return measures[0] if len(measures) == 1 and MEASURE.fullmatch(measures[0]) else None


def _clash(one: _Made, other: _Made) -> bool:
    """Whether the order of two steps matters: same device, one of them acts, and not just one of them is done."""
    if one.step.args.get("device") is None or one.device != other.device:
        return False
    is_either = one.premise is not None and one.premise is other.premise and one.is_else != other.is_else
    return ACTING in (one.step.tool, other.step.tool) and not is_either


def _plain(number: float) -> int | float:
    """*number*, whole where it is."""
    return int(number) if number == int(number) else number
