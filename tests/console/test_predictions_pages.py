"""The prediction log through the front door: the list with its filters and cursor, one prediction, the export."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from pytest_django import DjangoAssertNumQueries

from access.models import AuditEntry
from core.clock import now
from monitoring.models import Outcome, OutcomeBatch
from serving.models import Compaction, Endpoint, LostPredictions
from serving.segments import FLAG_UNSEEN_CATEGORY
from tests.conftest import ClientOf
from tests.serving.test_predictions import BEGIN, segment

PATH = "/endpoints/churn-scorer/predictions/"
OUTCOME = re.compile(r'<td data-label="Outcome">(?:<span class="quiet">)?(.*?)(?:</span>)?</td>')


def rows(body: bytes) -> int:
    return body.count(b'<th scope="row">')


def exported(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))


def test_filters_stand_in_the_address(client_of: ClientOf, endpoint: Endpoint) -> None:
    segment(BEGIN, 3)
    segment(BEGIN + timedelta(seconds=1), 2, slot="green", version=13, flags=FLAG_UNSEEN_CATEGORY)
    client = client_of("viewer")

    def found(**query: str) -> int:
        answer = client.get(PATH, query)
        assert answer.status_code == 200
        return rows(answer.content)

    assert (found(), found(slot="green"), found(version="12"), found(version="v13"), found(flagged="on")) == (5, 2, 3, 2, 2)
    assert (found(request_id="r1"), found(request_id="r2", slot="green"), found(since="2026-11-22T12:00:01")) == (2, 0, 2)
    assert found(until="2026-11-22T12:00:00") == 1
    assert "No logged prediction matches" in client.get(PATH, {"slot": "green", "version": "12"}).content.decode()
    page = client.get(PATH, {"slot": "green", "request_id": "r1"}).content.decode()
    assert '<option value="green" selected>' in page
    assert 'value="r1"' in page
    assert "unseen category" in page
    assert "1 prediction<" in page


@pytest.mark.parametrize(("query", "text"), [({"version": "x"}, "is not a number"), ({"since": "soon"}, "Write it as"), ({"cursor": "x"}, "cursor")])
def test_a_filter_that_is_none_is_refused_in_words(client_of: ClientOf, endpoint: Endpoint, query: dict[str, str], text: str) -> None:
    answer = client_of("viewer").get(PATH, query)
    assert answer.status_code == 400
    assert text in answer.content.decode()


def test_the_cursor_goes_on_with_the_filters(client_of: ClientOf, endpoint: Endpoint) -> None:
    segment(BEGIN, 120)
    segment(BEGIN, 9, slot="green", version=13)
    client = client_of("viewer")
    address, seen = f"{PATH}?slot=blue", []
    while address:
        answer = client.get(address)
        seen += [(row.id, row.row) for row in answer.context["rows"].results]
        following = answer.context["rows"].next
        address = f"{PATH}?slot=blue&cursor={following}" if following else ""
    assert len(seen) == len(set(seen)) == 120
    assert "First page" in answer.content.decode()


def test_an_endpoint_without_predictions_says_how_to_send_the_first(client_of: ClientOf, endpoint: Endpoint) -> None:
    page = client_of("viewer").get(PATH).content.decode()
    assert "No prediction yet" in page
    assert "/v2/models/churn-scorer/predict" in page


def test_one_prediction_shows_its_rows_its_way_and_its_outcome(client_of: ClientOf, endpoint: Endpoint) -> None:
    (identifier,) = segment(BEGIN, 2, per_request=2, flags=FLAG_UNSEEN_CATEGORY)
    page = client_of("viewer").get(f"{PATH}{identifier}/").content.decode()
    for text in ("Row 0: yes", "Row 1: yes", "unseen category", "churn v12", "1.5 ms", "missing", str(identifier)):
        assert text in page
    assert "No outcome yet" in page
    assert "what turned out to be true" in page  # to be filled in: the answer itself would confirm itself
    assert "<dt>probabilities</dt><dd>[0.25, —]</dd>" in page
    assert "None" not in page
    missing = client_of("viewer").get(f"{PATH}{uuid4()}/")
    assert missing.status_code == 404
    assert "no logged prediction" in missing.content.decode()


def test_the_list_shows_what_turned_out_to_be_true_in_one_query(
    client_of: ClientOf, endpoint: Endpoint, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    first, second, third = segment(BEGIN, 4, per_request=2)[0], *segment(BEGIN, 2, slot="green", version=13)
    client = client_of("viewer")
    client.get(PATH)
    with django_assert_num_queries(12) as before:
        assert OUTCOME.findall(client.get(PATH).content.decode()) == ["—"] * 6
    batch = OutcomeBatch.objects.create(actor_id="key:1", actor_name="billing", rows=4)
    for identifier, row, value, more in (
        (first, 0, "no", {"current": False, "state": "joined"}),
        (first, 0, "yes", {"state": "joined"}),
        (second, 0, 0, {"state": "parked"}),
        (third, 0, False, {"state": "joined", "truth": "no"}),
    ):
        Outcome.objects.create(batch=batch, prediction_id=identifier, row=row, value=value, **more)
    with django_assert_num_queries(len(before)):
        assert sorted(OUTCOME.findall(client.get(PATH).content.decode())) == ["0 <small>parked</small>", "no", "yes", "—", "—", "—"]


def test_the_export_is_what_the_filters_show_and_runs_no_formula(client_of: ClientOf, endpoint: Endpoint) -> None:
    segment(BEGIN, 3)
    segment(BEGIN, 4, slot="green", version=13)
    asked = {"slot": "blue", "since": f"{BEGIN:%Y-%m-%dT%H:%M}", "until": f"{BEGIN:%Y-%m-%dT%H}:59"}
    answer = client_of("scientist").get(f"{PATH}export.csv", asked)
    assert answer["Content-Disposition"].startswith(f'attachment; filename="churn-scorer-{BEGIN:%Y%m%dT%H%M}')
    found = exported(answer)
    assert [row["in.tenure"] for row in found] == ["0", "1", "2"]
    assert "'=cmd()" in {row["in.contract"] for row in found}
    assert AuditEntry.objects.filter(verb="export", subject_name="churn-scorer", actor_name="scientist").count() == 1


def test_the_log_exports_as_parquet_from_its_page(client_of: ClientOf, endpoint: Endpoint) -> None:
    segment(BEGIN, 3)
    client = client_of("scientist")
    assert f'href="{PATH}export.parquet?"' in client.get(PATH).content.decode()
    answer: Any = client.get(f"{PATH}export.parquet", {"since": f"{BEGIN:%Y-%m-%dT%H:%M}"})
    content = b"".join(answer.streaming_content)
    assert pq.read_table(io.BytesIO(content))["in.tenure"].to_pylist() == [0, 1, 2]
    assert client_of("viewer").get(f"{PATH}export.parquet").status_code == 403


def test_the_page_and_the_system_page_say_how_many_predictions_are_lost(client_of: ClientOf, endpoint: Endpoint) -> None:
    at = now()
    for slot in ("blue", "green"):
        LostPredictions.objects.create(process=uuid4(), endpoint="churn-scorer", slot=slot, predictions=21, at=at)
    LostPredictions.objects.create(process=uuid4(), endpoint="other", slot="blue", predictions=5, at=at)
    Compaction.objects.create(segments_before=900, segments_after=4, bytes_before=8_000_000, bytes_after=1_000_000)
    client = client_of("operator")
    assert "42 answered predictions could not be logged" in client.get(PATH).content.decode()
    page = client.get("/system/").content.decode()
    assert 'churn-scorer</th><td class="num"><b class="trouble">42</b>' in page
    assert "compaction made 4 segments of 900" in page
    answer = client.get("/api/v1/system/").json()
    assert [(row["endpoint"], row["predictions"]) for row in answer["lost"]] in ([("churn-scorer", 42), ("other", 5)], [("other", 5), ("churn-scorer", 42)])
    assert answer["compacted"] == {"segments_before": 900, "segments_after": 4, "bytes_before": 8_000_000, "bytes_after": 1_000_000}


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_begins_like_a_formula(client_of: ClientOf, endpoint: Endpoint, begins: str) -> None:
    segment(BEGIN, 2, contract=f"{begins}SUM(A1:A9)")
    found = exported(client_of("scientist").get(f"{PATH}export.csv", {"since": f"{BEGIN:%Y-%m-%dT%H:%M}"}))
    assert {row["in.contract"] for row in found if row["in.contract"]} == {f"'{begins}SUM(A1:A9)"}


def test_a_viewer_may_look_and_is_told_what_an_export_needs(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("viewer")
    assert "<code>predictions.export</code>" in client.get(PATH).content.decode()
    refused = client.get(f"{PATH}export.csv")
    assert refused.status_code == 403
    assert "predictions.export" in refused.content.decode()
