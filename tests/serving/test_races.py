"""Two operators at once: one wins, the other is told, nothing is overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.errors import Overtaken
from serving.models import Endpoint, LedgerEntry, PublishedTable
from serving.promote import promote
from serving.roll_back import roll_back
from serving.split import split
from tests.at_once import at_once
from tests.serving.conftest import make_version, newest_table, shares, summaries

NAME = "churn-scorer"


@pytest.fixture
def deployed(transactional_db: None, operator: Any) -> Endpoint:
    make_version(12)
    make_version(13)
    create_endpoint(actor=operator, name=NAME)
    deploy(actor=operator, endpoint=NAME, model="churn", version=12)
    return deploy(actor=operator, endpoint=NAME, model="churn", version=13)


def test_of_two_promotions_one_wins_and_the_other_hears_of_it(deployed, operator):
    results = at_once(*[lambda: promote(actor=operator, endpoint=NAME, revision=3)] * 2)
    lost = [result for result in results if isinstance(result, Overtaken)]
    assert len(lost) == 1
    assert "v13 promoted to 100 %; v12 stays warm in blue" in lost[0].message
    assert shares() == {"blue": (12, 0), "green": (13, 100)}
    assert (Endpoint.objects.get().revision, len(summaries())) == (4, 4)


def test_of_eight_different_splits_exactly_one_is_applied(deployed, operator):
    def set_split(green: int) -> Callable[[], Any]:
        return lambda: split(actor=operator, endpoint=NAME, weights={"blue": 100 - green, "green": green}, revision=3)

    results = at_once(*[set_split(green) for green in range(10, 90, 10)])
    assert sum(isinstance(result, Overtaken) for result in results) == 7
    green = shares()["green"][1]
    assert summaries()[3:] == [
        f"Split set to {'v12' if green <= 50 else 'v13'} {max(green, 100 - green)} %, {'v13' if green <= 50 else 'v12'} {min(green, 100 - green)} %"
    ]
    assert newest_table().endpoints[0].slots[1].weight == green


def test_a_roll_back_beside_a_split_is_never_refused_and_undoes_what_came_first(deployed, operator):
    promote(actor=operator, endpoint=NAME, revision=3)
    results = at_once(
        lambda: roll_back(actor=operator, endpoint=NAME),
        lambda: split(actor=operator, endpoint=NAME, weights={"blue": 50, "green": 50}, revision=4),
    )
    assert not isinstance(results[0], Exception)
    was_split_first = not isinstance(results[1], Exception)
    # After the split the promotion is the latest steady state; without it the one before the promotion.
    wanted = {"blue": (12, 0), "green": (13, 100)} if was_split_first else {"blue": (12, 100), "green": (13, 0)}
    assert shares() == wanted


def test_two_deployments_at_once_take_two_slots(transactional_db, operator):
    make_version(12)
    make_version(13)
    create_endpoint(actor=operator, name=NAME)
    at_once(*[lambda number=number: deploy(actor=operator, endpoint=NAME, model="churn", version=number) for number in (12, 13)])
    filled = shares()
    assert {number for number, _ in filled.values()} == {12, 13}
    assert sorted(weight for _, weight in filled.values()) == [0, 100]


def test_tables_published_at_once_rise_and_the_last_has_everything(transactional_db, operator):
    before = newest_table().revision
    names = [f"endpoint-{number}" for number in range(8)]
    at_once(*[lambda name=name: create_endpoint(actor=operator, name=name) for name in names])
    table = newest_table()
    assert [endpoint.name for endpoint in table.endpoints] == names
    published = list(PublishedTable.objects.filter(revision__gt=before).order_by("revision").values_list("revision", "published_at"))
    assert sorted(at for _, at in published) == [at for _, at in published]
    assert sorted(LedgerEntry.objects.values_list("table_revision", flat=True)) == [revision for revision, _ in published]
    assert len(published) == 8
