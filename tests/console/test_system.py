"""The system page: every process of this machine, and what is wrong with it, in red."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from config.up import lock
from core.clock import now
from core.environment import environment
from core.metrics.own import OWN
from core.metrics.siblings import Sibling
from core.note import remove_note, write_note
from tests.conftest import ClientOf
from tests.monitoring import world

pytestmark = pytest.mark.django_db
PAGE, API = "/system/", "/api/v1/system/"


@pytest.fixture
def kept() -> Iterator[dict[str, int | None]]:
    """A supervisor, this process, and what it keeps: workers that hang, a beat that is gone, a console that starts and a Redis that runs."""
    run_dir = environment().run_dir
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock.take(run_dir))
        supervisor = Sibling(run_dir, "up", OWN.collect)
        supervisor.start()
        stack.callback(supervisor.stop)
        workers, console, redis = (stack.enter_context(_sleeper()) for _ in range(3))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(run_dir / "metrics" / f"work.{workers}"))
        listener.listen(1)
        processes: dict[str, int | None] = {"redis": redis, "workers": workers, "beat": None, "console": console}
        write_note(run_dir, processes=processes, console_url="http://127.0.0.1:8700")
        stack.callback(remove_note, run_dir)
        yield processes
    (run_dir / "metrics" / f"work.{workers}").unlink()


@contextlib.contextmanager
def _sleeper() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _states(client_of: ClientOf) -> dict[str, Any]:
    return {part["name"]: part for part in client_of("viewer").get(API).json()["parts"]}


def test_tells_of_every_process_how_it_is(client_of: ClientOf, kept: dict[str, int | None]) -> None:
    found = _states(client_of)
    assert {name: (part["state"], part["pid"]) for name, part in found.items()} == {
        "up": ("answers", os.getpid()),
        "redis": ("runs", kept["redis"]),
        "workers": ("silent", kept["workers"]),
        "beat": ("gone", None),
        "console": ("starts", kept["console"]),
    }
    assert (found["beat"]["processes"], found["beat"]["memory_bytes"], found["beat"]["started_at"]) == (0, 0, None)
    assert found["redis"]["processes"] == 1
    assert 2**20 < found["redis"]["memory_bytes"] < 2**30
    assert (now() - timedelta(minutes=5)).isoformat() < found["redis"]["started_at"]


def test_what_should_run_and_does_not_answer_is_red_and_says_where_to_look(client_of: ClientOf, kept: dict[str, int | None]) -> None:
    page = client_of("viewer").get(PAGE).content.decode()
    rows = dict(re.findall(r'<th scope="row">([a-z]+) <small>.*?</th>\s*<td data-label="State">(.*?)</td>', page, re.DOTALL))
    assert rows["beat"] == '<span class="pill bad">not running</span><small class="trouble">see <code>var/log/beat.log</code></small>'
    assert rows["workers"] == '<span class="pill bad">does not answer</span><small class="trouble">see <code>var/log/workers.log</code></small>'
    assert [name for name, state in rows.items() if "bad" not in state] == ["up", "redis", "console"]
    assert '<span class="pill bad">2 not as they should be</span>' in page
    assert 'data-copy="signalbox restart"' in page


def test_processes_cost_no_query(client_of: ClientOf, kept: dict[str, int | None]) -> None:
    client = client_of("viewer")
    with CaptureQueriesContext(connection) as with_them:
        client.get(PAGE)
    remove_note(environment().run_dir)
    with CaptureQueriesContext(connection) as without:
        page = client.get(PAGE).content.decode()
    assert len(with_them) == len(without)
    assert "beat.log" not in page  # without a supervisor's note nothing says that it should run


def test_files_are_counted_in_words(client_of: ClientOf) -> None:
    world.register()
    page = client_of("viewer").get(PAGE).content.decode()
    assert re.search(r"<dt>Artifacts</dt><dd>1 file, .*<dt>Builds</dt><dd>0 files, ", page)
