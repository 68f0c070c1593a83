"""What a simulated node runs: calls of tools, and agents that call some. Both tell what the real ones would."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.node import events as n
from pibot_mesh.protocol.messages import Output, State, Task, TaskOutcome, ToolCall, Usage, WireError
from pibot_mesh.testing.simulation.tools import BY_NAME, SPECS

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.node import NodeProcess

_ENDED: Final = WireError(ErrorCode.CANCELED, "the tool was ended")
_TAKES_S: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_TOO_LONG_S: Final = 60.0


class Run(ABC):
    """A task at work."""

    def __init__(self, node: NodeProcess, task: Task) -> None:
        self.node = node
        self.nature = node.nature
        self.task = task
        self.looked_at = node.mono
        """When the node saw that it is not too late."""
        self.is_deaf = self.nature.happens(self.nature.faults.deaf_tool)
        self.is_ended = False
        self.is_over = False

    @abstractmethod
    def begin(self) -> None:
        """It is the run's turn for the first time."""

    @abstractmethod
    def end(self, reason: str) -> None:
        """It is told to end."""

    def takes_s(self) -> float:
        """How long a tool takes."""
        is_slow = self.nature.happens(self.nature.faults.slow_tool)
        return _TOO_LONG_S if is_slow else self.nature.chance.choice(_TAKES_S) * self.nature.between(0.5, 1.5)

    def over(
        self,
        state: TaskOutcome,
        output: Output = Output(),
        error: WireError | None = None,
        calls: tuple[ToolCall, ...] | None = None,
        usage: Usage = Usage(),
    ) -> None:
        """It has ended."""
        if not self.is_over:
            self.is_over = True
            self.node.run_ended(self, n.ToolEnded(self.task.id, state, output, error, calls, usage))


class CallRun(Run):
    """A call of one tool: in the loop, where it can be cut off, or in a thread, where it goes on."""

    def begin(self) -> None:
        if self.is_ended or self.node.is_held(self.task.tool):
            self.over(State.CANCELED, error=_ENDED)
            return
        self.node.promises.node_runs(self.node, self.task, self.looked_at)
        takes_s = self.takes_s()
        fails = self.nature.happens(0.1)
        self.node.later(takes_s * self.nature.chance.random(), self._take_effect, fails)
        self.node.later(takes_s, self._done, fails)

    def end(self, reason: str) -> None:
        self.is_ended = True
        if not self.is_deaf:
            self.node.later(0.001, self.over, State.CANCELED, Output(), replace(_ENDED, message=reason))

    def _take_effect(self, fails: bool) -> None:
        if not self.is_over and not (fails and self.nature.happens(0.5)):
            self.node.promises.took_effect(self.node, self.task, self.task.tool or "")

    def _done(self, fails: bool) -> None:
        if fails:
            self.over(State.FAILED, error=WireError(ErrorCode.TOOL_FAILED, "it is stuck"))
        else:
            self.over(State.COMPLETED, Output("done", {"n": self.task.args["n"]}))


