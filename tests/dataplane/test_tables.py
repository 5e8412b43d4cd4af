"""Following the published table: under load, without Postgres, and with builds that cannot be loaded."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from core.ids import uuid7
from registry.signature import Feature, Kind
from serving.dataplane.builds import Build, Builds, CompiledBuild
from serving.dataplane.counts import TrafficCounts
from serving.dataplane.engine import Engine
from serving.dataplane.live import Routes
from serving.dataplane.log import PredictionLog
from serving.dataplane.postgres import Link
from serving.dataplane.spool import Spool
from serving.dataplane.tally import Tally
from serving.runtimes.onnx import OnnxBuild
from serving.table import BuildEntry, RouteTable
from tests.dataplane import models
from tests.dataplane.conftest import HEADERS, NO_DATABASE, Log, Plane, endpoint, resident_bytes, table, wait_for
from tests.metrics_page import value_of

# The data plane writes with connections of its own; the mark has the test database made.
pytestmark = pytest.mark.django_db

ROWS = {"rows": [{"a": 1, "b": 2, "c": 3}]}


def _shows(plane: Plane, revision: int) -> bool:
    return value_of(plane.client.get("/metrics").text, "signalbox_route_table_revision") == revision


def _answer(plane: Plane, name: str = "sum") -> httpx.Response:
    return plane.client.post(f"/v2/models/{name}/predict", json=ROWS)


def test_swaps_under_load_fail_no_request_and_answer_only_from_what_is_live(plane_with_log: Plane, log: Log) -> None:
    builds = [models.regressor(plane_with_log.artifacts, version=number, offset=number / 4) for number in (1, 2, 3, 4)]
    log.publish(table(builds, [endpoint("sum", builds[0])]))
    plane_with_log.start()
    published = threading.Event()
    wrong: list[object] = []
    asked = [0] * 4
    # A version may answer from the moment its table is written until the next one is live everywhere.
    live = {1}

    def ask(worker: int) -> None:
        with httpx.Client(base_url=plane_with_log.url, headers=HEADERS) as client:
            while not published.is_set():
                allowed = set(live)
                answer = client.post("/v2/models/sum/predict", json=ROWS)
                allowed |= live
                document = answer.json()
                if (
                    answer.status_code != 200
                    or document["version"] not in allowed
                    or document["predictions"] != [{"prediction": 321 + document["version"] / 4}]
                ):
                    wrong.append((answer.status_code, document, allowed))
                asked[worker] += 1

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, worker) for worker in range(4)]
        for number in range(24):
            build = builds[(number + 1) % 4]
            live.add(build.version)
            revision = log.publish(table(builds, [endpoint("sum", build)]))
            wait_for(partial(_shows, plane_with_log, revision), "the new table")
            live.intersection_update({build.version})
        published.set()
        for each in asking:
            each.result()
    assert wrong == []
    assert min(asked) > 10


def test_a_new_table_is_live_by_the_hint_and_also_when_the_hint_is_lost(plane_with_log: Plane, log: Log) -> None:
    one, two = models.regressor(plane_with_log.artifacts), models.regressor(plane_with_log.artifacts, version=2)
    log.publish(table([one], [endpoint("sum", one)]))
    plane_with_log.start()
    log.publish(table([one, two], [endpoint("sum", two)]))
    wait_for(lambda: _answer(plane_with_log).json()["version"] == 2, "version 2", timeout_s=3)
    log.publish(table([one, two], [endpoint("sum", one)]), hint=False)
    wait_for(lambda: _answer(plane_with_log).json()["version"] == 1, "version 1 by the poll", timeout_s=3)


def test_an_endpoint_that_is_gone_is_404_and_a_key_that_is_gone_401(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one), endpoint("other", one)]))
    plane_with_log.start()
    log.publish(table([one], [endpoint("other", one)]))
    wait_for(lambda: _answer(plane_with_log).status_code == 404, "the endpoint to go", timeout_s=3)
    assert _answer(plane_with_log, "other").status_code == 200
    log.publish(table([one], [endpoint("other", one)], keys=()))
    wait_for(lambda: _answer(plane_with_log, "other").status_code == 401, "the key to go", timeout_s=3)


def test_starts_from_disk_without_postgres_even_if_the_artifacts_are_gone(plane: Plane, log: Log) -> None:
    one = models.regressor(plane.artifacts)
    revision = log.publish(table([one], [endpoint("sum", one)]))
    first = Plane(plane.var_dir, log.url).start()
    assert _answer(first).json()["predictions"] == [{"prediction": 321.0}]
    wait_for((plane.var_dir / "dataplane" / "table.json").exists, "the table on disk")
    first.stop()
    for path in plane.artifacts.rglob("*"):
        if path.is_file():
            path.unlink()
    plane.start()
    assert _answer(plane).json()["predictions"] == [{"prediction": 321.0}]
    assert _shows(plane, revision)


def test_an_empty_table_is_ready_and_knows_nothing(plane_with_log: Plane, log: Log) -> None:
    plane_with_log.start()
    assert _answer(plane_with_log).status_code == 401
    assert plane_with_log.client.get("/v2").status_code == 200


def test_a_build_that_cannot_be_loaded_leaves_the_endpoint_as_it_was_and_is_reported(plane_with_log: Plane, log: Log) -> None:
    one, two = models.regressor(plane_with_log.artifacts), models.regressor(plane_with_log.artifacts, version=2)
    log.publish(table([one], [endpoint("sum", one), endpoint("other", one)]))
    plane_with_log.start()
    path = next(plane_with_log.artifacts.rglob(two.digest))
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    revision = log.publish(table([one, two], [endpoint("sum", two), endpoint("new", two)]))

    def reported() -> list[dict[str, str]]:
        rows = log.run("SELECT builds FROM serving_dataplaneprocess WHERE table_revision = %s", revision)
        return [build for build in rows[0][0] if build["error"]] if rows else []

    (failed,) = wait_for(reported, "the report")
    assert failed["digest"] == two.digest
    assert "not in the artifact store, or was changed" in failed["error"]
    assert _answer(plane_with_log).json()["version"] == 1
    assert _answer(plane_with_log, "new").status_code == 503
    assert _answer(plane_with_log, "other").status_code == 404
    path.write_bytes(content)
    wait_for(lambda: _answer(plane_with_log, "new").status_code == 200, "the restored build")
    assert _answer(plane_with_log).json()["version"] == 2


def test_a_build_whose_signature_cannot_be_served_costs_the_others_nothing(plane_with_log: Plane, log: Log) -> None:
    twice = tuple(Feature(name=name, kind=Kind.NUMBER) for name in "aab")
    good, bad = models.regressor(plane_with_log.artifacts), models.regressor(plane_with_log.artifacts, version=2, features=twice)
    log.publish(table([good, bad], [endpoint("sum", good), endpoint("bad", bad)]))
    plane_with_log.start()
    assert (_answer(plane_with_log).status_code, _answer(plane_with_log, "bad").status_code) == (200, 503)
    rows = wait_for(lambda: log.run("SELECT builds FROM serving_dataplaneprocess"), "the report")
    assert [build["digest"] for build in rows[0][0] if "Its signature cannot be served" in build["error"]] == [bad.digest]


def test_connections_that_were_open_at_a_new_table_leave_the_memory_when_they_end(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    log.publish(table([one], [endpoint("sum", one)]))
    plane = plane_with_log.start()
    sizes = []
    for _ in range(5):
        connections = [socket.create_connection(("127.0.0.1", plane.port), timeout=10) for _ in range(40)]
        for length in range(30):  # each of these heads is kept with its connection
            body = json.dumps(ROWS).encode() + b" " * length
            padding = f"X-Padding: {'x' * 3500}\r\nAuthorization: {HEADERS['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
            for connection in connections:
                connection.sendall(b"POST /v2/models/sum/predict HTTP/1.1\r\nHost: x\r\n" + padding.encode() + body)
            for connection in connections:
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        revision = log.publish(table([one], [endpoint("sum", one)]))
        wait_for(partial(_shows, plane, revision), "the new table")
        for connection in connections:
            connection.close()
        sizes.append(resident_bytes(plane))
    assert sizes[-1] - sizes[1] < 8 * 2**20, sizes  # kept, those of three rounds would be 15 MiB


def test_a_build_that_killed_two_processes_is_not_loaded_again(plane: Plane) -> None:
    one, two = models.regressor(plane.artifacts), models.regressor(plane.artifacts, version=2)
    plane.keep(table([one, two], [endpoint("sum", one), endpoint("bad", two)]))
    markers = plane.var_dir / "dataplane" / "loading"
    markers.mkdir(parents=True)
    for pid, seconds_ago in ((2**22 - 1, 10), (2**22 - 2, 5)):
        marker = markers / f"{two.digest}.{pid}"
        marker.touch()
        os.utime(marker, (time.time() - seconds_ago,) * 2)
    plane.start()
    assert _answer(plane).status_code == 200
    assert _answer(plane, "bad").status_code == 503
    assert "ended processes 2 times within the hour" in plane.log_text()


def test_a_power_cut_while_two_processes_load_a_build_counts_as_one_crash(plane: Plane) -> None:
    one = models.regressor(plane.artifacts)
    plane.keep(table([one], [endpoint("sum", one)]))
    markers = plane.var_dir / "dataplane" / "loading"
    markers.mkdir(parents=True)
    for pid in (2**22 - 1, 2**22 - 2):
        (markers / f"{one.digest}.{pid}").touch()
    plane.start()
    assert _answer(plane).status_code == 200


def test_a_file_that_cannot_be_read_keeps_no_other_change_from_going_live(plane_with_log: Plane, log: Log) -> None:
    one, two = models.regressor(plane_with_log.artifacts), models.regressor(plane_with_log.artifacts, version=2)
    log.publish(table([one], [endpoint("sum", one)]))
    plane_with_log.start()
    path = next(plane_with_log.artifacts.rglob(two.digest))
    path.unlink()
    path.mkdir()
    log.publish(table([one, two], [endpoint("sum", one), endpoint("new", two)], keys=()))
    wait_for(lambda: _answer(plane_with_log).status_code == 401, "the key to go", timeout_s=3)


def test_a_build_that_left_its_slot_leaves_the_memory(tmp_path: Path) -> None:
    one, two = models.regressor(tmp_path), models.regressor(tmp_path, version=2)
    loop = asyncio.new_event_loop()
    log = PredictionLog(Link(NO_DATABASE, "tests"), Spool(tmp_path / "spool"), Tally(tmp_path, uuid7()))
    engine = Engine(log, TrafficCounts(uuid7()), loop)

    def adopt(entry: BuildEntry) -> weakref.ref[OnnxBuild]:
        builds = Builds()
        runtime = OnnxBuild(next(tmp_path.rglob(entry.digest)).read_bytes(), entry.signature)
        build = Build(entry, lambda _: None, runtime.facts(0))
        build.runtime = runtime
        builds.add(CompiledBuild(entry, build))
        engine.adopt(Routes(table([entry], [endpoint("sum", entry)]), builds, {}, engine.routes))
        assert engine.routes is not None
        return weakref.ref(runtime)

    try:
        first = adopt(one)
        gc.collect()
        gc.freeze()  # as the follower does: what is frozen is freed by its last reference or never
        adopt(two)
        assert first() is None
    finally:
        gc.unfreeze()
        engine.close()
        loop.close()


def test_sigterm_takes_readiness_away_first_and_fails_no_request(plane: Plane) -> None:
    one = models.regressor(plane.artifacts)
    plane.keep(table([one], [endpoint("sum", one)]))
    plane.start()
    assert plane.process is not None
    plane.process.terminate()
    wait_for(lambda: httpx.get(f"{plane.url}/v2/health/ready").json() == {"ready": False}, "readiness to go", timeout_s=1)
    answer = _answer(plane)
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"
    assert plane.process.wait(timeout=10) == 0


def test_a_table_that_cannot_be_read_changes_nothing(plane_with_log: Plane, log: Log) -> None:
    one = models.regressor(plane_with_log.artifacts)
    document: RouteTable = table([one], [endpoint("sum", one)])
    log.publish(document)
    plane_with_log.start()
    log.run("INSERT INTO serving_publishedtable (document, published_at) VALUES ('nonsense', now())")
    wait_for(lambda: "Following the route table failed" in plane_with_log.log_text(), "the report")
    assert _answer(plane_with_log).status_code == 200
