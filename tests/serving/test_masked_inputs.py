"""Masked inputs through every door to the log: pages, REST, exports, for each role and key; and who may change them."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from access.actors import Actor
from access.keys import create_key
from access.models import AuditEntry
from access.people import actor_of, add_grant
from core import jobs
from core.errors import Forbidden, Invalid
from core.models import Job
from registry.signature import Kind
from serving import seal
from serving.create_endpoint import create_endpoint
from serving.delete_endpoint import delete_endpoint
from serving.edit_endpoint import edit_endpoint
from serving.empty_slot import empty_slot
from serving.export import export_predictions
from serving.masking import Mask
from serving.models import Endpoint, LedgerEntry, PredictionSegment
from serving.queries import PredictionFilters, prediction, predictions_page
from tests.conftest import ClientOf, _person
from tests.serving.conftest import make_version
from tests.serving.test_predictions import BEGIN, NAME, SEES_ALL, segment

SECRET = "secret-tariff"
PAGE, REST = f"/endpoints/{NAME}/", f"/api/v1/endpoints/{NAME}/"
SPAN = {"since": f"{BEGIN:%Y-%m-%dT%H:%M}", "until": f"{BEGIN:%Y-%m-%dT%H}:59"}
KEPT_FROM = ("viewer", "scientist", "operator")


@pytest.fixture
def logged(endpoint: Endpoint, admin: Actor) -> UUID:
    """Three rows of one request, logged before ``contract`` was masked; row 1 has a contract, the others miss it."""
    (identifier,) = segment(BEGIN, 3, per_request=3, contract=SECRET)
    edit_endpoint(actor=admin, endpoint=NAME, changes={"masked_inputs": ["contract"]})
    return identifier


def set_masks(client: Client, names: Any) -> Any:
    return client.patch(REST, {"masked_inputs": names}, content_type="application/json")


def body_of(answer: Any) -> bytes:
    assert answer.status_code == 200
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def doors(client: Client, identifier: UUID) -> dict[str, bytes]:
    """What each address that reads logged inputs answers; exports only where they are allowed."""
    paths = {"list": f"{PAGE}predictions/", "one": f"{PAGE}predictions/{identifier}/"}
    paths |= {"rest list": f"{REST}predictions/", "rest one": f"{REST}predictions/{identifier}/"}
    files = {"csv page": f"{PAGE}predictions/export.csv", "parquet page": f"{PAGE}predictions/export.parquet"}
    files |= {"csv": f"{REST}predictions/export/?format=csv", "parquet": f"{REST}predictions/export/?format=parquet"}
    found = {name: body_of(client.get(path)) for name, path in paths.items()}
    answers = {name: client.get(path, SPAN | ({"format": name} if path.startswith("/api") else {})) for name, path in files.items()}
    return found | {name: body_of(answer) for name, answer in answers.items() if answer.status_code != 403}


def holds(body: bytes) -> bool:
    """Tell whether the masked value is in an answer; a Parquet file is read, for it is compressed."""
    if body.startswith(b"PAR1"):
        return SECRET in pq.read_table(io.BytesIO(body))["in.contract"].to_pylist()
    return SECRET.encode() in body


@pytest.mark.parametrize(("role", "count"), [("viewer", 4), ("scientist", 8), ("operator", 8)])
def test_no_door_gives_a_masked_value_to_who_may_not_unmask(logged: UUID, client_of: ClientOf, role: str, count: int) -> None:
    found = doors(client_of(role), logged)
    assert len(found) == count
    assert [name for name, body in found.items() if holds(body)] == []


def test_an_admin_sees_the_values_at_every_door(logged: UUID, client_of: ClientOf) -> None:
    found = doors(client_of("admin"), logged)
    assert len(found) == 8
    assert [name for name, body in found.items() if not holds(body)] == []


def test_masked_is_not_missing_on_the_pages(logged: UUID, client_of: ClientOf) -> None:
    client = client_of("viewer")
    page = client.get(f"{PAGE}predictions/").content.decode()
    assert page.count("contract masked</span>") == 3
    assert "tenure 1" in page
    assert "missing" not in page
    assert "Seeing the values needs <code>predictions.unmask</code>" in page
    one = client.get(f"{PAGE}predictions/{logged}/").content.decode()
    assert one.count(" masked</span></td>") == 3
    assert ("missing</b>" in one, "Not without its masked inputs" in one, "/v2/models/churn-scorer/predict" in one) == (False, True, False)
    seen = client_of("admin").get(f"{PAGE}predictions/{logged}/").content.decode()
    assert seen.count("<b>missing</b>") == 2
    assert "You see the values, and so does everybody with <code>predictions.unmask</code>" in seen
    assert "/v2/models/churn-scorer/predict" in seen


def test_rest_names_what_is_masked_and_leaves_it_out(logged: UUID, client_of: ClientOf) -> None:
    shown = {role: client_of(role).get(f"{REST}predictions/{logged}/").json()["rows"] for role in ("viewer", "admin")}
    assert [(row["inputs"], row["masked"]) for row in shown["viewer"]] == [({"tenure": number}, ["contract"]) for number in range(3)]
    assert [(row["inputs"]["contract"], row["masked"]) for row in shown["admin"]] == [(None, []), (SECRET, []), (None, [])]
    assert [row["outputs"] for row in shown["viewer"]] == [row["outputs"] for row in shown["admin"]]
    listed = client_of("viewer").get(f"{REST}predictions/").json()["results"]
    assert [(row["inputs"], row["masked"]) for row in listed] == [({"tenure": number}, ["contract"]) for number in (2, 1, 0)]


def test_no_filter_and_no_sort_looks_at_a_masked_value(logged: UUID, client_of: ClientOf) -> None:
    client = client_of("viewer")
    all_of_them = client.get(f"{REST}predictions/").json()
    for query in ({"contract": SECRET}, {"in.contract": SECRET}, {"sort": "contract"}, {"inputs": SECRET}):
        assert client.get(f"{REST}predictions/", query).json() == all_of_them
    assert client.get(f"{REST}predictions/", {"request_id": SECRET}).json()["results"] == []


def test_an_export_has_nulls_under_the_column_and_says_so(logged: UUID, client_of: ClientOf) -> None:
    client = client_of("scientist")
    lines = client.get(f"{REST}predictions/export/", SPAN)
    assert lines["Signalbox-Masked"] == "1"
    rows = list(csv.DictReader(io.StringIO(body_of(lines).decode())))
    assert [(row["in.tenure"], row["in.contract"]) for row in rows] == [("0", ""), ("1", ""), ("2", "")]
    parquet = client.get(f"{PAGE}predictions/export.parquet", SPAN)
    table = pq.read_table(io.BytesIO(body_of(parquet)))
    assert (parquet["Signalbox-Masked"], table["in.contract"].null_count, str(table.schema.field("in.contract").type)) == ("1", 3, "string")
    assert json.loads((table.schema.metadata or {})[b"signalbox.masked"]) == ["in.contract"]
    assert "unmasked" not in (AuditEntry.objects.filter(verb="export").latest("id").after or {})


def test_an_export_of_what_is_masked_for_others_stands_in_the_audit_log(logged: UUID, client_of: ClientOf) -> None:
    answer = client_of("admin").get(f"{PAGE}predictions/export.parquet", SPAN)
    table = pq.read_table(io.BytesIO(body_of(answer)))
    assert table["in.contract"].to_pylist() == [None, SECRET, None]
    assert (answer.has_header("Signalbox-Masked"), b"signalbox.masked" in (table.schema.metadata or {})) == (False, False)
    assert (AuditEntry.objects.filter(verb="export").latest("id").after or {})["unmasked"] == ["contract"]


@pytest.mark.parametrize(
    ("scopes", "endpoints", "sees"),
    [(["read"], [], False), (["operate"], [], False), (["register", "outcomes", "predict"], [], False), (["admin"], [], True), (["admin"], [NAME], True)],
)
def test_of_all_scopes_only_admin_unmasks(logged: UUID, admin: Actor, scopes: list[str], endpoints: list[str], sees: bool) -> None:
    key = create_key(actor=admin, name="program", scopes=scopes, endpoints=endpoints).text
    answer = Client().get(f"{REST}predictions/{logged}/", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, holds(answer.content)) == (200, sees)


def test_a_grant_unmasks_its_endpoint_and_no_other(logged: UUID, admin: Actor, operator: Actor) -> None:
    create_endpoint(actor=operator, name="other")
    edit_endpoint(actor=admin, endpoint="other", changes={"masked_inputs": ["contract"]})
    (other,) = segment(BEGIN, 2, per_request=2, endpoint="other", contract=SECRET)
    person = _person("viewer")
    add_grant(actor=admin, username="viewer", subject_kind="endpoint", subject_name=NAME, role="admin")
    actor = actor_of(person)
    assert prediction(actor=actor, endpoint=NAME, identifier=logged).rows[1].inputs["contract"] == SECRET
    assert "contract" not in prediction(actor=actor, endpoint="other", identifier=other).rows[1].inputs


def test_the_log_is_as_it_was_and_unmasking_shows_it_again(logged: UUID, client_of: ClientOf, admin: Actor, viewer: Actor) -> None:
    before = bytes(PredictionSegment.objects.get().columns)
    assert prediction(actor=viewer, endpoint=NAME, identifier=logged).rows[1].masked == ("contract",)
    assert set_masks(client_of("admin"), []).status_code == 200
    row = prediction(actor=viewer, endpoint=NAME, identifier=logged).rows[1]
    assert (row.inputs["contract"], row.masked) == (SECRET, ())
    assert bytes(PredictionSegment.objects.get().columns) == before


def test_reading_costs_one_query_more_and_none_for_who_may_unmask(
    logged: UUID, viewer: Actor, admin: Actor, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for actor, queries in ((viewer, 3), (admin, 2)):
        with django_assert_num_queries(queries):
            predictions_page(actor=actor, endpoint=NAME)
        with django_assert_num_queries(queries - 1):
            prediction(actor=actor, endpoint=NAME, identifier=logged)


def test_the_reads_ask_for_the_right_by_themselves(logged: UUID, admin: Actor) -> None:
    nobody = Actor(kind="person", id="person:0", name="nobody")
    with pytest.raises(Forbidden, match=r"predictions\.view on endpoint churn-scorer"):
        predictions_page(actor=nobody, endpoint=NAME)
    with pytest.raises(Forbidden, match=r"predictions\.view"):
        prediction(actor=nobody, endpoint=NAME, identifier=logged)


def test_a_deleted_endpoint_shows_no_input_to_who_may_not_unmask(logged: UUID, client_of: ClientOf, operator: Actor) -> None:
    """Its policy is gone with it; deleting must not be a way around it, neither before its log is sealed nor after."""
    delete_endpoint(actor=operator, endpoint=NAME, revision=4)
    for sealed in (False, True):
        if sealed:
            assert jobs.run(str(Job.objects.get(kind=seal.KIND, state="queued").id), seal.seal)
        name = PredictionSegment.objects.get().endpoint
        assert (name == NAME) is not sealed
        rows = {role: client_of(role).get(f"/api/v1/endpoints/{name}/predictions/").json()["results"] for role in ("operator", "admin")}
        assert [(row["inputs"], row["masked"]) for row in rows["operator"]] == [({}, ["tenure", "contract"])] * 3
        assert [row["inputs"]["contract"] for row in rows["admin"]] == [None, SECRET, None]


def test_a_change_of_masks_is_in_the_ledger_and_the_audit_log(endpoint: Endpoint, client_of: ClientOf) -> None:
    answer = set_masks(client_of("operator"), ["tenure_months", "contract", "contract"])
    assert (answer.status_code, answer.json()["masked_inputs"], answer.json()["revision"]) == (200, ["contract", "tenure_months"], 4)
    assert LedgerEntry.objects.latest("revision").summary == "Masked inputs set to contract, tenure_months"
    audit = AuditEntry.objects.latest("id")
    assert (audit.verb, audit.before, audit.after) == ("edit", {"masked_inputs": []}, {"masked_inputs": ["contract", "tenure_months"]})
    assert set_masks(client_of("operator"), ["tenure_months", "contract"]).json()["revision"] == 4
    assert set_masks(client_of("admin"), []).status_code == 200
    assert LedgerEntry.objects.latest("revision").summary == "Masked inputs set to none"


def test_taking_a_mask_off_needs_the_right_to_see_what_is_under_it(logged: UUID, client_of: ClientOf) -> None:
    for names in ([], ["tenure_months"]):
        answer = set_masks(client_of("operator"), names)
        assert (answer.status_code, answer.json()["right"]) == (403, "predictions.unmask")
    assert set_masks(client_of("scientist"), ["contract", "tenure_months"]).json()["right"] == "endpoint.edit"
    assert (Endpoint.objects.get().masked_inputs, Endpoint.objects.get().revision) == (["contract"], 4)
    assert set_masks(client_of("operator"), ["contract", "tenure_months"]).status_code == 200
    assert Endpoint.objects.get().masked_inputs == ["contract", "tenure_months"]


@pytest.mark.parametrize("names", [["agee"], ["contract", "in.contract"], ["Contract"], [" contract"], ["contr%"]])
def test_a_feature_that_no_version_has_is_refused(endpoint: Endpoint, client_of: ClientOf, names: list[str]) -> None:
    answer = set_masks(client_of("admin"), names)
    assert (answer.status_code, answer.json()["field"]) == (400, "masked_inputs")
    assert f"No registered version has a feature {names[-1]!r}" in answer.json()["detail"]
    assert "Those in its slots have tenure_months, monthly_charges, contract." in answer.json()["detail"]
    assert (Endpoint.objects.get().masked_inputs, Endpoint.objects.get().revision) == ([], 3)


@pytest.mark.parametrize("names", ["contract", {"contract": True}, [["contract"]], [""], None, [None]])
def test_what_is_no_list_of_names_is_refused(endpoint: Endpoint, client_of: ClientOf, names: Any) -> None:
    assert set_masks(client_of("admin"), names).status_code == 400
    assert Endpoint.objects.get().masked_inputs == []


@pytest.mark.parametrize("names", ["contract", [""], [7]])
def test_the_verb_refuses_them_too(endpoint: Endpoint, admin: Actor, names: Any) -> None:
    with pytest.raises(Invalid, match="not a list of names"):
        edit_endpoint(actor=admin, endpoint=NAME, changes={"masked_inputs": names})


def test_a_later_versions_feature_is_masked_ahead_and_an_earlier_ones_stays(endpoint: Endpoint, operator: Actor, viewer: Actor) -> None:
    create_endpoint(actor=operator, name="empty")
    make_version(14, columns={"tenure": Kind.INTEGER})
    for name in ("empty", NAME):
        edit_endpoint(actor=operator, endpoint=name, changes={"masked_inputs": ["tenure", "contract"]})
    (identifier,) = segment(BEGIN, 1)
    assert prediction(actor=viewer, endpoint=NAME, identifier=identifier).rows[0].masked == ("tenure", "contract")
    empty_slot(actor=operator, endpoint=NAME, slot="green")
    edit_endpoint(actor=operator, endpoint=NAME, changes={"masked_inputs": ["contract", "tenure", "monthly_charges"]})
    assert Endpoint.objects.get(name=NAME).masked_inputs == ["contract", "monthly_charges", "tenure"]


def test_masks_do_not_change_what_is_read_of_versions_without_the_feature(endpoint: Endpoint, admin: Actor, scientist: Actor) -> None:
    edit_endpoint(actor=admin, endpoint=NAME, changes={"masked_inputs": ["monthly_charges"]})
    (identifier,) = segment(BEGIN, 2, per_request=2, contract=SECRET)
    rows = prediction(actor=scientist, endpoint=NAME, identifier=identifier).rows
    assert rows == prediction(actor=SEES_ALL, endpoint=NAME, identifier=identifier).rows
    export = export_predictions(actor=scientist, endpoint=NAME, filters=PredictionFilters(since=BEGIN, until=BEGIN + timedelta(hours=1)))
    assert (export.masked, SECRET in b"".join(export.content).decode()) == ((), True)


def test_a_whole_tensor_that_may_hold_a_masked_feature_is_masked_too() -> None:
    """A build whose first axis is no row is logged as lists that name no feature."""
    logged = pa.table({"in.X": [[41.0, 52.0]], "in.plan": ["a"], "out.y": [[1.0]]})
    table, hidden = Mask(frozenset({"age"})).lift_off(logged)
    assert (table.column_names, hidden) == (["in.plan", "out.y"], ("X",))
    assert Mask().lift_off(logged) == (logged, ())
