"""Versions that an endpoint needs cannot be deleted."""

from __future__ import annotations

import pytest

from registry.delete import delete_version
from registry.errors import InUse
from registry.models import Version
from serving.deploy import deploy
from serving.edit_endpoint import edit_endpoint
from serving.empty_slot import empty_slot
from serving.promote import promote
from tests.serving.conftest import shares

NAME = "churn-scorer"


def test_a_version_in_a_slot_stays(endpoint, operator):
    with pytest.raises(InUse, match="it is in the slot green of churn-scorer"):
        delete_version(actor=operator, model="churn", version=13)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert Version.objects.count() == 2


def test_a_version_of_the_state_before_stays_also_after_an_edit(endpoint, operator, version):
    version(14)
    promote(actor=operator, endpoint=NAME, revision=3)
    deploy(actor=operator, endpoint=NAME, model="churn", version=14)
    edit_endpoint(actor=operator, endpoint=NAME, changes={"log_policy": "durable"})
    with pytest.raises(InUse, match="the state of churn-scorer before its latest change has it"):
        delete_version(actor=operator, model="churn", version=12)
    empty_slot(actor=operator, endpoint=NAME, slot="blue")
    delete_version(actor=operator, model="churn", version=12)
    assert sorted(Version.objects.values_list("number", flat=True)) == [13, 14]
