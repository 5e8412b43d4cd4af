"""gunicorn's hooks: each worker of the console can be asked for its metrics."""

from __future__ import annotations

from typing import Any

from core.environment import environment
from core.metrics.own import OWN
from core.metrics.siblings import Sibling

_siblings: list[Sibling] = []


def post_fork(server: Any, worker: Any) -> None:
    """Called in each worker, where its threads belong."""
    sibling = Sibling(environment().run_dir, "console", OWN.collect)
    sibling.start()
    _siblings.append(sibling)


def worker_exit(server: Any, worker: Any) -> None:
    """Called in a worker that ends."""
    for sibling in _siblings:
        sibling.stop()
