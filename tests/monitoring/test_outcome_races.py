"""Two deliveries at once, over two real connections: one value of a prediction is current, whoever is first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from django.db import connection

from access.actors import Actor
from access.rights import Right
from core.ids import uuid7
from monitoring.models import Outcome
from monitoring.outcomes import Accepted, OutcomeIn, send_outcomes
from tests.monitoring.world import answers, log, people, register, window

SENDER = Actor(kind="key", id="key:1", name="billing", rights={"*": frozenset({Right.OUTCOMES_SEND})})


def _closing(work: Callable[[], Any]) -> Any:
    """Do ``work`` in a thread of its own, with a connection of its own."""
    try:
        return work()
    finally:
        connection.close()


def _wait_for_a_lock() -> None:
    """Wait until a connection waits for what another one holds."""
    deadline = time.monotonic() + 10
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
            if cursor.fetchone()[0]:
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_delivery_while_a_refused_value_is_being_joined_leaves_the_later_value_current(transactional_db: None) -> None:
    register()
    at = window(1) + timedelta(seconds=10)
    one = uuid7(int(at.timestamp() * 1000))
    inputs = people(1, 1)
    log(inputs, at, ids=[one])
    right = int(answers(inputs)["label"][0])

    def send(value: object) -> Accepted:
        return send_outcomes(actor=SENDER, outcomes=[OutcomeIn(one, value)])

    assert send(right).accepted == 1
    restoring, go_on = threading.Event(), threading.Event()

    def pause_before_restoring(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith('UPDATE "monitoring_outcome" SET "current" = %s') and params[0] is True:
            restoring.set()
            assert go_on.wait(10)
        return execute(sql, params, many, context)

    def send_a_wrong_one() -> Accepted:
        with connection.execute_wrapper(pause_before_restoring):
            return send("perhaps")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(_closing, send_a_wrong_one)
        assert restoring.wait(10)
        second = threads.submit(_closing, lambda: send(1 - right))
        _wait_for_a_lock()
        go_on.set()
        assert (first.result().refused, second.result().accepted) == (1, 1)
    rows = Outcome.objects.order_by("id").values_list("value", "state", "current")
    assert list(rows) == [(right, "joined", False), ("perhaps", "refused", False), (1 - right, "joined", True)]
