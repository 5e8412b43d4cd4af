"""Splitting the traffic and promoting the candidate."""

from __future__ import annotations

import pytest

from core.errors import Forbidden, Unprocessable
from serving.deploy import deploy
from serving.empty_slot import empty_slot
from serving.errors import Overtaken
from serving.models import Endpoint, PublishedTable
from serving.promote import promote
from serving.split import split
from tests.serving.conftest import newest_table, shares, summaries


def test_a_split_sets_the_shares_and_publishes_them(endpoint, operator):
    after = split(actor=operator, endpoint="churn-scorer", weights={"blue": 90, "green": 10}, revision=3)
    assert after.revision == 4
    assert shares() == {"blue": (12, 90), "green": (13, 10)}
    assert summaries()[-1] == "Split set to v12 90 %, v13 10 %"
    slots = newest_table().endpoints[0].slots
    assert [(slot.name, slot.weight, slot.live) for slot in slots] == [("blue", 90, True), ("green", 10, False)]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"blue": 90, "green": 20}, r"The parts add up to 110 %, not 100 %\. Nothing was changed\."),
        ({"blue": 50}, "add up to 50 %"),
        ({}, "add up to 0 %"),
        ({"blue": 101, "green": -1}, "blue: a whole number from 0 to 100, not 101"),
        ({"blue": True, "green": 99}, "blue: a whole number from 0 to 100, not True"),
        ({"blue": 99.5, "green": 0.5}, "blue: a whole number"),
        ({"blue": 90, "red": 10}, "There is no slot red: the slots are blue, green"),
    ],
)
def test_refuses_a_split_that_is_none(endpoint, operator, weights, said):
    with pytest.raises(Unprocessable, match=said):
        split(actor=operator, endpoint="churn-scorer", weights=weights, revision=3)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert len(summaries()) == 3


def test_refuses_traffic_for_an_empty_slot(endpoint, operator):
    empty_slot(actor=operator, endpoint="churn-scorer", slot="green", revision=3)
    with pytest.raises(Unprocessable, match="green is empty and cannot answer"):
        split(actor=operator, endpoint="churn-scorer", weights={"blue": 90, "green": 10}, revision=4)
    assert shares() == {"blue": (12, 100), "green": (None, 0)}


def test_the_same_split_again_writes_nothing(endpoint, operator):
    tables = PublishedTable.objects.count()
    assert split(actor=operator, endpoint="churn-scorer", weights={"blue": 100}, revision=3).revision == 3
    assert (len(summaries()), PublishedTable.objects.count()) == (3, tables)


def test_a_split_that_gives_everything_away_hands_over_live(endpoint, operator):
    assert split(actor=operator, endpoint="churn-scorer", weights={"green": 100}, revision=3).live_slot == "green"
    assert shares() == {"blue": (12, 0), "green": (13, 100)}


def test_a_promotion_switches_and_keeps_the_replaced_warm(endpoint, operator):
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 90, "green": 10}, revision=3)
    after = promote(actor=operator, endpoint="churn-scorer", revision=4, reason="better AUC")
    assert (after.live_slot, after.revision) == ("green", 5)
    assert shares() == {"blue": (12, 0), "green": (13, 100)}
    assert summaries()[-1] == "v13 promoted to 100 %; v12 stays warm in blue"
    assert {build.version for build in newest_table().builds} == {12, 13}


def test_refuses_to_promote_without_a_candidate(endpoint, operator):
    empty_slot(actor=operator, endpoint="churn-scorer", slot="green", revision=3)
    with pytest.raises(Unprocessable, match="There is no candidate"):
        promote(actor=operator, endpoint="churn-scorer", revision=4)


def test_refuses_to_promote_what_has_everything(endpoint, operator):
    with pytest.raises(Unprocessable, match="v12 in blue has 100 % already"):
        promote(actor=operator, endpoint="churn-scorer", slot="blue", revision=3)
    assert len(summaries()) == 3


def test_of_two_candidates_the_one_with_traffic_is_meant(endpoint, operator, version):
    version(14)
    deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14, slot="canary")
    with pytest.raises(Unprocessable, match="several candidates: canary, green"):
        promote(actor=operator, endpoint="churn-scorer", revision=4)
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 90, "canary": 10}, revision=4)
    promote(actor=operator, endpoint="churn-scorer", revision=5)
    assert shares() == {"blue": (12, 0), "canary": (14, 100), "green": (13, 0)}


def split_in_half(actor, revision):
    split(actor=actor, endpoint="churn-scorer", weights={"blue": 50, "green": 50}, revision=revision)


def promote_green(actor, revision):
    promote(actor=actor, endpoint="churn-scorer", revision=revision)


@pytest.mark.parametrize("change", [split_in_half, promote_green])
def test_a_stale_revision_changes_nothing(endpoint, operator, change):
    with pytest.raises(Overtaken) as caught:
        change(operator, 2)
    assert caught.value.detail == {"revision": 3, "seen_revision": 2, "summary": "v13 deployed into green", "by": "operator"}
    assert caught.value.status == 409
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


@pytest.mark.parametrize(("change", "right"), [(split_in_half, "split"), (promote_green, "promote")])
def test_without_the_right_nothing_changes(endpoint, scientist, change, right):
    with pytest.raises(Forbidden, match=rf"endpoint\.{right} on endpoint churn-scorer"):
        change(scientist, 3)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert Endpoint.objects.get().revision == 3


def test_emptying_a_slot_frees_it(endpoint, operator):
    empty_slot(actor=operator, endpoint="churn-scorer", slot="green")
    assert shares() == {"blue": (12, 100), "green": (None, 0)}
    assert summaries()[-1] == "v13 taken out of green"
    assert [build.version for build in newest_table().builds] == [12]


def test_refuses_to_empty_a_slot_with_traffic(endpoint, operator):
    with pytest.raises(Unprocessable, match="v12 in blue answers 100 %"):
        empty_slot(actor=operator, endpoint="churn-scorer", slot="blue")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
