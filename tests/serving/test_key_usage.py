"""What keys have used: read beside their budgets, and put together once a day has long ended."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID, uuid4

import pytest
from django.test import Client

from access.actors import Actor
from access.keys import create_key
from access.models import ApiKey
from config.celery import app as celery_app
from core.clock import now
from serving import tasks
from serving.models import KeyUsage
from serving.queries import KeyUse, usage_of, usage_of_each
from serving.queries.key_usage import Used
from serving.roll_up_usage import roll_up_usage
from tests.at_once import at_once
from tests.conftest import ClientOf

NOBODY = UUID(int=0)


def day(ago: int) -> date:
    return now().date() - timedelta(days=ago)


def used(key_id: str, ago: int, requests: int, rows: int, process: UUID | None = None) -> None:
    KeyUsage.objects.create(key_id=key_id, day=day(ago), process=process or uuid4(), requests=requests, rows=rows)


def stored() -> list[tuple[str, int, bool, int, int]]:
    """Key, days ago, put together or not, requests, rows."""
    rows = KeyUsage.objects.order_by("key_id", "-day", "requests").values_list("key_id", "day", "process", "requests", "rows")
    return [(key, (now().date() - at).days, process == NOBODY, requests, counted) for key, at, process, requests, counted in rows]


@pytest.fixture
def key(admin: Actor) -> ApiKey:
    return create_key(actor=admin, name="billing", scopes=["predict"], limits={"rows_per_day": 50_000, "rows_in_all": 900_000}).key


def test_sums_the_processes_by_day_and_in_all(key, django_assert_num_queries):
    for ago, requests, rows in ((0, 2, 200), (0, 1, 40), (1, 5, 500), (29, 1, 7), (30, 3, 3000)):
        used(key.id, ago, requests, rows)
    used("another", 0, 9, 9)
    with django_assert_num_queries(2):
        use = usage_of(key.id)
    assert (use.today, use.in_all) == (Used(3, 240), Used(12, 3747))
    assert [(each.day, each.requests, each.rows) for each in use.days] == [(day(0), 3, 240), (day(1), 5, 500), (day(29), 1, 7)]


def test_gives_the_use_of_many_keys_in_one_query(key, admin, django_assert_num_queries):
    plain = create_key(actor=admin, name="plain", scopes=["predict"]).key
    idle = create_key(actor=admin, name="idle", scopes=["predict"]).key
    for each in (key, plain):
        used(each.id, 0, 2, 200)
        used(each.id, 9, 1, 40)
    with django_assert_num_queries(1):
        uses = usage_of_each([key, plain, idle])
    assert {name: use.today for name, use in uses.items()} == {key.id: Used(2, 200), plain.id: Used(2, 200), idle.id: Used()}
    assert (uses[key.id].in_all, uses[idle.id]) == (Used(3, 240), KeyUse())


def test_answers_usage_beside_the_budgets(key, client_of: ClientOf):
    used(key.id, 0, 3, 12_400)
    used(key.id, 4, 1, 600)
    answer = client_of("admin").get(f"/api/v1/keys/{key.id}/usage/")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "key_id": key.id,
            "today": {"requests": 3, "rows": 12_400, "budget_rows": 50_000},
            "in_all": {"requests": 4, "rows": 13_000, "budget_rows": 900_000},
            "days": [{"day": f"{day(0)}", "requests": 3, "rows": 12_400}, {"day": f"{day(4)}", "requests": 1, "rows": 600}],
        },
    )


def test_answers_usage_only_to_who_may_manage_keys_and_of_keys_that_are_there(key, admin, client_of: ClientOf):
    assert client_of("operator").get(f"/api/v1/keys/{key.id}/usage/").status_code == 403
    own = create_key(actor=admin, name="own", scopes=["operate"])
    assert Client(headers={"Authorization": f"Bearer {own.text}"}).get(f"/api/v1/keys/{own.key.id}/usage/").status_code == 403
    assert client_of("admin").get("/api/v1/keys/nope/usage/").status_code == 404


def test_puts_days_together_that_ended_two_days_ago_and_no_younger(key):
    for ago in (0, 1, 2, 3, 4):
        used(key.id, ago, 2, 200)
        used(key.id, ago, 1, 40)
    used("another", 3, 1, 1)
    before = usage_of(key.id)
    assert roll_up_usage() == 5
    young = [(key.id, ago, False, requests, rows) for ago in (2, 1, 0) for requests, rows in ((1, 40), (2, 200))]
    expected = [("another", 3, True, 1, 1), (key.id, 4, True, 3, 240), (key.id, 3, True, 3, 240), *young]
    assert sorted(stored()) == sorted(expected)
    assert usage_of(key.id) == before
    assert roll_up_usage() == 0
    assert usage_of(key.id) == before


def test_adds_to_a_day_that_is_put_together_already(key):
    used(key.id, 5, 10, 1000, NOBODY)
    used(key.id, 5, 1, 40)
    assert roll_up_usage() == 1
    assert stored() == [(key.id, 5, True, 11, 1040)]


def test_works_in_bounded_steps(key):
    for _ in range(7):
        used(key.id, 5, 1, 10)
    assert roll_up_usage(most_rows=2) == 7
    assert stored() == [(key.id, 5, True, 7, 70)]


@pytest.mark.django_db(transaction=True)
def test_runs_at_once_count_every_row_once():
    for ago in (3, 4, 5):
        for name in ("a", "b", "c"):
            for _ in range(20):
                used(name, ago, 1, 10)
    assert sum(at_once(*[lambda: roll_up_usage(most_rows=7)] * 4)) == 180
    assert sorted(stored()) == sorted((name, ago, True, 20, 200) for name in ("a", "b", "c") for ago in (3, 4, 5))


def test_the_workers_do_it_by_themselves(key):
    used(key.id, 3, 1, 40)
    periodic = {entry["task"]: entry["schedule"] for entry in celery_app.conf.beat_schedule.values()}
    assert periodic[tasks.roll_up_key_usage.name] == 86_400.0
    tasks.roll_up_key_usage()
    assert stored() == [(key.id, 3, True, 1, 40)]
