"""What happened, in words, from the results of a model's plan alone: the same for the same results. Pure: no I/O.

Steps that the offline engine knows, such as switching and reading, are said as it says them. Here is the rest: other
tools, and agents, of which it is said what they had done before they were cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.plans import look_up
from pibot_mesh.master.pool import MASTER
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Condition, Plan, State, Step, StepResult, ToolCall

Say: TypeAlias = Callable[[Plan, Sequence[StepResult]], str]
"""Puts the results of a plan in words, as `pibot_mesh.master.offline.OfflineEngine.answer` does."""

_NODE_TOOLS: Final = frozenset(
    {"output_set", "output_get", "input_read", "sensor_read", "sensor_read_all", "system_status"}
)
_MASTER_TOOLS: Final = frozenset({"mesh_status", "mesh_list", "help"})
_SHOWN_CALLS: Final = 10
_LONG: Final = 60
_NO_RESULT: Final = StepResult("s0", State.UNKNOWN)

_ENGLISH: Final = {
    "line": "{node}: {fact}",
    "done": "{what} is done.",
    "failed": "{what} did not succeed: {error}.",
    "canceled": "{what} was cancelled.",
    "unknown": "it is not known whether {what} was done: {error}.",
    "waited": "{what} was not begun: {error}.",
    "unmet": "{what} was not needed: {ref} is {value}, not {op} {limit}.",
    "before": "Done before that: {calls}.",
    "wrong": "Not done before that, since it failed: {calls}.",
    "open": "Not known whether it happened: {calls}.",
    "no_reason": "no reason was given",
    "no_result": "there is no result",
    "restarted": "the node restarted in the middle",
    "task": "the task",
    "more": "and {count} more",
    "nothing": "There is nothing to say.",
    "comma": ", ",
    **{op: op.replace("_", " ") for op in ("above", "below", "at_least", "at_most")},
    "equals": "",
    "differs": "other than",
}
_CHINESE: Final = {
    "line": "{node}：{fact}",
    "done": "{what} 已完成。",
    "failed": "{what} 没有成功：{error}。",
    "canceled": "{what} 已取消。",
    "unknown": "不知道 {what} 是否已完成：{error}。",
    "waited": "{what} 没有开始：{error}。",
    "unmet": "{what} 不需要执行：{ref} 是 {value}，并非{op} {limit}。",
    "before": "此前已完成：{calls}。",
    "wrong": "此前没有成功：{calls}。",
    "open": "不知道是否已发生：{calls}。",
    "no_reason": "没有说明原因",
    "no_result": "没有结果",
    "restarted": "节点在中途重启",
    "task": "任务",
    "more": "另外 {count} 个",
    "nothing": "没有可说的。",
    "comma": "，",
    "above": "高于",
    "below": "低于",
    "at_least": "至少为",
    "at_most": "至多为",
    "equals": "",
    "differs": "不同于",
}
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {"en": _ENGLISH, "zh-cn": _CHINESE}


def answer(plan: Plan, results: Sequence[StepResult], say: Say) -> str:
    """One text, in the language of *plan* where that is English or Chinese, else in English.

    *say* words the steps of devices and of the mesh. An agent that was the whole plan has said it itself.
    """
    if own := own_words(plan, results):
        return own
    by_step = {result.step: result for result in results}
    words = _Words(_WORDS.get(plan.language, _ENGLISH), by_step)
    plain = [step for step in plan.steps if _is_plain(step, plan)]
    lines = [words.step(step) for step in plan.steps if step not in plain]
    if any(not _is_silent(by_step.get(step.id)) for step in plain):
        lines.insert(
            0, say(replace(plan, steps=tuple(plain)), [by_step[step.id] for step in plain if step.id in by_step])
        )
    return "\n".join(lines) or words.say("nothing")


def own_words(plan: Plan, results: Sequence[StepResult]) -> str:
    """What the agent said that was the whole of *plan*; nothing where there is more to tell of."""
    if len(plan.steps) != 1 or plan.steps[0].kind != "agent":
        return ""
    return next((result.output.text.strip() for result in results if result.state is State.COMPLETED), "")


def _is_plain(step: Step, plan: Plan) -> bool:
    """Whether the offline engine has words for it, and for what it depends on."""
    if step.tool not in (_MASTER_TOOLS if step.node == MASTER else _NODE_TOOLS):
        return False
    if step.when is None:
        return True
    premise = next((other for other in plan.steps if other.id == step.when.step), None)
    is_reading = premise is not None and premise.tool == "sensor_read" and ".values." in step.when.ref
    return is_reading and step.when.value is not None and step.when.op not in ("equals", "differs")


def _is_silent(result: StepResult | None) -> bool:
    """Whether the offline engine would say nothing of it: it was not needed."""
    return result is not None and result.state is State.SKIPPED and result.error is None


class _Words:
    """Words steps one by one."""

    def __init__(self, texts: Mapping[str, str], results: Mapping[str, StepResult]) -> None:
        self._texts = texts
        self._results = results

    def say(self, text: str, **values: object) -> str:
        """The text of that name, filled with *values*."""
        return self._texts[text].format(**values)

    def step(self, step: Step) -> str:
        """What *step* came to, on which node, and what it had done where it did not come to its end."""
        result = self._results.get(step.id, _NO_RESULT)
        is_cut_off = step.kind == "agent" and result.state is not State.COMPLETED
        parts = [self._fact(step, result), *(self._calls(result) if is_cut_off else ())]
        where = result.node or step.node
        fact = self._glue(parts)
        return self.say("line", node=where, fact=fact) if where else fact

    def _glue(self, parts: Sequence[str]) -> str:
        return ("" if self._texts is _CHINESE else " ").join(parts)

    def _fact(self, step: Step, result: StepResult) -> str:
        what = step.tool or self.say("task")
        match result.state:
            case State.COMPLETED:
                return _given(result) or self.say("done", what=what)
            case State.FAILED | State.REJECTED:
                return self.say("failed", what=what, error=self._error(result))
            case State.CANCELED:
                return self.say("canceled", what=what)
            case State.SKIPPED if result.error is None and step.when is not None:
                return self._unmet(what, step.when)
            case State.SKIPPED:
                return self.say("waited", what=what, error=self._error(result))
        return self.say("unknown", what=what, error=self._error(result))

    def _error(self, result: StepResult) -> str:
        if result is _NO_RESULT or not result.state.is_terminal:
            return self.say("no_result")
        if result.error is not None and result.error.code == ErrorCode.INTERRUPTED and not result.error.message:
            return self.say("restarted")
        return (result.error.message if result.error else "").rstrip(".") or self.say("no_reason")

    def _unmet(self, what: str, when: Condition) -> str:
        """Why it was not needed: what was found instead."""
        data = {step: result.output.data for step, result in self._results.items()}
        try:
            value: JSON = look_up(when.ref, data)
        except LookupError:
            value = "?"
        limit = when.text if when.value is None else f"{when.value:g}"
        unmet = self.say(
            "unmet", what=what, ref=when.ref, value=_short(_plain(value)), op=self.say(when.op), limit=limit
        )
        return " ".join(unmet.split())

    def _calls(self, result: StepResult) -> list[str]:
        """What had been done, what had not, and of what nobody knows."""
        outcomes = (("before", True), ("wrong", False), ("open", None))
        groups = [(text, [call for call in result.tool_calls if call.ok is is_ok]) for text, is_ok in outcomes]
        return [self.say(text, calls=self._list(calls)) for text, calls in groups if calls]

    def _list(self, calls: Sequence[ToolCall]) -> str:
        shown = [_call(call) for call in calls[:_SHOWN_CALLS]]
        left = len(calls) - len(shown)
        return self.say("comma").join([*shown, *([self.say("more", count=left)] if left else [])])


def _given(result: StepResult) -> str:
    """What the step gave, as text: its words, else its data."""
    data = result.output.data
    return result.output.text.strip() or ("" if data is None else json.dumps(data, ensure_ascii=False))


def _call(call: ToolCall) -> str:
    """``file_write (path: notes.txt)``."""
    args = ", ".join(f"{name}: {_short(_plain(value))}" for name, value in call.args.items())
    return f"{call.name} ({_short(args)})" if args else call.name


def _plain(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONG else f"{line[: _LONG - 1]}…"
