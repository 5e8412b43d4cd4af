"""Outcomes find their predictions, whenever and in whatever order they come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from access.actors import Actor, system
from access.rights import Right
from core.clock import now
from core.errors import Forbidden
from core.ids import uuid7
from monitoring.errors import WrongOutcomes
from monitoring.evaluate import evaluate_now
from monitoring.join_outcomes import join_parked, label_in, number_in
from monitoring.measure_performance import measure_performance, measure_waiting
from monitoring.models import Alert, Level, Outcome, OutcomeBatch, PerformanceWindow
from monitoring.outcomes import Accepted, OutcomeIn, outcomes_of_csv, send_outcomes
from tests.monitoring.world import ENDPOINT, MODEL, VERSION, answers, log, people, register, window

SENDER = Actor(kind="key", id="key:1", name="billing", rights={"*": frozenset({Right.OUTCOMES_SEND})})


def _ids(n: int, at: Any) -> list[UUID]:
    return [uuid7(int(at.timestamp() * 1000)) for _ in range(n)]


def _predict(n: int, back: int = 1, seed: int = 1, **more: Any) -> tuple[list[UUID], list[str]]:
    """Log n predictions; gives their ids and what was answered."""
    at = window(back) + timedelta(seconds=10)
    ids, inputs = _ids(n, at), people(n, seed)
    log(inputs, at, ids=ids, **more)
    return ids, [str(label) for label in answers(inputs)["label"]]


def _send(ids: list[UUID], values: list[Any]) -> Accepted:
    return send_outcomes(actor=SENDER, outcomes=[OutcomeIn(one, value) for one, value in zip(ids, values, strict=True)])


def test_joins_and_counts_only_the_windows_that_changed(db: None) -> None:
    register()
    ids, labels = _predict(50)
    _predict(50, back=3, seed=2)
    assert _send(ids, [1 - int(label) if place < 10 else int(label) for place, label in enumerate(labels)]) == Accepted(50, 0, 0)
    assert [(row.level, row.dirty) for row in PerformanceWindow.objects.all()] == [(300, True)]
    assert measure_performance(ENDPOINT) == 1
    assert measure_performance(ENDPOINT) == 0
    rows = PerformanceWindow.objects.order_by("level")
    assert [(row.level, row.n, row.dirty) for row in rows] == [(300, 50, False), (3600, 50, False), (86400, 50, False)]
    confusion = rows[0].counters["confusion"]
    assert sum(confusion[label].get(label, 0) for label in confusion) == 40
    assert rows[0].start_at == window(1)
    row = Outcome.objects.filter(state="joined").first()
    assert row is not None
    assert (row.endpoint, row.slot, row.positive) == (ENDPOINT, "blue", "1")
    assert row.score is not None


def test_an_unknown_id_is_parked_and_joined_when_the_log_has_it(db: None) -> None:
    register()
    at = window(1)
    ids = _ids(3, at)
    assert _send(ids, [1, 0, 1]) == Accepted(0, 3, 0)
    assert PerformanceWindow.objects.count() == 0
    row = Outcome.objects.filter(state="parked").first()
    assert row is not None
    assert row.try_at is not None
    assert row.try_at > now()
    assert join_parked() == 0  # not yet
    log(people(3), at, ids=ids)
    Outcome.objects.update(try_at=now())
    assert join_parked() == 3
    assert Outcome.objects.filter(state="joined").count() == 3
    assert PerformanceWindow.objects.get().dirty


def test_one_that_is_never_found_is_given_up_after_a_week(db: None) -> None:
    _send(_ids(1, window(1)), [1])
    Outcome.objects.update(received_at=now() - timedelta(days=8), try_at=now())
    join_parked()
    assert Outcome.objects.get().try_at is None
    assert join_parked() == 0


def test_the_last_value_wins_and_history_is_kept(db: None) -> None:
    register()
    ids, labels = _predict(1)
    right, wrong = int(labels[0]), 1 - int(labels[0])
    for value in (right, wrong, wrong):
        assert _send(ids, [value]) == Accepted(1, 0, 0)
    measure_waiting()
    assert PerformanceWindow.objects.get(level=300).counters["confusion"] == {str(wrong): {str(right): 1}}
    assert list(Outcome.objects.order_by("id").values_list("value", "current")) == [(right, False), (wrong, True)]
    assert OutcomeBatch.objects.count() == 2


def test_the_same_row_twice_in_one_delivery_counts_once(db: None) -> None:
    register()
    ids, labels = _predict(1)
    assert _send(ids * 2, [1 - int(labels[0]), int(labels[0])]) == Accepted(2, 0, 0)
    assert Outcome.objects.get().value == int(labels[0])


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, float("nan"), "", "x" * 101, "a\0b", 10**400])
def test_a_value_of_a_wrong_type_is_refused_by_place(db: None, value: Any) -> None:
    register()
    ids, labels = _predict(2)
    answer = _send(ids, [value, int(labels[1])])
    assert (answer.accepted, answer.parked, answer.refused) == (1, 0, 1)
    assert answer.errors[0].index == 0
    assert Outcome.objects.count() == 1


def test_ids_and_rows_that_cannot_be_are_refused(db: None) -> None:
    sent = [OutcomeIn("no id", 1), OutcomeIn(str(uuid4()), 1), OutcomeIn(str(uuid7()), 1, -1), OutcomeIn(None, 1)]  # type: ignore[arg-type]  # on purpose
    assert send_outcomes(actor=SENDER, outcomes=sent).refused == 4
    assert OutcomeBatch.objects.count() == 0


def test_a_class_the_model_does_not_know_is_refused_and_the_value_before_counts_again(db: None) -> None:
    register()
    ids, labels = _predict(1)
    _send(ids, [int(labels[0])])
    answer = _send(ids, ["perhaps"])
    assert answer.refused == 1
    assert answer.errors[0].reason == "value must be one of the classes 0, 1."
    measure_waiting()
    assert PerformanceWindow.objects.get(level=300).n == 1
    assert Outcome.objects.get(current=True).value == int(labels[0])


def test_a_key_for_one_endpoint_sends_only_for_that(db: None) -> None:
    register()
    ids, labels = _predict(1)
    other = Actor(kind="key", id="key:2", name="other", rights={"endpoint:elsewhere": frozenset({Right.OUTCOMES_SEND})})
    answer = send_outcomes(actor=other, outcomes=[OutcomeIn(ids[0], int(labels[0]))])
    assert answer.refused == 1
    assert "may not send outcomes of churn-scorer" in answer.errors[0].reason
    assert PerformanceWindow.objects.count() == 0


@pytest.mark.parametrize("same", [True, False])
def test_a_key_for_one_endpoint_neither_replaces_nor_learns_an_outcome_of_another(db: None, same: bool) -> None:
    register()
    ids, labels = _predict(1)
    _send(ids, [int(labels[0])])
    measure_waiting()
    other = Actor(kind="key", id="key:2", name="other", rights={"endpoint:elsewhere": frozenset({Right.OUTCOMES_SEND})})
    answer = send_outcomes(actor=other, outcomes=[OutcomeIn(ids[0], int(labels[0]) if same else 1 - int(labels[0]))])
    assert (answer.accepted, answer.refused, answer.errors[0].reason) == (0, 1, "The key may not send outcomes of churn-scorer.")
    row = Outcome.objects.get()
    assert (row.current, row.state, row.value) == (True, "joined", int(labels[0]))
    assert not PerformanceWindow.objects.filter(dirty=True).exists()


def test_a_key_for_another_endpoint_does_not_end_an_outcome_that_waits_for_its_prediction(db: None) -> None:
    register()
    at = window(1) + timedelta(seconds=10)
    ids, inputs = _ids(1, at), people(1)
    label = int(answers(inputs)["label"][0])
    assert _send(ids, [label]) == Accepted(0, 1, 0)
    other = Actor(kind="key", id="key:2", name="other", rights={"endpoint:elsewhere": frozenset({Right.OUTCOMES_SEND})})
    assert send_outcomes(actor=other, outcomes=[OutcomeIn(ids[0], 1 - label)]) == Accepted(0, 1, 0)
    log(inputs, at, ids=ids)
    for _ in range(2):
        Outcome.objects.filter(state="parked").update(try_at=now())
        join_parked()
    row = Outcome.objects.get(current=True)
    assert (row.state, row.value) == ("joined", label)


def test_without_the_right_nothing_is_kept(viewer: Actor) -> None:
    with pytest.raises(Forbidden, match=r"outcomes\.send"):
        send_outcomes(actor=viewer, outcomes=[OutcomeIn(uuid7(), 1)])
    assert OutcomeBatch.objects.count() == 0


def test_a_delivery_has_one_to_ten_thousand_outcomes(db: None) -> None:
    for outcomes, text in (([], "Send at least one"), ([OutcomeIn("x", 1)] * 10_001, "10,000")):
        with pytest.raises(WrongOutcomes, match=text):
            send_outcomes(actor=SENDER, outcomes=outcomes)


def test_reads_csv_with_or_without_rows() -> None:
    one = uuid7()
    assert outcomes_of_csv(f"prediction_id, value\n{one},yes\n") == [OutcomeIn(str(one), "yes", 0)]
    assert outcomes_of_csv(f"row,prediction_id,value\n2,{one},\nx,{one},1\n") == [OutcomeIn(str(one), None, 2), OutcomeIn(str(one), "1", -1)]
    for text in ("", "id,value\n", "prediction_id,value,colour\n"):
        with pytest.raises(WrongOutcomes, match="must name prediction_id, value"):
            outcomes_of_csv(text)


@pytest.mark.parametrize(
    ("value", "labels", "label"),
    [
        (1, ("0", "1"), "1"),
        (1.0, ("0", "1"), "1"),
        (True, ("0", "1"), "1"),
        ("1.0", ("0", "1"), "1"),
        (True, ("false", "true"), "true"),
        (False, ("False", "True"), "False"),
        (1, ("0.0", "1.0"), "1.0"),
        ("yes", ("no", "yes"), "yes"),
        (2, ("0", "1"), None),
        ("anything", (), "anything"),
        (3.0, (), "3"),
    ],
)
def test_says_which_class_is_meant(value: Any, labels: tuple[str, ...], label: str | None) -> None:
    assert label_in(value, labels) == label


def test_reads_numbers_also_from_text() -> None:
    assert [number_in(value) for value in (1, "2.5", True, "x", "inf", 1e301)] == [1.0, 2.5, None, None, None, None]


def _history(backs: range, right: float, n: int = 400, **more: Any) -> None:
    random = np.random.default_rng(3)
    for back in backs:
        ids, labels = _predict(n, back=back, seed=back, **more)
        _send(ids, [int(label) if random.uniform() < right else 1 - int(label) for label in labels])


def test_a_clear_fall_below_the_registered_accuracy_opens_an_alert_and_recovery_closes_it(operator: Actor) -> None:
    register(metrics={"accuracy": 0.9})
    _history(range(6, 8), right=0.9)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.filter(cause="performance").count() == 0
    _history(range(4, 6), right=0.7)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    alert = Alert.objects.get(cause="performance")
    assert (alert.state, alert.severity) == ("open", "severe")
    assert alert.title.endswith("90.0% expected")
    _history(range(1, 4), right=0.9)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.get(cause="performance").state == "resolved"


def test_an_alert_of_two_versions_says_what_the_worse_is_like(operator: Actor) -> None:
    for number, backs, right in ((VERSION, range(1, 4), 0.825), (VERSION + 1, range(1, 3), 0.5)):
        register(number, metrics={"accuracy": 0.9})
        _history(backs, right=right, n=3000, version=number)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    alert = Alert.objects.get(cause="performance")
    assert (alert.severity, alert.version) == ("severe", VERSION + 1)
    assert alert.title.startswith(f"Accuracy of v{VERSION + 1} is ")
    assert alert.detail["versions"] == [[MODEL, VERSION], [MODEL, VERSION + 1]]


def test_immature_windows_never_alarm(operator: Actor) -> None:
    register(metrics={"accuracy": 0.99})
    _history(range(1, 6), right=0.3, n=30)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert PerformanceWindow.objects.get(level=Level.DAY, n__gt=0).n == 150
    assert Alert.objects.filter(cause="performance").count() == 0


def test_without_registered_metrics_the_first_windows_are_the_baseline(operator: Actor) -> None:
    register()
    _history(range(5, 9), right=0.9)
    _history(range(1, 3), right=0.6)
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    assert Alert.objects.get(cause="performance").severity == "severe"


def test_the_system_may_send_too(db: None) -> None:
    register()
    ids, labels = _predict(1)
    assert send_outcomes(actor=system("demo"), outcomes=[OutcomeIn(ids[0], int(labels[0]))]).accepted == 1
