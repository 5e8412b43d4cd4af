"""The prediction log: pages, filters, one prediction, export, retention."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from access.actors import system
from access.models import AuditEntry
from core.clock import now
from core.errors import Forbidden, Invalid, NotFound
from core.ids import uuid7
from registry.signature import Feature, Kind
from serving import compact
from serving import delete_old as old
from serving.export import export_predictions
from serving.models import PredictionSegment
from serving.queries import PredictionFilters, prediction, predictions_page
from serving.segments import (
    FLAG_CACHE_HIT,
    FLAG_DEMO,
    FLAG_OUT_OF_BOUNDS,
    FLAG_UNSEEN_CATEGORY,
    decode,
    encode,
    output_field,
    sent_field,
    shortest,
    shortest_of,
    table_of,
)
from serving.tasks import delete_old

NAME = "churn-scorer"
SEES_ALL = system("tests")
BEGIN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def segment(
    at: datetime,
    rows: int,
    *,
    slot: str = "blue",
    version: int = 12,
    endpoint: str = NAME,
    flags: int = 0,
    key: str = "app",
    per_request: int = 1,
    contract: str = "=cmd()",
) -> list[UUID]:
    """Write a segment of ``rows`` a millisecond apart; row n has tenure n, and its request's id is ``r<n>``."""
    times = [at + timedelta(milliseconds=number) for number in range(rows)]
    ids = [uuid7(ms(times[number // per_request * per_request])) for number in range(0, rows, per_request)]
    spread = [ids[number // per_request] for number in range(rows)]
    fixed = {
        "prediction_id": [each.bytes for each in spread],
        "row": [number % per_request for number in range(rows)],
        "received_at": times,
        "latency_us": [1500 + number for number in range(rows)],
        "request_id": [f"r{number}" if number else None for number in range(rows)],
        "key_id": [key] * rows,
        "flags": [flags] * rows,
    }
    inputs = {"tenure": list(range(rows)), "contract": [contract if number % 2 else None for number in range(rows)]}
    outputs = {"label": ["yes"] * rows, "probabilities": pa.array([[0.25, float("nan")]] * rows, pa.list_(pa.float32()))}
    PredictionSegment.objects.create(
        id=uuid7(ms(at)),
        endpoint=endpoint,
        slot=slot,
        model="churn",
        version=version,
        build_digest="d" * 64,
        table_revision=7,
        rows=rows,
        first_at=times[0],
        last_at=times[-1],
        columns=encode(table_of(fixed, inputs, outputs)),
    )
    return ids


def tenures(page) -> list[int]:
    return [each.inputs["tenure"] for each in page.results]


def test_a_page_is_newest_first_and_goes_on_where_it_ended(db, django_assert_num_queries):
    segment(BEGIN, 60)
    segment(BEGIN + timedelta(seconds=1), 40)
    with django_assert_num_queries(2):
        first = predictions_page(actor=SEES_ALL, endpoint=NAME)
    assert tenures(first) == [*range(39, -1, -1), *range(59, 49, -1)]
    with django_assert_num_queries(2):
        second = predictions_page(actor=SEES_ALL, endpoint=NAME, cursor=first.next)
    assert tenures(second) == list(range(49, -1, -1))
    assert second.next is None


def test_the_database_makes_no_more_than_is_read_of_the_pieces(transactional_db):
    """A cursor that may be held beyond its transaction is made whole before the first row comes."""
    (identifier,) = segment(BEGIN, 1)
    held: list[bool] = []

    def look(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        with connection.connection.cursor() as beside:
            held.extend(row[0] for row in beside.execute("SELECT is_holdable FROM pg_cursors WHERE starts_with(name, '_django')"))
        return result

    with connection.execute_wrapper(look):
        predictions_page(actor=SEES_ALL, endpoint=NAME)
        prediction(actor=SEES_ALL, endpoint=NAME, identifier=identifier)
    assert held == [False, False]


def test_each_row_is_shown_once_whatever_the_page(db):
    for number in range(7):
        segment(BEGIN + timedelta(milliseconds=number // 2), 5)
    seen = []
    cursor = None
    while True:
        page = predictions_page(actor=SEES_ALL, endpoint=NAME, cursor=cursor, limit=3)
        seen += [(each.id, each.row) for each in page.results]
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 35


def test_a_prediction_has_all_that_was_logged(db):
    (identifier,) = segment(BEGIN, 1, flags=FLAG_OUT_OF_BOUNDS | FLAG_DEMO)
    (each,) = predictions_page(actor=SEES_ALL, endpoint=NAME).results
    assert (each.id, each.row, each.slot, each.model, each.version) == (identifier, 0, "blue", "churn", 12)
    assert (each.received_at, each.latency_ms, each.request_id, each.key_id) == (BEGIN, 1.5, "", "app")
    assert (each.flags, each.inputs, each.outputs) == (
        ("out of bounds", "demo"),
        {"tenure": 0, "contract": None},
        {"label": "yes", "probabilities": [0.25, None]},
    )
    assert each.answer == "yes"


def test_filters(db):
    segment(BEGIN, 3)
    segment(BEGIN + timedelta(seconds=1), 2, slot="green", version=13, flags=FLAG_UNSEEN_CATEGORY, key="batch")
    segment(BEGIN + timedelta(seconds=2), 1, flags=FLAG_CACHE_HIT | FLAG_DEMO)
    segment(BEGIN, 9, endpoint="other")

    def found(**filters) -> int:
        return len(predictions_page(actor=SEES_ALL, endpoint=NAME, filters=PredictionFilters(**filters)).results)

    assert found() == 6
    assert (found(slot="green"), found(version=12), found(slot="green", version=12)) == (2, 4, 0)
    assert (found(flagged=True), found(key_id="batch"), found(key_id="nobody")) == (2, 2, 0)
    assert (found(request_id="r1"), found(request_id="r1", slot="green"), found(request_id="r2")) == (2, 1, 1)
    assert found(since=BEGIN + timedelta(seconds=1)) == 3
    assert found(since=BEGIN + timedelta(milliseconds=1), until=BEGIN + timedelta(seconds=1)) == 3


def test_a_page_reads_no_segment_that_is_older_than_its_last_row(db):
    segment(BEGIN, 30, flags=FLAG_OUT_OF_BOUNDS)
    PredictionSegment.objects.update(columns=b"not to be read")
    for number in range(1, 4):
        segment(BEGIN + timedelta(seconds=number), 30, flags=FLAG_OUT_OF_BOUNDS if number > 1 else 0)
    page = predictions_page(actor=SEES_ALL, endpoint=NAME, filters=PredictionFilters(flagged=True))
    assert (len(page.results), page.results[-1].received_at) == (50, BEGIN + timedelta(seconds=2, milliseconds=10))


def test_a_filter_that_finds_little_says_how_far_back_it_looked(db, monkeypatch):
    monkeypatch.setattr("serving.queries.predictions._MOST_ROWS_READ", 10)
    segment(BEGIN, 2, key="rare")
    for number in range(1, 5):
        segment(BEGIN + timedelta(seconds=number), 8)
    wanted = PredictionFilters(key_id="rare")
    first = predictions_page(actor=SEES_ALL, endpoint=NAME, filters=wanted)
    assert (first.results, first.searched_to) == ([], BEGIN + timedelta(seconds=2, milliseconds=7))
    second = predictions_page(actor=SEES_ALL, endpoint=NAME, filters=wanted, cursor=first.next)
    assert (second.results, second.searched_to) == ([], BEGIN + timedelta(milliseconds=1))
    third = predictions_page(actor=SEES_ALL, endpoint=NAME, filters=wanted, cursor=second.next)
    assert (len(third.results), third.next, third.searched_to) == (2, None, None)


@pytest.mark.parametrize("cursor", ["x", "e30", "WzEsMiwzXQ", "WyJhIiwiYiIsImMiXQ"])
def test_refuses_a_cursor_that_it_did_not_give(db, cursor):
    with pytest.raises(Invalid, match="cursor is not one that this list gave"):
        predictions_page(actor=SEES_ALL, endpoint=NAME, cursor=cursor)


def test_one_prediction_is_found_by_its_id_with_all_rows(db, django_assert_num_queries):
    for second in range(30):
        ids = segment(BEGIN + timedelta(seconds=second), 12, per_request=3)
        segment(BEGIN + timedelta(seconds=second), 4, slot="green")
        if second == 17:
            wanted = ids[2]
    with django_assert_num_queries(1):
        detail = prediction(actor=SEES_ALL, endpoint=NAME, identifier=wanted)
    assert (detail.id, detail.slot, detail.version, detail.table_revision, detail.build_digest) == (wanted, "blue", 12, 7, "d" * 64)
    assert [(each.row, each.inputs["tenure"]) for each in detail.rows] == [(0, 6), (1, 7), (2, 8)]


def test_one_that_is_not_logged_is_not_found(db):
    (identifier,) = segment(BEGIN, 1)
    for missing in (uuid7(ms(BEGIN)), UUID(int=0), UUID(int=2**128 - 1)):
        with pytest.raises(NotFound, match="no logged prediction"):
            prediction(actor=SEES_ALL, endpoint=NAME, identifier=missing)
    with pytest.raises(NotFound):
        prediction(actor=SEES_ALL, endpoint="other", identifier=identifier)


def text_of(export) -> str:
    return b"".join(export.content).decode()


def test_the_export_has_every_row_and_runs_no_formula(endpoint, scientist):
    segment(BEGIN, 3)
    segment(BEGIN + timedelta(seconds=1), 2, slot="green", version=13, flags=FLAG_OUT_OF_BOUNDS)
    until = BEGIN + timedelta(minutes=1)
    export = export_predictions(actor=scientist, endpoint=NAME, filters=PredictionFilters(slot="blue", until=until))
    rows = list(csv.DictReader(io.StringIO(text_of(export))))
    assert [row["in.tenure"] for row in rows] == ["0", "1", "2"]
    assert [row["in.contract"] for row in rows] == ["", "'=cmd()", ""]
    assert (rows[2]["out.probabilities"], rows[2]["slot"], rows[2]["latency_ms"]) == ("[0.25, null]", "blue", "1.502")
    assert (export.next_since, export.file_name) == (None, "churn-scorer-20261121T120100Z-20261122T120100Z.csv")
    audit = AuditEntry.objects.latest("id")
    assert (audit.verb, audit.actor_name, audit.after) == ("export", "scientist", {"filters": {"slot": "blue", "until": str(until)}, "format": "csv"})
    every = export_predictions(actor=scientist, endpoint=NAME, filters=PredictionFilters(until=until))
    assert len(text_of(every).splitlines()) == 6


def test_a_parquet_export_has_typed_columns_in_row_groups(endpoint, scientist, monkeypatch):
    monkeypatch.setattr("serving.export._ROWS_AT_ONCE", 3)
    ids = [*segment(BEGIN, 3, per_request=3, flags=FLAG_OUT_OF_BOUNDS | FLAG_DEMO), *segment(BEGIN + timedelta(seconds=1), 5, slot="green", version=13)]
    wanted = PredictionFilters(since=BEGIN, until=BEGIN + timedelta(hours=1))
    export = export_predictions(actor=scientist, endpoint=NAME, filters=wanted, form="parquet")
    file = pq.ParquetFile(io.BytesIO(b"".join(export.content)))
    assert (file.num_row_groups, export.media_type) == (2, "application/vnd.apache.parquet")
    table = file.read()
    assert table["prediction_id"].to_pylist() == [str(ids[0])] * 3 + [str(each) for each in ids[1:]]
    assert (str(table.schema.field("received_at").type), str(table.schema.field("version").type)) == ("timestamp[us, tz=UTC]", "int32")
    assert table["received_at"].to_pylist()[3] == BEGIN + timedelta(seconds=1)
    assert table["in.tenure"].to_pylist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert table["in.contract"].to_pylist()[:2] == [None, "=cmd()"]
    assert table["out.probabilities"].to_pylist()[0][0] == 0.25
    assert table["flags"].to_pylist()[2:4] == [["out of bounds", "demo"], []]
    assert table["slot"].to_pylist() == ["blue"] * 3 + ["green"] * 5
    assert table["table_revision"].to_pylist() == [7] * 8


def test_an_export_ends_at_its_bound_and_says_where_to_go_on(endpoint, scientist, monkeypatch):
    monkeypatch.setattr("serving.export.MOST_ROWS", 25)
    for number in range(9):
        segment(BEGIN + timedelta(seconds=number), 10, key="rare" if number == 8 else "app")
    found: list[str] = []
    rounds = 0
    since: datetime | None = BEGIN
    while since is not None:
        wanted = PredictionFilters(key_id="rare", since=since, until=BEGIN + timedelta(hours=1))
        export = export_predictions(actor=scientist, endpoint=NAME, filters=wanted)
        found += text_of(export).splitlines()[1:]
        since = export.next_since
        rounds += 1
    assert (len(found), rounds) == (10, 5)


def test_an_export_that_is_compacted_meanwhile_has_each_row_once(endpoint, scientist, monkeypatch):
    monkeypatch.setattr("serving.export._SEGMENTS_AT_ONCE", 3)
    for number in range(12):
        segment(BEGIN + timedelta(seconds=number), 4)
    PredictionSegment.objects.update(profiled_at=now())
    wanted = PredictionFilters(since=BEGIN, until=BEGIN + timedelta(hours=1))
    content = export_predictions(actor=scientist, endpoint=NAME, filters=wanted).content
    lines = next(content) + next(content)
    assert compact.compact_log() is not None
    assert PredictionSegment.objects.count() == 1
    rows = list(csv.DictReader(io.StringIO((lines + b"".join(content)).decode())))
    assert len({row["prediction_id"] for row in rows}) == len(rows) == 48


def test_versions_with_other_columns_share_a_file(endpoint, scientist):
    segment(BEGIN, 2)
    segment(BEGIN + timedelta(seconds=1), 1, version=13)
    other = PredictionSegment.objects.get(version=13)
    table = decode(other.columns)
    table = table.drop_columns(["in.tenure", "out.label"]).append_column("in.tenure", pa.array([1.5])).append_column("in.city", pa.array(["Ulm"]))
    PredictionSegment.objects.filter(id=other.id).update(columns=encode(table))
    export = export_predictions(actor=scientist, endpoint=NAME, filters=PredictionFilters(since=BEGIN, until=BEGIN + timedelta(hours=1)), form="parquet")
    found = pq.read_table(io.BytesIO(b"".join(export.content)))
    assert (found["in.tenure"].to_pylist(), found["in.city"].to_pylist()) == ([0.0, 1.0, 1.5], [None, None, "Ulm"])
    assert found["out.label"].to_pylist() == ["yes", "yes", None]


def test_an_output_that_is_one_value_wide_in_some_pieces_is_a_list_in_the_file(endpoint, scientist):
    for number in range(5):
        segment(BEGIN + timedelta(seconds=number), 1)
    narrow = PredictionSegment.objects.order_by("id")[1]
    table = decode(narrow.columns)
    place = table.schema.get_field_index("out.probabilities")
    PredictionSegment.objects.filter(id=narrow.id).update(columns=encode(table.set_column(place, "out.probabilities", pa.array([0.5]))))
    export = export_predictions(actor=scientist, endpoint=NAME, filters=PredictionFilters(since=BEGIN, until=BEGIN + timedelta(hours=1)), form="parquet")
    found = pq.read_table(io.BytesIO(b"".join(export.content)))["out.probabilities"].to_pylist()
    assert [row[:1] for row in found] == [[0.25], [0.5], [0.25], [0.25], [0.25]]


def test_an_export_of_an_unknown_form_or_of_nothing(endpoint, scientist):
    with pytest.raises(Invalid, match="csv, parquet"):
        export_predictions(actor=scientist, endpoint=NAME, form="xlsx")
    assert text_of(export_predictions(actor=scientist, endpoint=NAME)).startswith("prediction_id,row,received_at,slot")
    empty = pq.read_table(io.BytesIO(b"".join(export_predictions(actor=scientist, endpoint=NAME, form="parquet").content)))
    assert empty.num_rows == 0


def test_exporting_needs_its_own_right(endpoint, viewer):
    with pytest.raises(Forbidden, match=r"predictions\.export"):
        export_predictions(actor=viewer, endpoint=NAME)
    assert AuditEntry.objects.filter(verb="export").count() == 0


def test_predictions_past_their_retention_are_deleted_in_batches(db, monkeypatch):
    monkeypatch.setattr(old, "BATCH", 2)
    for days in (29, 31, 32, 33, 34, 35):
        segment(now() - timedelta(days=days), 1)
    monkeypatch.setattr(old, "MOST_BATCHES", 2)
    assert old.delete_old() == 4
    delete_old()
    assert PredictionSegment.objects.count() == 1
    assert PredictionSegment.objects.get().last_at > now() - timedelta(days=30)


def test_numbers_of_single_precision_are_shown_as_they_were_sent(endpoint, client_of):
    """A matrix of FP32, as the data plane writes it: 0.1 was sent, and 0.10000000149011612 is what the tensor held."""
    (identifier,) = segment(BEGIN, 3, per_request=3)
    sent = np.array([[0.1, 7], [1 / 3, 0], [np.nan, 2]], np.float32)
    features = [Feature(name="charges", kind=Kind.NUMBER), Feature(name="tenure", kind=Kind.INTEGER)]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(sent.reshape(-1)), 2)
    made = decode(PredictionSegment.objects.get().columns).drop_columns(["in.tenure", "out.probabilities"])
    made = made.append_column(sent_field("in.input", lists.type, features), lists)
    made = made.append_column(output_field("score", pa.float64(), single=True), pa.array(np.array([0.7, 0.2, 0.3], np.float32).astype(np.float64)))
    made = made.append_column("out.exact", pa.array([0.10000000149011612, 0.1, 16777217.0]))
    made = made.append_column("out.probabilities", pa.array([[0.1, 0.9], None, [0.3]], pa.list_(pa.float32())))
    PredictionSegment.objects.update(columns=encode(made))
    rows = prediction(actor=SEES_ALL, endpoint=NAME, identifier=identifier).rows
    assert [row.inputs["charges"] for row in rows] == [0.1, 0.33333334, None]
    assert [row.inputs["tenure"] for row in rows] == [7, 0, 2]
    assert [row.outputs["score"] for row in rows] == [0.7, 0.2, 0.3]
    assert [row.outputs["exact"] for row in rows] == [0.10000000149011612, 0.1, 16777217.0]
    assert [row.outputs["probabilities"] for row in rows] == [[0.1, 0.9], None, [0.3]]
    assert sorted(row.inputs["charges"] or 0 for row in predictions_page(actor=SEES_ALL, endpoint=NAME).results) == [0, 0.1, 0.33333334]
    viewer = client_of("scientist")
    page = viewer.get(f"/endpoints/{NAME}/predictions/{identifier}/").content.decode()
    assert "0.10000000149" not in page.replace("exact</dt><dd>0.10000000149011612", "")
    assert "&quot;charges&quot;: 0.1, &quot;tenure&quot;: 7" in page or "&quot;charges&quot;: 0.1}" in page
    asked = {"since": f"{BEGIN:%Y-%m-%dT%H:%M}", "until": f"{BEGIN:%Y-%m-%dT%H}:59"}
    lines = list(csv.DictReader(io.StringIO(b"".join(viewer.get(f"/endpoints/{NAME}/predictions/export.csv", asked).streaming_content).decode())))
    assert [line["in.charges"] for line in lines] == ["0.1", "0.33333334", ""]
    assert [line["out.score"] for line in lines] == ["0.7", "0.2", "0.3"]
    assert [line["out.probabilities"] for line in lines] == ["[0.1, 0.9]", "", "[0.3]"]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1))
def test_both_ways_to_the_shortest_decimal_agree_and_lose_nothing(values):
    single = np.array(values, np.float32)
    lists = pa.array([values, None, values[:1]], pa.list_(pa.float32())).slice(0, 2)
    table = pa.Table.from_arrays(
        [pa.array(single.astype(np.float64)), pa.array([values] * len(values), pa.list_(pa.float32()))],
        schema=pa.schema([output_field("x", pa.float64(), single=True), pa.field("out.y", pa.list_(pa.float32()))]),
    )
    made = shortest(table)
    assert made["out.x"].to_pylist() == [shortest_of(value) for value in values]
    assert (np.array(made["out.x"].to_pylist(), np.float32) == single).all()
    assert made["out.y"].to_pylist()[0] == made["out.x"].to_pylist()
    gaps = shortest(pa.table({"out.y": pa.chunked_array([lists, lists.slice(1)])}))["out.y"].to_pylist()
    assert gaps == [made["out.x"].to_pylist(), None, None]
