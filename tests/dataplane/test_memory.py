"""Builds in memory: a budget that holds, loading on demand, and what outlives a change of the table."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from serving.dataplane.builds import Build, Builds, CompiledBuild, State
from serving.dataplane.call import Call, Head, Route
from serving.dataplane.crashes import CrashWatch
from serving.dataplane.live import Routes
from serving.dataplane.memory import BuildMemory, budget_of, machine_bytes
from serving.dataplane.store import BuildStore
from serving.runtimes.onnx import OnnxBuild
from serving.table import EndpointEntry, Limits, Reader, SlotEntry, ValidationPolicy, decode, encode
from tests.dataplane import models
from tests.dataplane.bare_engine import adopt, bare_engine
from tests.dataplane.conftest import KEY, Log, Plane, endpoint, table, wait_for

pytestmark = pytest.mark.django_db
MEGABYTE = 2**20
BUDGET = 100 * MEGABYTE


def _ask(plane: Plane, name: str, a: float = 1) -> httpx.Response:
    return plane.client.post(f"/v2/models/{name}/predict", json={"rows": [{"a": a}]})


def _states(log: Log) -> dict[str, dict[str, Any]]:
    rows = log.run("SELECT builds FROM serving_dataplaneprocess")
    return {build["digest"]: build for build in rows[0][0]} if rows else {}


def _loaded(log: Log) -> set[str]:
    return {digest for digest, build in _states(log).items() if build["state"] == "loaded"}


def _limited(plane: Plane, budget: int = BUDGET) -> Plane:
    plane.environ = {"SIGNALBOX_BUILD_MEMORY_BYTES": str(budget), "SIGNALBOX_DATAPLANE_PROCESSES": "1", "SIGNALBOX_GRPC_PORT": "0"}
    return plane


def test_the_budget_is_kept_and_every_endpoint_answers(plane_with_log: Plane, log: Log) -> None:
    builds = [models.large(plane_with_log.artifacts, version=number) for number in range(1, 13)]
    log.publish(table(builds, [endpoint(f"e{build.version}", build) for build in builds]))
    plane = _limited(plane_with_log).start()
    for turn in range(2):
        for build in builds:
            answer = _ask(plane, f"e{build.version}", turn)
            assert answer.status_code == 200, answer.text
            assert answer.json()["predictions"] == [{"prediction": turn + build.version}]
    last = builds[-1].digest

    def settled() -> Any:
        found = _states(log)
        return found and found[last]["state"] == "loaded" and "loading" not in {build["state"] for build in found.values()} and found

    states = wait_for(settled, "the report")
    assert {build["state"] for build in states.values()} == {"loaded", "unloaded"}
    assert all(build["memory_bytes"] >= 10 * MEGABYTE for build in states.values())
    assert sum(build["memory_bytes"] for build in states.values() if build["state"] == "loaded") <= BUDGET


def test_what_stands_by_leaves_the_memory_before_what_answers(plane_with_log: Plane, log: Log) -> None:
    live = models.large(plane_with_log.artifacts, version=1, megabytes=20)
    standing_by = [models.large(plane_with_log.artifacts, version=number, megabytes=20) for number in (2, 3, 4)]
    endpoints = [endpoint(f"e{build.version}", live, ("green", build, 0, False)) for build in standing_by]
    log.publish(table([live, *standing_by], endpoints))
    plane = _limited(plane_with_log, 60 * MEGABYTE).start()
    wait_for(lambda: live.digest in _loaded(log), "the report")
    states = _states(log)
    assert states[live.digest]["state"] == "loaded"
    assert "unloaded" in {states[build.digest]["state"] for build in standing_by}
    wanted = next(build for build in standing_by if states[build.digest]["state"] == "unloaded")
    asked = plane.client.post(f"/v2/models/e{wanted.version}/versions/{wanted.version}/predict", json={"rows": [{"a": 1}]})
    assert asked.json()["predictions"] == [{"prediction": 1 + wanted.version}]
    log.publish(table([live, *standing_by], [endpoint(f"e{build.version}", build, ("green", live, 0, False)) for build in standing_by]))
    wait_for(lambda: _ask(plane, f"e{wanted.version}").json()["version"] == wanted.version, "the promotion")


def test_a_build_in_memory_is_not_kept_there_as_a_file_too(plane_with_log: Plane, log: Log) -> None:
    small, large = models.regressor(plane_with_log.artifacts), models.large(plane_with_log.artifacts, megabytes=64)
    log.publish(table([small], [endpoint("sum", small)]))
    plane = plane_with_log.start()
    assert plane.process is not None
    statm = Path(f"/proc/{plane.process.pid}/statm")
    before = int(statm.read_text().split()[1])
    log.publish(table([small, large], [endpoint("sum", small), endpoint("large", large)]))
    wait_for(lambda: _ask(plane, "large").status_code == 200, "the large build")
    # ONNX Runtime folds the constant away, so all that could be left of it is the file.
    assert (int(statm.read_text().split()[1]) - before) * os.sysconf("SC_PAGE_SIZE") < 32 * MEGABYTE


def test_a_herd_of_callers_loads_a_build_once(plane: Plane) -> None:
    builds = [models.large(plane.artifacts, version=number, megabytes=20) for number in (1, 2, 3, 4)]
    plane.keep(table(builds, [endpoint(f"e{build.version}", build) for build in builds]))
    _limited(plane, 50 * MEGABYTE).start()
    for build in builds[1:]:
        assert _ask(plane, f"e{build.version}").status_code == 200
    before = plane.log_text().count("large version 1 was loaded")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: _ask(plane, "e1", number), range(32)))
    assert [answer.status_code for answer in answers] == [200] * 32
    assert [answer.json()["predictions"] for answer in answers] == [[{"prediction": number + 1.0}] for number in range(32)]
    assert plane.log_text().count("large version 1 was loaded") == before + 1


def test_a_restart_measures_nothing_again_and_loads_what_fits(plane: Plane) -> None:
    builds = [models.large(plane.artifacts, version=number, megabytes=20) for number in (1, 2, 3, 4)]
    plane.keep(table(builds, [endpoint(f"e{build.version}", build) for build in builds]))
    _limited(plane, 50 * MEGABYTE).start()
    assert plane.stop() == 0
    assert plane.log_text().count("was loaded in") == 4
    plane.start()
    assert plane.log_text().count("was loaded in") < 8
    assert [_ask(plane, f"e{build.version}").json()["predictions"] for build in builds] == [[{"prediction": 1.0 + build.version}] for build in builds]


def test_a_call_that_waits_for_its_build_ends_at_its_deadline(tmp_path: Path) -> None:
    entry = models.regressor(tmp_path)
    runtime = OnnxBuild(next(tmp_path.rglob(entry.digest)).read_bytes(), entry.signature)
    asked: list[Build] = []
    build = Build(entry, asked.append, runtime.facts(0))
    answers: list[int] = []
    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, [(entry, build)], endpoint("sum", entry, limits=Limits(timeout_ms=100)))
        head = Head(Route("sum", "", "predict"), {b"authorization": f"Bearer {KEY}".encode()})

        def ask() -> None:
            engine.submit(Call(head, b'{"rows":[{"a":1,"b":2,"c":3}]}', lambda status, *_: answers.append(status)))

        for _ in range(3):
            ask()
        loop.run_until_complete(asyncio.sleep(0.4))
        assert answers == [504] * 3
        assert asked == [build]
        assert engine.routes is not None
        assert engine.routes.endpoints["sum"].flight.calls == 0
        build.arrive(runtime)
        ask()
        loop.run_until_complete(asyncio.sleep(0.05))
        assert answers == [504] * 3 + [200]


def test_a_build_that_cannot_be_loaded_for_a_call_is_503_with_the_reason(plane: Plane) -> None:
    builds = [models.large(plane.artifacts, version=number, megabytes=20) for number in (1, 2, 3, 4)]
    plane.keep(table(builds, [endpoint(f"e{build.version}", build) for build in builds]))
    _limited(plane, 50 * MEGABYTE).start()
    for build in builds[1:]:
        assert _ask(plane, f"e{build.version}").status_code == 200
    contents = {path: path.read_bytes() for path in plane.var_dir.rglob(builds[0].digest) if path.stat().st_size > MEGABYTE}
    for path in contents:
        path.unlink()
    refused = _ask(plane, "e1")
    assert refused.status_code == 503
    assert "could not be loaded: The file" in refused.text
    for path, content in contents.items():
        path.write_bytes(content)
    assert _ask(plane, "e1").json()["predictions"] == [{"prediction": 2.0}]


def test_a_table_hands_on_what_it_does_not_change(tmp_path: Path) -> None:
    entry = models.regressor(tmp_path)
    build = Build(entry, lambda _: None, OnnxBuild(next(tmp_path.rglob(entry.digest)).read_bytes(), entry.signature).facts(0))
    compiled = CompiledBuild(entry, build)
    builds = Builds()
    builds.add(compiled)
    with bare_engine(tmp_path) as (engine, _):
        engine.adopt(Routes(table([entry], [endpoint("one", entry), endpoint("two", entry)]), builds, {}, None))
        before = engine.routes
        assert before is not None
        other = EndpointEntry(id="two", name="two", revision=2, slots=(SlotEntry(name="green", build_digest=entry.digest, weight=100, live=True),))
        engine.adopt(Routes(table([entry], [endpoint("one", entry), other], revision=2), builds, {}, before))
        after = engine.routes
        assert after is not None
        assert after.endpoints["one"] is before.endpoints["one"]
        assert after.endpoints["one"].slots[0].table_revision == 2
        assert after.endpoints["two"] is not before.endpoints["two"]
        assert after.endpoints["two"].flight is before.endpoints["two"].flight
        assert after.keys is before.keys


def test_a_reader_gives_the_same_builds_as_long_as_they_are_the_same(tmp_path: Path) -> None:
    one, two, changed = models.regressor(tmp_path), models.regressor(tmp_path, version=2), models.regressor(tmp_path, version=2, offset=1)
    reader = Reader()
    first = reader.decode(encode(table([one, two], [endpoint("sum", one)])))
    second = reader.decode(encode(table([one, changed], [endpoint("sum", one)], revision=2)))
    assert (first.builds, second.builds) == ((one, two), (one, changed))
    assert second.builds[0] is first.builds[0]
    assert decode(reader.encode(second)) == second


def test_a_call_in_a_replaced_slot_still_ends_at_its_deadline(plane_with_log: Plane, log: Log) -> None:
    slow, other = models.slow(plane_with_log.artifacts, loops=250_000), models.large(plane_with_log.artifacts, megabytes=1)
    limits = Limits(timeout_ms=100)
    log.publish(table([slow, other], [endpoint("slow", slow, limits=limits)]))
    plane = plane_with_log.start()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(_ask, plane, "slow")
        log.publish(table([slow, other], [endpoint("slow", other, limits=limits)]))
        assert running.result().status_code == 504
    wait_for(lambda: _ask(plane, "slow").json().get("version") == 1, "the other model")


def test_the_limit_and_the_deadline_count_calls_of_a_replaced_slot(tmp_path: Path) -> None:
    one, two = models.regressor(tmp_path), models.regressor(tmp_path, version=2)
    runtime = OnnxBuild(next(tmp_path.rglob(one.digest)).read_bytes(), one.signature)
    builds = [(entry, Build(entry, lambda _: None, runtime.facts(0))) for entry in (one, two)]
    builds[1][1].runtime = runtime
    limits = Limits(timeout_ms=100, max_concurrency=1)
    answers: list[int] = []
    head = Head(Route("sum", "", "predict"), {b"authorization": f"Bearer {KEY}".encode()})

    def ask() -> None:
        engine.submit(Call(head, b'{"rows":[{"a":1,"b":2,"c":3}]}', lambda status, *_: answers.append(status)))

    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, builds, endpoint("sum", one, limits=limits))
        ask()  # waits for its build
        adopt(engine, builds, endpoint("sum", two, limits=limits))
        ask()
        assert answers == [503]
        loop.run_until_complete(asyncio.sleep(0.3))
        assert answers == [503, 504]
        ask()
        loop.run_until_complete(asyncio.sleep(0.05))
        assert answers == [503, 504, 200]


def test_a_refused_request_counts_once_whatever_a_shadow_makes_of_its_copy(tmp_path: Path) -> None:
    one, two = models.regressor(tmp_path), models.regressor(tmp_path, version=2)
    runtime = OnnxBuild(next(tmp_path.rglob(one.digest)).read_bytes(), one.signature)
    builds = [(entry, Build(entry, lambda _: None, runtime.facts(0))) for entry in (one, two)]
    for _, build in builds:
        build.runtime = runtime
    answers: list[int] = []
    head = Head(Route("sum", "", "predict"), {b"authorization": f"Bearer {KEY}".encode()})
    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, builds, endpoint("sum", one, ("green", two, 0, True), validation=ValidationPolicy(default="refuse")))
        engine.submit(Call(head, b'{"rows":[{"a":99,"b":1,"c":1}]}', lambda status, *_: answers.append(status)))
        loop.run_until_complete(asyncio.sleep(0.05))
        assert answers == [400]
        assert {key: (counts.requests, counts.refused) for key, counts in engine.counts.totals().items()} == {("sum", "", 0): (1, 1)}
        assert {slot: stats.fail_count for (_, slot, _), stats in engine.stats.items()} == {"blue": 1, "green": 1}


def test_who_is_told_that_the_endpoint_is_busy_has_used_nothing_of_the_rate(tmp_path: Path) -> None:
    entry = models.regressor(tmp_path)
    runtime = OnnxBuild(next(tmp_path.rglob(entry.digest)).read_bytes(), entry.signature)
    build = Build(entry, lambda _: None, runtime.facts(0))
    answers: list[int] = []
    head = Head(Route("sum", "", "predict"), {b"authorization": f"Bearer {KEY}".encode()})

    def ask() -> None:
        engine.submit(Call(head, b'{"rows":[{"a":1,"b":2,"c":3}]}', lambda status, *_: answers.append(status)))

    with bare_engine(tmp_path) as (engine, loop):
        adopt(engine, [(entry, build)], endpoint("sum", entry, limits=Limits(max_concurrency=1, requests_per_s=0.01, burst=2)))
        ask()  # waits for its build
        ask()
        assert answers == [503]
        loop.run_until_complete(asyncio.sleep(0.05))
        build.arrive(runtime)
        loop.run_until_complete(asyncio.sleep(0.05))
        ask()
        loop.run_until_complete(asyncio.sleep(0.05))
        ask()
        assert answers == [503, 200, 200, 429]


def test_a_build_that_had_to_go_before_anybody_heard_of_it_comes_back_for_its_callers_alone(tmp_path: Path) -> None:
    entry = models.regressor(tmp_path)
    runtime = OnnxBuild(next(tmp_path.rglob(entry.digest)).read_bytes(), entry.signature)
    build = Build(entry, lambda _: None, runtime.facts(0))
    build.arrive(runtime)
    assert (build.runtime, build.state) == (None, State.UNLOADED)
    heard: list[str] = []
    build.call_for(heard.append)
    build.arrive(runtime)
    assert (build.runtime, build.state, heard) == (runtime, State.LOADED, [""])
    build.state, build.error, build.runtime = State.REFUSED, "It ended processes.", None
    build.call_for(heard.append)
    build.arrive(runtime)
    assert (build.runtime, build.state, heard) == (None, State.REFUSED, ["", "It ended processes."])


def test_no_build_is_waited_for_that_is_refused_or_cannot_be_marked(tmp_path: Path) -> None:
    entries = [models.regressor(tmp_path / "artifacts", version=version) for version in (1, 2)]
    crashes = CrashWatch(tmp_path / "dataplane")
    loop = asyncio.new_event_loop()
    memory = BuildMemory(BuildStore(tmp_path / "dataplane", tmp_path / "artifacts"), crashes, loop, BUDGET, dict)
    try:
        memory.hold(entries[:1], {})
        refused = memory.builds[entries[0].digest]
        memory.load([refused])
        refused.state, refused.error = State.REFUSED, "It ended processes."
        memory.start()
        memory.wait([refused], 10)
        assert (memory.expects(refused), refused.runtime) == (False, None)

        with Path(os.devnull).open("rb") as unwritable:
            os.dup2(unwritable.fileno(), crashes.marks._file)  # as on a full disk, no digest can be written
        memory.hold(entries, {})
        unmarked = memory.builds[entries[1].digest]
        memory.load([unmarked])
        memory.wait([unmarked], 10)
        assert unmarked.state == State.LOADED
        assert unmarked.runtime is not None
        assert unmarked.runtime.mark == 0
    finally:
        memory.stop()
        loop.close()


def test_a_build_that_fails_again_as_before_is_no_news_and_one_that_comes_back_is(tmp_path: Path) -> None:
    entry = models.regressor(tmp_path)
    path = next(tmp_path.rglob(entry.digest))
    content = path.read_bytes()
    path.unlink()
    loop = asyncio.new_event_loop()
    crashes = CrashWatch(tmp_path / "crashes")
    memory = BuildMemory(BuildStore(tmp_path / "store", tmp_path), crashes, loop, BUDGET, dict)
    memory.start()
    try:
        memory.hold([entry], {})
        news = []
        for restored in (False, False, False, True):
            if restored:
                path.write_bytes(content)
            memory.load([memory.builds[entry.digest]])
            memory.wait([memory.builds[entry.digest]], 10)
            news.append(memory.changes)
        assert news == [1, 1, 1, 2]
        assert (memory.builds[entry.digest].state, memory.builds[entry.digest].error) == (State.LOADED, "")
    finally:
        memory.stop()
        loop.close()


def test_what_is_unloaded_is_freed_by_a_thread_that_does_not_give_way(tmp_path: Path) -> None:
    entries = [models.regressor(tmp_path / "artifacts", version=version) for version in (1, 2)]
    store = BuildStore(tmp_path / "dataplane", tmp_path / "artifacts")
    for entry in entries:
        facts = OnnxBuild(next((tmp_path / "artifacts").rglob(entry.digest)), entry.signature).facts(memory_bytes=10)
        store.keep_facts(entry.digest, facts)
    loop = asyncio.new_event_loop()
    memory = BuildMemory(store, CrashWatch(tmp_path / "dataplane"), loop, 15, dict)
    nice: list[int] = []
    memory.start()
    try:
        memory.hold(entries, {})
        first, second = (memory.builds[entry.digest] for entry in entries)
        memory.load([first])
        memory.wait([first], 10)
        loop.run_until_complete(asyncio.sleep(0))  # the loop has heard of it, and lets it go
        weakref.finalize(first.runtime, lambda: nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        memory.load([second])
        memory.wait([second], 10)
        assert (first.runtime, first.state, second.state) == (None, State.UNLOADED, State.LOADED)
        assert nice == [os.getpriority(os.PRIO_PROCESS, 0)]
    finally:
        memory.stop()
        loop.close()


def test_what_a_build_takes_is_measured_again_when_it_is_loaded_from_another_form(tmp_path: Path) -> None:
    entry = models.forest(tmp_path / "artifacts")
    store = BuildStore(tmp_path / "dataplane", tmp_path / "artifacts")
    store.keep_facts(entry.digest, OnnxBuild(next((tmp_path / "artifacts").rglob(entry.digest)), entry.signature).facts(memory_bytes=10))
    loop = asyncio.new_event_loop()
    memory = BuildMemory(store, CrashWatch(tmp_path / "dataplane"), loop, BUDGET, dict)
    memory.start()
    try:
        memory.hold([entry], {})
        build = memory.builds[entry.digest]
        found = []
        for known in (None, 11):
            if known is not None:
                build.facts = msgspec.structs.replace(build.known, memory_bytes=known)
                build.runtime, build.state = None, State.UNLOADED
            memory.load([build])
            memory.wait([build], 10)
            kept = store.facts(entry.digest)
            assert kept is not None
            found.append((build.known.form, build.known.memory_bytes >= entry.size_bytes, kept.form, kept.memory_bytes >= entry.size_bytes))
        assert found == [("prepared", True, "prepared", True), ("prepared", False, "prepared", True)]
    finally:
        memory.stop()
        loop.close()


def test_nothing_keeps_a_build_in_memory_that_is_in_no_table(tmp_path: Path) -> None:
    entry = models.regressor(tmp_path / "artifacts")
    loop = asyncio.new_event_loop()
    memory = BuildMemory(BuildStore(tmp_path / "dataplane", tmp_path / "artifacts"), CrashWatch(tmp_path / "dataplane"), loop, BUDGET, dict)
    memory.start()
    try:
        memory.hold([entry], {})
        memory.load(list(memory.builds.values()))
        memory.wait(list(memory.builds.values()), 10)
        loop.run_until_complete(asyncio.sleep(0))  # the loop has heard of it, and lets it go
        runtime = memory.builds[entry.digest].runtime
        assert runtime is not None
        kept = weakref.ref(runtime)
        del runtime
        memory.hold([], {})
        wait_for(lambda: kept() is None, "the build to be gone")
    finally:
        memory.stop()
        loop.close()


def test_the_budget_is_shared_by_the_processes_and_is_half_of_the_machine_by_default() -> None:
    assert budget_of(1000, 4, part=2) == 250
    assert budget_of(0, 2, part=2) == machine_bytes() // 4
    assert machine_bytes() > 0
