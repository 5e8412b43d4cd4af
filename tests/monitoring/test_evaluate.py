"""From the log to an alert and back to calm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from access.actors import Actor
from access.models import AuditEntry
from core.errors import Conflict, Forbidden, Invalid
from monitoring.errors import AlertIsClosed, NoReference, NoSuchAlert, NoSuchEndpoint, WrongRule
from monitoring.evaluate import evaluate_now, evaluate_waiting
from monitoring.handle_alert import acknowledge, note, resolve
from monitoring.incidents import Finding, report
from monitoring.models import LENGTH, Alert, AlertNote, Calibration, DriftResult, Level, Reference, Rule, Standing, WindowProfile
from monitoring.queries import alert_detail, drift_overview, open_alerts
from monitoring.reference import document_of
from monitoring.retention import delete_old
from monitoring.rules import change_rule, rule_of
from monitoring.set_reference import set_reference
from monitoring.tasks import profile as profile_task
from serving.models import PredictionSegment
from tests.monitoring.world import ENDPOINT, MODEL, VERSION, log, people, register, window


def _fill(windows: range, *, shift: float = 0.0, rows: int = 600) -> None:
    for back in windows:
        log(people(rows, 100 + back, shift=shift), window(back))


def _verdict(feature: str, start: datetime) -> str:
    return DriftResult.objects.get(feature=feature, level=Level.FIVE_MINUTES, start_at=start).verdict


def test_no_shift_is_stable_and_opens_nothing(operator: Actor) -> None:
    register()
    _fill(range(1, 5))
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    assert (standing.verdict, standing.text, standing.level) == ("stable", "stable", Level.FIVE_MINUTES)
    assert Alert.objects.count() == 0
    assert {one.verdict for one in DriftResult.objects.filter(level=Level.FIVE_MINUTES)} == {"stable"}
    assert WindowProfile.objects.filter(dirty=True).count() == 0


def test_one_endpoint_is_evaluated_without_profiling_the_others(viewer: Actor) -> None:
    register()
    _fill(range(1, 3))
    other = log(people(50), window(1))
    PredictionSegment.objects.filter(id=other.id).update(endpoint="another")
    assert evaluate_now(actor=viewer, endpoint=ENDPOINT) is not None
    assert list(PredictionSegment.objects.filter(profiled_at=None).values_list("id", flat=True)) == [other.id]


def test_a_shift_of_two_windows_opens_one_alert_per_cause(operator: Actor) -> None:
    register()
    _fill(range(3, 6))
    _fill(range(1, 3), shift=15)
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    assert (standing.verdict, standing.version) == ("severe", VERSION)
    alert = Alert.objects.get(cause="drift")
    assert (alert.state, alert.severity, alert.version) == ("open", "severe", VERSION)
    assert alert.title.startswith("The feature charges drifted, PSI 0.")
    assert [item["key"] for item in alert.detail["items"]] == ["in.charges"]
    assert (alert.first_at, alert.last_at) == (window(2), window(1))
    outputs = Alert.objects.get(cause="output-drift")
    assert {item["key"] for item in outputs.detail["items"]} == {"out.label", "out.probability"}
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.count() == 2


def test_an_alert_is_about_every_version_that_drifted(operator: Actor) -> None:
    for number, shift in ((VERSION, 15), (VERSION + 1, 20), (VERSION + 2, 0)):
        register(number)
        for back in (1, 2):
            log(people(600, 100 + back, shift=shift), window(back), version=number)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    alerts = list(Alert.objects.order_by("number"))
    assert [alert.cause for alert in alerts] == ["drift", "output-drift"]
    found = open_alerts(ENDPOINT)
    assert {key: {row.number for row in rows} for key, rows in found.items()} == {
        (MODEL, number): {alert.number for alert in alerts} for number in (VERSION, VERSION + 1)
    }


def _finding(level: Level, first_at: datetime) -> Finding:
    return Finding("drift", MODEL, VERSION, "severe", "charges drifted", [], level, first_at, first_at)


def _window_of(start: datetime, *, version: int = VERSION, level: int = Level.FIVE_MINUTES) -> None:
    WindowProfile.objects.create(endpoint=ENDPOINT, model=MODEL, version=version, slot="blue", level=level, start_at=start, n=9)


@pytest.mark.parametrize("level", [Level.HOUR, Level.DAY])
def test_an_alert_of_a_long_window_begins_when_the_version_first_had_traffic(db: None, level: Level) -> None:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    for minute, version in ((-5, VERSION), (5, VERSION + 1), (30, VERSION), (35, VERSION)):
        _window_of(start + timedelta(minutes=minute), version=version)
    alert = report(ENDPOINT, _finding(level, start))
    assert alert is not None
    assert (alert.first_at, alert.last_at) == (start + timedelta(minutes=30), start + timedelta(minutes=30))
    row = alert_detail(alert.number).alert
    assert (row.first_at, row.first_end_at, row.last_end_at) == (alert.first_at, start + LENGTH[level], start + LENGTH[level])
    fine = datetime(2026, 11, 22, 23, 55, tzinfo=UTC)
    report(ENDPOINT, _finding(Level.FIVE_MINUTES, fine))
    row = alert_detail(alert.number).alert
    assert (row.first_at, row.first_end_at) == (alert.first_at, start + LENGTH[level])
    assert (row.last_at, row.last_end_at) == (fine, fine + timedelta(minutes=5))


def test_an_alert_of_a_short_window_or_without_finer_ones_keeps_its_start(db: None) -> None:
    start = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    for level in Level:
        alert = report(ENDPOINT, _finding(level, start.replace(hour=0, minute=0)))
        assert alert is not None
        assert alert.first_at == start.replace(hour=0, minute=0)
        alert.delete()


def test_one_window_alone_opens_nothing(operator: Actor) -> None:
    register()
    _fill(range(2, 4))
    _fill(range(1, 2), shift=15)
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    assert standing.verdict == "stable"
    assert _verdict("in.charges", window(1)) == "severe"
    assert Alert.objects.count() == 0


def test_few_rows_are_not_judged_but_said(operator: Actor) -> None:
    register()
    _fill(range(1, 3), shift=15, rows=40)
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    assert standing.verdict == "too_few"
    assert standing.text.endswith("of 500 rows in the last hour")
    assert _verdict("in.charges", window(1)) == "too_few"


def test_the_alert_ends_by_itself_after_three_calm_windows(operator: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    _fill(range(4, 7), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(state="open").count() == 2
    _fill(range(2, 4))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(state="open").count() == 2
    _fill(range(1, 2))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(state="open").count() == 0
    alert = Alert.objects.get(cause="drift")
    assert (alert.resolved_by, alert.waits_for_calm) == ("monitor", False)
    assert AlertNote.objects.filter(alert=alert, verb="resolved").count() == 1


def test_what_a_person_resolved_stays_closed_until_it_was_calm(operator: Actor) -> None:
    register()
    _fill(range(7, 9), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    first = Alert.objects.get(cause="drift")
    resolve(actor=operator, number=first.number, text="New tariff.", false_alarm=True)
    _fill(range(6, 7), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(cause="drift").count() == 1
    _fill(range(3, 6))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    _fill(range(1, 3), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(cause="drift", state="open").count() == 1
    assert Alert.objects.filter(cause="drift").count() == 2


def test_a_muted_feature_opens_nothing(operator: Actor) -> None:
    register()
    change_rule(actor=operator, endpoint=ENDPOINT, changes={"muted_features": ["in.charges"]})
    _fill(range(1, 3), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(cause="drift").count() == 0


def test_ten_healthy_windows_calibrate(operator: Actor) -> None:
    register()
    _fill(range(1, 13), rows=500)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    made = Calibration.objects.get(level=Level.FIVE_MINUTES)
    assert made.windows >= 10
    assert set(made.gammas) == {"in.charges", "in.noise", "in.plan", "out.label", "out.probability"}
    log(people(20, 5), window(1))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert DriftResult.objects.get(feature="in.charges", level=Level.FIVE_MINUTES, start_at=window(1)).calibrated


def test_the_periodic_task_does_it_all(operator: Actor) -> None:
    register()
    _fill(range(1, 3), shift=15)
    profile_task()
    profile_task()
    assert Alert.objects.count() == 2
    assert evaluate_waiting() == 0


def test_evaluating_needs_the_right_and_an_endpoint(viewer: Actor) -> None:
    nobody = Actor(kind="key", id="key:x", name="scorer")
    with pytest.raises(Forbidden, match=r"endpoint\.view"):
        evaluate_now(actor=nobody, endpoint=ENDPOINT)
    with pytest.raises(NoSuchEndpoint):
        evaluate_now(actor=viewer, endpoint="nowhere")


def test_traffic_becomes_the_reference_and_the_shift_is_none_any_more(operator: Actor) -> None:
    register()
    _fill(range(1, 4), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    made = set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION, days=7, reason="The tariff stays.")
    assert (made.source, made.rows, made.endpoint) == ("traffic", 1800, ENDPOINT)
    assert document_of(made).features["in.charges"].importance == pytest.approx(1, abs=0.02)
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    assert standing.verdict == "stable"
    assert Alert.objects.exclude(state="resolved").count() == 0
    set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION)
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    assert standing.verdict == "severe"
    assert AuditEntry.objects.filter(verb="set reference").count() == 2


def test_traffic_becomes_the_reference_of_a_version_without_a_sample(operator: Actor) -> None:
    register().artifacts.all().delete()
    _fill(range(1, 4), shift=15)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    with pytest.raises(NoReference, match="came without sample rows"):
        set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION)
    made = set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION, days=7)
    assert (made.source, made.rows, made.endpoint) == ("traffic", 1800, ENDPOINT)
    _fill(range(1), shift=40)
    standing = evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert standing is not None
    found = DriftResult.objects.filter(level=Level.FIVE_MINUTES, feature="in.charges").order_by("start_at")
    assert [row.verdict for row in found] == ["stable", "stable", "stable", "severe"]
    assert drift_overview(ENDPOINT, hours=24).reference is not None


def test_a_reference_is_refused_without_right_sample_rows_or_days(viewer: Actor, operator: Actor) -> None:
    register()
    with pytest.raises(Forbidden, match=r"monitoring\.edit"):
        set_reference(actor=viewer, endpoint=ENDPOINT, model=MODEL, version=VERSION, days=1)
    with pytest.raises(NoReference, match="0 rows"):
        set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION, days=1)
    with pytest.raises(NoReference, match="no churn v77"):
        set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=77)
    with pytest.raises(Invalid, match="1 to 90"):
        set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION, days=0)
    assert Reference.objects.exclude(endpoint="").count() == 0


def test_rules_have_defaults_and_are_changed_with_a_trace(operator: Actor) -> None:
    register()
    assert rule_of(ENDPOINT).alpha == 0.01
    changed = change_rule(actor=operator, endpoint=ENDPOINT, changes={"minimum_rows": 1000, "alpha": 0.05}, revision=1, reason="Large windows.")
    assert (changed.minimum_rows, changed.alpha, changed.revision, changed.updated_by) == (1000, 0.05, 2, "operator")
    entry = AuditEntry.objects.get(verb="change rule")
    assert entry.before == {"minimum_rows": 500, "alpha": 0.01}
    with pytest.raises(Conflict, match="operator"):
        change_rule(actor=operator, endpoint=ENDPOINT, changes={"alpha": 0.02}, revision=1)
    assert rule_of(ENDPOINT).alpha == 0.05


@pytest.mark.parametrize(
    "changes", [{"alpha": 2}, {"alpha": "a"}, {"minimum_rows": 1.5}, {"windows_in_a_row": True}, {"colour": 1}, {"muted_features": "in.x"}]
)
def test_wrong_limits_change_nothing(operator: Actor, viewer: Actor, changes: dict[str, object]) -> None:
    register()
    with pytest.raises(WrongRule):
        change_rule(actor=operator, endpoint=ENDPOINT, changes=changes)
    with pytest.raises(Forbidden):
        change_rule(actor=viewer, endpoint=ENDPOINT, changes={"alpha": 0.02})
    assert Rule.objects.count() == 0


def _alert() -> Alert:
    values = {"endpoint": ENDPOINT, "model": MODEL, "version": VERSION, "cause": "drift", "dedup_key": f"drift:{ENDPOINT}", "severity": "watch", "title": "t"}
    return Alert.objects.create(**values, first_at=window(2), last_at=window(1))


def test_an_alert_is_acknowledged_noted_and_resolved(operator: Actor) -> None:
    number = _alert().number
    assert acknowledge(actor=operator, number=number, revision=1).acknowledged_by == "operator"
    note(actor=operator, number=number, text="  Asked the billing team.  ")
    with pytest.raises(Conflict, match="acknowledged by now"):
        resolve(actor=operator, number=number, revision=1)
    assert resolve(actor=operator, number=number, revision=2, text="Expected.").state == "resolved"
    with pytest.raises(AlertIsClosed, match="resolved by operator"):
        resolve(actor=operator, number=number)
    with pytest.raises(AlertIsClosed):
        acknowledge(actor=operator, number=number)
    notes = [(one.verb, one.text) for one in AlertNote.objects.filter(alert_id=number)]
    assert notes == [("acknowledged", ""), ("noted", "Asked the billing team."), ("resolved", "Expected.")]
    assert AuditEntry.objects.filter(subject_kind="alert").count() == 3


def test_a_viewer_may_not_handle_alerts(viewer: Actor, operator: Actor) -> None:
    number = _alert().number
    for verb in (acknowledge, resolve):
        with pytest.raises(Forbidden, match=r"alert\.handle"):
            verb(actor=viewer, number=number)
    with pytest.raises(Forbidden):
        note(actor=viewer, number=number, text="hello")
    with pytest.raises(NoSuchAlert):
        resolve(actor=operator, number=number + 1)
    with pytest.raises(Invalid):
        note(actor=operator, number=number, text=" ")
    assert Alert.objects.get(number=number).state == "open"
    assert AlertNote.objects.count() == 0


def test_fine_windows_are_deleted_in_time(operator: Actor) -> None:
    register()
    _fill(range(1, 2))
    log(people(600), window(12 * 24 * 8))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert delete_old() == 6  # one window of five minutes and its five features
    assert WindowProfile.objects.filter(level=Level.HOUR).count() == 2
    assert Standing.objects.count() == 1