class AgentRun(Run):
    """An agent that makes some calls, one after another, and asks a person where it must."""

    def __init__(self, node: NodeProcess, task: Task) -> None:
        super().__init__(node, task)
        chance = self.nature.chance
        names = task.tools or tuple(spec.name for spec in SPECS)
        self._to_do = [chance.choice(names) for _ in range(chance.randint(0, 3))]
        self._calls: dict[str, ToolCall] = {}
        self._gates: dict[str, Callable[[], None]] = {}
        self._questions: dict[str, Callable[[bool], None]] = {}

    def begin(self) -> None:
        if self.is_ended:
            self.over(State.CANCELED, error=_ENDED, calls=())
            return
        self.node.promises.node_runs(self.node, self.task, self.looked_at)
        self._tell("agent_start")
        self.node.later(self.nature.between(0.01, 2.0), self._next)

    def end(self, reason: str) -> None:
        if not self.is_ended:
            self.is_ended = True
            delay_s = 3.0 if self.is_deaf else self.nature.between(0.0, 0.4)
            self.node.later(delay_s, self._end_now, WireError(ErrorCode.CANCELED, reason))

    def let(self, call: str) -> None:
        """The call stands in the journal: it may begin."""
        gate = self._gates.pop(call, None)
        if gate is not None:
            gate()

    def steer(self, text: str) -> None:
        """It does one thing more."""
        if len(self._to_do) < 5:  # it has to end some day
            self._to_do.append("read" if not self.task.tools else self.task.tools[0])
        self._tell("turn_start", text=text)

    def answer(self, call: str, is_granted: bool) -> None:
        """A person has answered."""
        asked = self._questions.pop(call, None)
        if asked is not None:
            asked(is_granted)

    def _next(self) -> None:
        if self.is_ended or self.is_over:
            return
        if not self._to_do:
            text = "all is done"
            self.over(
                State.COMPLETED, Output(text, {"text": text}), None, tuple(self._calls.values()), Usage(100, 0, 20)
            )
            return
        self.node.ask_model(self.task)
        name, call = self._to_do.pop(0), f"{self.nature.chance.getrandbits(48):012x}"
        spec = BY_NAME[name]
        if spec.approval == "ask" or not {spec.name, spec.effect}.isdisjoint(self.task.ask):
            self._ask(call, name)
        else:
            self._begin_call(call, name)

    def _ask(self, call: str, name: str) -> None:
        within_s = self.task.ask_within_s
        self._questions[call] = lambda is_granted: self._answered(call, name, is_granted)
        self.node.told(self, n.ApprovalAwaited(self.task.id, call))
        self._tell("approval_required", call=call, tool=name, args={"n": 1}, within_s=within_s)
        self.node.later(within_s, self.answer, call, False)

    def _answered(self, call: str, name: str, is_granted: bool) -> None:
        if self.is_ended or self.is_over:
            return
        self.node.told(self, n.ApprovalAnswered(self.task.id, call))
        self._tell("approval_answered", call=call, tool=name, granted=is_granted, reason="")
        if is_granted:
            self.node.promises.granted(self.task, call)
            self._begin_call(call, name)
        else:
            self._next()

    def _begin_call(self, call: str, name: str) -> None:
        record = ToolCall(name, {"n": 1}, None, BY_NAME[name].effect)
        self._gates[call] = lambda: self._do(call)
        if record.effect == "read":
            self._gates.pop(call)
            self._calls[call] = record
            self.node.told(self, n.CallBegun(self.task.id, call, record))
            self._do(call)
        else:
            self._calls[call] = record
            self.node.told(self, n.CallBegun(self.task.id, call, record))

    def _do(self, call: str) -> None:
        """On its next turn the call begins, where the run was not ended before."""
        self.node.later(0.0, self._do_now, call)

    def _do_now(self, call: str) -> None:
        if self.is_ended or self.is_over:
            return
        name = self._calls[call].name
        if self.node.is_held(name):
            self.node.later(0.01, self._call_done, call, True)
            return
        self._tell("tool_start", call=call, tool=name)
        self.node.promises.began_call(self.node, self.task, call, name)
        takes_s = self.takes_s()
        self.node.later(takes_s * self.nature.chance.random(), self._take_effect, call)
        self.node.later(takes_s, self._call_done, call)

    def _take_effect(self, call: str) -> None:
        if not self.is_over:
            self.node.promises.took_effect(self.node, self.task, self._calls[call].name, call)

    def _call_done(self, call: str, is_held: bool = False) -> None:
        if self.is_over or self._calls[call].ok is not None:
            return
        is_ok = not is_held and not self.nature.happens(0.1)
        self._calls[call] = replace(self._calls[call], ok=is_ok)
        self.node.told(self, n.CallEnded(self.task.id, call, is_ok))
        self._tell("tool_end", call=call, is_error=not is_ok)
        self.node.later(self.nature.between(0.01, 1.0), self._next)

    def _end_now(self, why: WireError) -> None:
        """Calls that were never let begin were not made; of one that is under way nobody knows."""
        calls = tuple(record for call, record in self._calls.items() if call not in self._gates)
        is_unsure = any(record.ok is None and record.effect != "read" for record in calls)
        self.over(State.UNKNOWN if is_unsure else State.CANCELED, error=why, calls=calls)

    def _tell(self, kind: str, **data: object) -> None:
        self.node.told(self, n.RunTold(self.task.id, kind, data))
