"""Compaction: fewer and larger segments with the same rows, whoever reads meanwhile, and wherever a run is killed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection

from core.clock import now
from core.ids import uuid7
from monitoring.join_outcomes import _predictions
from serving import compact, segments
from serving import delete_old as old
from serving.dataplane import columns
from serving.models import Compaction, PredictionSegment, ReplacedSegment
from serving.queries import prediction, predictions_page
from serving.tasks import compact_log
from tests.serving.test_predictions import NAME, SEES_ALL, segment

# On the edge of a stretch, long settled.
BEGIN = datetime.fromtimestamp(int(now().timestamp()) // 3600 * 3600 - 7200, UTC)


def profiled() -> None:
    PredictionSegment.objects.update(profiled_at=now())


def rows_of(endpoint: str = NAME, limit: int = 7) -> list[tuple[UUID, int]]:
    """Every row that the pages of the log show, in their order."""
    seen, cursor = [], None
    while True:
        page = predictions_page(actor=SEES_ALL, endpoint=endpoint, cursor=cursor, limit=limit)
        seen += [(each.id, each.row) for each in page.results]
        cursor = page.next
        if cursor is None:
            return seen


def test_small_segments_become_one_piece_per_stretch_with_the_same_rows(db) -> None:
    for number in range(40):
        segment(BEGIN + timedelta(seconds=6 * number), 3, per_request=3, key=f"key{number % 3}")
        segment(BEGIN + timedelta(seconds=6 * number, milliseconds=1), 2, slot="green", version=13)
    profiled()
    before = rows_of()
    run = compact.compact_log()
    assert run is not None
    assert (run.segments_before, run.segments_after) == (80, 4)
    assert 0 < run.bytes_after < run.bytes_before
    assert rows_of() == before
    found = PredictionSegment.objects.order_by("slot", "first_at").values_list("slot", "version", "rows", "compacted", "table_revision")
    assert list(found) == [("blue", 12, 60, True, 7)] * 2 + [("green", 13, 40, True, 7)] * 2
    assert not PredictionSegment.objects.filter(profiled_at=None).exists()
    assert compact.compact_log() is None
    assert Compaction.objects.count() == 1


def test_the_ids_of_replaced_segments_are_kept_for_some_days(db, monkeypatch) -> None:
    monkeypatch.setattr(compact, "_FORGOTTEN_AT_ONCE", 2)
    for number in range(5):
        segment(BEGIN + timedelta(seconds=number), 1)
    profiled()
    replaced = set(PredictionSegment.objects.values_list("id", flat=True))
    compact_log()
    assert set(ReplacedSegment.objects.values_list("id", flat=True)) == replaced
    ReplacedSegment.objects.update(at=now() - compact.REMEMBERED)
    kept = ReplacedSegment.objects.create(id=uuid7())
    compact_log()
    assert list(ReplacedSegment.objects.all()) == [kept]


def test_a_large_piece_of_the_data_plane_is_compressed_also_where_it_is_alone(db) -> None:
    segment(BEGIN, 1000)
    made = PredictionSegment.objects.get()
    plain = bytes(segments.encode_plain(segments.read(made.columns)))
    PredictionSegment.objects.update(columns=plain)
    profiled()
    before = rows_of()
    compact_log()
    found = PredictionSegment.objects.get()
    assert (found.compacted, len(found.columns) < len(plain) / 2) == (True, True)
    assert rows_of() == before
    compact_log()
    assert PredictionSegment.objects.get().id == found.id


def test_the_database_does_not_compress_what_is_written_for_compaction(db) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT attstorage FROM pg_attribute WHERE attrelid = 'serving_predictionsegment'::regclass AND attname = 'columns'")
        assert cursor.fetchone() == ("e",)


def test_what_is_young_or_not_profiled_or_alone_stays_as_it_is(db) -> None:
    segment(now() - timedelta(seconds=30), 1)
    segment(now() - timedelta(seconds=31), 1)
    segment(BEGIN, 1)
    profiled()
    segment(BEGIN + timedelta(seconds=1), 1)
    segment(BEGIN + timedelta(seconds=2), 1)
    before = set(PredictionSegment.objects.values_list("id", flat=True))
    compact_log()
    assert set(PredictionSegment.objects.values_list("id", flat=True)) == before
    assert Compaction.objects.count() == 0
    profiled()  # what comes late is put together by itself
    compact_log()
    assert sorted(PredictionSegment.objects.filter(last_at__lt=BEGIN + timedelta(hours=1)).values_list("rows", flat=True)) == [1, 2]


def test_pieces_are_bounded_in_rows(db, monkeypatch) -> None:
    monkeypatch.setattr(compact, "MOST_ROWS", 10)
    for number in range(7):
        segment(BEGIN + timedelta(seconds=number), 4 if number != 3 else 12)
    profiled()
    before = rows_of()
    compact.compact_log()
    assert list(PredictionSegment.objects.order_by("first_at").values_list("rows", flat=True)) == [8, 4, 12, 8, 4]
    assert rows_of() == before
    longest = max(each.last_at - each.first_at for each in PredictionSegment.objects.all())
    assert longest < segments.LONGEST


def test_a_page_goes_on_where_it_ended_though_its_segments_were_compacted_meanwhile(db) -> None:
    for number in range(30):
        segment(BEGIN + timedelta(seconds=3 * number), 2)
        segment(BEGIN + timedelta(seconds=3 * number, milliseconds=1), 2, slot="green")
    profiled()
    whole = rows_of()
    first = predictions_page(actor=SEES_ALL, endpoint=NAME, limit=25)
    compact.compact_log()
    rest, cursor = [], first.next
    while cursor is not None:
        page = predictions_page(actor=SEES_ALL, endpoint=NAME, cursor=cursor, limit=25)
        rest += page.results
        cursor = page.next
    assert [(each.id, each.row) for each in [*first.results, *rest]] == whole


def test_a_prediction_and_its_outcome_are_found_in_a_piece(db) -> None:
    wanted = [segment(BEGIN + timedelta(seconds=number), 6, per_request=3)[1] for number in range(0, 115, 5)]
    profiled()
    compact.compact_log()
    assert PredictionSegment.objects.count() == 1
    for identifier in wanted:
        assert [each.inputs["tenure"] for each in prediction(actor=SEES_ALL, endpoint=NAME, identifier=identifier).rows] == [3, 4, 5]
    assert set(_predictions(set(wanted))) == {(identifier, row) for identifier in wanted for row in range(3)}


def test_a_run_that_fails_in_the_middle_changes_nothing(db, monkeypatch) -> None:
    for number in range(5):
        segment(BEGIN + timedelta(seconds=number), 2)
    profiled()
    before = set(PredictionSegment.objects.values_list("id", flat=True))

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr("django.db.models.query.QuerySet.delete", killed)
    with pytest.raises(RuntimeError):
        compact.compact_log()
    assert set(PredictionSegment.objects.values_list("id", flat=True)) == before


def test_a_segment_that_cannot_be_read_is_left_and_does_not_hold_up_the_others(db) -> None:
    for number in range(4):
        segment(BEGIN + timedelta(seconds=number), 2)
    profiled()
    bad = PredictionSegment.objects.order_by("first_at")[1]
    PredictionSegment.objects.filter(id=bad.id).update(columns=b"no arrow")
    compact.compact_log()
    assert sorted(PredictionSegment.objects.values_list("rows", "compacted")) == [(2, True), (6, True)]


def test_a_page_ends_in_the_middle_of_pieces_that_overlap(db) -> None:
    for number in range(24):
        segment(BEGIN + timedelta(seconds=number), 2)
    profiled()
    whole = rows_of()
    ids = list(PredictionSegment.objects.order_by("first_at").values_list("id", "rows"))
    for first in range(3):
        compact._replace([(identifier, rows, 1) for identifier, rows in ids[first::3]])
    assert PredictionSegment.objects.count() == 3
    for limit in (1, 2, 7, 47, 48, 49):
        assert rows_of(limit=limit) == whole


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_put_each_segment_into_one_piece() -> None:
    for number in range(120):
        segment(BEGIN + timedelta(seconds=10 * number), 2)
    profiled()
    before = rows_of()

    def run() -> None:
        compact.compact_log()
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    compact.compact_log()
    assert sum(PredictionSegment.objects.values_list("rows", flat=True)) == 240
    assert rows_of() == before
    assert PredictionSegment.objects.count() <= 40


def test_what_the_data_plane_writes_keeps_its_values(db) -> None:
    from registry.signature import Kind
    from tests.dataplane.test_columns import _batch, _call, _matrix_slot

    slot = _matrix_slot(Kind.NUMBER, Kind.INTEGER)
    nan = float("nan")
    batches = [
        [_batch([[1.5, 2]], _call(1))],
        [_batch([[nan, 3]], _call(2, 1, "mine", "other"))],
        [_batch([[4, nan], [5, 6]], _call(3), _call(4), flags=[1, 0])],
    ]
    made = [segments.read(columns.segment_of(slot, group).columns) for group in batches]
    (whole,) = segments.joined(made)
    table = segments.decode(segments.encode(whole))
    assert table["in.f0"].to_pylist() == [1.5, None, 4.0, 5.0]
    assert table["in.f1"].to_pylist() == [2, 3, None, 6]
    assert table["request_id"].to_pylist() == [None, "mine", None, None]
    assert table["key_id"].to_pylist() == ["key", "other", "key", "key"]
    assert table["flags"].to_pylist() == [0, 0, 1, 0]
    assert [UUID(bytes=each).bytes[0] for each in table["prediction_id"].to_pylist()] == [1, 2, 3, 4]


def test_a_piece_past_the_retention_is_deleted(db) -> None:
    for days in (31, 29):
        for second in range(3):
            segment(now() - timedelta(days=days) + timedelta(seconds=second), 1)
    profiled()
    compact.compact_log()
    old.delete_old()
    assert set(PredictionSegment.objects.values_list("compacted", flat=True)) == {True}
    assert sum(PredictionSegment.objects.values_list("rows", flat=True)) == 3
