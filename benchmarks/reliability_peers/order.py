"""What every program of a trial is told, and the one thing that a worker does. Standard library only."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

VARIABLE: Final = "RELIABILITY_ORDER"
"""The environment variable with the path of the order's file."""
SIDE_BY_SIDE: Final = 2
"""How many tasks a worker does at once."""
REDELIVERY_S: Final = 2.0
"""After how long a broker may take an unacknowledged task for lost, where that can be said."""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work."""

    id: str
    duration_s: float

    @property
    def text(self) -> str:
        """The task as it travels."""
        return f"{self.id} {self.duration_s:.4f}"

    @classmethod
    def of(cls, text: str) -> Self:
        """The task that travelled as *text*."""
        task_id, duration_s = text.split()
        return cls(task_id, float(duration_s))


@dataclass(frozen=True, slots=True)
class Order:
    """One trial. *port* is the broker's, *watch_port* that of its monitoring; *seed* gives the tasks' durations."""

    folder: str
    port: int
    watch_port: int
    tasks: int
    every_s: float
    seed: int
    is_safe_to_retry: bool = False

    @property
    def effects(self) -> Path:
        """What was done: a line for each time that a task's effect happened."""
        return Path(self.folder) / "effects"

    @property
    def said(self) -> Path:
        """What the submitter was told of each task in the end, by id."""
        return Path(self.folder) / "said.json"

    @property
    def ready(self) -> Path:
        """Is there once the first worker can take tasks."""
        return Path(self.folder) / "ready"

    def all_tasks(self) -> list[Task]:
        """The tasks, in the order in which they are submitted; each takes 5 to 30 ms."""
        chance = random.Random(self.seed)
        return [Task(f"t{number}", round(chance.uniform(0.005, 0.030), 4)) for number in range(self.tasks)]

    def save(self) -> Path:
        """Write it where its programs can read it."""
        path = Path(self.folder) / "order.json"
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path


def given() -> Order:
    """The order of this process."""
    return Order(**json.loads(Path(os.environ[VARIABLE]).read_text(encoding="utf-8")))


def do(task: Task, effects: Path) -> None:
    """Do *task*: half of its time passes, the effect happens (one line, in one write), the other half passes."""
    time.sleep(task.duration_s / 2)
    line = f"{task.id} {time.monotonic():.6f}\n".encode()
    file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    time.sleep(task.duration_s / 2)
