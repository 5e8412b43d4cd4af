"""A part of a page whose question to the database fails says so by itself; the rest of the page is right, and nothing of it is a guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from tests.conftest import ClientOf

NO_ANSWER = "The database did not answer this question; the log says why."
OVERVIEW, ENDPOINT, MONITORING = "/", "/endpoints/churn-scorer/", "/monitoring/churn-scorer/"


@contextmanager
def no_answer(table: str) -> Iterator[list[str]]:
    """Every question that names the table ends as one does that took too long; gives those that were asked."""
    asked: list[str] = []

    def end(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if f'"{table}"' not in sql:
            return execute(sql, params, many, context)
        asked.append(sql)
        raise OperationalError("canceling statement due to statement timeout")

    with connection.execute_wrapper(end):
        yield asked


@pytest.mark.parametrize(
    ("path", "table", "told", "right"),
    [
        (OVERVIEW, "monitoring_alert", "The alerts could not be read", "Steady on v12"),
        (OVERVIEW, "core_job", NO_ANSWER, "Steady on v12"),
        (OVERVIEW, "serving_dataplaneprocess", NO_ANSWER, "Steady on v12"),
        (OVERVIEW, "serving_endpoint", "The endpoints could not be read", "Nothing waits, nothing runs."),
        (ENDPOINT, "serving_trafficwindow", "The traffic could not be read", "Standby, warm"),
        (ENDPOINT, "monitoring_driftresult", NO_ANSWER, "Standby, warm"),
        (ENDPOINT, "monitoring_alert", NO_ANSWER, "Standby, warm"),
        ("/endpoints/", "monitoring_standing", "not read", "Steady on v12"),
        ("/monitoring/", "monitoring_standing", "The verdicts could not be read.", "v12 100 %"),
        (MONITORING, "monitoring_driftresult", "This part could not be read.", "No outcomes yet"),
        (MONITORING, "monitoring_performancewindow", "This part could not be read.", "Population stability index"),
        (MONITORING, "monitoring_windowprofile", "This part could not be read.", "Latency of each slot"),
    ],
)
def test_a_part_that_cannot_be_read_fails_alone(client_of: ClientOf, judged: None, path: str, table: str, told: str, right: str) -> None:
    client = client_of("operator")
    whole = client.get(path).content.decode()
    assert (told in whole, right in whole) == (False, True)
    with no_answer(table) as asked:
        page = client.get(path)
    assert asked
    assert (page.status_code, told in page.content.decode(), right in page.content.decode()) == (200, True, True)


def test_rolling_back_goes_on_where_nothing_can_be_measured(client_of: ClientOf, judged: None) -> None:
    with no_answer("serving_trafficwindow"):
        page = client_of("operator").get(ENDPOINT).content.decode()
    assert 'aria-keyshortcuts="r"' in page
