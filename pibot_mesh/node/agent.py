"""The agent of a node: its model, and the runs of its instructions. Nothing heavy is loaded before the first one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pibot_mesh.agent.providers import base_url_of, model_of
from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.config.settings import MESH, NodeSettings
from pibot_mesh.errors import ConfigError, ErrorCode
from pibot_mesh.node.events import (
    AgentOrder,
    AnswerApproval,
    ApprovalAnswered,
    ApprovalAwaited,
    CallBegun,
    CallEnded,
    LetCall,
    RunInput,
    RunTold,
    SteerRun,
    ToolEnded,
)
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, LLMChunk, LLMRequest, State, Task, ToolCall, ToolSpec, WireError
from pibot_mesh.skills.shipped import workspace_of

if TYPE_CHECKING:
    from pibot_mesh.agent.client import LLMClient
    from pibot_mesh.agent.model import Model
    from pibot_mesh.agent.paced import Tell
    from pibot_mesh.agent.task_run import BeginCall, TaskRun
    from pibot_mesh.node.mesh_model import GatewayLine

_OUTPUTS: Final = ".pibot-outputs"
"""Where long outputs of tools lie while their task runs: in the workspace, so that a model can read on in them."""


class NodeAgent:
    """What the instructions of a node are run with.

    *send* asks the master's model gateway, where *settings* name no model of the node's own; it must not raise. Raises
    ConfigError for a model that cannot be asked.
    """

    def __init__(
        self,
        settings: NodeSettings,
        tools: ToolRegistry,
        devices: Callable[[], Iterable[DeviceSpec]],
        send: Callable[[LLMRequest], None],
    ) -> None:
        if settings.model.provider != MESH:
            base_url_of(settings.model)
            model_of(settings.model)
        self._settings = settings
        self._tools = tools
        self._devices = devices
        self._send = send
        self._outputs: Path | None = None
        if "files" in settings.skills.shipped:
            self._outputs = workspace_of(settings) / _OUTPUTS
        self._is_loaded = False
        self._loading = asyncio.Lock()
        self._is_master_here = False
        self._line: GatewayLine | None = None
        self._client: LLMClient | None = None

    def shown(self, spec: ToolSpec) -> ToolSpec:
        """*spec* as the card has it: marked where the node's settings want a person asked."""
        must_ask = spec.name in self._settings.ask or spec.effect in self._settings.ask
        return replace(spec, approval="ask") if must_ask else spec

    def master_seen(self, is_online: bool) -> None:
        """The master came or went, or the broker, without which it cannot be reached."""
        self._is_master_here = is_online
        if self._line is not None:
            self._line.master_here() if is_online else self._line.master_gone()

    def received(self, call_id: str, chunk: LLMChunk) -> None:
        """A piece of an answer came from the master's model gateway."""
        if self._line is not None:
            self._line.received(call_id, chunk)

    async def load(self) -> None:
        """Load what a run needs, before the first one; in a thread, since it takes a second on a small node."""
        async with self._loading:
            if not self._is_loaded:
                await asyncio.to_thread(self._load)
                self._is_loaded = True

    def new_run(self, task: Task, tell: Tell, begin_call: BeginCall) -> TaskRun:
        """A run of *task*'s instruction. Raises ConfigError where there is no model to ask."""
        from pibot_mesh.agent.prompts import node_prompt
        from pibot_mesh.agent.task_run import TaskRun

        settings = self._settings
        return TaskRun(
            task,
            self._model(task),
            self._tools,
            system_prompt=node_prompt(settings.id, settings.labels, self._devices()),
            tell=tell,
            begin_call=begin_call,
            ask=settings.ask,
            context_tokens=settings.model.context_tokens,
            output_dir=self._outputs / task.id if self._outputs else None,
        )

    async def clear(self, task: Task) -> None:
        """Remove what the run of *task* has kept in files."""
        folder = self._outputs and self._outputs / task.id
        if folder is not None and folder.is_dir():
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def stop(self) -> None:
        """Ask no model any more."""
        if self._line is not None:
            self._line.close()
        if self._client is not None:
            await self._client.aclose()

    def _load(self) -> None:
        import pibot_mesh.agent.client
        import pibot_mesh.agent.prompts
        import pibot_mesh.agent.task_run
        import pibot_mesh.node.mesh_model  # noqa: F401 - they are used later, in the loop

        if self._outputs is not None:
            shutil.rmtree(self._outputs, ignore_errors=True)  # of tasks that ended with an earlier process

    def _model(self, task: Task) -> Model:
        settings = self._settings.model
        if settings.provider != MESH:
            from pibot_mesh.agent.client import LLMClient

            self._client = self._client or LLMClient(settings)
            return self._client
        from pibot_mesh.node.mesh_model import GatewayLine

        if self._line is None:
            self._line = GatewayLine(
                self._send,
                first_content_s=settings.first_content_s,
                between_s=settings.between_s,
                max_tokens=settings.max_tokens,
            )
            self.master_seen(self._is_master_here)
        return self._line.model(task.id)


