"""A master whose planner knows one sentence: ``append TASK SECONDS``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from pibot_mesh.config.settings import BrokerSettings, MasterSettings
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Refusal
from pibot_mesh.master.planner import Planning, Situation, Words
from pibot_mesh.master.service import Master
from pibot_mesh.protocol.messages import Plan, Request, Step, StepResult, WireError
from reliability_peers.order import Task, given


class OneSentence:
    """In the place of the offline engine, whose sentences are about devices. What the plan needs is checked as ever."""

    async def plan(self, request: Request, situation: Situation) -> Planning:
        if not situation.cards:
            return Planning(Refusal(WireError(ErrorCode.OFFLINE, "no node is online", retryable=True)))
        task = Task.of(request.text.removeprefix("append "))
        step = Step("s1", tool="append", args={"task": task.id, "duration_s": task.duration_s})
        return Planning(Plan("offline", (step,)))

    def answer(self, _: Plan, results: Sequence[StepResult]) -> str:
        return ", ".join(result.error.message if result.error else result.output.text for result in results)

    async def write(self, _: Request, plan: Plan, results: Sequence[StepResult]) -> Words:
        return Words(self.answer(plan, results))

    def examples(self, _: str) -> list[str]:
        return ["append t1 0.01"]

    def close(self) -> None:
        """It holds nothing."""


async def run() -> None:
    order = given()
    settings = MasterSettings(broker=BrokerSettings(port=order.port), state_dir=Path(order.folder) / "master")
    async with Master(settings, planner=OneSentence()):
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s")
    asyncio.run(run())
