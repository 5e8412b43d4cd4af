"""Reads of endpoints, the ledger and the processes, each with a known number of queries."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import now
from core.errors import NotFound
from core.ids import uuid7
from serving import queries
from serving.create_endpoint import create_endpoint
from serving.models import DataPlaneProcess, LedgerEntry, PublishedTable
from serving.promote import promote
from serving.roll_back import roll_back
from serving.split import split
from tests.serving.conftest import newest_table

NAME = "churn-scorer"


def process(seen_s_ago: float = 0.0, revision: int = 1, **values: object) -> DataPlaneProcess:
    seen = now() - timedelta(seconds=seen_s_ago)
    return DataPlaneProcess.objects.create(id=uuid7(), host="a", pid=1, table_revision=revision, ready=True, started_at=seen, seen_at=seen, **values)


def test_an_endpoint_with_everything_its_page_needs(endpoint, operator, django_assert_num_queries):
    split(actor=operator, endpoint=NAME, weights={"blue": 90, "green": 10}, revision=3)
    with django_assert_num_queries(3):
        detail = queries.endpoint_detail(NAME)
    blue, green = detail.slots
    assert (blue.title, blue.role, blue.weight, blue.live) == ("v12", "Live", 90, True)
    assert (green.title, green.role, green.weight, green.live) == ("v13", "Candidate", 10, False)
    assert (blue.model, blue.version, blue.build_kind, blue.size_bytes, blue.deployed_by) == ("churn", 12, "onnx", 1012, "operator")
    assert (detail.live, detail.candidate, detail.standing, detail.revision) == (blue, green, "Rollout at 10 %", 4)


def test_roles_of_slots_that_do_not_answer(endpoint, operator):
    assert [slot.role for slot in queries.endpoint_detail(NAME).slots] == ["Live", "Standby, warm"]
    create_endpoint(actor=operator, name="fresh")
    detail = queries.endpoint_detail("fresh")
    assert ([slot.role for slot in detail.slots], detail.standing, detail.live, detail.candidate) == (["Empty", "Empty"], "No version yet", None, None)
    with pytest.raises(NotFound, match="no endpoint nowhere"):
        queries.endpoint_detail("nowhere")


def test_a_build_that_a_process_could_not_load_says_why(endpoint):
    digest = newest_table().builds[1].digest
    process(builds=[{"digest": digest, "error": "not enough memory"}])
    process(seen_s_ago=30, builds=[{"digest": newest_table().builds[0].digest, "error": "long ago"}])
    assert [slot.load_error for slot in queries.endpoint_detail(NAME).slots] == ["", "not enough memory"]


def test_the_list_costs_three_queries_whatever_its_length(endpoint, operator, django_assert_num_queries):
    for number in range(6):
        create_endpoint(actor=operator, name=f"a-{number}")
    with django_assert_num_queries(3):
        page = queries.endpoints_page(limit=4)
    assert [row.name for row in page.results] == ["a-0", "a-1", "a-2", "a-3"]
    page = queries.endpoints_page(limit=4, cursor=page.next)
    assert [(row.name, row.standing) for row in page.results] == [("a-4", "No version yet"), ("a-5", "No version yet"), (NAME, "Steady on v12")]
    assert page.next is None


def test_the_list_can_be_searched_and_limited_to_names(endpoint, operator):
    create_endpoint(actor=operator, name="fraud")
    assert [row.name for row in queries.endpoints_page(search="SCOR").results] == [NAME]
    assert [row.name for row in queries.endpoints_page(names=["fraud"]).results] == ["fraud"]


def test_where_versions_are_deployed(endpoint, django_assert_num_queries):
    with django_assert_num_queries(1):
        found = queries.endpoints_with_version("churn")
    assert {number: [(name, slot.name, slot.weight) for name, slot in places] for number, places in found.items()} == {
        12: [(NAME, "blue", 100)],
        13: [(NAME, "green", 0)],
    }
    assert list(queries.endpoints_with_version("churn", 13)) == [13]


def test_the_ledger_newest_first_in_pages(endpoint, operator, django_assert_num_queries):
    promote(actor=operator, endpoint=NAME, revision=3, reason="better")
    with django_assert_num_queries(1):
        page = queries.ledger_page(endpoint=NAME, limit=3)
    assert [(row.revision, row.verb) for row in page.results] == [(4, "promote"), (3, "deploy"), (2, "deploy")]
    assert (page.results[0].reason, page.results[0].actor_name) == ("better", "operator")
    assert [row.revision for row in queries.ledger_page(endpoint=NAME, limit=3, cursor=page.next).results] == [1]
    create_endpoint(actor=operator, name="other")
    assert [row.endpoint for row in queries.ledger_page(limit=2).results] == ["other", NAME]


def test_what_served_at_five_past_two(endpoint, operator, django_assert_num_queries):
    split(actor=operator, endpoint=NAME, weights={"blue": 90, "green": 10}, revision=3)
    promote(actor=operator, endpoint=NAME, revision=4)
    roll_back(actor=operator, endpoint=NAME)
    noon = now().replace(hour=14, minute=0, second=0, microsecond=0)
    for entry in LedgerEntry.objects.all():
        LedgerEntry.objects.filter(id=entry.id).update(at=noon + timedelta(minutes=2 * entry.revision))
    with django_assert_num_queries(1):
        row = queries.state_at(NAME, noon + timedelta(minutes=9))
    assert row is not None
    assert (row.revision, row.after.split_text()) == (4, "v12 90 %, v13 10 %")
    at = {minute: queries.state_at(NAME, noon + timedelta(minutes=minute)) for minute in (1, 2, 10, 11, 12, 60)}
    assert at[1] is None
    assert {minute: row.after.split_text() for minute, row in at.items() if row} == {2: "", 10: "v13 100 %", 11: "v13 100 %", 12: "v12 100 %", 60: "v12 100 %"}
    assert queries.state_at("nowhere", noon) is None


def test_processes_that_are_behind_stale_or_gone(endpoint, django_assert_num_queries):
    newest = newest_table().revision
    process(revision=newest)
    process(revision=newest - 2, seen_s_ago=6)
    process(revision=newest, seen_s_ago=61)
    with django_assert_num_queries(2):
        found = queries.processes()
    assert [(state.behind, state.stale) for state in found] == [(2, True), (0, False)]


def test_two_live_processes_that_differ_for_long_disagree(endpoint):
    newest = newest_table().revision
    process(revision=newest)
    process(revision=newest - 1)
    assert queries.system_state().disagree is False
    PublishedTable.objects.filter(revision=newest).update(published_at=now() - timedelta(seconds=3))
    assert queries.system_state().disagree is True
    DataPlaneProcess.objects.filter(table_revision=newest - 1).update(seen_at=now() - timedelta(seconds=10))
    assert queries.system_state().disagree is False
