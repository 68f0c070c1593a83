"""Submits every task to Celery, again until Redis has taken it."""

from __future__ import annotations

import time

from celery.exceptions import OperationalError
from kombu.exceptions import OperationalError as KombuOperationalError

from reliability_peers.celery_app import append, order
from reliability_peers.order import Task
from reliability_peers.pacing import paced, tell

POLICY = {"max_retries": None, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.5}


def submit(task: Task) -> None:
    while True:
        try:
            append.apply_async((task.text,), task_id=task.id, retry=True, retry_policy=POLICY)
        except (OperationalError, KombuOperationalError, OSError):
            time.sleep(0.1)
        else:
            return


def main() -> None:
    said: dict[str, str] = {}
    for task in paced(order):
        submit(task)
        said[task.id] = "accepted"
    tell(order, said)


if __name__ == "__main__":
    main()
