"""A real data-plane process on a free port, its own folder, and a database of its own that is never rolled back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from access.key_format import ParsedKey, generate, secret_digest, text_of
from core.environment import ROOT
from serving import segments
from serving import table as route_table
from serving.dataplane import tally
from serving.table import BuildEntry, EndpointEntry, KeyEntry, RouteTable, SlotEntry

_KEY: ParsedKey = generate()
KEY = text_of(_KEY)
KEY_ENTRY = KeyEntry(id=_KEY.id, secret_digest=secret_digest(_KEY.secret), name="tests", scopes=("predict",))
HEADERS = {"Authorization": f"Bearer {KEY}"}
NO_CONSOLE = "1"
# Nobody listens here: the data plane then has only its disk.
NO_DATABASE = "postgresql://signalbox@/none?host=/nonexistent"


def free_port() -> int:
    """Give a port that nobody has. Each process of pytest-xdist has ports of its own: two data planes may share one without a word."""
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        if port // 2 % count == int(worker.removeprefix("gw")) % count:  # the system gives odd ones alone
            return port


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 15) -> Any:
    """Poll until ``condition`` is true and give its value."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s} s for {what}")


def endpoint(name: str, build: BuildEntry, *others: tuple[str, BuildEntry, int, bool], **settings: Any) -> EndpointEntry:
    """One endpoint with ``build`` in blue; ``others`` are (slot, build, weight, shadow), and blue gets what is left of 100."""
    slots = tuple(SlotEntry(name=slot, build_digest=other.digest, weight=weight, shadow=shadow) for slot, other, weight, shadow in others)
    blue = SlotEntry(name="blue", build_digest=build.digest, weight=100 - sum(slot.weight for slot in slots), live=True)
    return EndpointEntry(id=name, name=name, revision=1, slots=(blue, *slots), **settings)


def table(builds: list[BuildEntry], endpoints: list[EndpointEntry], *, revision: int = 1, keys: tuple[KeyEntry, ...] = (KEY_ENTRY,)) -> RouteTable:
    return RouteTable(revision=revision, published_at=time.time(), endpoints=tuple(endpoints), builds=tuple(builds), keys=keys)


@dataclass
class Plane:
    """A data-plane process and how to reach it."""

    var_dir: Path
    database_url: str
    plain_asgi: bool = False
    sock: socket.socket | None = None
    port: int = 0
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=httpx.Client)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        return self.var_dir / "artifacts"

    def keep(self, kept: RouteTable) -> None:
        """Put a table where the process finds it without a database."""
        folder = self.var_dir / "dataplane"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.json").write_bytes(route_table.encode(kept))

    def start(self) -> Plane:
        self.port = free_port() if self.sock is None else int(self.sock.getsockname()[1])
        where = ["--port", str(self.port)] if self.sock is None else ["--fd", str(self.sock.fileno())]
        arguments = [sys.executable, "-m", "serving.dataplane", *where, *(["--plain-asgi"] if self.plain_asgi else [])]
        shared = () if self.sock is None else (self.sock.fileno(),)
        changes = {"SIGNALBOX_VAR_DIR": str(self.var_dir), "DATABASE_URL": self.database_url, "SIGNALBOX_CONSOLE_PORT": NO_CONSOLE} | self.environ
        with (self.var_dir / "dataplane.log").open("ab") as log:
            self.process = subprocess.Popen(arguments, cwd=ROOT, env=os.environ | changes, stdout=log, stderr=log, pass_fds=shared)
        self.client = httpx.Client(base_url=self.url, headers=HEADERS, timeout=20)
        wait_for(self.is_ready, f"readiness; its log: {self.var_dir}/dataplane.log", 60)
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_text()
        try:
            return self.client.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End the process and give its exit code."""
        assert self.process is not None
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=20)

    def end(self) -> None:
        """Kill the process, if there is one, and remove what it keeps outside its folder."""
        if self.process is not None:
            self.stop(signal.SIGKILL)
        shutil.rmtree(tally.folder_for(self.var_dir))

    def log_text(self) -> str:
        return (self.var_dir / "dataplane.log").read_text()


def resident_bytes(plane: Plane) -> int:
    """Give how much memory the process has now."""
    assert plane.process is not None
    return int(Path(f"/proc/{plane.process.pid}/statm").read_text().split()[1]) * 4096


@dataclass
class Log:
    """The database as the data plane leaves it."""

    url: str

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def publish(self, document: RouteTable, *, hint: bool = True) -> int:
        """Publish as the console does: a new row and a hint, which may be lost on the way."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(
                "INSERT INTO serving_publishedtable (document, published_at) VALUES (%s, now()) RETURNING revision", [route_table.encode(document)]
            ).fetchone()
            assert row is not None
            if hint:
                connection.execute("SELECT pg_notify(%s, %s)", [route_table.CHANNEL, str(row[0])])
            return int(row[0])

    def records(self, name: str) -> list[dict[str, Any]]:
        """Give every logged row of an endpoint."""
        rows = self.run("SELECT slot, version, columns FROM serving_predictionsegment WHERE endpoint = %s ORDER BY id", name)
        return [{"slot": slot, "version": version, **record} for slot, version, blob in rows for record in segments.decode(blob).to_pylist()]


@pytest.fixture(scope="session")
def database(django_db_setup: None) -> str:
    """The URL of the test database, migrated."""
    from django.db import connection

    settings = connection.settings_dict
    return f"postgresql://{settings['USER']}@/{settings['NAME']}?host={settings['HOST']}"


@pytest.fixture
def log(database: str) -> Iterator[Log]:
    """The tables that the data plane writes, empty."""
    tables = (
        "serving_publishedtable, serving_predictionsegment, serving_replacedsegment, serving_trafficwindow, serving_dataplaneprocess,"
        " serving_lostpredictions, serving_keyusage, serving_validationcount"
    )
    log = Log(database)
    log.run(f"TRUNCATE {tables}")
    yield log
    log.run(f"TRUNCATE {tables}")


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """A process that is not started yet, without a database."""
    plane = Plane(tmp_path, NO_DATABASE)
    yield plane
    plane.end()


@pytest.fixture
def plane_with_log(tmp_path: Path, log: Log) -> Iterator[Plane]:
    """A process that is not started yet, with the test database."""
    plane = Plane(tmp_path, log.url)
    yield plane
    plane.end()


@pytest.fixture(scope="session", params=[False, True], ids=["own-protocol", "plain-asgi"])
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One process per transport for all the tests that only ask; endpoints ``sum``, ``churn``, ``echo``, ``slow`` and some more."""
    from tests.dataplane.standing import document

    plane = Plane(tmp_path_factory.mktemp("standing"), NO_DATABASE, plain_asgi=request.param)
    plane.keep(document(plane.artifacts))
    try:
        yield plane.start()
        assert plane.stop() == 0, plane.log_text()
    finally:
        plane.end()
