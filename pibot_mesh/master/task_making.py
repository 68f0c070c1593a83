"""The tasks that steps become, as they go over the wire. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from pibot_mesh.errors import ErrorCode, ProtocolError, ToolError
from pibot_mesh.master.open_request import OpenRequest
from pibot_mesh.master.plans import argument_problems, needs, resolve
from pibot_mesh.master.pool import MASTER, Pool, find_tool
from pibot_mesh.protocol.codec import JSON, encode
from pibot_mesh.protocol.fit import cut_middle
from pibot_mesh.protocol.messages import NodeCard, State, Step, StepResult, Task, ToolSpec

DELEGATE: Final = "delegate"
"""The tool of the master's own agent that gives a node something to do."""
_NO_TOOL_TIMEOUT_S: Final = 30.0
_CONTEXT_BYTES: Final = 8 * 1024
"""What an agent is told of the steps before it; a model on a node reads little at once."""


class TaskMaking:
    """Makes tasks from steps, with the tools as the live cards show them.

    *ask* are the tools, by name or by effect, whose every call a person must approve within *ask_within_s*.
    """

    def __init__(self, pool: Pool, own_card: NodeCard, ask: Collection[str], ask_within_s: float) -> None:
        self._pool = pool
        self._own_card = own_card
        self._ask = frozenset(ask)
        self.ask_within_s = ask_within_s

    def card(self, node: str) -> NodeCard | None:
        """What *node* can do, the master included."""
        if node == MASTER:
            return self._own_card
        return self._pool[node].card

    def tool(self, node: str, name: str | None) -> ToolSpec | None:
        """The tool *name* of *node*, or None."""
        card = self.card(node)
        return find_tool(card, name) if card is not None and name is not None else None

    def must_ask(self, node: str, step: Step) -> bool:
        """Whether a person must approve the call that *step* is; an agent asks by itself, for each of its calls."""
        tool = self.tool(node, step.tool)
        if tool is None or step.kind == "agent":
            return False
        return tool.approval == "ask" or not self._ask.isdisjoint((tool.name, tool.effect))

    def choose(self, step: Step, avoid: str = "") -> str | None:
        """The node for *step*: the one that it names, or the one with the least to do that can."""
        if step.node is not None:
            return step.node
        tools, is_agent = step.tools, step.kind == "agent"
        return self._pool.choose(step.tool, step.labels, avoid=avoid, tools=tools, is_agent=is_agent)

    def checked(self, opened: OpenRequest, current: StepResult) -> Task:
        """`task`, where it can be sent.

        Raises ToolError for what its tool refuses, and LookupError where a reference leads nowhere.
        """
        step = opened.planned(current.step)
        tool = self.tool(current.node or "", step.tool)
        args = resolve(dict(step.args), opened.data())
        if step.kind == "call" and tool is None:
            raise ToolError(f"{current.node} has no tool {step.tool!r} any more", code=ErrorCode.UNKNOWN_TOOL)
        problems = argument_problems(tool, args) if tool else []
        if problems:
            raise ToolError(f"{step.tool}: {'; '.join(problems)}", code=ErrorCode.BAD_ARGUMENTS)
        task = self.task(opened, current)
        try:
            encode(task)
        except ProtocolError as problem:
            raise ToolError(f"the task cannot be sent: {problem}", code=ErrorCode.BAD_ARGUMENTS) from None
        return task

    def task(self, opened: OpenRequest, current: StepResult) -> Task:
        """The task of a step as it goes over the wire; the same at every sending."""
        step = opened.planned(current.step)
        if step.kind == "agent":
            return self._agent_task(opened, step, current)
        tool = self.tool(current.node or "", step.tool)
        return Task(
            current.task or "",
            opened.record.request.id,
            step.kind,
            current.attempt,
            step.tool,
            resolve(dict(step.args), opened.data()),
            retry="safe" if tool is not None and tool.safe_to_retry else "never",
            timeout_s=step.timeout_s or (tool.timeout_s if tool else _NO_TOOL_TIMEOUT_S),
            epoch=opened.record.epoch,
        )

    def may_repeat(self, node: str, step: Step) -> bool:
        """Whether the agent step *step* may be done again after it was cut off on *node*, by the tools that it has."""
        card = self.card(node)
        there = {tool.name: tool for tool in card.tools} if card is not None else {}
        return all(name in there and there[name].safe_to_retry for name in step.tools or there)

    def _agent_task(self, opened: OpenRequest, step: Step, current: StepResult) -> Task:
        share = opened.record.shares[step.id]
        return Task(
            current.task or "",
            opened.record.request.id,
            step.kind,
            current.attempt,
            instruction=step.instruction,
            context=_context(opened, step),
            tools=step.tools,
            retry="safe" if share.is_safe else "never",
            timeout_s=share.timeout_s,
            limits=share.limits,
            ask=tuple(sorted(self._ask)),
            ask_within_s=self.ask_within_s,
            epoch=opened.record.epoch,
        )


def _context(opened: OpenRequest, step: Step) -> str | None:
    """What an agent must know: what was asked in the first place, its arguments, and what the steps before it gave."""
    known: dict[str, JSON] = {}
    if step.instruction != opened.record.request.text:
        known["request"] = opened.record.request.text
    if step.args:
        known["args"] = resolve(dict(step.args), opened.data())
    for step_id in sorted(needs(step)):
        done = opened.step(step_id)
        if done.state is State.COMPLETED:
            known[step_id] = {"text": done.output.text, "data": done.output.data}
    return cut_middle(json.dumps(known, ensure_ascii=False), _CONTEXT_BYTES) if known else None
