"""Taking an endpoint out of service and putting it back."""

from __future__ import annotations

import msgspec
import pytest

from access.models import AuditEntry
from core.errors import Forbidden
from registry.models import Build
from serving.errors import NothingEarlier, Overtaken
from serving.hold import why_held
from serving.ledger import as_state
from serving.load import load
from serving.models import Endpoint, LedgerEntry, PublishedTable
from serving.promote import promote
from serving.queries import endpoint_detail
from serving.roll_back import roll_back
from serving.split import split
from serving.unload import unload
from tests.serving.conftest import newest_table, shares, summaries

NAME = "churn-scorer"


def test_unloading_takes_slots_and_builds_from_the_route_table_and_says_who_and_why(endpoint, operator):
    unload(actor=operator, endpoint=NAME, revision=3, reason="bad data upstream")
    table = newest_table()
    (entry,) = table.endpoints
    row = Endpoint.objects.get(name=NAME)
    assert (entry.slots, table.builds) == ((), ())
    assert entry.unloaded == f"operator unloaded it at {row.unloaded_at:%Y-%m-%d %H:%M} UTC (bad data upstream)"
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert endpoint_detail(NAME).standing == "Out of service"


def test_the_ledger_and_the_audit_log_have_the_whole_state_before_and_after(endpoint, operator):
    unload(actor=operator, endpoint=NAME, reason="bad data")
    entry = LedgerEntry.objects.latest("revision")
    assert (entry.verb, entry.revision, entry.actor_name, entry.reason) == ("unload", 4, "operator", "bad data")
    assert entry.summary == "Unloaded: out of service, its callers get 503"
    before, after = as_state(entry.before), as_state(entry.after)
    assert (before.loaded, after.loaded) == (True, False)
    assert msgspec.structs.replace(after, loaded=True) == before
    audit = AuditEntry.objects.latest("id")
    assert audit.before is not None
    assert audit.after is not None
    assert (audit.verb, audit.before["loaded"], audit.after["loaded"]) == ("unload", True, False)


def test_loading_puts_back_exactly_what_was_there(endpoint, operator):
    before = newest_table()
    unload(actor=operator, endpoint=NAME)
    load(actor=operator, endpoint=NAME, revision=4, reason="data repaired")
    after = newest_table()
    assert (after.endpoints[0].slots, after.builds, after.endpoints[0].unloaded) == (before.endpoints[0].slots, before.builds, "")
    assert summaries()[-1] == "Loaded: back in service with v12 100 %"
    row = Endpoint.objects.get(name=NAME)
    assert (row.unloaded_at, row.unloaded_by, row.unload_reason) == (None, "", "")


@pytest.mark.parametrize("verb", [load, unload])
def test_what_is_so_already_writes_nothing(endpoint, operator, verb):
    if verb is unload:
        unload(actor=operator, endpoint=NAME, reason="first")
    rows, tables = LedgerEntry.objects.count(), PublishedTable.objects.count()
    verb(actor=operator, endpoint=NAME, reason="again")
    assert (LedgerEntry.objects.count(), PublishedTable.objects.count()) == (rows, tables)
    assert Endpoint.objects.get(name=NAME).unload_reason == ("first" if verb is unload else "")


@pytest.mark.parametrize("verb", [load, unload])
def test_without_the_right_or_with_a_stale_revision_nothing_changes(endpoint, operator, viewer, verb):
    if verb is load:
        unload(actor=operator, endpoint=NAME)
    was = endpoint_detail(NAME).state
    with pytest.raises(Forbidden, match=r"endpoint\.load on endpoint churn-scorer"):
        verb(actor=viewer, endpoint=NAME)
    with pytest.raises(Overtaken):
        verb(actor=operator, endpoint=NAME, revision=1)
    assert endpoint_detail(NAME).state == was


def test_changes_of_an_unloaded_endpoint_leave_it_unloaded(endpoint, operator):
    unload(actor=operator, endpoint=NAME)
    split(actor=operator, endpoint=NAME, weights={"blue": 50, "green": 50}, revision=4)
    promote(actor=operator, endpoint=NAME, slot="green", revision=5)
    assert (endpoint_detail(NAME).state.loaded, newest_table().endpoints[0].slots) == (False, ())
    load(actor=operator, endpoint=NAME)
    assert [(slot.name, slot.weight) for slot in newest_table().endpoints[0].slots] == [("blue", 0), ("green", 100)]


def test_a_roll_back_puts_the_earlier_version_into_service(endpoint, operator):
    promote(actor=operator, endpoint=NAME, revision=3)
    unload(actor=operator, endpoint=NAME, reason="v13 is wrong")
    roll_back(actor=operator, endpoint=NAME)
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert summaries()[-1] == "Rolled back to v12 in blue with 100 %; back in service"
    assert (endpoint_detail(NAME).state.loaded, newest_table().endpoints[0].unloaded) == (True, "")


def test_a_roll_back_to_a_revision_that_was_unloaded_is_in_service_too(endpoint, operator):
    unload(actor=operator, endpoint=NAME)
    promote(actor=operator, endpoint=NAME, revision=4)
    roll_back(actor=operator, endpoint=NAME, to_revision=4)
    assert (shares(), endpoint_detail(NAME).state.loaded) == ({"blue": (12, 100), "green": (13, 0)}, True)


def test_where_nothing_is_earlier_the_refusal_names_load(endpoint, operator):
    unload(actor=operator, endpoint=NAME)
    with pytest.raises(NothingEarlier, match=f"signalbox load {NAME}"):
        roll_back(actor=operator, endpoint=NAME)
    assert endpoint_detail(NAME).state.loaded is False


def test_what_a_promotion_replaced_is_held_though_the_endpoint_was_unloaded_since(endpoint, operator, version):
    from serving.deploy import deploy

    version(14)
    promote(actor=operator, endpoint=NAME, revision=3)
    deploy(actor=operator, endpoint=NAME, model="churn", version=14, slot="blue")
    replaced = Build.objects.get(version__number=12).version
    held = why_held(replaced)
    unload(actor=operator, endpoint=NAME)
    assert why_held(replaced) == held == f"the state of {NAME} before its latest change has it, and a roll back may need it"
