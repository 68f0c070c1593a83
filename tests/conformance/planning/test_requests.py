"""Thirty requests, ten of each complexity: the model says what work a step is, and the rules say who does it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from pibot_mesh.agent.client import LLMClient
from pibot_mesh.agent.model import Model
from pibot_mesh.config.settings import ModelSettings
from pibot_mesh.master.planning.plan_tool import Work
from pibot_mesh.master.planning.task_planner import TaskPlanner
from pibot_mesh.master.plans import check_plan
from pibot_mesh.master.pool import MASTER, Pool
from pibot_mesh.protocol.messages import Plan, Request, Step
from pibot_mesh.testing import FakeModelServer, ScriptedModel, call, say
from tests.unit.master.planning.meshes import CARDS, OWN, pool, situation

TABLE: list[dict[str, Any]] = json.loads((Path(__file__).parent / "requests.json").read_text("utf-8"))
BY_LOAD = [
    pytest.param(row, id=row["request"])
    for row in TABLE
    if any(step["work"] == "code" for step in row["make_plan"]["steps"])
]


@asynccontextmanager
async def model_of(row: dict[str, Any]) -> AsyncIterator[Model]:
    """A model that makes this plan; those of moderate ones speak HTTP."""
    answer = call("make_plan", **row["make_plan"])
    if row["complexity"] != "moderate":
        yield ScriptedModel(answer)
        return
    async with FakeModelServer([say(answer)]) as server:
        settings = ModelSettings("custom", base_url=server.base_url, model="m", api_key="not-a-real-key")
        async with LLMClient(settings, transport="standard") as client:
            yield client


async def plan_of(row: dict[str, Any]) -> Plan:
    async with asyncio.timeout(20), model_of(row) as model:
        planning = await TaskPlanner(model).plan(Request("r1", row["request"]), situation())
    assert isinstance(planning.outcome, Plan), planning.outcome
    return planning.outcome


def done_by(step: Step, there: Pool) -> str | None:
    """Who does *step*, at this moment: what the master's core asks of the pool."""
    is_agent = step.kind == "agent"
    return step.node or there.choose(step.tool, step.labels, tools=step.tools, is_agent=is_agent)


@pytest.mark.parametrize("row", [pytest.param(row, id=row["request"]) for row in TABLE])
async def test_each_step_goes_where_the_rules_say(row: dict[str, Any]) -> None:
    """Named, or left open until its moment comes; and the plan passes the check that every plan must."""
    plan = await plan_of(row)

    assert [step.node for step in plan.steps] == row["planned"]
    assert [done_by(step, pool()) for step in plan.steps] == row["done_by"]
    assert plan.complexity == row["complexity"]
    check_plan(plan, {**CARDS, MASTER: OWN})


@pytest.mark.parametrize("row", BY_LOAD)
async def test_code_goes_to_whoever_has_the_least_to_do_when_it_begins(row: dict[str, Any]) -> None:
    """Not to whoever had it when the plan was made."""
    plan, there = await plan_of(row), pool()
    there["attic"].open_tasks |= {f"more-{number}": None for number in range(8)}

    for step, drafted in zip(plan.steps, row["make_plan"]["steps"], strict=True):
        if drafted["work"] == "code":
            assert done_by(step, there) == "garage"


def test_the_table_has_ten_of_each_complexity_and_all_kinds_of_work() -> None:
    """The model names a node only on purpose: where it does, it is no rule that is tried."""
    steps = [step for row in TABLE for step in row["make_plan"]["steps"]]
    by_rule = Counter(step["work"] for step in steps if "node" not in step)

    assert Counter(row["complexity"] for row in TABLE) == {"simple": 10, "moderate": 10, "complex": 10}
    assert set(by_rule) == set(get_args(Work))
    assert min(by_rule.values()) >= 4
    assert all(row["rules"] == [step["work"] for step in row["make_plan"]["steps"]] for row in TABLE)
    assert len({row["request"] for row in TABLE}) == 30
