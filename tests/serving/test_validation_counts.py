"""What validation did: read by feature, put together once hours have long ended, forgotten with the log."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from core.clock import now
from core.errors import NotFound
from serving import tasks
from serving.models import Endpoint, Slot, ValidationCount
from serving.queries import FeatureActions, validation_actions
from serving.roll_up_validation import roll_up_validation
from serving.seal import seal_strays
from tests.at_once import at_once
from tests.conftest import ClientOf

NAME = "churn-scorer"
NOBODY = UUID(int=0)


def hour(ago: int) -> datetime:
    return now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=ago)


def counted(action: str, count: int, feature: str = "age", *, ago: int = 0, slot: str = "blue", version: int = 12, process: UUID | None = None) -> None:
    feature = "" if action == "checked" else feature
    ValidationCount.objects.create(
        start_at=hour(ago), endpoint=NAME, slot=slot, version=version, feature=feature, action=action, process=process or uuid4(), count=count
    )


def stored() -> list[tuple[datetime, str, bool, int]]:
    rows = ValidationCount.objects.order_by("start_at", "action", "count").values_list("start_at", "action", "process", "count")
    return [(at, action, process == NOBODY, count) for at, action, process, count in rows]


def test_sums_processes_hours_and_slots_by_feature(endpoint, django_assert_num_queries):
    Endpoint.objects.update(validation={"default": "clip", "features": {"plan": "refuse"}})
    for ago, slot, version in ((0, "blue", 12), (23, "blue", 12), (23, "green", 13)):
        counted("checked", 100, ago=ago, slot=slot, version=version)
        counted("clipped", 4, ago=ago, slot=slot, version=version)
    counted("checked", 100)
    counted("filled", 30, "charges")
    counted("refused", 2, "plan")
    counted("clipped", 1000, ago=24)
    with django_assert_num_queries(2):
        found = validation_actions(NAME)
    assert (found.rows, found.since, found.hours, found.version) == (400, hour(23), 24, None)
    assert found.features == (
        FeatureActions("charges", "clip", 0, 0, 30, 0, 0, 30 / 400),
        FeatureActions("age", "clip", 12, 0, 0, 0, 0, 12 / 400),
        FeatureActions("plan", "refuse", 0, 0, 0, 0, 2, 0.0),
    )
    assert validation_actions(NAME, 1).features[1].clipped == 4
    assert [(each.feature, each.clipped) for each in validation_actions(NAME, version=13).features] == [("age", 4)]
    assert validation_actions(NAME, 25).features[0].share == 1.0
    with pytest.raises(NotFound, match="no endpoint nowhere"):
        validation_actions("nowhere")


def test_copies_for_a_shadow_are_not_the_endpoints_own(endpoint):
    Slot.objects.filter(name="green").update(weight=0, shadow=True)
    for slot, version in (("blue", 12), ("green", 13)):
        counted("checked", 10, slot=slot, version=version)
        counted("flagged", 1, slot=slot, version=version)
    assert (validation_actions(NAME).rows, validation_actions(NAME).features[0].flagged) == (10, 1)
    assert validation_actions(NAME, version=13).rows == 10


def test_rest_answers_by_window_and_version(endpoint, client_of: ClientOf):
    counted("checked", 10)
    counted("clipped", 1, ago=3)
    client = client_of("viewer")
    path = f"/api/v1/endpoints/{NAME}/validation/"
    assert client.get(path, {"hours": 3}).json()["features"] == []
    whole = client.get(path, {"hours": 4, "version": 12}).json()
    assert (whole["version"], whole["rows"], whole["features"][0]["share"]) == (12, 10, 0.1)
    assert client.get(path, {"hours": 169}).status_code == 400
    assert client.get("/api/v1/endpoints/nowhere/validation/").status_code == 404


def test_a_settings_page_without_traffic_says_so(endpoint, client_of: ClientOf):
    page = client_of("viewer").get(f"/endpoints/{NAME}/settings/").content.decode()
    assert "No rows were checked in the last 24 h." in page


def test_hours_that_ended_two_days_ago_become_one_row(endpoint):
    for ago in (0, 47, 50):
        for count in (1, 2):
            counted("clipped", count, ago=ago)
    counted("clipped", 10, ago=50, process=NOBODY)
    before = validation_actions(NAME, 168)
    tasks.roll_up_key_usage()
    young = [(hour(ago), "clipped", False, count) for ago in (47, 0) for count in (1, 2)]
    assert stored() == [(hour(50), "clipped", True, 13), *young]
    assert roll_up_validation() == 0
    assert validation_actions(NAME, 168) == before


@pytest.mark.django_db(transaction=True)
def test_runs_at_once_count_every_row_once():
    for _ in range(40):
        counted("clipped", 1, ago=60)
        counted("checked", 5, ago=60)
    assert sum(at_once(*[lambda: roll_up_validation(most_rows=7)] * 4)) == 80
    assert stored() == [(hour(60), "checked", True, 200), (hour(60), "clipped", True, 40)]


def test_is_forgotten_with_the_log_and_of_an_endpoint_that_was_before(endpoint, settings):
    counted("clipped", 1, ago=24 * settings.ENVIRONMENT.log_retention_days + 1)
    counted("clipped", 2, ago=24 * settings.ENVIRONMENT.log_retention_days - 1)
    tasks.delete_old()
    assert [count for *_, count in stored()] == [2]
    seal_strays()
    assert stored() == []
