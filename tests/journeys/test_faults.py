"""Promises under faults, injected into the running product while a client keeps a ledger of its own."""

from __future__ import annotations

import os
import signal as signals
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest
from redis import Redis

from core.environment import Environment
from tests.journeys.load import GrpcLoad, Load, assert_all_logged
from tests.journeys.wire import Wire, children, pipeline, processes, rows_of, signal, tumours, until
from tests.product import Product

MODEL = "tumour-faults"
ENDPOINT = "tumour-durable"
AWAY_S = float(os.environ.get("SIGNALBOX_AWAY_S", "4"))
"""So long is Postgres frozen, and stopped; a minute shows the same."""


@pytest.fixture(scope="module")
def wire(product) -> Wire:
    wire = Wire(product.console_url, product.predict_url, product.admin_key)
    for strength in (1.0, 0.01):
        assert wire.register(MODEL, pipeline(strength))["state"] == "ready"
    # A rate that nobody reaches: the processes tell each other through Redis what it has let through.
    wire.call("POST", "endpoints/", json={"name": ENDPOINT, "log_policy": "durable", "limits": {"requests_per_s": 100_000}})
    for version in (1, 2):
        wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": MODEL, "version": version})
    until(lambda: wire.predict(ENDPOINT, rows_of(tumours()[0][:1])).status_code == 200, 20)
    return wire


@pytest.fixture
def load(wire) -> Load:
    return Load(wire.predict_url, wire.key, ENDPOINT, rows_of(tumours()[0][:1])[0])


@pytest.fixture
def reconnecting(load: Load) -> Load:
    """For a test that kills processes which answer."""
    load.reconnects = True
    return load


@pytest.fixture
def grpc_load(wire, product) -> GrpcLoad:
    return GrpcLoad(product.grpc_address, wire.key, ENDPOINT, rows_of(tumours()[0][:1])[0], tries=10)


def test_a_killed_data_plane_process_loses_no_acknowledged_prediction(wire, product, reconnecting):
    with reconnecting as load:
        load.wait_for(150)
        signal(processes(product.pid, "serving.dataplane --")[:1], signals.SIGKILL)
        load.wait_for(150)
        until(lambda: len(processes(product.pid, "serving.dataplane --")) >= 2, 20)
    assert load.failures == []
    assert_all_logged(wire, load)


def test_predictions_go_on_while_redis_is_frozen_and_after_it_is_killed(wire, product, load):
    with load:
        load.wait_for(50)
        until(partial(rates_are_shared, wire, product), 40)
        redis = processes(product.pid, "redis-server")[:1]
        signal(redis, signals.SIGSTOP)
        load.wait_for(150)
        signal(redis, signals.SIGCONT)
        signal(redis, signals.SIGKILL)
        load.wait_for(150)
    assert load.failures == []
    assert_all_logged(wire, load)


def test_predictions_go_on_while_postgres_is_killed_and_the_log_is_complete(wire, product, load):
    with load:
        load.wait_for(50)
        postmaster = processes(product.pid, "/postgres -D") or processes(product.pid, "postgres -D")
        signal(postmaster[:1], signals.SIGKILL)
        load.wait_for(200)
    assert load.failures == []
    until(lambda: wire.api.get("endpoints/").status_code == 200, 60)
    assert_all_logged(wire, load)


def test_a_killed_worker_is_replaced_and_the_next_version_is_checked(wire, product):
    signal(processes(product.pid, "sandbox")[:1], signals.SIGKILL)
    assert wire.register(MODEL, pipeline(0.1))["state"] == "ready"


def test_each_process_killed_in_turn_costs_no_caller_an_answer_and_the_durable_log_nothing(wire, product, reconnecting, grpc_load):
    parts = [(pid, command) for pid, command in children(product.pid).items() if "postgres" not in command and "redis-server" not in command]
    words = ("serving.dataplane --", "serving.dataplane.grpc", "gunicorn", "sandbox", "beat")
    assert {word for word in words for _, command in parts if word in command} >= {"serving.dataplane --", "serving.dataplane.grpc", "beat"}
    with reconnecting as load, grpc_load:
        for killed, command in parts:
            alike = count_of(product, command)
            signal([killed], signals.SIGKILL)
            load.wait_for(20)
            grpc_load.wait_for(20)
            until(partial(is_replaced, product, killed, command, alike), 60)
    assert load.failures == []
    assert grpc_load.failures == []
    until(lambda: wire.api.get("endpoints/").status_code == 200, 60)
    assert_all_logged(wire, load)
    assert_all_logged(wire, grpc_load)


