"""What pages get: the right numbers, in a known number of queries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from access.actors import Actor
from core.ids import uuid7
from monitoring import queries
from monitoring.errors import NoReference, NoSuchAlert, NoSuchFeature
from monitoring.evaluate import evaluate_now
from monitoring.incidents import Finding, report
from monitoring.models import Alert, Level, WindowProfile
from monitoring.outcomes import OutcomeIn, send_outcomes
from monitoring.windows import start_of
from serving.models import Endpoint, LedgerEntry
from tests.monitoring.world import ENDPOINT, MODEL, VERSION, answers, log, people, register, window

Queries = Callable[..., Any]


@pytest.fixture
def drifted(operator: Actor) -> None:
    """Three quiet windows, then three with higher charges and a fifth of them missing."""
    register(metrics={"accuracy": 0.95})
    for back in range(1, 7):
        inputs = people(600, back, shift=15 if back < 4 else 0)
        if back < 4:
            inputs["charges"][::5] = float("nan")
        log(inputs, window(back))
    evaluate_now(actor=operator, endpoint=ENDPOINT)


@pytest.mark.usefixtures("drifted")
def test_the_grid_is_worst_first_with_a_cell_per_hour(django_assert_num_queries: Queries) -> None:
    with django_assert_num_queries(5):
        grid = queries.drift_overview(ENDPOINT, 24)
    assert len(grid.hours) == 24
    assert grid.hours[-1] - grid.hours[0] == timedelta(hours=23)
    assert (grid.version, grid.versions, grid.verdict, grid.window_n, grid.needed_n) == (VERSION, (VERSION,), "severe", 600, 500)
    assert {row.key for row in grid.rows} == {"in.charges", "in.noise", "in.plan", "out.label", "out.probability"}
    assert [row.verdict for row in grid.rows][-2:] == ["stable", "stable"]
    worst = next(row for row in grid.rows if row.key == "in.charges")
    assert (worst.feature, worst.role, worst.kind, worst.verdict, worst.n) == ("charges", "input", "number", "severe", 600)
    assert worst.psi is not None
    assert worst.psi > 0.25
    assert len(worst.cells) == 24
    cells = [cell for cell in worst.cells if cell]
    assert sum(cell.n for cell in cells) == 3600
    assert worst.cells[0] is None
    assert grid.reference is not None
    assert grid.reference.text == "2,000 training rows"
    assert "uncalibrated" in grid.promise
    assert "first of all" in grid.text


@pytest.mark.usefixtures("drifted")
def test_a_young_version_is_shown_in_windows_of_5_minutes() -> None:
    coarse, fine = queries.drift_overview(ENDPOINT), queries.drift_overview(ENDPOINT, fine_when_young=True)
    assert (coarse.step_s, fine.step_s) == (3600, 300)
    assert len(fine.hours) == 24
    assert fine.hours[1] - fine.hours[0] == timedelta(minutes=5)
    assert [row.key for row in fine.rows] == [row.key for row in coarse.rows]
    assert sum(cell.n for cell in fine.rows[0].cells if cell) == sum(cell.n for cell in coarse.rows[0].cells if cell)
    trend = queries.feature_detail(ENDPOINT, "charges").trend
    assert (trend.step_s, sum(value is not None for value in trend.psi)) == (300, sum(cell is not None for cell in fine.rows[0].cells))


def test_an_endpoint_without_traffic_or_reference_has_a_grid(operator: Actor, django_assert_num_queries: Queries) -> None:
    register()
    with django_assert_num_queries(3):
        grid = queries.drift_overview(ENDPOINT)
    assert (grid.version, grid.rows, grid.verdict) == (None, (), "no_data")
    log(people(700), window(1), version=99)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    grid = queries.drift_overview(ENDPOINT)
    assert (grid.version, grid.reference, grid.rows) == (99, None, ())
    assert "no reference" in grid.text


def test_too_few_rows_are_said_not_judged(operator: Actor) -> None:
    register()
    log(people(214), start_of(window(1), 3600) + timedelta(seconds=1))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    grid = queries.drift_overview(ENDPOINT)
    assert (grid.verdict, grid.text) == ("too_few", "Not enough data: 214 of 500 rows.")
    cell = next(cell for cell in grid.rows[0].cells if cell)
    assert (cell.psi, cell.text, cell.verdict) == (None, "214 of 500 rows", "too_few")


@pytest.mark.usefixtures("drifted")
def test_a_number_s_page(django_assert_num_queries: Queries) -> None:
    with django_assert_num_queries(6):
        page = queries.feature_detail(ENDPOINT, "charges")
    assert page.row.key == "in.charges"
    assert (page.row.limit or 0) < (page.row.psi or 0) < 10 < (page.row.threshold or 0)
    assert len(page.histogram.labels) == len(page.histogram.reference) == len(page.histogram.current)
    assert 10 <= len(page.histogram.labels) <= 30
    assert sum(page.histogram.reference) == pytest.approx(1)
    assert sum(page.histogram.current) == pytest.approx(1)
    missing = next(one for one in page.shares if one.name == "missing")
    assert missing.reference == 0
    assert 0 < (missing.current or 0) <= 0.2
    median = next(one for one in page.quantiles if one.name == "p50")
    assert median.reference == pytest.approx(60, abs=2)
    assert set(page.trend.quantiles) == {"p5", "p25", "p50", "p75", "p95"}
    assert sum(page.trend.n) == 3600
    assert page.trend.quantiles["p50"] == pytest.approx((60, 60, 60, 75, 75, 75), abs=4)
    assert page.trend.missing == pytest.approx((0, 0, 0, 0.2, 0.2, 0.2))
    assert page.categories == ()


@pytest.mark.usefixtures("drifted")
def test_of_the_profiles_a_feature_s_page_reads_the_newest_hour_s_alone() -> None:
    newest = queries.feature_detail(ENDPOINT, "charges").window_at
    assert newest is not None
    WindowProfile.objects.exclude(start_at=newest, level=Level.HOUR).update(document=b"not to be read")
    page = queries.feature_detail(ENDPOINT, "charges", hours=168)
    assert (page.window_at, sum(page.trend.n)) == (newest, 3600)


@pytest.mark.usefixtures("drifted")
def test_a_category_s_and_an_output_s_page() -> None:
    page = queries.feature_detail(ENDPOINT, "in.plan")
    assert [one.name for one in page.categories] == ["basic", "plus", "pro"]
    assert page.histogram.labels == ("basic", "plus", "pro")
    assert page.categories[0].reference == pytest.approx(0.6, abs=0.05)
    assert page.quantiles == ()
    assert queries.feature_detail(ENDPOINT, "label").row.role == "output"
    with pytest.raises(NoSuchFeature, match="charges, noise, plan"):
        queries.feature_detail(ENDPOINT, "colour")


def test_a_feature_without_a_reference_is_refused(db: None) -> None:
    with pytest.raises(NoReference):
        queries.feature_detail("nowhere", "charges")


@pytest.mark.usefixtures("drifted")
def test_data_quality_is_worst_first(django_assert_num_queries: Queries) -> None:
    with django_assert_num_queries(5):
        found = queries.data_quality(ENDPOINT, 24)
    assert (found.n, found.rows[0].feature) == (3600, "charges")
    assert found.rows[0].missing == pytest.approx(0.1)
    assert found.rows[0].above > 0
    assert {row.feature for row in found.rows} == {"charges", "noise", "plan"}


def test_data_quality_of_a_week_is_of_the_hours_asked_for_and_reads_whole_days_at_once(operator: Actor) -> None:
    register()
    hour = start_of(window(0), Level.HOUR)
    for back in (0, 23, 24, 71, 72, 167, 168):
        log(people(100 + back, back), hour - timedelta(hours=back))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    logged = {hours: sum(100 + back for back in (0, 23, 24, 71, 72, 167, 168) if back < hours) for hours in (24, 72, 168)}
    assert {hours: queries.data_quality(ENDPOINT, hours).n for hours in logged} == logged
    today = start_of(hour, Level.DAY)
    inside = {"start_at__gte": today - timedelta(days=6), "start_at__lt": today}
    WindowProfile.objects.filter(level=Level.HOUR, **inside).update(document=b"not to be read")
    assert queries.data_quality(ENDPOINT, 168).n == logged[168]


def _promote(reason: str = "", *, at: datetime | None = None, revision: int = 7) -> LedgerEntry:
    endpoint = Endpoint.objects.get(name=ENDPOINT)
    return LedgerEntry.objects.create(
        endpoint=endpoint,
        revision=revision,
        verb="promote",
        summary="Promoted v12",
        actor_kind="person",
        actor_id="1",
        actor_name="a.osei",
        reason=reason,
        before={},
        after={},
        table_revision=1,
        at=at or window(4),
    )


def test_the_changes_before_an_alert_reach_to_the_end_of_its_first_window(db: None) -> None:
    register()
    start = datetime(2026, 11, 22, 8, tzinfo=UTC)
    first = start + timedelta(minutes=30)
    WindowProfile.objects.create(endpoint=ENDPOINT, model=MODEL, version=VERSION, slot="blue", level=Level.FIVE_MINUTES, start_at=first, n=9)
    for minutes in (50, 70):
        _promote(at=start + timedelta(minutes=minutes), revision=minutes)
    for level, at in ((Level.HOUR, start), (Level.FIVE_MINUTES, start + timedelta(minutes=115))):  # the newest window is no longer of an hour
        alert = report(ENDPOINT, Finding("drift", MODEL, VERSION, "severe", "charges drifted", [], level, at, at))
        assert alert is not None
        page = queries.alert_detail(alert.number)
        assert page.alert.first_at == first
        assert [change.revision for change in page.changes] == [50]


@pytest.mark.usefixtures("drifted")
def test_an_alert_s_page_has_chart_changes_and_advice(django_assert_num_queries: Queries) -> None:
    _promote()
    number = Alert.objects.get(cause="drift").number
    with django_assert_num_queries(5):
        page = queries.alert_detail(number)
    assert (page.alert.number, page.alert.state, page.alert.cause) == (number, "open", "drift")
    assert page.items[0].name == "charges"
    assert page.items[0].limit is not None
    assert [(change.summary, change.actor, change.before_s) for change in page.changes] == [("Promoted v12", "a.osei", 600)]
    assert len(page.chart.t) == 6
    assert page.chart.lines["charges"][-1] == pytest.approx(page.items[0].value)
    assert [mark.text for mark in page.chart.marks] == ["Promoted v12"]
    assert page.suggestion.startswith("Look at charges first")
    output = queries.alert_detail(Alert.objects.get(cause="output-drift").number)
    assert "roll back" in output.suggestion
    with pytest.raises(NoSuchAlert):
        queries.alert_detail(number + 100)


def _alert(number: int, state: str = "resolved") -> None:
    values = {"model": MODEL, "version": VERSION, "cause": "drift", "severity": "watch", "title": "t", "first_at": window(2), "last_at": window(1)}
    resolved = window(1) if state == "resolved" else None
    Alert.objects.create(endpoint=f"e{number % 2}", dedup_key=f"{number}", state=state, resolved_at=resolved, **values)


def test_alerts_are_paged_and_counted(db: None, django_assert_num_queries: Queries) -> None:
    for number in range(6):
        _alert(number)
    with django_assert_num_queries(3):
        first = queries.alerts_page(limit=4)
    assert first.quiet_since == window(1)
    second = queries.alerts_page(limit=4, cursor=first.next)
    numbers = [row.number for row in (*first.results, *second.results)]
    assert numbers == sorted(numbers, reverse=True)
    assert (len(numbers), second.next) == (6, None)
    _alert(7, state="open")
    _alert(9, state="acknowledged")
    assert queries.open_alert_count() == 1
    with django_assert_num_queries(2):
        ours = queries.alerts_page(state="unresolved", endpoint="e1")
    assert [row.state for row in ours.results] == ["acknowledged", "open"]
    assert ours.counts == {"open": 1, "acknowledged": 1, "resolved": 3}
    assert ours.quiet_since is None


@pytest.mark.usefixtures("drifted")
def test_verdicts_of_many_endpoints_in_one_query(django_assert_num_queries: Queries) -> None:
    with django_assert_num_queries(1):
        found = queries.endpoint_verdicts([ENDPOINT, "quiet"])
    assert (found[ENDPOINT].verdict, found[ENDPOINT].text, found[ENDPOINT].open_alerts) == ("severe", "charges and 2 more", 2)
    assert (found["quiet"].verdict, found["quiet"].open_alerts) == ("no_data", 0)


def test_performance_over_time_and_summed_up(operator: Actor, django_assert_num_queries: Queries) -> None:
    register(metrics={"accuracy": 0.95})
    _promote()
    for back, count in ((1, 300), (2, 30)):
        at = window(back)
        ids = [uuid7(int(at.timestamp() * 1000)) for _ in range(count)]
        inputs = people(count, back)
        log(inputs, at, ids=ids)
        labels = answers(inputs)["label"]
        send_outcomes(
            actor=operator,
            outcomes=[OutcomeIn(one, int(label) if place % 10 else 1 - int(label)) for place, (one, label) in enumerate(zip(ids, labels, strict=True))],
        )
    log(people(300, 5), window(1))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    with django_assert_num_queries(5):
        series = queries.performance_series(ENDPOINT, 3)
    assert (series.metric, series.step_s, series.t) == ("accuracy", 300, (window(2), window(1)))
    line = series.lines[0]
    assert (line.version, line.mature, line.n, line.coverage, line.baseline) == (VERSION, (False, True), (30, 300), (1.0, 0.5), 0.95)
    assert line.value == (0.9, 0.9)
    assert line.low[1] is not None
    assert line.low[1] < 0.9
    assert [mark.text for mark in series.marks] == ["Promoted v12"]
    with django_assert_num_queries(4):
        summary = queries.performance_summary(ENDPOINT, 3)[0]
    assert (summary.value, summary.n, summary.predictions, summary.baseline, summary.baseline_text) == (0.9, 330, 630, 0.95, "as registered")
    assert summary.labels == ("0", "1")
    assert sum(map(sum, summary.confusion)) == 330
    assert summary.metrics["auc"] is not None
    assert summary.delay_s is not None
    assert summary.text == "330 outcomes, 52% of the predictions."


def test_performance_without_outcomes_says_so(operator: Actor) -> None:
    register()
    log(people(100), window(1))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    summary = queries.performance_summary(ENDPOINT)[0]
    assert (summary.value, summary.n, summary.predictions, summary.text) == (None, 0, 100, "No outcomes yet.")
    assert queries.performance_series(ENDPOINT).lines == ()
