"""The prediction log under faults in real processes: nothing that was acknowledged is lost in silence."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import psycopg
import pytest
from psycopg.pq import PGconn

from core.embedded import postgres
from core.environment import ROOT
from core.ids import uuid7
from serving.dataplane import tally
from serving.dataplane.batch import Batch
from serving.dataplane.log import PredictionLog
from serving.dataplane.postgres import Away, Link
from serving.dataplane.spool import Segment, Spool
from serving.dataplane.tally import Tally
from tests.dataplane import models
from tests.dataplane.bare_engine import adopt, bare_engine, loaded
from tests.dataplane.conftest import HEADERS, NO_DATABASE, Log, Plane, endpoint, table, wait_for

# The data plane writes with connections of its own; the mark has the test database made.
pytestmark = pytest.mark.django_db
_ASKING = 4
_FLUSH_S, _GIVEN_UP_S = 0.05, 2.0
"""What the policy ``fast`` promises: so long is nothing written, and so long may a write hang."""
_PROMPT_S = 0.5
"""What a write takes that does not hang, on a machine that runs other tests too."""


def _ask(client: httpx.Client, name: str = "sum") -> httpx.Response:
    return client.post(f"/v2/models/{name}/predict", json={"rows": [{"a": 1, "b": 0, "c": 0}]})


class Askers:
    """Clients that ask until they are stopped or their server is gone, and the ids that they were given, each with the time."""

    def __init__(self, url: str) -> None:
        self.acknowledged: dict[str, float] = {}
        self.refused = 0
        self._url, self._stopped = url, threading.Event()
        self._threads = ThreadPoolExecutor(_ASKING)
        self._asking: list[Future[None]] = []

    def __enter__(self) -> Askers:
        self._asking = [self._threads.submit(self._run) for _ in range(_ASKING)]
        return self

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, headers=HEADERS, timeout=20) as client:
            while not self._stopped.is_set():
                try:
                    answer = _ask(client)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.acknowledged[answer.json()["prediction_id"]] = time.monotonic()
                else:
                    self.refused += 1

    def more(self, count: int) -> None:
        """Wait until ``count`` more are answered than now."""
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, f"{count} more answers")

    def missing_in(self, log: Log, killed_at: float, within_s: float) -> int:
        """Give how many are not in the log; what was answered more than ``within_s`` before the kill must be."""
        missing = self.acknowledged.keys() - set(_logged(log))
        older = [killed_at - self.acknowledged[each] for each in missing if self.acknowledged[each] < killed_at - within_s]
        assert older == [], f"{len(older)} of {len(missing)}"
        return len(missing)

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for each in self._asking:
            each.result()
        self._threads.shutdown()


def _logged(log: Log) -> list[str]:
    return [str(UUID(bytes=record["prediction_id"])) for record in log.records("sum")]


def _lost(log: Log) -> list[tuple[str, str, int]]:
    return log.run("SELECT endpoint, slot, predictions FROM serving_lostpredictions ORDER BY 1, 2, 3")


@pytest.mark.long
def test_a_kill_under_the_fast_policy_says_how_many_predictions_it_lost(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one)]))
    plane_with_log.start()
    # The table is locked: a write is given up after two seconds and spooled, and the next one hangs when the process is killed.
    with psycopg.connect(log.url) as locking, Askers(plane_with_log.url) as askers:
        askers.more(200)
        locking.execute("LOCK TABLE serving_predictionsegment IN ACCESS EXCLUSIVE MODE")
        time.sleep(_GIVEN_UP_S + 1)
        askers.more(100)
        killed_at = time.monotonic()
        plane_with_log.stop(signal.SIGKILL)
    for _ in range(2):  # once, however often somebody looks
        plane_with_log.start()
        ((name, slot, lost),) = wait_for(lambda: _lost(log), "the count of what was lost")
        assert (name, slot) == ("sum", "blue")
        wait_for(lambda: not list((plane_with_log.var_dir / "dataplane" / "spool").glob("*.segment")), "the spool to be drained")
        missing = askers.missing_in(log, killed_at, _FLUSH_S + _GIVEN_UP_S + _PROMPT_S)
        assert missing >= 50
        # What was handed to the log while its answer was on the way counts too: one per connection at most.
        assert missing <= lost <= missing + _ASKING
        _ask(plane_with_log.client)
        assert plane_with_log.stop() == 0
    assert list(tally.folder_for(plane_with_log.var_dir).iterdir()) == []


@pytest.mark.long
def test_of_processes_that_share_a_socket_the_living_one_counts_what_the_dead_one_lost(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one)]))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        first, second = (Plane(plane_with_log.var_dir, log.url, sock=sock).start() for _ in range(2))
        wait_for(lambda: log.run("SELECT count(*) FROM serving_dataplaneprocess WHERE ready") == [(2,)], "both to be ready")
        with Askers(first.url) as askers:
            askers.more(100)
            time.sleep(4 * _PROMPT_S)
            killed_at = time.monotonic()
            first.stop(signal.SIGKILL)
        with Askers(second.url) as others:
            others.more(100)
        folder = tally.folder_for(second.var_dir)
        wait_for(lambda: len(list(folder.iterdir())) == 1, "the dead process's count to be read")
        assert second.stop() == 0
    logged = _logged(log)
    assert len(logged) == len(set(logged))
    assert others.acknowledged.keys() <= set(logged)
    missing = askers.missing_in(log, killed_at, _FLUSH_S + _PROMPT_S)
    assert missing <= sum(lost for _, _, lost in _lost(log)) <= missing + _ASKING


def test_a_full_disk_without_postgres_refuses_durable_predictions_and_counts_the_others(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one), endpoint("safe", one, log_policy="durable")]))
    client = plane_with_log.start().client
    assert plane_with_log.process is not None
    identifiers = [_ask(client).json()["prediction_id"]]
    wait_for(lambda: log.records("sum"), "the log")
    log.run("ALTER TABLE serving_predictionsegment RENAME TO away")
    try:
        whole = resource.prlimit(plane_with_log.process.pid, resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
        assert [_ask(client).status_code for _ in range(7)] == [200] * 7
        refused = _ask(client, "safe")
        assert (refused.status_code, "could not be logged" in refused.text) == (503, True)
        assert wait_for(lambda: _lost(log), "the count of what was lost") == [("sum", "blue", 7)]
        assert 'signalbox_log_lost_predictions_total{endpoint="sum",' in client.get("/metrics").text
        assert list((plane_with_log.var_dir / "dataplane" / "spool").glob("*.*")) == []
        resource.prlimit(plane_with_log.process.pid, resource.RLIMIT_FSIZE, whole)
        kept = _ask(client, "safe").json()["prediction_id"]
    finally:
        log.run("ALTER TABLE away RENAME TO serving_predictionsegment")
    wait_for(lambda: log.records("safe"), "the spool to be drained")
    plane_with_log.stop()
    assert _logged(log) == identifiers
    assert [str(UUID(bytes=record["prediction_id"])) for record in log.records("safe")] == [kept]
    assert _lost(log) == [("sum", "blue", 7)]


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[tuple[Log, list[int]]]:
    """A Postgres that a test may freeze, migrated, and how to find its processes."""
    folder = tmp_path / "postgres"
    server = postgres.start(var_dir=folder, run_dir=folder / "run", durable=False)
    url = f"postgresql://signalbox@/signalbox?host={folder}/run"
    try:
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, check=True)
        yield Log(url), [server.process.pid]
    finally:
        server.stop()


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _with_children(int(child)))]


@pytest.mark.long
def test_durable_answers_keep_coming_while_postgres_is_frozen_and_all_are_logged(tmp_path: Path, own_postgres: tuple[Log, list[int]]) -> None:
    log, (postmaster,) = own_postgres
    plane = Plane(tmp_path, log.url)
    one = models.regressor(plane.artifacts)
    log.publish(table([one], [endpoint("sum", one, log_policy="durable")]))
    plane.start()
    frozen: list[int] = []
    try:
        with Askers(plane.url) as askers:
            askers.more(50)
            frozen = _with_children(postmaster)
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            askers.more(_ASKING)  # the one flush that waits
            askers.more(400)  # and then at the spool's speed: in steps of two seconds these would take minutes
            assert list((plane.var_dir / "dataplane" / "spool").glob("*.segment"))
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
            frozen = []
            wait_for(lambda: not list((plane.var_dir / "dataplane" / "spool").glob("*.segment")), "the spool to be drained", timeout_s=30)
            askers.more(50)
        assert plane.stop() == 0
        logged = _logged(log)
        assert askers.refused == 0
        assert sorted(logged) == sorted(askers.acknowledged)
        assert _lost(log) == []
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        plane.end()


def test_connections_that_failed_do_not_stay_in_memory() -> None:
    """They would until the collector runs, which is seldom in the data plane: 16 kB for each time that it has looked for Postgres."""
    link = Link(NO_DATABASE, "tests")
    gc.collect()
    gc.disable()
    try:
        before = _connections()
        for _ in range(3):
            with pytest.raises(Away):
                link.run(lambda connection: connection.execute("SELECT 1"))
            link.close()
        assert _connections() == before
    finally:
        gc.enable()


def _connections() -> int:
    return sum(type(each) is PGconn for each in gc.get_objects())


def test_a_segment_that_was_being_written_counts_as_logged_where_it_is_found(tmp_path: Path, log: Log) -> None:
    spool = Spool(tmp_path / "spool")
    found, gone, replaced = uuid7(), uuid7(), uuid7()
    log.run(
        "INSERT INTO serving_predictionsegment (id, endpoint, slot, model, version, build_digest, table_revision, rows, first_at, last_at, columns)"
        " VALUES (%s, 'sum', 'blue', 'sum', 1, '', 1, 5, now(), now(), '')",
        found,
    )
    log.run("INSERT INTO serving_replacedsegment (id, at) VALUES (%s, now())", replaced)
    folder = tmp_path / "tallies"
    folder.mkdir()
    pid = os.fork()
    if pid == 0:  # a process that dies between writing and saying so
        dying = Tally(folder, uuid7())
        for slot, segment in (("blue", found), ("green", gone), ("red", replaced)):
            dying.answered("sum", slot, 7)
            dying.begin(("sum", slot), 2, uuid7())
            dying.end(("sum", slot), 2, safe=slot != "green")
            dying.begin(("sum", slot), 4, segment)
        os._exit(0)
    os.waitpid(pid, 0)
    survivor = Tally(folder, uuid7())
    with psycopg.connect(log.url, autocommit=True) as connection:
        survivor.count_dead(spool, connection)
        survivor.count_dead(spool, connection)
    assert _lost(log) == [("sum", "blue", 1), ("sum", "green", 7), ("sum", "red", 1)]


def test_a_spooled_segment_that_compaction_has_replaced_is_not_inserted_again(tmp_path: Path, log: Log) -> None:
    spool = Spool(tmp_path / "spool")
    replaced, new = uuid7(), uuid7()
    log.run("INSERT INTO serving_replacedsegment (id, at) VALUES (%s, now())", replaced)
    at = datetime.now(UTC)
    same = {"endpoint": "sum", "slot": "blue", "model": "sum", "version": 1, "build_digest": "", "table_revision": 1}
    spool.keep([Segment(id=each, **same, rows=5, first_at=at, last_at=at, columns=b"") for each in (replaced, new)])  # type: ignore[arg-type]  # of several types
    survivor = PredictionLog(Link(log.url, "tests"), spool, Tally(tmp_path, uuid7()))
    survivor.start()
    wait_for(lambda: not spool.count(), "an empty spool")
    survivor.stop()
    assert log.run("SELECT id FROM serving_predictionsegment") == [(new,)]


@dataclass
class _Behind:
    """A log whose first segment of many waits for a Postgres that takes it once ``slow`` rolls back, and is too late for the others then."""

    log: PredictionLog
    slow: psycopg.Connection[Any]
    spool: Path

    def spooled(self) -> int:
        return len(list(self.spool.glob("*.segment")))


@contextlib.contextmanager
def _behind(folder: Path, log: Log) -> Iterator[_Behind]:
    build = loaded(folder, models.regressor(folder))
    rows = np.zeros((20_000, 3), np.float32)
    answered = Batch({"input": rows}, [np.zeros((20_000, 1), np.float32)], None, [(uuid7().bytes, 20_000, 1_000_000, 10, None, None)])
    with bare_engine(folder, log.url) as (engine, _), psycopg.connect(log.url) as slow:
        (slot,) = adopt(engine, [build], endpoint("sum", build[0])).endpoints["sum"].slots
        slow.execute("LOCK TABLE serving_predictionsegment IN EXCLUSIVE MODE")
        for _ in range(20):
            engine.log.append(slot, answered)
        engine.log.start()
        wait_for(
            lambda: log.run("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INTO serving_predictionsegment%%'"), "a writer"
        )
        time.sleep(0.3)
        yield _Behind(engine.log, slow, folder / "spool")
        engine.log.stop()


def test_much_at_once_makes_small_segments_and_waits_on_disk_for_a_slow_postgres(tmp_path: Path, log: Log) -> None:
    with _behind(tmp_path, log) as behind:
        before = behind.spooled()
        with (behind.spool / "lock").open("w") as lock:  # none is drained meanwhile
            fcntl.flock(lock, fcntl.LOCK_EX)
            behind.slow.rollback()
            wait_for(lambda: not behind.log.waiting()[0], "the flush")
            spooled = behind.spooled()
        wait_for(lambda: not behind.spooled(), "an empty spool")
    segments = [count for (count,) in log.run("SELECT rows FROM serving_predictionsegment")]
    assert (before, spooled, sum(segments)) == (0, len(segments) - 1, 400_000)
    assert max(segments) <= 80_000


def test_what_the_spool_cannot_take_either_waits_for_a_slow_postgres_and_is_let_go_piece_by_piece(tmp_path: Path, log: Log) -> None:
    with _behind(tmp_path, log) as behind:
        shutil.rmtree(behind.spool)
        log.run("CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.15); RETURN NEW; END' LANGUAGE plpgsql")
        behind.slow.execute("CREATE TRIGGER slow BEFORE INSERT ON serving_predictionsegment FOR EACH ROW EXECUTE FUNCTION slow()")
        behind.slow.commit()
        found = []
        try:
            while waiting := behind.log.waiting()[0]:
                found.append(waiting)
                time.sleep(0.01)
        finally:
            log.run("DROP FUNCTION slow CASCADE")
        assert behind.log.lost == {}
    assert set(found) >= {16, 12, 8, 4}
    assert log.run("SELECT sum(rows) FROM serving_predictionsegment") == [(400_000,)]


def test_texts_count_by_their_length_for_how_large_a_segment_is(tmp_path: Path, log: Log) -> None:
    build = loaded(tmp_path, models.classifier(tmp_path))
    texts = np.array([["x" * 1000]] * 1000, dtype=object)
    outputs = [np.array(["no"] * 1000, dtype=object), np.zeros((1000, 2), np.float32), texts]
    answered = Batch({"age": np.zeros((1000, 1), np.float32), "plan": texts}, outputs, None, [(uuid7().bytes, 1000, 1_000_000, 10, None, None)])
    with bare_engine(tmp_path, log.url) as (engine, _):
        (slot,) = adopt(engine, [build], endpoint("churn", build[0])).endpoints["churn"].slots
        for _ in range(3):
            engine.log.append(slot, answered)
        engine.log.start()
        wait_for(lambda: not engine.log.waiting()[0], "the flush")
        engine.log.stop()
    wait_for(lambda: log.run("SELECT rows FROM serving_predictionsegment") == [(1000,)] * 3, "three segments")


def test_who_cannot_be_told_that_it_is_written_costs_nothing_of_the_log(tmp_path: Path, log: Log) -> None:
    def cannot(safe: bool) -> None:
        raise RuntimeError("Event loop is closed")

    build = loaded(tmp_path, models.regressor(tmp_path))
    rows = np.zeros((100_000, 3), np.float32)
    answered = Batch({"input": rows}, [np.zeros((100_000, 1), np.float32)], None, [(uuid7().bytes, 100_000, 1_000_000, 10, None, None)])
    with bare_engine(tmp_path, log.url) as (engine, _):
        (slot,) = adopt(engine, [build], endpoint("sum", build[0])).endpoints["sum"].slots
        for on_written in (cannot, None, None):
            engine.log.append(slot, answered, on_written)
        engine.log.start()
        wait_for(lambda: not engine.log.waiting()[0], "the flush")
        engine.log.stop()
    assert log.run("SELECT sum(rows) FROM serving_predictionsegment") == [(300_000,)]


def test_a_spool_collects_what_a_killed_process_left_half_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    old, young = tmp_path / "old.partial", tmp_path / "young.partial"
    for path in (old, young):
        path.touch()
    os.utime(old, (1, 1))
    spool.collect()
    assert list(tmp_path.iterdir()) == [young]


def test_the_log_is_committed_to_the_disk_also_where_the_server_would_not(log: Log) -> None:
    link = Link(f"{log.url}&options=-csynchronous_commit%3Doff", "tests")
    assert link.run(lambda connection: connection.execute("SHOW synchronous_commit").fetchone()) == ("on",)
    link.close()
