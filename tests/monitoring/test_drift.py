"""The test for drift: exact numbers, few false alarms, real shifts found, a defined answer to anything."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from monitoring import bins, drift, profile
from monitoring.drift import Limits
from monitoring.evaluate import judge_feature

_LIMITS = Limits(alpha=0.01 / 20)


def _counts(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def _judge(before: object, after: object, limits: Limits = _LIMITS) -> drift.Shift:
    """Judge column ``x`` as the monitor does: reference, bins, profile, test."""
    reference = bins.reference_of(pa.table({"in.x": before})).features["in.x"]
    current = profile.profile_of(pa.table({"in.x": after}), {"in.x": reference.bins}).features["in.x"]
    return judge_feature(reference, current, limits)


def test_psi_by_hand() -> None:
    # (60.5/101.5 etc. after the half that each count gets; the third bin is empty on both sides)
    p, q = [60.5 / 101, 40.5 / 101], [80.5 / 101, 20.5 / 101]
    by_hand = (p[0] - q[0]) * math.log(p[0] / q[0]) + (p[1] - q[1]) * math.log(p[1] / q[1])
    assert drift.psi(_counts(60, 40, 0), _counts(80, 20, 0)) == pytest.approx(by_hand, rel=1e-12)
    assert drift.statistic(_counts(60, 40), _counts(80, 20)) == pytest.approx(by_hand * 50, rel=1e-12)
    assert drift.freedom(_counts(60, 40, 0), _counts(80, 20, 0)) == 1


def test_thresholds_are_the_chi_squared_s() -> None:
    assert drift.threshold(9, 0.05) == pytest.approx(16.919, abs=1e-3)
    assert drift.threshold(9, 0.0005) == pytest.approx(29.666, abs=1e-3)
    assert drift.p_value(16.919, 9) == pytest.approx(0.05, abs=1e-5)


def test_the_gamma_only_ever_raises_the_threshold() -> None:
    calm = [9.0 + 0.1 * place for place in range(12)]
    rough = [10.0, 40.0, 25.0, 60.0, 5.0, 33.0, 80.0, 12.0, 44.0, 20.0]
    assert drift.threshold(9, 0.01, drift.fit_gamma(calm)) == drift.threshold(9, 0.01)
    assert drift.threshold(9, 0.01, drift.fit_gamma(rough)) > 80
    assert drift.fit_gamma(rough[:9]) is None
    assert drift.fit_gamma([3.0] * 10) is None


def test_ks_of_the_verdict_is_scipy_s() -> None:
    random = np.random.default_rng(1)
    before, after = random.normal(0, 1, 390), random.normal(0.4, 1, 380)
    assert _judge(before, after).distance == pytest.approx(ks_2samp(before, after).statistic, abs=1e-12)


def test_hardly_ever_alarms_without_a_shift() -> None:
    random = np.random.default_rng(7)
    before = random.normal(0, 1, 5000)
    passed = sum((shift := _judge(before, random.normal(0, 1, 1000), Limits(alpha=0.05))).statistic > shift.threshold for _ in range(400))
    assert 5 <= passed <= 40  # 5 % of 400 are 20
    assert all(_judge(before, random.normal(0, 1, 1000)).verdict == "stable" for _ in range(100))


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "stable"), (0.5, "watch"), (1.0, "severe")])
def test_finds_a_real_shift_and_says_how_large(shift: float, verdict: str) -> None:
    random = np.random.default_rng(3)
    found = _judge(random.normal(0, 1, 5000), random.normal(shift, 1, 1000))
    assert found.verdict == verdict
    assert found.p < 1e-6 or verdict == "stable"


def test_large_windows_do_not_alarm_on_trifles() -> None:
    random = np.random.default_rng(4)
    found = _judge(random.normal(0, 1, 200_000), random.normal(0.03, 1, 200_000))
    assert found.statistic > found.threshold
    assert found.verdict == "stable"


def test_one_outlier_neither_hides_a_shift_nor_makes_one() -> None:
    random = np.random.default_rng(5)
    before, same, moved = random.normal(0, 1, 3000), random.normal(0, 1, 1000), random.normal(0.8, 1, 1000)
    assert _judge(before, np.append(same, 1e12)).verdict == "stable"
    assert _judge(before, np.append(moved, 1e12)).psi == pytest.approx(_judge(before, moved).psi, rel=0.02)
    assert _judge(np.append(before, 1e12), moved).verdict == "severe"


def test_half_of_the_values_missing_is_a_shift() -> None:
    random = np.random.default_rng(6)
    before, after = random.normal(0, 1, 3000), random.normal(0, 1, 1000)
    after[::2] = np.nan
    found = _judge(before, after)
    assert found.verdict == "severe"
    assert found.distance == pytest.approx(0.5)


def test_an_unseen_category_is_a_shift() -> None:
    found = _judge(["a"] * 700 + ["b"] * 300, ["a"] * 700 + ["new"] * 300)
    assert found.verdict == "severe"
    assert found.distance == pytest.approx(0.3)
    assert _judge(["a"] * 700 + ["b"] * 300, ["a"] * 700 + ["b"] * 297 + ["new"] * 3).verdict == "stable"


def test_a_constant_column_is_stable_until_it_moves() -> None:
    assert _judge([3.0] * 1000, [3.0] * 1000).psi == 0.0
    assert _judge([3.0] * 1000, [3.0] * 1000).verdict == "stable"
    for other in (2.0, 4.0):
        assert _judge([3.0] * 1000, [other] * 1000).verdict == "severe"


def test_few_rows_say_so_and_an_empty_window_too() -> None:
    assert _judge(np.arange(1000.0), np.arange(499.0)).verdict == "too_few"
    empty = _judge(np.arange(1000.0), np.array([], dtype=np.float64))
    assert (empty.verdict, empty.n, empty.psi, empty.p) == ("too_few", 0, 0.0, 1.0)
    assert _judge(np.array([], dtype=np.float64), np.arange(1000.0)).verdict == "too_few"


def test_matters_sooner_for_an_important_feature() -> None:
    assert drift.severity(0.15, _LIMITS, 0.3) == "severe"
    assert drift.severity(0.15, _LIMITS, 0.1) == "watch"
    assert drift.severity(0.15, _LIMITS, None) == "watch"


def test_needs_several_windows_in_a_row() -> None:
    assert drift.confirmed(["severe", "watch", "stable"], 2)
    assert not drift.confirmed(["severe", "stable", "severe"], 2)
    assert not drift.confirmed(["severe"], 2)
    assert drift.calm(["stable", "stable", "stable"], 3)
    assert not drift.calm(["stable", "too_few", "stable"], 3)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=30))
def test_always_finite(pairs: list[tuple[int, int]]) -> None:
    before, after = _counts(*(pair[0] for pair in pairs)), _counts(*(pair[1] for pair in pairs))
    found = drift.judge(before, after, ks=None, limits=_LIMITS)
    assert all(math.isfinite(number) for number in (found.psi, found.distance, found.statistic, found.threshold, found.p))
    assert found.psi >= 0
    assert 0 <= found.distance <= 1
