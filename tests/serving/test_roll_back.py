"""Rolling back: which state it applies, and that nothing stands in its way."""

from __future__ import annotations

import pytest

from core.errors import Forbidden, NotFound, Unprocessable
from registry.models import Build, Version
from serving.deploy import deploy
from serving.edit_endpoint import edit_endpoint
from serving.empty_slot import empty_slot
from serving.errors import NothingEarlier, Overtaken
from serving.models import Endpoint, LedgerEntry, Slot
from serving.promote import promote
from serving.queries import roll_back_target
from serving.roll_back import roll_back
from serving.split import split
from tests.serving.conftest import newest_table, shares, summaries

NAME = "churn-scorer"


def revision() -> int:
    return Endpoint.objects.get(name=NAME).revision


def promote_now(actor):
    promote(actor=actor, endpoint=NAME, revision=revision())


def split_now(actor, **weights):
    split(actor=actor, endpoint=NAME, weights=weights, revision=revision())


def test_a_promotion_is_taken_back(endpoint, operator):
    promote_now(operator)
    roll_back(actor=operator, endpoint=NAME, reason="errors")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert summaries()[-1] == "Rolled back to v12 in blue with 100 %"
    entry = LedgerEntry.objects.latest("revision")
    assert (entry.verb, entry.restores, entry.reason) == ("roll_back", 3, "errors")
    live = [slot.version for slot in newest_table().endpoints[0].slots if slot.live]
    assert live == [12]


def test_a_whole_rollout_is_taken_back_at_once(endpoint, operator):
    for share in (1, 5, 25, 50):
        split_now(operator, blue=100 - share, green=share)
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_rolling_back_twice_goes_further_back(endpoint, operator, version):
    version(14)
    promote_now(operator)
    deploy(actor=operator, endpoint=NAME, model="churn", version=14)
    promote_now(operator)
    assert shares() == {"blue": (14, 100), "green": (13, 0)}
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (14, 0), "green": (13, 100)}
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    with pytest.raises(NothingEarlier, match="churn-scorer has no earlier state to roll back to"):
        roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_a_refilled_slot_gets_its_build_back(endpoint, operator, version):
    version(14)
    promote_now(operator)
    deploy(actor=operator, endpoint=NAME, model="churn", version=14, slot="blue")
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert Slot.objects.get(name="blue").deployed_by == "operator"
    assert {build.version for build in newest_table().builds} == {12, 13}


def test_a_promotion_after_a_roll_back_is_taken_back_again(endpoint, operator):
    for _ in range(3):
        promote_now(operator)
        roll_back(actor=operator, endpoint=NAME)
        assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_a_named_revision_is_applied_exactly(endpoint, operator):
    split_now(operator, blue=60, green=40)
    promote_now(operator)
    roll_back(actor=operator, endpoint=NAME, to_revision=4)
    assert shares() == {"blue": (12, 60), "green": (13, 40)}
    assert summaries()[-1] == "Rolled back to v12 60 %, v13 40 %"


def test_a_roll_back_can_itself_be_taken_back_by_name(endpoint, operator):
    promote_now(operator)
    roll_back(actor=operator, endpoint=NAME)
    roll_back(actor=operator, endpoint=NAME, to_revision=4)
    assert shares() == {"blue": (12, 0), "green": (13, 100)}
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_edits_in_between_do_not_count(endpoint, operator):
    promote_now(operator)
    edit_endpoint(actor=operator, endpoint=NAME, changes={"log_policy": "durable"})
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert Endpoint.objects.get().log_policy == "durable"


def test_no_check_stands_in_its_way(endpoint, operator):
    promote_now(operator)
    Version.objects.update(state=Version.State.REFUSED, refusal="found out later", archived_at=endpoint.created_at)
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_states_whose_builds_are_gone_are_passed_over(endpoint, operator, version):
    version(14)
    promote_now(operator)
    deploy(actor=operator, endpoint=NAME, model="churn", version=14)
    promote_now(operator)
    empty_slot(actor=operator, endpoint=NAME, slot="green")
    Build.objects.filter(version__number=13).delete()
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (None, 0)}
    with pytest.raises(Unprocessable, match="Revision 4 of churn-scorer cannot be applied: v13 was deleted"):
        roll_back(actor=operator, endpoint=NAME, to_revision=4)


def test_nothing_earlier_after_the_first_deployment(endpoint, operator):
    with pytest.raises(NothingEarlier):
        roll_back(actor=operator, endpoint=NAME)
    with pytest.raises(Unprocessable, match="nothing answered then"):
        roll_back(actor=operator, endpoint=NAME, to_revision=1)
    with pytest.raises(NotFound, match="no revision 99"):
        roll_back(actor=operator, endpoint=NAME, to_revision=99)
    assert len(summaries()) == 3


def test_the_page_knows_the_target_beforehand(endpoint, operator):
    assert roll_back_target(NAME) is None
    promote_now(operator)
    target = roll_back_target(NAME)
    assert target is not None
    assert target.split_text() == "v12 100 %"


def test_a_given_stale_revision_is_refused_and_none_is_not(endpoint, operator):
    promote_now(operator)
    with pytest.raises(Overtaken):
        roll_back(actor=operator, endpoint=NAME, revision=3)
    assert shares() == {"blue": (12, 0), "green": (13, 100)}
    roll_back(actor=operator, endpoint=NAME, revision=4)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_without_the_right_nothing_changes(endpoint, operator, viewer):
    promote_now(operator)
    with pytest.raises(Forbidden, match=r"endpoint\.roll_back on endpoint churn-scorer"):
        roll_back(actor=viewer, endpoint=NAME)
    assert shares() == {"blue": (12, 0), "green": (13, 100)}
    assert len(summaries()) == 4