class AgentRun:
    """The run of one instruction, as the executor has it. What it tells goes to *told*."""

    def __init__(self, task: Task, agent: NodeAgent, told: Callable[[RunInput], None]) -> None:
        self.task = task
        self._agent = agent
        self._told = told
        self._run: TaskRun | None = None
        self._orders: list[Callable[[TaskRun], None]] = []
        self._gates: dict[str, asyncio.Event] = {}

    async def do(self) -> ToolEnded:
        """Do what the instruction says."""
        await self._agent.load()
        try:
            run = self._run = self._agent.new_run(self.task, self._tell, self._begin_call)
        except ConfigError as error:
            return ToolEnded(self.task.id, State.FAILED, error=WireError(ErrorCode.NO_MODEL, str(error)))
        for order in self._orders:
            order(run)
        try:
            end = await run.run()
        finally:
            await self._agent.clear(self.task)
        return ToolEnded(self.task.id, end.state, end.output, end.error, end.tool_calls, end.usage)

    def end(self, reason: str, /) -> bool:
        """End it, wherever it is; it sees to that itself."""
        self._order(lambda run: run.end(reason))
        return False

    def take(self, order: AgentOrder) -> None:
        """Do what the node's core has decided about it."""
        match order:
            case LetCall(_, call):
                if call in self._gates:
                    self._gates[call].set()
            case SteerRun(_, text):
                self._order(lambda run: run.steer(text))
            case AnswerApproval(_, call, is_granted, reason):
                self._order(lambda run: run.answer(call, is_granted, reason))

    def cut_off(self) -> ToolEnded:
        """It did not end in time, and what its calls have done is known from what it told."""
        is_safe = self.task.retry == "safe"
        error = WireError(ErrorCode.INTERRUPTED, "the node stopped in the middle of the task", is_safe)
        return ToolEnded(self.task.id, State.UNKNOWN, error=error)

    def _order(self, order: Callable[[TaskRun], None]) -> None:
        if self._run is None:
            self._orders.append(order)
        else:
            order(self._run)

    def _tell(self, type_: str, data: Mapping[str, JSON]) -> None:
        task = self.task.id
        match type_:
            case "approval_required":
                self._told(ApprovalAwaited(task, data["call"]))
            case "approval_answered":
                self._told(ApprovalAnswered(task, data["call"]))
            case "tool_end":
                ok = None if data["is_left_behind"] else not data["is_error"]
                self._told(CallEnded(task, data["call"], ok))
        self._told(RunTold(task, type_, data))

    async def _begin_call(self, call: str, record: ToolCall) -> None:
        """What only reads is written down, and not waited for."""
        gate = self._gates[call] = asyncio.Event()
        self._told(CallBegun(self.task.id, call, record))
        try:
            if record.effect != "read":
                await gate.wait()
        finally:
            del self._gates[call]
