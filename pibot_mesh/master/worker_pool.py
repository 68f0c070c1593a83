"""A mesh in one process, without a broker: a few workers of this machine that do the subtasks of a plan.

For programs of the first version, and for trying. What makes a mesh one (promises, presence, budgets, approvals) is in
`pibot_mesh.master.service.Master`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pibot_mesh import __version__
from pibot_mesh.agent.tools import Tool, ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, PlanError, StoreError
from pibot_mesh.master.plans import argument_problems, check_plan, condition_words, holds, needs, resolve
from pibot_mesh.master.pool import MASTER, can, carries
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import NodeCard, Plan, Result, State, Step, Task, WireError

if TYPE_CHECKING:
    from pibot_mesh.agent.model import Model

DEFAULT_STATE_DIR: Final = Path("~/.local/state/pibot/pool")
_AGENT_TIMEOUT_S: Final = 300.0
_PROMPT: Final = """\
You are the agent of {worker}, on this machine. Do the instruction with your tools, then say in a few plain sentences \
what came of it, by what the tools gave. {data_rule}"""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: its name, which is ``master`` for the one that does the master's own work, and its tools."""

    name: str
    tools: ToolRegistry
    labels: tuple[str, ...] = ()


class WorkerPool:
    """Does subtasks with *workers*, in this process; those that are instructions with *llm_client*.

    *folders* are made when the first subtask begins.
    """

    def __init__(
        self, workers: Iterable[Worker], *, llm_client: Model | None = None, folders: Iterable[Path] = ()
    ) -> None:
        self._workers = {worker.name: worker for worker in workers}
        self._model = llm_client
        self._folders = tuple(folders)
        self._running = dict.fromkeys(self._workers, 0)

    @property
    def cards(self) -> dict[str, NodeCard]:
        """What each worker can do, by its name: what a `TaskPlanner` plans with."""
        is_agent = self._model is not None
        return {
            worker.name: NodeCard(
                worker.name, "pool", __version__, labels=worker.labels, tools=worker.tools.specs(), agent=is_agent
            )
            for worker in self._workers.values()
        }

    async def execute_task(self, subtask: Step, *, earlier: Mapping[str, Result] | None = None) -> Result:
        """Do *subtask*, and say how it ended. Without a node of its own, the least busy worker that can does it.

        *earlier* are the results of the steps that it waits for or refers to, by their ids. A step whose condition does
        not hold ends ``canceled``. Raises PlanError for one that cannot run: there is no such worker or tool, its
        arguments do not fit, an earlier result is missing, or it needs a model; and StoreError where the folders cannot
        be made.
        """
        results = earlier or {}
        self._check(subtask, results)
        subtask, is_needed = _resolved(subtask, {step: result.output.data for step, result in results.items()})
        task = Task(uuid.uuid4().hex, "pool", subtask.kind, tool=subtask.tool, instruction=subtask.instruction)
        if subtask.when is not None and not is_needed:
            why = f"not needed: it is not so that {condition_words(subtask.when)}"
            return Result(task.id, task.request, 1, State.CANCELED, error=WireError(ErrorCode.CANCELED, why))
        worker = self._chosen(subtask)
        if subtask.tool is not None and (problems := argument_problems(worker.tools[subtask.tool].spec, subtask.args)):
            raise PlanError([f"step {subtask.id}: {problem}" for problem in problems])
        self._make_folders()
        self._running[worker.name] += 1
        try:
            if subtask.tool is not None:
                return await self._call(subtask.tool, subtask, task, worker)
            return await self._run(subtask, task, worker, results)
        finally:
            self._running[worker.name] -= 1

    def _check(self, subtask: Step, results: Mapping[str, Result]) -> None:
        if subtask.kind == "agent" and self._model is None:
            text = "it is an instruction, and this pool has no model: create_default_worker_pool(llm_client=...)"
            raise PlanError([f"step {subtask.id}: {text}"])
        if missing := sorted(needs(subtask) - results.keys()):
            text = f"it needs what {', '.join(missing)} gave: do that first, and hand it in as earlier={{...}}"
            raise PlanError([f"step {subtask.id}: {text}"])
        check_plan(Plan("llm", (subtask,)), self.cards, others=results)

    def _chosen(self, subtask: Step) -> Worker:
        if subtask.node is not None:
            return self._workers[subtask.node]
        wanted = subtask.tools if subtask.tool is None else (subtask.tool,)
        fit = [
            (self._running[name], name)
            for name, card in self.cards.items()
            if name != MASTER and carries(card, subtask.labels) and can(card, wanted)
        ]
        return self._workers[min(fit)[1]]

    def _make_folders(self) -> None:
        try:
            for folder in self._folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{error.filename}: cannot be made: {error.strerror}") from None

    async def _call(self, name: str, subtask: Step, task: Task, worker: Worker) -> Result:
        context = ToolContext(task.id, task.request)
        limit_s = subtask.timeout_s or worker.tools[name].spec.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                outcome = await worker.tools.run(name, subtask.args, context)
        except TimeoutError:
            error = WireError(ErrorCode.TIMEOUT, f"{name} did not end within {limit_s:g} s")
            return Result(task.id, task.request, 1, State.FAILED, error=error)
        finally:
            context.canceled.set()
        return Result(task.id, task.request, 1, outcome.state, outcome.output, outcome.error)

    async def _run(self, subtask: Step, task: Task, worker: Worker, results: Mapping[str, Result]) -> Result:
        from pibot_mesh.agent.data_marks import DATA_RULE
        from pibot_mesh.agent.task_run import TaskRun

        assert self._model is not None
        known = "\n".join(f"{step}: {result.output.text}" for step, result in results.items() if step in subtask.after)
        task = replace(
            task, tools=subtask.tools, context=known or None, timeout_s=subtask.timeout_s or _AGENT_TIMEOUT_S
        )
        prompt = _PROMPT.format(worker=worker.name, data_rule=DATA_RULE)
        run = TaskRun(task, self._model, worker.tools, system_prompt=prompt, tell=lambda _type, _data: None)
        end = await run.run()
        return Result(task.id, task.request, 1, end.state, end.output, end.error, end.tool_calls, end.usage)


