"""Groups made into the steps of a plan, or refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Exchange
from pibot_mesh.master.offline.clauses import Clause
from pibot_mesh.master.offline.finding import Finder
from pibot_mesh.master.offline.groups import Gatherer, Group, Item, Premise, Run, completed, runs
from pibot_mesh.master.offline.lasting import ADDING, LISTING, REMOVING, Lasting, plain
from pibot_mesh.master.offline.referents import MASTER, Referents, only_measure
from pibot_mesh.master.offline.refusals import Refusals, Refused
from pibot_mesh.master.offline.text import key
from pibot_mesh.master.offline.vocabulary import Device, Place, Vocabulary
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition, NodeCard, Plan, Step

MAX_STEPS: Final = 100
MAX_FOR_S: Final = 7 * 24 * 3600.0
ACTING: Final = "output_set"
CHANGING: Final = frozenset({ACTING, ADDING, REMOVING})
"""The tools that change what outputs do, now or from now on."""

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


class Planner:
    """Makes the plan of one text that goes on from *conversation*. *pin* is the node that everything is meant on."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        cards: Mapping[str, NodeCard],
        refusals: Refusals,
        pin: str | None = None,
        conversation: Sequence[Exchange] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self._cards = cards
        self._refusals = refusals
        self._pin = Place(pin, key(pin), pin, pin in cards) if pin is not None else None
        self._made: list[_Made] = []
        self._referents = Referents(vocabulary, refusals, self._pin, conversation)
        self._finder = Finder(vocabulary, cards, refusals, self._referents)
        self._refs: dict[int, str] = {}
        self._lasting = Lasting(vocabulary, cards, refusals, self._finder, self._referents)
        self._taught: dict[tuple[int, str, str], int] = {}

    def plan(self, clauses: Sequence[Clause]) -> Plan:
        """The plan for *clauses*. Raises Refused."""
        if self._pin is not None and not self._pin.is_online:
            raise self._refusals.refused(ErrorCode.OFFLINE, "offline", node=self._pin.text)
        for group in self._ordered(Gatherer(self._vocabulary, self._refusals).gather(clauses)):
            if group.premise is not None and group.premise.is_lasting:
                self._teach(group, group.premise)
                continue
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
            reading = None if item.where else self._referents.reading or self._read_again(premise)
            if reading is None:
                raise unknown
            return reading
        if item.is_many or item.thing is None:
            raise unknown
        try:
            devices = self._finder.devices(Run(item, (item.where,) if item.where else ()), premise.scope, "Read")
        except Refused as refused:
            known = next((self._referents.by_measure.get(measure) for measure in item.thing.measures), None)
            if refused.refusal.code is not ErrorCode.AMBIGUOUS or known is None:
                raise
            return known
        measure = only_measure(devices[0], item.thing.measure_of(devices[0]))
        if measure is None or len(devices) > 1:
            raise unknown
        return self._add_reading(devices[0], measure, premise)

    def _read_again(self, premise: Premise) -> str | None:
        """The reference to what the conversation has read last, read anew; None where there is nothing of the kind."""
        last = self._referents.last_reading()
        return self._add_reading(*last, premise) if last is not None else None

    def _add_reading(self, device: Device, measure: str, premise: Premise) -> str:
        step = self._add(device.node, "sensor_read", {"device": device.spec.id, "measure": measure}, premise.stage)
        return self._referents.note_reading(step.id, measure)

    # --- Steps ---

    def _make(self, group: Group) -> None:
        match group.intent:
            case "SetOutput":
                self._set(group)
            case "Read":
                self._read(group)
            case "NodeStatus":
                for node in self._finder.nodes(group):
                    self._add_for(group, node, "system_status", {})
            case "MeshStatus" if self._pin is not None and self._pin.node is not None:
                self._add_for(group, self._pin.node, "system_status", {})
            case "MeshStatus":
                self._add_for(group, MASTER, "mesh_status", {})
            case "ReflexList":
                for node in self._lasting.nodes(group):
                    self._add_for(group, node, LISTING, {})
            case "ReflexRemove":
                id_ = group.items[0].reflex
                self._add_for(group, self._lasting.node_of(id_, group), REMOVING, {"id": id_})
            case "List":
                for args in [{"node": node} for node in self._finder.nodes(group)] or [{}]:
                    self._add_for(group, MASTER, "mesh_list", args)
            case _:
                self._add_for(group, MASTER, "help", {"language": self._vocabulary.language.code})

    def _set(self, group: Group) -> None:
        meant: list[Device] = []
        for run in self._runs(group, completed(group.items)):
            devices = self._finder.devices(run, group.scope, group.intent)
            for device in devices:
                self._add_for(group, device.node, ACTING, self._set_args(device, run.item))
            meant += devices
        self._referents.name(meant)

    def _teach(self, group: Group, premise: Premise) -> None:
        """One reflex for each output of *group*; what is "else" about the same output belongs to it."""
        if group.intent != "SetOutput":
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "reflex_sets", clause=group.text)
        watched = self._lasting.condition(premise)
        meant: list[Device] = []
        for run in self._runs(group, completed(group.items)):
            for device in self._finder.devices(run, group.scope, group.intent):
                args = self._set_args(device, run.item)
                at = (id(premise), device.node, device.spec.id)
                if group.is_else:
                    self._teach_else(at, args, group)
                else:
                    self._add(device.node, ADDING, self._lasting.args(watched, device, args), group.stage)
                    self._taught[at] = len(self._made) - 1
                meant.append(device)
        self._referents.name(meant)

    def _teach_else(self, at: tuple[int, str, str], args: Mapping[str, JSON], group: Group) -> None:
        if at not in self._taught or "for_s" in args:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "reflex_else", clause=group.text)
        made = self._made[self._taught[at]]
        made.step = replace(made.step, args={**made.step.args, "else_value": args["value"]})

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
            args["for_s"] = plain(item.for_s)
        return args

    def _level(self, device: Device, item: Item, value: float) -> int | float:
        if item.state == "off":
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "twice", clause=item.text)
        if not 0 <= value <= 100:
            raise self._refusals.refused(ErrorCode.BAD_ARGUMENTS, "no_range", value=f"{value:g}")
        if not (device.spec.dimmable or device.spec.color):
            name = self._vocabulary.name(device.spec)
            raise self._refusals.refused(
                ErrorCode.BAD_ARGUMENTS, "no_levels", device=name, node=device.node, value=f"{value:g}"
            )
        return plain(value)

    def _read(self, group: Group) -> None:
        outputs: list[Device] = []
        for run in self._runs(group, group.items):
            devices = self._finder.devices(run, group.scope, group.intent)
            self._referents.reading = None
            is_general = run.item.is_everything or bool(run.item.thing and "sensor" in run.item.thing.directions)
            whole = self._whole_nodes(devices) if is_general and run.item.is_many else []
            for node in whole:
                self._add_for(group, node, "sensor_read_all", {})
            for device in devices:
                if device.node not in whole:
                    self._read_one(group, device, run.item, is_only=len(devices) == 1)
            outputs += [device for device in devices if device.spec.direction == "out"]
        self._referents.name(outputs)

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
        if item.is_it:
            named = self._referents.measure_of(device)
        if named is not None:
            args["measure"] = named
        step = self._add_for(group, device.node, "sensor_read", args)
        measure = only_measure(device, named)
        if is_only and measure is not None:
            self._referents.note_reading(step.id, measure)

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
            when = Condition(self._refs[id(premise)], _INVERSE[op] if is_else else op, plain(premise.limit))
        step = Step(f"s{len(self._made) + 1}", node=node, tool=tool, args=args, when=when)
        self._made.append(_Made(step, stage, premise, is_else))
        return step

    def _finished(self, index: int) -> Step:
        """The step with what it waits for: all of the stages before, and steps on the same device where either acts."""
        made = self._made[index]
        before = self._made[:index]
        after = [other.step.id for other in before if other.stage < made.stage or _clash(other, made)]
        return replace(made.step, after=tuple(after))

    def _runs(self, group: Group, items: Sequence[Item]) -> list[Run]:
        found = runs(items)
        if not found:
            raise self._refusals.refused(ErrorCode.NOT_UNDERSTOOD, "no_thing", clause=group.text)
        if not group.goes_on or group.intent != "Read":
            return found
        there = self._referents.places()
        return [run if run.carried or run.item.is_many else replace(run, carried=there) for run in found]


def _clash(one: _Made, other: _Made) -> bool:
    """Whether the order of two steps matters: same device, one of them acts, and not just one of them is done."""
    if one.step.args.get("device") is None or one.device != other.device:
        return False
    is_either = one.premise is not None and one.premise is other.premise and one.is_else != other.is_else
    return ACTING in (one.step.tool, other.step.tool) and not is_either
