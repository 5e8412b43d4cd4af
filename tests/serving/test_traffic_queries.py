"""Series, tiles and the roll-up: exact values from known windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import now
from core.errors import Invalid, NotFound
from core.ids import uuid7
from serving import queries, roll_up
from serving.counts import Counts, total
from serving.latency import BUCKETS, bucket_of, quantile_ms
from serving.models import DataPlaneProcess, LedgerEntry, Slot, TrafficWindow
from serving.queries import traffic
from serving.split import split
from serving.tasks import roll_up_traffic

NAME = "churn-scorer"
ONE, TWO = UUID(int=1), UUID(int=2)
# Noon on a five-minute edge, and a clock that stands still a little after it.
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def histogram(**at_us: int) -> list[int]:
    """``histogram(us_1000=5)``: five requests that took 1 ms."""
    counts = [0] * BUCKETS
    for name, count in at_us.items():
        counts[bucket_of(int(name.removeprefix("us_")))] += count
    return counts


def window(start: datetime, slot: str = "blue", *, process: UUID = ONE, level: int = 10, endpoint: str = NAME, version: int = 12, **values: object) -> None:
    values.setdefault("latency", [0] * BUCKETS)
    TrafficWindow.objects.create(level=level, start_at=start, endpoint=endpoint, slot=slot, version=version, process=process, **values)


@pytest.fixture
def clock(monkeypatch):
    """Set the time that serving reads."""

    def at(moment: datetime) -> None:
        for module in (traffic, roll_up):
            monkeypatch.setattr(module, "now", lambda: moment)

    at(NOON + timedelta(seconds=5))
    return at


def test_a_series_adds_the_processes_and_leaves_holes_where_nothing_was_asked(endpoint, clock, django_assert_num_queries):
    at = NOON - timedelta(seconds=20)
    window(at, process=ONE, requests=30, latency=histogram(us_1000=30), errors=3)
    window(at, process=TWO, requests=10, latency=histogram(us_1000=9, us_9000=1))
    window(at, "", version=0, requests=7, refused=6, errors=1, latency=histogram(us_50=7))
    with django_assert_num_queries(3):
        series = queries.traffic_series(NAME, "15m")
    assert (series.step, len(series.t), series.t[0], series.t[-1]) == (10, 90, int(NOON.timestamp()) - 900, int(NOON.timestamp()) - 10)
    here = series.t.index(int(at.timestamp()))
    assert {name: values[here] for name, values in series.lines.items()} == {
        "blue.rps": 4.0,
        "blue.p50": pytest.approx(quantile_ms(histogram(us_1000=39, us_9000=1), 0.5), abs=0.001),
        "blue.p95": pytest.approx(quantile_ms(histogram(us_1000=39, us_9000=1), 0.95), abs=0.001),
        "blue.p99": pytest.approx(quantile_ms(histogram(us_1000=39, us_9000=1), 0.99), abs=0.001),
        "blue.errors": 7.5,
        "green.rps": 0.0,
        "green.p50": None,
        "green.p95": None,
        "green.p99": None,
        "green.errors": None,
        "refused": 36.0,
    }
    assert (series.lines["blue.rps"][here + 1], series.lines["blue.p99"][here + 1]) == (0.0, None)


def test_only_points_after_the_last_one_seen_are_sent(endpoint, clock):
    whole = queries.traffic_series(NAME, "15m")
    assert queries.traffic_series(NAME, "15m", since=whole.t[-3]).t == whole.t[-2:]
    assert queries.traffic_series(NAME, "15m", since=whole.t[-1]).t == []
    assert len(queries.traffic_series(NAME, "15m", since=0).t) == 90


def test_a_window_waits_for_the_processes_to_write_it(endpoint, clock):
    clock(NOON + timedelta(seconds=2))
    assert queries.traffic_series(NAME, "15m").t[-1] == int(NOON.timestamp()) - 20
    clock(NOON + timedelta(seconds=3))
    assert queries.traffic_series(NAME, "15m").t[-1] == int(NOON.timestamp()) - 10


def test_long_windows_come_from_the_five_minute_level(endpoint, clock):
    window(NOON - timedelta(minutes=10), level=300, process=UUID(int=0), requests=600, latency=histogram(us_1000=600))
    window(NOON - timedelta(minutes=10), requests=5)
    series = queries.traffic_series(NAME, "6h")
    assert (series.step, len(series.t)) == (300, 72)
    assert series.lines["blue.rps"][series.t.index(int(NOON.timestamp()) - 600)] == 2.0
    assert len(queries.traffic_series(NAME, "24h").t) == 288


def test_marks_are_the_changes_of_the_window(endpoint, operator, clock):
    split(actor=operator, endpoint=NAME, weights={"blue": 95, "green": 5}, revision=3)
    for revision in (1, 2, 3):
        LedgerEntry.objects.filter(revision=revision).update(at=NOON - timedelta(hours=4 - revision))
    LedgerEntry.objects.filter(revision=4).update(at=NOON - timedelta(minutes=5))
    assert queries.traffic_series(NAME, "15m").marks == [{"t": NOON.timestamp() - 300, "text": "Split set to v12 95 %, v13 5 %"}]
    texts = [mark["text"] for mark in queries.traffic_series(NAME, "6h").marks]
    assert texts == ["v12 deployed into blue with 100 %", "v13 deployed into green", "Split set to v12 95 %, v13 5 %"]


def test_refuses_an_unknown_window_or_endpoint(endpoint):
    with pytest.raises(Invalid, match="window '2d' is unknown: choose 15m, 1h, 6h, 24h"):
        queries.traffic_series(NAME, "2d")
    with pytest.raises(NotFound):
        queries.traffic_series("nowhere")


def test_the_tiles_compare_the_last_minute_with_the_quarter_hour_before(endpoint, clock, django_assert_num_queries):
    # At 12:00:05 the last minute is 11:59:10 to now, 55 s.
    window(NOON, requests=5, rows=5, latency=histogram(us_2000=5))
    window(NOON - timedelta(seconds=50), requests=50, rows=100, flagged=10, cache_hits=11, errors=1, latency=histogram(us_1000=50))
    window(NOON - timedelta(seconds=10), "green", version=13, requests=55, rows=55, latency=histogram(us_1000=55))
    window(NOON - timedelta(seconds=50), "", version=0, requests=11, refused=11)
    window(NOON - timedelta(seconds=60), requests=900, rows=900, latency=histogram(us_4000=900))
    window(NOON - timedelta(seconds=960), requests=7777, rows=7777)
    with django_assert_num_queries(1):
        summary = queries.traffic_summary(NAME)
    assert (summary.now.seconds, summary.now.requests, summary.now.rps) == (55, 110, 2.0)
    assert summary.now.refused_per_minute == 12.0
    assert summary.now.errors_percent == pytest.approx(100 / 110)
    assert summary.now.cache_hits_percent == 10.0
    assert summary.now.flagged_percent == 6.25
    assert (summary.before.seconds, summary.before.requests, summary.before.rps) == (900, 900, 1.0)
    assert summary.before.p50_ms == quantile_ms(histogram(us_4000=900), 0.5)
    assert {name: numbers.requests for name, numbers in summary.slots.items()} == {"blue": 55, "green": 55}
    assert (summary.share_of("blue"), summary.share_of("green"), summary.share_of("red")) == (50.0, 50.0, None)
    assert (len(summary.points["rps"]), summary.points["rps"][-1], summary.points["rps"][-6]) == (48, 5.5, 90.0)


def test_the_list_gets_all_its_numbers_in_one_query(endpoint, clock, django_assert_num_queries):
    window(NOON - timedelta(seconds=10), requests=55, latency=histogram(us_1000=55))
    window(NOON - timedelta(seconds=10), endpoint="other", requests=110, latency=histogram(us_1000=110))
    with django_assert_num_queries(1):
        numbers = queries.traffic_now([NAME, "other", "silent"])
    assert {name: value.rps for name, value in numbers.items()} == {NAME: 1.0, "other": 2.0, "silent": 0.0}


def test_what_a_shadow_slot_was_sent_is_not_the_endpoints_own_traffic(endpoint, clock):
    Slot.objects.filter(endpoint__name=NAME, name="green").update(weight=0, shadow=True)
    window(NOON - timedelta(seconds=10), requests=55, rows=55, latency=histogram(us_1000=55))
    window(NOON - timedelta(seconds=10), "green", version=13, requests=55, rows=55, errors=55, latency=histogram(us_4000=55))
    summary = queries.traffic_summary(NAME)
    assert (summary.now.requests, summary.now.rps, summary.now.errors_percent, summary.points["rps"][-1]) == (55, 1.0, 0.0, 5.5)
    assert {name: numbers.requests for name, numbers in summary.slots.items()} == {"blue": 55, "green": 55}
    assert queries.traffic_now([NAME])[NAME].rps == 1.0


def test_what_each_version_saw_since_it_was_deployed(endpoint, clock, django_assert_num_queries):
    window(NOON - timedelta(minutes=20), level=300, process=UUID(int=0), requests=100)
    window(NOON - timedelta(minutes=20), requests=100)  # the same requests, not yet deleted
    window(NOON - timedelta(minutes=1), requests=7)
    window(NOON - timedelta(minutes=1), "green", version=13, requests=3)
    window(NOON - timedelta(hours=2), level=300, process=UUID(int=0), requests=50)
    with django_assert_num_queries(1):
        seen = queries.slots_since(NAME, NOON - timedelta(hours=1))
    assert {key: numbers.requests for key, numbers in seen.items()} == {("blue", 12): 107, ("green", 13): 3}


def test_ten_second_windows_are_summed_into_five_minutes(db, clock):
    clock(NOON + timedelta(seconds=20))
    window(NOON - timedelta(seconds=300), process=ONE, requests=3, rows=4, refused=1, errors=1, flagged=2, cache_hits=1, latency=histogram(us_1000=3))
    window(NOON - timedelta(seconds=10), process=TWO, requests=5, rows=5, latency=histogram(us_1000=4, us_9000=1))
    window(NOON - timedelta(seconds=310), requests=11, latency=histogram(us_1000=11))
    window(NOON, requests=99, latency=histogram(us_1000=99))
    assert roll_up.roll_up_traffic() == 2
    rows = TrafficWindow.objects.filter(level=300).order_by("start_at")
    before, last = rows
    assert (before.start_at, before.requests) == (NOON - timedelta(minutes=10), 11)
    assert (last.start_at, last.process, last.slot, last.version) == (NOON - timedelta(minutes=5), UUID(int=0), "blue", 12)
    assert (last.requests, last.rows, last.refused, last.errors, last.flagged, last.cache_hits) == (8, 9, 1, 1, 2, 1)
    assert last.latency == histogram(us_1000=7, us_9000=1)


def test_summing_twice_changes_nothing_and_late_windows_are_added(db, clock):
    clock(NOON + timedelta(seconds=80))
    window(NOON - timedelta(seconds=300), requests=3, latency=histogram(us_1000=3))
    roll_up.roll_up_traffic()
    roll_up.roll_up_traffic()
    assert list(TrafficWindow.objects.filter(level=300).values_list("requests", flat=True)) == [3]
    window(NOON - timedelta(seconds=200), process=TWO, requests=4, latency=histogram(us_1000=4))
    roll_up.roll_up_traffic()
    assert list(TrafficWindow.objects.filter(level=300).values_list("requests", flat=True)) == [7]


def test_a_window_that_comes_an_hour_late_is_added_within_ten_minutes(db, clock):
    minute = timedelta(minutes=1)
    window(NOON - 3 * minute, requests=1, latency=histogram(us_1000=1))
    clock(NOON + 21 * minute)
    roll_up.roll_up_traffic()
    window(NOON - 39 * minute, process=TWO, requests=4, latency=histogram(us_1000=4))
    for passed in range(21, 31):
        clock(NOON + passed * minute)
        roll_up.roll_up_traffic()
    assert list(TrafficWindow.objects.filter(level=300).order_by("start_at").values_list("requests", flat=True)) == [4, 1]


def test_after_a_pause_everything_that_is_left_is_summed(db, clock):
    window(NOON - timedelta(minutes=100), level=300, process=UUID(int=0), requests=1)
    window(NOON - timedelta(minutes=95), requests=2)
    clock(NOON + timedelta(seconds=80))
    roll_up.roll_up_traffic()
    assert list(TrafficWindow.objects.filter(level=300).order_by("start_at").values_list("requests", flat=True)) == [1, 2]


def test_old_windows_and_processes_are_deleted_and_young_ones_kept(db, clock):
    clock(NOON)
    window(NOON - timedelta(hours=2, minutes=11), requests=1)
    window(NOON - timedelta(hours=2), requests=2)
    window(NOON - timedelta(days=31), level=300, requests=3)
    window(NOON - timedelta(days=29), level=300, requests=4)
    assert roll_up.delete_old_windows() == 2
    assert sorted(TrafficWindow.objects.values_list("requests", flat=True)) == [2, 4]
    for seen in (61, 59):
        DataPlaneProcess.objects.create(id=uuid7(), host="a", pid=seen, started_at=NOON, seen_at=NOON - timedelta(seconds=seen))
    assert roll_up.forget_processes() == 1
    assert DataPlaneProcess.objects.get().pid == 59


def test_the_task_does_all_of_it(db):
    window(now() - timedelta(hours=3), requests=1)
    roll_up_traffic()
    assert TrafficWindow.objects.count() == 0


counted = st.builds(
    Counts,
    requests=st.integers(0, 10**6),
    rows=st.integers(0, 10**6),
    refused=st.integers(0, 10**6),
    errors=st.integers(0, 10**6),
    flagged=st.integers(0, 10**6),
    cache_hits=st.integers(0, 10**6),
    latency=st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS),
)


@given(st.lists(counted, max_size=4))
def test_sums_do_not_depend_on_the_order(parts):
    assert total(parts) == total(parts[::-1])
    assert total(parts).requests == sum(part.requests for part in parts)
    assert sum(total(parts).latency) == sum(sum(part.latency) for part in parts)


def test_shares_of_nothing_are_unknown_not_zero():
    numbers = Counts().numbers(10)
    assert (numbers.rps, numbers.errors_percent, numbers.p99_ms, numbers.flagged_percent) == (0.0, None, None, None)
