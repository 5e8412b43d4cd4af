"""A pytest plugin, loaded before Django's settings: one embedded Postgres for the run, one Redis and one folder per worker."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from core.embedded import postgres, redis
from core.embedded.server import Server

_FOLDER = "SIGNALBOX_TEST_FOLDER"
_servers: list[Server] = []


def _start() -> None:
    """The first process starts Postgres; a worker of pytest-xdist inherits the environment and finds it running."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    if _FOLDER not in os.environ or worker == "main":
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="signalbox-test-")
        folder = Path(os.environ[_FOLDER])
        _servers.append(postgres.start(var_dir=folder / "shared", run_dir=folder / "shared" / "run", durable=False))
        os.environ["DATABASE_URL"] = f"postgresql://signalbox@/signalbox?host={folder}/shared/run"
    var_dir = Path(os.environ[_FOLDER]) / worker
    os.environ["SIGNALBOX_VAR_DIR"] = str(var_dir)
    os.environ["SIGNALBOX_HOST"] = "127.0.0.1"
    os.environ.pop("REDIS_URL", None)
    (var_dir / "static").mkdir(parents=True)
    _servers.append(redis.start(var_dir=var_dir, run_dir=var_dir / "run", durable=False))


def _stop() -> None:
    """Stop what this process started; the first one removes the folder."""
    while _servers:
        _servers.pop().stop()
    if os.environ.get("PYTEST_XDIST_WORKER") is None:
        shutil.rmtree(os.environ[_FOLDER], ignore_errors=True)


atexit.register(_stop)
_start()
