"""Choosing what an endpoint is compared with, and what the monitoring page counts."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from access.models import AuditEntry
from core.clock import now
from monitoring.models import Alert, Reference
from tests.conftest import ClientOf

PATH = "/monitoring/churn-scorer/reference/"


def test_says_how_it_is_now_before_it_is_changed(client_of: ClientOf, judged: None) -> None:
    page = client_of("viewer").get(PATH).content.decode()
    assert "<dt>churn v12 now</dt><dd>2,000 training rows</dd>" in page
    assert "<dt>churn v13 now</dt><dd>nothing: it came without a sample</dd>" in page
    assert '<option value="churn/12" selected>' in page
    assert "<code>monitoring.edit</code>" in page
    assert "Set the reference</button>" not in page
    assert '<option value="churn/13" selected>' in client_of("operator").get(PATH, {"version": "13"}).content.decode()


def test_traffic_becomes_the_reference_and_the_sample_again(client_of: ClientOf, judged: None) -> None:
    client = client_of("operator")
    answer = client.post(PATH, {"version": "churn/12", "source": "traffic", "days": "7", "reason": "The tariff stays."}, follow=True)
    assert "churn v12 is compared with 1,200 rows of traffic" in answer.content.decode()
    assert re.search(r"1,200 rows of traffic, (\d{4}-\d\d-\d\d) to (\d{4}-\d\d-\d\d)", client.get(PATH).content.decode())
    answer = client.post(PATH, {"version": "churn/12", "source": "training", "days": "no matter"}, follow=True)
    assert "churn v12 is compared with 2,000 training rows" in answer.content.decode()
    assert list(AuditEntry.objects.filter(verb="set reference").order_by("id").values_list("reason", flat=True)) == ["The tariff stays.", ""]


@pytest.mark.parametrize(
    ("typed", "status", "text"),
    [
        ({"version": "churn/12", "source": "traffic", "days": "many"}, 422, "a whole number from 1 to 90, not &#x27;many&#x27;"),
        ({"version": "churn/12", "source": "traffic", "days": "91"}, 400, "from 1 to 90, not 91"),
        ({"version": "churn/13", "source": "training"}, 422, "came without sample rows"),
        ({"version": "churn", "source": "training"}, 422, "Choose the version"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(client_of: ClientOf, judged: None, typed: dict[str, str], status: int, text: str) -> None:
    answer = client_of("operator").post(PATH, typed)
    assert (answer.status_code, text in answer.content.decode()) == (status, True)
    assert Reference.objects.exclude(endpoint="").count() == 0


def test_setting_it_needs_its_right(client_of: ClientOf, judged: None) -> None:
    assert client_of("scientist").post(PATH, {"version": "churn/12", "source": "traffic", "days": "7"}).status_code == 403


def test_alerts_marked_as_false_are_counted(client_of: ClientOf, judged: None) -> None:
    client = client_of("viewer")
    assert "as false" not in client.get("/monitoring/churn-scorer/").content.decode()
    common = {"endpoint": "churn-scorer", "model": "churn", "version": 12, "cause": "drift", "severity": "watch", "title": "t", "state": "resolved"}
    for number, (days, false) in enumerate([(1, True), (2, False), (3, True), (100, True)]):
        at = now() - timedelta(days=days)
        Alert.objects.create(**common, dedup_key=str(number), first_at=at, last_at=at, false_alarm=false)
    assert "people marked 2 of 3 alerts as false" in client.get("/monitoring/churn-scorer/").content.decode()
