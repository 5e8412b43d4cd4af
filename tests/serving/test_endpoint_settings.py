"""Creating, editing and deleting endpoints."""

from __future__ import annotations

import pytest

from access.models import AuditEntry
from core.errors import Conflict, Forbidden, Invalid, NotFound
from serving.create_endpoint import create_endpoint
from serving.delete_endpoint import delete_endpoint
from serving.edit_endpoint import edit_endpoint
from serving.errors import Overtaken
from serving.models import Endpoint, LedgerEntry, PublishedTable, Slot
from tests.serving.conftest import newest_table, shares, summaries


def test_a_new_endpoint_is_empty_and_published(operator):
    endpoint = create_endpoint(actor=operator, name="churn-scorer", sticky_on="customer_id", log_policy="sampled", log_share=0.25, limits={"max_rows": 10})
    assert (endpoint.revision, endpoint.live_slot, endpoint.created_by) == (1, "blue", "operator")
    assert shares() == {"blue": (None, 0), "green": (None, 0)}
    published = newest_table().endpoints[0]
    assert (published.name, published.slots, published.sticky_on, published.log_policy, published.log_share) == (
        "churn-scorer",
        (),
        "customer_id",
        "sampled",
        0.25,
    )
    assert (published.limits.max_rows, published.limits.timeout_ms) == (10, 10_000)


@pytest.mark.parametrize("name", ["", "Churn", "churn scorer", "-churn", "churn-", "a/b", "x" * 101, "chürn"])
def test_refuses_a_name_that_cannot_stand_in_an_address(operator, name):
    with pytest.raises(Invalid, match="cannot stand in an address"):
        create_endpoint(actor=operator, name=name)
    assert Endpoint.objects.count() == 0


@pytest.mark.parametrize("name", ["new", "stats"])
def test_refuses_a_name_whose_address_is_something_else(client_of, name):
    client = client_of("operator")
    page = client.post("/endpoints/new/", {"name": name})
    assert (page.status_code, "is an address of its own" in page.content.decode()) == (400, True)
    answer = client.post("/api/v1/endpoints/", {"name": name}, content_type="application/json")
    assert (answer.status_code, answer.json()["field"]) == (400, "name")
    assert Endpoint.objects.count() == 0


def test_refuses_a_taken_name(endpoint, operator):
    with pytest.raises(Conflict, match="There is an endpoint churn-scorer already"):
        create_endpoint(actor=operator, name="churn-scorer")
    assert len(summaries()) == 3


def test_only_operators_create(scientist):
    with pytest.raises(Forbidden, match=r"endpoint\.create\. The role operator has it"):
        create_endpoint(actor=scientist, name="churn-scorer")
    assert (Endpoint.objects.count(), AuditEntry.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"log_policy": "loud"}, "log policy 'loud' is unknown: choose durable, fast, sampled, off"),
        ({"log_share": 1.5}, "between 0 and 1"),
        ({"validation": {"default": "ignore"}}, "policy of default is 'ignore': choose refuse, clip, replace, flag"),
        ({"validation": {"features": {"age": "drop"}}}, "policy of age is 'drop'"),
        ({"validation": {"features": []}}, "validation policy is wrong"),
        ({"limits": {"max_rows": 0}}, "max_rows is 0; it must lie between 1 and 1000000"),
        ({"limits": {"max_rows": 10**400}}, "max_rows is 1000"),
        ({"limits": {"requests_per_s": 1e-310}}, "use at least 1e-05, one a day"),
        ({"cache": {"ttl_s": -1}}, "ttl_s is -1"),
        ({"limits": {"max_cats": 1}}, "no 'max_cats' in limits"),
        ({"limits": {"max_rows": "many"}}, "limits cannot be read"),
        ({"revision": 7}, "no setting 'revision'"),
    ],
)
def test_refuses_a_wrong_setting(endpoint, operator, setting, said):
    with pytest.raises(Invalid, match=said):
        edit_endpoint(actor=operator, endpoint="churn-scorer", changes=setting)
    assert Endpoint.objects.get().revision == 3


def test_an_edit_is_in_the_ledger_the_audit_log_and_the_routes(endpoint, operator):
    changes = {"log_policy": "durable", "validation": {"default": "refuse"}, "description": ""}
    edit_endpoint(actor=operator, endpoint="churn-scorer", changes=changes, revision=3, reason="auditors")
    entry = LedgerEntry.objects.latest("revision")
    assert (entry.revision, entry.summary, entry.reason) == (4, "Log policy set to durable, validation changed", "auditors")
    assert entry.before == entry.after
    audit = AuditEntry.objects.latest("id")
    assert (audit.verb, audit.before) == ("edit", {"log_policy": "fast", "validation": {"default": "flag", "features": {}}})
    assert audit.after == {"log_policy": "durable", "validation": {"default": "refuse", "features": {}}}
    published = newest_table().endpoints[0]
    assert (published.log_policy, published.validation.default, published.revision) == ("durable", "refuse", 4)


def test_an_edit_that_changes_nothing_writes_nothing(endpoint, operator):
    tables = PublishedTable.objects.count()
    assert edit_endpoint(actor=operator, endpoint="churn-scorer", changes={"log_policy": "fast"}).revision == 3
    assert (PublishedTable.objects.count(), len(summaries())) == (tables, 3)


def test_a_stale_edit_is_refused(endpoint, operator):
    with pytest.raises(Overtaken):
        edit_endpoint(actor=operator, endpoint="churn-scorer", changes={"log_policy": "off"}, revision=2)
    assert Endpoint.objects.get().log_policy == "fast"


def test_a_deleted_endpoint_is_gone_from_the_routes_and_stays_in_the_audit_log(endpoint, operator):
    delete_endpoint(actor=operator, endpoint="churn-scorer", revision=3, reason="moved")
    assert (Endpoint.objects.count(), Slot.objects.count(), LedgerEntry.objects.count()) == (0, 0, 0)
    assert (newest_table().endpoints, newest_table().builds) == ((), ())
    audit = AuditEntry.objects.latest("id")
    assert (audit.verb, audit.subject_name, audit.reason, audit.after) == ("delete", "churn-scorer", "moved", None)
    assert [slot["version"] for slot in (audit.before or {})["slots"]] == [12, 13]
    with pytest.raises(NotFound):
        delete_endpoint(actor=operator, endpoint="churn-scorer", revision=3)


def test_a_stale_deletion_and_one_without_the_right_are_refused(endpoint, operator, scientist):
    with pytest.raises(Overtaken):
        delete_endpoint(actor=operator, endpoint="churn-scorer", revision=2)
    with pytest.raises(Forbidden, match=r"endpoint\.delete"):
        delete_endpoint(actor=scientist, endpoint="churn-scorer", revision=3)
    assert Endpoint.objects.count() == 1
