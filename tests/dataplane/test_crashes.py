"""A build that ends processes while it runs is taken out of service; kills that have nothing to do with a build are not held against it."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from pathlib import Path

import httpx
import pytest

from serving.dataplane.refusals import Refusals
from serving.table import BuildEntry, EndpointEntry, RouteTable, SlotEntry
from tests.dataplane import models
from tests.dataplane.conftest import HEADERS, Log, Plane, table, wait_for

pytestmark = pytest.mark.django_db
BEFORE_S, BETWEEN_S = 1000.0, 5.0


def _table(good: BuildEntry, deadly: BuildEntry, deployed_at: float) -> RouteTable:
    """``deadly`` answers; ``good`` is what it has replaced."""
    blue = SlotEntry(name="blue", build_digest=good.digest, weight=0, deployed_at=deployed_at - 10)
    green = SlotEntry(name="green", build_digest=deadly.digest, weight=100, live=True, deployed_at=deployed_at)
    return table([good, deadly], [EndpointEntry(id="e", name="e", revision=1, slots=(blue, green))])


def _ask(plane: Plane) -> httpx.Response:
    return httpx.post(f"{plane.url}/v2/models/e/predict", json={"rows": [{"a": 1}]}, headers=HEADERS, timeout=20)


def _model(plane: Plane) -> str:
    return str(_ask(plane).json().get("model"))


def _is_running_a_build(plane: Plane) -> bool:
    return any(any(struct.unpack("64H", path.read_bytes()[:128])) for path in (plane.var_dir / "dataplane" / "running").iterdir())


def _ask_in_vain(plane: Plane) -> None:
    with pytest.raises(httpx.TransportError):
        _ask(plane)


def _kill_in_a_run(plane: Plane, number: int = signal.SIGKILL) -> None:
    assert plane.process is not None
    asking = threading.Thread(target=_ask_in_vain, args=(plane,))
    asking.start()
    wait_for(lambda: _is_running_a_build(plane), "the run")
    if number != signal.SIGKILL:
        os.kill(plane.process.pid, number)
        time.sleep(0.05)
    plane.stop(signal.SIGKILL)
    asking.join()


def _age(folder: Path, seconds: float) -> None:
    """Move the deaths so far into the past."""
    for path in sorted((folder / "deaths").iterdir()):
        digest, _, at = path.name.partition(".")
        path.rename(path.with_name(f"{digest}.{int(at) - int(seconds * 1e9)}"))


@pytest.fixture
def builds(plane: Plane) -> tuple[BuildEntry, BuildEntry]:
    return models.large(plane.artifacts, megabytes=1), models.slow(plane.artifacts, loops=150_000)


@pytest.mark.long
def test_a_build_that_ended_three_processes_is_out_of_service_and_the_one_before_answers(plane: Plane, builds: tuple[BuildEntry, BuildEntry]) -> None:
    folder = plane.var_dir / "dataplane"
    plane.keep(_table(*builds, deployed_at=time.time() - BEFORE_S))
    for _ in range(3):
        plane.start()
        _age(folder, BETWEEN_S)
        assert _model(plane) == "slow"
        _kill_in_a_run(plane)
    plane.start()
    assert _model(plane) == "large"
    assert [path.name for path in (folder / "refused").iterdir()] == [builds[1].digest]
    assert plane.stop() == 0

    # Deployed anew it is tried again, and begins without a record.
    plane.keep(_table(*builds, deployed_at=time.time() + 1))
    plane.start()
    assert _model(plane) == "slow"
    assert list((folder / "refused").iterdir()) == list((folder / "deaths").iterdir()) == []


@pytest.mark.long
def test_a_survivor_takes_the_build_out_of_service_and_reports_it(plane_with_log: Plane, log: Log) -> None:
    plane = plane_with_log
    good, deadly = models.large(plane.artifacts, megabytes=1), models.slow(plane.artifacts, loops=150_000)
    log.publish(_table(good, deadly, deployed_at=time.time() - BEFORE_S))
    survivor = Plane(plane.var_dir, log.url).start()
    try:
        for _ in range(3):
            plane.start()
            _kill_in_a_run(plane)
            wait_for(
                lambda: not any(str(plane.process and plane.process.pid) in path.name for path in (plane.var_dir / "dataplane" / "running").iterdir()),
                "the look",
            )
            _age(plane.var_dir / "dataplane", BETWEEN_S)
        wait_for(lambda: _model(survivor) == "large", "the model before")

        def reported() -> list[dict[str, str]]:
            rows = log.run("SELECT builds FROM serving_dataplaneprocess WHERE seen_at > now() - interval '5 seconds'")
            return [build for row in rows for build in row[0] if build["state"] == "refused"]

        failed = wait_for(reported, "the report")[0]
        assert failed["digest"] == deadly.digest
        assert failed["error"].startswith("Running this build ended data-plane processes 3 times, last at ")
    finally:
        survivor.end()


def test_kills_outside_a_run_or_after_the_process_was_asked_to_end_blame_nobody(plane: Plane, builds: tuple[BuildEntry, BuildEntry]) -> None:
    folder = plane.var_dir / "dataplane"
    plane.keep(_table(*builds, deployed_at=time.time() - BEFORE_S))
    for _ in range(2):
        plane.start()
        plane.stop(signal.SIGKILL)
        plane.start()
        _kill_in_a_run(plane, signal.SIGTERM)
    plane.start()
    assert list((folder / "deaths").iterdir()) == []
    assert _model(plane) == "slow"


def test_spread_deaths_are_not_held_against_a_build_that_has_answered_for_days(tmp_path: Path) -> None:
    old, young = "a" * 64, "b" * 64
    born = {old: time.time() - 3 * 86400, young: time.time() - 3600}
    refusals = Refusals(tmp_path)
    for digest in (old, young):
        for _ in range(3):
            refusals.blame(digest, born.__getitem__)
            _age(tmp_path, 10 * 60)
    assert refusals.reason(old, 0.0) == ""
    assert "3 times" in refusals.reason(young, 0.0)
    for _ in range(2):
        refusals.blame(old, born.__getitem__)
        _age(tmp_path, BETWEEN_S)
    assert refusals.reason(old, 0.0) == ""
    refusals.blame(old, born.__getitem__)
    assert "3 times" in refusals.reason(old, 0.0)


def test_deaths_at_once_are_one(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path)
    for _ in range(5):
        refusals.blame("a" * 64, lambda _: time.time())
    assert refusals.reason("a" * 64, 0.0) == ""
    assert not refusals.have_changed()
