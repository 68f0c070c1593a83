"""Results put into words: what happened, from what the tools gave, never from what was meant to happen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline.referents import MASTER
from pibot_mesh.master.offline.sentences import FALLBACK, Language
from pibot_mesh.master.offline.text import key
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition, Plan, State, Step, StepResult

_LINES: Final = 3
"""Up to so many parts stand in one line; more have a line each."""
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_STATS: Final = ("cpu_temp_c", "load1", "mem_free_mb", "disk_free_mb", "uptime_s")
_FAILURES: Final[Mapping[str | None, str]] = {
    "system_status": "status_failed",
    "reflex_list": "reflexes_unread",
    "reflex_add": "reflex_failed",
    "reflex_remove": "reflex_not_removed",
}
_NO_RESULT: Final = StepResult("s0", State.UNKNOWN)


@dataclass(slots=True)
class _Part:
    """What is said of one node, or a text that stands for itself (*node* empty)."""

    node: str
    facts: list[str] = field(default_factory=list)


class Answer:
    """Words the results of one plan in one language."""

    def __init__(self, language: Language, plan: Plan, results: Sequence[StepResult]) -> None:
        self._language = language
        self._say = language.say
        self._plan = plan
        self._results = {result.step: result for result in results}

    def text(self) -> str:
        """The whole answer."""
        parts: list[_Part] = []
        for step in self._plan.steps:
            result = self._result(step)
            if result.state is State.SKIPPED and result.error is None:
                continue
            if step.node == MASTER or step.kind == "agent":
                parts.append(_Part("", [self._from_master(step, result)]))
                continue
            parts.append(_Part(result.node or step.node or "?", self._facts(step, result)))
        said = [self._part(part) for part in _gathered(parts)]
        if not said:
            return self._say("nothing")
        return ("\n" if len(said) > _LINES else "" if self._language.script == "CJK" else " ").join(said)

    def _part(self, part: _Part) -> str:
        if not part.node:
            return part.facts[0]
        facts = self._language.responses["comma"].join(dict.fromkeys(part.facts))
        return self._say("part", node=part.node, facts=facts)

    def _result(self, step: Step) -> StepResult:
        return self._results.get(step.id, _NO_RESULT)

    # --- Steps on nodes ---

    def _facts(self, step: Step, result: StepResult) -> list[str]:
        if result.state is State.COMPLETED:
            data = result.output.data if isinstance(result.output.data, dict) else {}
            match step.tool:
                case "output_set" | "output_get" | "input_read":
                    return [self._state(step, data)]
                case "sensor_read":
                    return self._reading(step, data)
                case "sensor_read_all":
                    return self._readings(data)
                case "system_status":
                    return self._status(data)
                case "reflex_list":
                    return [self._reflexes(data)]
                case "reflex_add":
                    return [self._say("reflex_kept", reflex=data.get("id", "?"), says=data.get("says", "?"))]
                case "reflex_remove":
                    return [self._say("reflex_removed", reflex=data.get("id", "?"))]
                case _:
                    return [result.output.text or self._say("tool_done", tool=step.tool)]
        return [self._failure(step, result)]

    def _failure(self, step: Step, result: StepResult) -> str:
        device, error = self._device(step, {}), self._error(step, result)
        if step.tool == "output_set":
            response = {
                State.FAILED: "set_failed",
                State.REJECTED: "set_failed",
                State.CANCELED: "set_canceled",
                State.SKIPPED: "set_canceled",
            }.get(result.state, "set_unknown")
            return self._say(response, device=device, error=error)
        if step.tool in _FAILURES:
            return self._say(_FAILURES[step.tool], error=error)
        if step.tool not in ("output_get", "input_read", "sensor_read", "sensor_read_all"):
            return self._say("tool_failed", tool=step.tool, error=error)
        if step.tool == "sensor_read_all":
            device = self._say("sensors")
        elif step.tool == "sensor_read" and "measure" in step.args:
            device = self._measure(str(step.args["measure"]))
        response = "read_skipped" if result.state in (State.SKIPPED, State.CANCELED) else "read_failed"
        return self._say(response, device=device, error=error)

    def _error(self, step: Step, result: StepResult) -> str:
        if result is _NO_RESULT or not result.state.is_terminal:
            return self._say("error_no_result")
        if result.state is State.SKIPPED:
            return self._say("error_waited")
        code = result.error.code if result.error else None
        if code == ErrorCode.INTERRUPTED and "found" in _dict(result.output.data):
            data = _dict(result.output.data)
            found = self._state(step, {**data, "value": data["found"]})
            return self._say("error_found", found=found, now=self._state(step, data))
        if code == ErrorCode.INTERRUPTED:
            return self._say("error_restarted")
        if result.error and result.error.message:
            return result.error.message.rstrip(".")
        return self._say("error_canceled" if result.state is State.CANCELED else "error_none")

    def _state(self, step: Step, data: Mapping[str, JSON]) -> str:
        device, value = self._device(step, data), data.get("value")
        asked = step.args.get("value")
        if words := self._state_words(data.get("state")):
            return self._say("state_words", device=device, state=words)
        if value == "ON" or (asked == "ON" and value == 100 and not isinstance(value, bool)):
            fact = self._say("state_on", device=device)
        elif isinstance(unit := data.get("unit"), str) and isinstance(value, (int, float)):
            fact = self._say("state_unit", device=device, value=_number(value), unit=unit)
        elif value in ("OFF", "#000000") or (value == 0 and not isinstance(value, bool)):
            fact = self._say("state_off", device=device)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            fact = self._say("state_level", device=device, value=_number(value))
        elif isinstance(value, str) and value.startswith("#"):
            fact = self._say("state_color", device=device, color=value)
        else:
            return self._say("state_missing", device=device)
        for_s = data.get("for_s")
        if step.tool == "output_set" and isinstance(for_s, (int, float)) and for_s > 0:
            return self._say("state_for", fact=fact, time=self._time(for_s))
        return fact

    def _state_words(self, state: JSON) -> str | None:
        """The state of an input in words ("not pressed"): the tool says it in English, other languages translate it."""
        if not isinstance(state, str):
            return None
        return self._language.names.get(key(state), state if self._language.code == FALLBACK else None)

    def _reading(self, step: Step, data: Mapping[str, JSON]) -> list[str]:
        values, units = _dict(data.get("values")), _dict(data.get("units"))
        wanted = step.args.get("measure")
        measures = [measure for measure in values if wanted in (None, measure)]
        device = self._device(step, data)
        if not measures:
            return [self._say("readings_none", device=device)]
        facts: list[str] = []
        for measure in measures:
            value = _with_unit(values[measure], units.get(measure))
            name = self._measure(measure)
            is_alone = not self._is_read_twice(step, measure)
            reading = (
                self._say("reading", measure=name, value=value)
                if is_alone
                else self._say("reading_of", measure=name, device=device, value=value)
            )
            facts.append(self._verdict(step, measure, reading))
        return facts

    def _is_read_twice(self, step: Step, measure: str) -> bool:
        """Whether another sensor of the same node gives the measure as well, so that its name must be said."""
        return any(
            other.node == step.node
            and other.tool == "sensor_read"
            and other.args.get("device") != step.args.get("device")
            and other.args.get("measure", measure) == measure
            for other in self._plan.steps
        )

    def _readings(self, data: Mapping[str, JSON]) -> list[str]:
        units = _dict(data.get("units"))
        sensors = [
            (sensor, measure, value)
            for sensor, values in _dict(data.get("sensors")).items()
            for measure, value in _dict(values).items()
        ]
        facts: list[str] = []
        for sensor, measure, value in sensors:
            shown, name = _with_unit(value, units.get(measure)), self._measure(measure)
            if sum(other == measure for _, other, _ in sensors) == 1:
                facts.append(self._say("reading", measure=name, value=shown))
            else:
                facts.append(self._say("reading_of", measure=name, device=self._named(sensor), value=shown))
        for sensor, why in _dict(data.get("failed")).items():
            facts.append(self._say("read_failed", device=self._named(sensor), error=str(why).rstrip(".")))
        return facts or [self._say("sensors_none")]

    def _status(self, data: Mapping[str, JSON]) -> list[str]:
        facts: list[str] = []
        for stat in _STATS:
            value = data.get(stat)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                digits = 0 if stat.endswith("_mb") else 2
                shown = f"{value:.1f}" if stat == "cpu_temp_c" else _number(round(value, digits))
                facts.append(self._say(f"stat_{stat}", **_stat_fields(stat, shown, self._time(value))))
        return facts or [self._say("status_none")]

    def _reflexes(self, data: Mapping[str, JSON]) -> str:
        reflexes = [_dict(reflex) for reflex in _list(data.get("reflexes"))]
        listed = [
            self._say(
                "reflex_off" if reflex.get("is_on") is False else "reflex",
                reflex=reflex.get("id", "?"),
                says=reflex.get("says", "?"),
            )
            for reflex in reflexes
        ]
        if not listed:
            return self._say("reflexes_none")
        return self._say("reflexes", reflexes=self._language.responses["comma"].join(listed))

    # --- Conditions ---

    def _verdict(self, step: Step, measure: str, reading: str) -> str:
        """*reading* with whether the first condition on it held, and what was left as it was where it did not."""
        dependent = [other for other in self._plan.steps if _refers(other, step, measure)]
        if not dependent or dependent[0].when is None:
            return reading
        first = dependent[0].when
        concerned = [other for other in dependent if other.when == first]
        results = [self._result(other) for other in concerned]
        compared = {
            "reading": reading,
            "comparison": self._say(f"op_{first.op}"),
            "limit": _number(first.value),
        }
        if not all(result.state is State.SKIPPED and result.error is None for result in results):
            is_run = any(result.state is not State.SKIPPED for result in results)
            return self._say("verdict_yes", **compared) if is_run else reading
        verdict = self._say("verdict_no", **compared)
        left = [other for other in concerned if other.tool == "output_set"]
        if len(dependent) > len(concerned):
            return verdict
        if not left:
            return self._say("verdict_unread", verdict=verdict)
        names = [self._say("device_of", node=other.node, device=self._device(other, {})) for other in left]
        things = self._language.all_of(list(dict.fromkeys(names)))
        response = "verdict_left_one" if len(set(names)) == 1 else "verdict_left_many"
        return self._say(response, verdict=verdict, things=things)

    # --- What the master tells ---

    def _from_master(self, step: Step, result: StepResult) -> str:
        data = result.output.data if isinstance(result.output.data, dict) else {}
        if result.state is not State.COMPLETED:
            return self._say(
                "part", node=step.node or MASTER, facts=self._say("master_failed", error=self._error(step, result))
            )
        match step.tool:
            case "mesh_status":
                return self._mesh(_dict(data.get("nodes")))
            case "mesh_list":
                return self._list(_dict(data.get("nodes")))
            case "help":
                examples = [str(example) for example in _list(data.get("examples"))]
                return self._say("help", examples="".join(f"\n- {example}" for example in examples))
            case _:
                return result.output.text or self._say("nothing")

    def _mesh(self, nodes: Mapping[str, JSON]) -> str:
        if not nodes:
            return self._say("mesh_none")
        online = {node: _dict(facts) for node, facts in nodes.items() if _dict(facts).get("online") is True}
        lines = [self._say("mesh_count", online=len(online), total=len(nodes))]
        for node in nodes:
            if node in online:
                counts = {name: _number(online[node].get(name) or 0) for name in ("devices", "running")}
                lines.append(self._say("mesh_online", node=node, **counts))
            else:
                lines.append(self._say("mesh_offline", node=node))
        return "\n".join(lines)

    def _list(self, nodes: Mapping[str, JSON]) -> str:
        lines: list[str] = []
        for node, content in nodes.items():
            facts = _dict(content)
            comma = self._language.responses["comma"]
            labels = comma.join(self._names(facts.get("labels")))
            kinds = [
                self._say(f"list_{kind}", names=comma.join(names))
                for kind in ("outputs", "sensors", "inputs")
                if (names := self._names(facts.get(kind)))
            ]
            lines.append(
                self._say(
                    "list_node",
                    node=node,
                    labels=self._say("list_labels", labels=labels) if labels else "",
                    things="; ".join(kinds) or self._say("list_empty"),
                )
            )
        return "\n".join(lines) or self._say("list_none")

    # --- Names and numbers ---

    def _names(self, names: JSON) -> list[str]:
        return [self._named(str(name)) for name in _list(names)]

    def _named(self, name: str) -> str:
        spaced = name.replace("_", " ").replace("-", " ") if name.islower() and " " not in name else name
        return self._language.names.get(key(name), spaced)

    def _device(self, step: Step, data: Mapping[str, JSON]) -> str:
        """The name that the tool gave, or that another step on the device gave, else the id with spaces."""
        device = step.args.get("device")
        for other in self._plan.steps:
            if not data.get("name") and other.node == step.node and other.args.get("device") == device:
                data = _dict(self._result(other).output.data)
        name = data.get("name")
        return self._named(name if isinstance(name, str) and name else str(device))

    def _measure(self, measure: str) -> str:
        words = self._language.measures.get(measure)
        return words[0] if words else measure.replace("_", " ")

    def _time(self, seconds: float) -> str:
        """``2 hours 30 minutes``: the two largest units that are there."""
        left, said = round(float(seconds), 1), list[str]()
        for unit, size in _UNITS:
            count = left // size if size > 1 else left
            if count and len(said) < 2:
                said.append(self._say(unit) if count == 1 else self._say(f"{unit}s", number=_number(count)))
                left -= count * size
        joint = "" if self._language.script == "CJK" else " "
        return joint.join(said) or self._say("seconds", number="0")


def _gathered(parts: Iterable[_Part]) -> list[_Part]:
    """Neighbouring parts of the same node made into one; a text for itself stays for itself."""
    gathered: list[_Part] = []
    for part in parts:
        if gathered and part.node and gathered[-1].node == part.node:
            gathered[-1].facts += part.facts
        else:
            gathered.append(part)
    return gathered


def _refers(step: Step, to: Step, measure: str | None = None) -> bool:
    """Whether the condition of *step* is about the result of *to* (about its *measure*, where one is given)."""
    when: Condition | None = step.when
    if when is None or when.ref.split(".")[0] != to.id:
        return False
    return measure is None or when.ref == f"{to.id}.values.{measure}"


def _stat_fields(stat: str, value: str, time: str) -> dict[str, str]:
    return {"time": time} if stat == "uptime_s" else {"value": value}


def _with_unit(value: JSON, unit: JSON) -> str:
    shown = _number(value)
    if not isinstance(unit, str) or not unit:
        return shown
    return f"{shown} {unit}"


def _number(value: JSON) -> str:
    """A number without needless digits; anything else as it is."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.10g}"
    return str(value)


def _dict(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _list(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, list) else []
