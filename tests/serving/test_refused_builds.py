"""A build that the data plane has taken out of service: the alert, and deploying it anew."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import now
from core.errors import Unprocessable
from core.ids import uuid7
from monitoring.models import Alert
from monitoring.watch_builds import watch_builds
from serving.deploy import deploy
from serving.models import DataPlaneProcess, Slot
from tests.serving.conftest import newest_table, shares, summaries

REASON = "Running this build ended data-plane processes 3 times, last at 2026-07-01 12:00:00 UTC. It is out of service."


def _report(**states: str) -> None:
    """Have one process tell of the builds, by slot."""
    (entry,) = newest_table().endpoints
    builds = [
        {"digest": slot.build_digest, "error": REASON if states[slot.name] == "refused" else "", "state": states[slot.name], "memory_bytes": 0}
        for slot in entry.slots
    ]
    DataPlaneProcess.objects.all().delete()
    DataPlaneProcess.objects.create(id=uuid7(), host="a", pid=1, table_revision=1, ready=True, builds=builds, started_at=now(), seen_at=now())


def test_a_refused_build_is_one_severe_alert_until_it_runs_again(endpoint, client_of):
    _report(blue="refused", green="loaded")
    watch_builds()
    watch_builds()
    alert = Alert.objects.get()
    assert (alert.endpoint, alert.model, alert.version, alert.cause, alert.severity, alert.state) == ("churn-scorer", "churn", 12, "crash", "severe", "open")
    assert alert.title == "churn v12 ended data-plane processes and is out of service in blue"
    assert [item["name"] for item in alert.detail["items"]] == [f"churn v12 in blue: {REASON}"]
    page = client_of("operator").get(f"/alerts/{alert.number}/").content.decode()
    assert REASON in page
    assert "deploy it anew" in page
    assert "Roll back" in page
    _report(blue="loaded", green="loaded")
    watch_builds()
    assert Alert.objects.get().state == "resolved"


def test_an_alert_stays_while_no_process_speaks(endpoint):
    _report(blue="refused", green="loaded")
    watch_builds()
    DataPlaneProcess.objects.update(seen_at=now() - timedelta(minutes=1))
    watch_builds()
    assert Alert.objects.get().state == "open"


def test_deploying_a_refused_build_anew_keeps_its_slot_and_traffic(endpoint, operator):
    before = Slot.objects.get(name="blue").deployed_at
    _report(blue="refused", green="loaded")
    deploy(actor=operator, endpoint="churn-scorer", model="churn", version=12, reason="the memory was faulty")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert summaries()[-1] == "v12 in blue tried again"
    after = Slot.objects.get(name="blue").deployed_at
    assert before is not None
    assert after is not None
    assert before < after
    (entry,) = newest_table().endpoints
    assert entry.slots[0].deployed_at == after.timestamp()


def test_a_build_that_runs_is_not_deployed_twice(endpoint, operator):
    _report(blue="loaded", green="refused")
    with pytest.raises(Unprocessable, match="v12 is in blue already"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=12)
    assert len(summaries()) == 3
