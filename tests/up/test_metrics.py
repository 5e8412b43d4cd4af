"""The two pages of a running product: every process tells, by one scrape of each."""

from __future__ import annotations

import os
import signal
import time

import httpx

from tests.journeys.wire import until
from tests.metrics_page import samples_of, value_of
from tests.product import Product


def test_two_pages_tell_of_every_process(product: Product) -> None:
    planes = httpx.get(f"{product.predict_url}/metrics").text
    others = httpx.get(f"{product.console_url}/metrics").text
    assert _up(planes) == {"dataplane": 2, "grpc": 1}
    assert _up(others) == {"console": 2, "work": 3, "sandbox": 2, "beat": 1, "up": 1}
    assert value_of(others, "signalbox_database_up") == 1
    until(lambda: _ready(product) == 3, 30)  # one that was killed just now counts until it has been silent for some seconds
    assert value_of(others, "signalbox_part_running", part="console") == 1
    revisions = {value for name, _, value in samples_of(planes) if name == "signalbox_route_table_revision"}
    assert revisions == {value_of(others, "signalbox_published_table_revision")}


def test_counts_the_tasks_of_the_workers(product: Product) -> None:
    def swept() -> float:
        page = httpx.get(f"{product.console_url}/metrics").text
        return value_of(page, "signalbox_task_duration_seconds_count", task="core.tasks.sweep", state="success", process="work")

    before, until = swept(), time.monotonic() + 30
    while swept() == before and time.monotonic() < until:
        time.sleep(0.5)
    assert swept() > before


def test_counts_the_restart_of_a_part(product: Product) -> None:
    def restarts() -> float:
        return value_of(httpx.get(f"{product.console_url}/metrics").text, "signalbox_part_restarts_total", part="beat")

    before = restarts()
    os.kill(product.processes["beat"], signal.SIGKILL)
    until = time.monotonic() + 30
    while restarts() == before and time.monotonic() < until:
        time.sleep(0.5)
    assert restarts() == before + 1


def test_the_system_lists_every_process_and_tells_which_hangs_or_is_gone(product: Product) -> None:
    def states() -> dict[str, str]:
        answer = httpx.get(f"{product.console_url}/api/v1/system/", headers={"Authorization": f"Bearer {product.admin_key}"}, timeout=30)
        return {part["name"]: part["state"] for part in answer.json()["parts"]}

    def settle(wanted: dict[str, str]) -> None:
        until = time.monotonic() + 30
        while states() != wanted and time.monotonic() < until:
            time.sleep(0.5)
        assert states() == wanted

    asked = dict.fromkeys(["up", "dataplane-1", "dataplane-2", "grpc-1", "workers", "sandbox", "beat", "console"], "answers")
    well = asked | {"postgres": "runs", "redis": "runs"}
    settle(well)
    frozen = product.processes["sandbox"]
    os.kill(frozen, signal.SIGSTOP)
    os.kill(product.pid, signal.SIGSTOP)  # so that nobody starts again what is killed
    try:
        os.kill(product.processes["beat"], signal.SIGKILL)
        settle(well | {"up": "silent", "sandbox": "silent", "beat": "gone"})
    finally:
        os.kill(product.pid, signal.SIGCONT)
        os.kill(frozen, signal.SIGCONT)
    settle(well)


def _ready(product: Product) -> float:
    return value_of(httpx.get(f"{product.console_url}/metrics", timeout=30).text, "signalbox_dataplane_processes", state="ready")


def _up(page: str) -> dict[str, int]:
    """Count the processes that told, by kind."""
    kinds = [labels["process"] for name, labels, value in samples_of(page) if name == "signalbox_process_up" and value == 1]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
