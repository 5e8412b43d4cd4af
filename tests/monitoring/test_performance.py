"""Counters of outcomes: exact metrics, and they add up."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, mean_absolute_error, mean_squared_error, r2_score, roc_auc_score

from monitoring import performance
from monitoring.measure_performance import counters_of
from monitoring.performance import Answered, Counters


def _binary(n: int, seed: int = 0) -> tuple[list[Answered], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = random.uniform(0, 1, n)
    truths = (random.uniform(0, 1, n) < scores).astype(int)
    rows = [
        Answered(60.0, truth=str(truth), label=str(int(score > 0.5)), score=float(score), positive="1") for truth, score in zip(truths, scores, strict=True)
    ]
    return rows, truths, scores


def test_agrees_with_scikit_learn_on_classification() -> None:
    rows, truths, scores = _binary(4000)
    found = performance.metrics(performance.count(rows))
    assert found["accuracy"] == pytest.approx((truths == (scores > 0.5)).mean())
    assert found["log_loss"] == pytest.approx(log_loss(truths, scores))
    assert found["brier"] == pytest.approx(brier_score_loss(truths, scores))
    assert found["auc"] == pytest.approx(roc_auc_score(truths, scores), abs=0.0005)


def test_agrees_with_scikit_learn_on_regression() -> None:
    random = np.random.default_rng(1)
    truth, predicted = random.normal(10, 3, 500), random.normal(10, 3, 500)
    found = performance.metrics(performance.count(Answered(1.0, number=float(a), score=float(b)) for a, b in zip(truth, predicted, strict=True)))
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, predicted))
    assert found["rmse"] == pytest.approx(mean_squared_error(truth, predicted) ** 0.5)
    assert found["r2"] == pytest.approx(r2_score(truth, predicted))


def test_windows_add_up_and_survive_json() -> None:
    rows, _, _ = _binary(1000)
    whole = performance.count(rows)
    parts = performance.total([performance.count(rows[:300]), performance.count(rows[300:])])
    assert (parts.confusion, parts.positives, parts.negatives, parts.n) == (whole.confusion, whole.positives, whole.negatives, 1000)
    assert parts.log_loss == pytest.approx(whole.log_loss)
    assert counters_of(msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(whole, str_keys=True)))) == whole


def test_nothing_counted_is_no_number() -> None:
    assert performance.metrics(Counters()) == {}
    assert performance.headline(Counters()) == ("accuracy", None)
    assert performance.interval(Counters()) is None
    assert performance.metrics(performance.count([Answered(0, truth="a", label="a")])) == {"accuracy": 1.0}
    assert performance.auc({3: 1}, {}) is None


def test_clearly_worse_needs_the_whole_interval_past_the_limit() -> None:
    def counted(right: int, wrong: int) -> Counters:
        return performance.count([Answered(0, truth="a", label="a")] * right + [Answered(0, truth="a", label="b")] * wrong)

    assert not performance.clearly_worse(counted(80, 20), 0.9, accuracy_drop=0.03, error_rise=0.2)
    assert performance.clearly_worse(counted(800, 200), 0.9, accuracy_drop=0.03, error_rise=0.2)
    assert not performance.clearly_worse(counted(880, 120), 0.9, accuracy_drop=0.03, error_rise=0.2)