def _resolved(subtask: Step, data: Mapping[str, JSON]) -> tuple[Step, bool]:
    """*subtask* with its references replaced by what they stand for in *data*, and whether its condition holds.

    Raises PlanError where there is nothing at the place that one names.
    """
    try:
        is_needed = subtask.when is None or holds(subtask.when, data)
        return (replace(subtask, args=resolve(dict(subtask.args), data)) if is_needed else subtask), is_needed
    except LookupError as error:
        raise PlanError([f"step {subtask.id}: {error.args[0]}"]) from None


def create_default_worker_pool(
    llm_client: Model | None = None, *, workers: int = 3, state_dir: Path = DEFAULT_STATE_DIR
) -> WorkerPool:
    """This machine as a pool: the master, and so many *workers*, each with the shipped tools that need no hardware.

    These are for the system, files, downloads and memory. Files and downloads stay in ``workspace`` in *state_dir*,
    which all share. Without *llm_client* the pool does calls, and refuses instructions.
    """
    folder = state_dir.expanduser()
    names = [MASTER, *(f"worker-{number}" for number in range(1, workers + 1))]
    pool = [Worker(name, ToolRegistry(_default_tools(folder))) for name in names]
    return WorkerPool(pool, llm_client=llm_client, folders=[folder / "workspace"])


def _default_tools(folder: Path) -> list[Tool]:
    from pibot_mesh.agent.builtin.files import file_tools
    from pibot_mesh.agent.builtin.memory import memory_tools
    from pibot_mesh.skills.download import download_tools
    from pibot_mesh.skills.system import system_tools

    workspace = folder / "workspace"
    return [
        *system_tools(),
        *file_tools(workspace),
        *download_tools(workspace),
        *memory_tools(folder / "memory.json"),
    ]
