"""The Celery application, configured as its documentation says for tasks that must not be lost."""

from __future__ import annotations

from celery import Celery
from celery.signals import worker_ready

from reliability_peers.order import REDELIVERY_S, Task, do, given

order = given()
app = Celery("tasks", broker=f"redis://127.0.0.1:{order.port}/0")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": REDELIVERY_S,
        "unacked_restore_interval": 0.5,
        "unacked_restore_throttle": 1,
    },
)


@app.task
def append(text: str) -> None:
    do(Task.of(text), order.effects)


@worker_ready.connect
def note_ready(**_: object) -> None:
    order.ready.touch()