def count_of(product: Product, command: str) -> int:
    return list(children(product.pid).values()).count(command)


def is_replaced(product: Product, killed: int, command: str, alike: int) -> bool:
    return killed not in children(product.pid) and count_of(product, command) == alike


@contextmanager
def frozen(product: Product) -> Iterator[None]:
    """Postgres answers nothing, and its connections stay open."""
    postgres = processes(product.pid, "postgres")
    signal(postgres, signals.SIGSTOP)
    try:
        yield
    finally:
        signal(postgres, signals.SIGCONT)


@contextmanager
def stopped(product: Product) -> Iterator[None]:
    """Postgres has shut down and refuses connections; what would start it again is frozen meanwhile."""
    signal([product.pid], signals.SIGSTOP)
    try:
        signal([product.processes["postgres"]], signals.SIGINT)
        until(lambda: not processes(product.pid, "postgres"), 20)
        yield
        assert processes(product.pid, "postgres") == []
    finally:
        signal([product.pid], signals.SIGCONT)


@pytest.mark.parametrize("away", [frozen, stopped])
def test_predictions_go_on_while_postgres_is_away_and_the_log_is_complete(wire, product, load, away: Callable[[Product], AbstractContextManager[None]]):
    with load:
        load.wait_for(50)
        with away(product):
            time.sleep(AWAY_S)
            load.wait_for(50)
        load.wait_for(50)
    assert load.failures == []
    until(lambda: wire.api.get("endpoints/").status_code == 200, 60)
    assert_all_logged(wire, load)


def test_a_frozen_redis_delays_no_prediction_by_a_tenth_of_a_second(wire, product, load):
    """While rates are shared through it. Phases with and without take turns; no limit in itself, only what the fault adds."""
    usual: list[tuple[float, float]] = []
    without: list[tuple[float, float]] = []
    with load:
        for _ in range(3):
            until(partial(rates_are_shared, wire, product), 40)
            usual.append(phase_of(load, 300))
            redis = processes(product.pid, "redis-server")[:1]
            signal(redis, signals.SIGSTOP)
            try:
                without.append(phase_of(load, 300))
            finally:
                signal(redis, signals.SIGCONT)
    assert load.failures == []
    assert slowest_percent(load, without) < slowest_percent(load, usual) + 0.1


def rates_are_shared(wire: Wire, product: Product) -> bool:
    """Tell whether every data-plane process that is asked over REST has run the script of the rates in Redis within a second.

    All are asked, each time on a connection of its own: those of the load may all be with one, when the other has just been started again.
    """
    for _ in range(4):
        with Wire(wire.console_url, wire.predict_url, wire.key).plane as anew:
            assert anew.post(f"models/{ENDPOINT}/predict", json={"rows": rows_of(tumours()[0][:1])}).status_code == 200
    with Redis.from_url(Environment(var_dir=product.var_dir).redis_url) as client:
        sharing = [each for each in client.client_list() if each["cmd"] == "evalsha" and each["idle"] == "0"]
    return len(sharing) >= len(processes(product.pid, "serving.dataplane --"))


def phase_of(load: Load, requests: int) -> tuple[float, float]:
    """Give from when to when the next ``requests`` are answered."""
    begin = time.time()
    load.wait_for(requests)
    return begin, time.time()


def slowest_percent(load: Load, phases: list[tuple[float, float]]) -> float:
    """Give the 99th percentile, in seconds, of what was sent in the phases, whenever it was answered."""
    took = sorted(answer.done - answer.sent for answer in load.answers if any(begin <= answer.sent < end for begin, end in phases))
    assert len(took) >= 600
    return took[int(len(took) * 0.99)]
