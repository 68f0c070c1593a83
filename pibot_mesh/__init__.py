"""PiBot Mesh: a house full of Raspberry Pis that does what it is asked.

The public names are imported on first use, so that ``import pibot_mesh`` stays cheap on a Pi Zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from pibot_mesh.client import Client as Client
    from pibot_mesh.errors import MeshError as MeshError
    from pibot_mesh.master.planning.task_planner import TaskPlanner as TaskPlanner
    from pibot_mesh.master.service import Master as Master
    from pibot_mesh.master.worker_pool import (
        WorkerPool as WorkerPool,
        create_default_worker_pool as create_default_worker_pool,
    )
    from pibot_mesh.node.executor import TaskExecutor as TaskExecutor
    from pibot_mesh.node.service import Node as Node

_HOMES = {
    "Client": "pibot_mesh.client",
    "Master": "pibot_mesh.master.service",
    "MeshError": "pibot_mesh.errors",
    "Node": "pibot_mesh.node.service",
    "TaskExecutor": "pibot_mesh.node.executor",
    "TaskPlanner": "pibot_mesh.master.planning.task_planner",
    "WorkerPool": "pibot_mesh.master.worker_pool",
    "create_default_worker_pool": "pibot_mesh.master.worker_pool",
}

__all__ = [
    "Client",
    "Master",
    "MeshError",
    "Node",
    "TaskExecutor",
    "TaskPlanner",
    "WorkerPool",
    "__version__",
    "create_default_worker_pool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
