"""Deploying a version into a slot."""

from __future__ import annotations

import pytest

from access.models import AuditEntry
from core.errors import Forbidden, Invalid, NotFound, Unprocessable
from registry.models import Build, Version
from registry.signature import Kind
from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.errors import Incompatible, Overtaken
from serving.models import LedgerEntry, PublishedTable
from serving.promote import promote
from serving.split import split
from tests.serving.conftest import COLUMNS, make_version, newest_table, shares, summaries


def test_the_first_deployment_is_live_with_all_traffic(operator, version):
    version(12)
    create_endpoint(actor=operator, name="churn-scorer")
    endpoint = deploy(actor=operator, endpoint="churn-scorer", model="churn", version=12, reason="first")
    assert shares() == {"blue": (12, 100), "green": (None, 0)}
    assert (endpoint.live_slot, endpoint.revision) == ("blue", 2)
    assert summaries() == ["churn-scorer created, empty", "v12 deployed into blue with 100 %"]


def test_the_second_goes_into_green_and_gets_nothing(endpoint):
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert summaries()[-1] == "v13 deployed into green"


def test_the_ledger_row_holds_the_state_before_and_after(endpoint, operator):
    entry = LedgerEntry.objects.get(endpoint=endpoint, revision=3)
    twelve, thirteen = Build.objects.get(version__number=12), Build.objects.get(version__number=13)
    blue = {"name": "blue", "build_id": str(twelve.id), "model": "churn", "version": 12, "build_kind": "onnx", "weight": 100, "shadow": False}
    empty = {"name": "green", "build_id": None, "model": None, "version": None, "build_kind": None, "weight": 0, "shadow": False}
    green = {"name": "green", "build_id": str(thirteen.id), "model": "churn", "version": 13, "build_kind": "onnx", "weight": 0, "shadow": False}
    assert entry.before == {"live_slot": "blue", "slots": [blue, empty], "loaded": True}
    assert entry.after == {"live_slot": "blue", "slots": [blue, green], "loaded": True}
    assert (entry.verb, entry.actor_kind, entry.actor_id, entry.actor_name) == ("deploy", "person", operator.id, "operator")
    assert entry.table_revision == newest_table().revision


def test_the_audit_log_has_the_change(endpoint):
    entry = AuditEntry.objects.filter(subject_kind="endpoint").latest("id")
    assert (entry.verb, entry.subject_name, entry.actor_name) == ("deploy", "churn-scorer", "operator")
    assert (entry.before or {})["slots"][1]["version"] is None
    assert (entry.after or {})["slots"][1]["version"] == 13


def test_the_next_replaces_the_slot_without_traffic(endpoint, operator, version):
    version(14)
    promote(actor=operator, endpoint="churn-scorer", revision=3)
    deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14)
    assert shares() == {"blue": (14, 0), "green": (13, 100)}


def test_a_slot_of_another_name_can_be_added(endpoint, operator, version):
    version(14)
    deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14, slot="canary")
    assert shares() == {"blue": (12, 100), "canary": (14, 0), "green": (13, 0)}


def test_refuses_a_slot_with_traffic(endpoint, operator, version):
    version(14)
    with pytest.raises(Unprocessable, match="v12 in blue answers 100 % of the traffic"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14, slot="blue")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert len(summaries()) == 3


def test_refuses_when_every_slot_has_traffic(endpoint, operator, version):
    version(14)
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 90, "green": 10}, revision=3)
    with pytest.raises(Unprocessable, match="Every slot of churn-scorer has traffic: v12 90 %, v13 10 %"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14)
    assert shares() == {"blue": (12, 90), "green": (13, 10)}


def test_refuses_what_is_deployed_already(endpoint, operator):
    with pytest.raises(Unprocessable, match="v13 is in green already, with 0 %"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=13)
    assert len(summaries()) == 3


@pytest.mark.parametrize(
    ("columns", "outputs", "said"),
    [
        ({"tenure_months": Kind.INTEGER, "monthly_charges": Kind.NUMBER}, ("label", "probabilities"), "column contract is missing"),
        ({**COLUMNS, "age": Kind.NUMBER}, ("label", "probabilities"), "column age is new"),
        ({**COLUMNS, "contract": Kind.INTEGER}, ("label", "probabilities"), "column contract is integer, not text"),
        (COLUMNS, ("prediction",), "output label is missing; output probabilities is missing; output prediction is new"),
    ],
)
def test_refuses_other_columns_than_the_live_ones_and_names_them(endpoint, operator, columns, outputs, said):
    make_version(14, columns=columns, outputs=outputs)
    with pytest.raises(Incompatible, match=said):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert len(summaries()) == 3


def test_the_first_deployment_may_have_any_columns(operator):
    make_version(1, columns={"x": Kind.NUMBER})
    create_endpoint(actor=operator, name="other")
    deploy(actor=operator, endpoint="other", model="churn", version=1)
    assert shares("other") == {"blue": (1, 100), "green": (None, 0)}


def test_refuses_a_version_that_is_not_ready(endpoint, operator, version):
    refused = version(14)
    Version.objects.filter(id=refused.id).update(state=Version.State.REFUSED, refusal="It opens a socket.")
    with pytest.raises(Unprocessable, match=r"churn v14 is refused, not ready\. It opens a socket\."):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14)


def test_refuses_a_version_without_such_a_build(endpoint, operator, version):
    good = version(14)
    Version.objects.filter(id=good.id).update(not_servable_reason="skl2onnx has no converter for it.")
    with pytest.raises(Unprocessable, match=r"churn v14 has no onnx-int8 build\. skl2onnx has no converter for it\."):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14, build_kind="onnx-int8")


def test_refuses_what_does_not_exist(endpoint, operator):
    with pytest.raises(NotFound, match="no version 99 of a model churn"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=99)
    with pytest.raises(NotFound, match="no endpoint nowhere"):
        deploy(actor=operator, endpoint="nowhere", model="churn", version=12)


def test_refuses_a_slot_name_of_the_wrong_form(endpoint, operator, version):
    version(14)
    with pytest.raises(Invalid, match="slot name 'Big Slot'"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14, slot="Big Slot")


def test_a_stale_revision_loses_and_hears_what_the_other_did(endpoint, operator, version):
    version(14)
    with pytest.raises(Overtaken, match=r"operator changed it at .* UTC: v13 deployed into green\. Nothing was overwritten; look at it again, at revision 3"):
        deploy(actor=operator, endpoint="churn-scorer", model="churn", version=14, revision=2)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_without_the_right_nothing_changes(endpoint, scientist, version):
    version(14)
    tables = PublishedTable.objects.count()
    audits = AuditEntry.objects.count()
    with pytest.raises(Forbidden, match=r"endpoint\.deploy on endpoint churn-scorer"):
        deploy(actor=scientist, endpoint="churn-scorer", model="churn", version=14)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert (PublishedTable.objects.count(), AuditEntry.objects.count(), len(summaries())) == (tables, audits, 3)
