"""The sketches, and each trap of the library behind them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm

from monitoring import sketch


def _normal(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, n)


def test_takes_read_only_arrays() -> None:
    values = _normal(1000, 1)
    values.flags.writeable = False
    assert sketch.quantiles(sketch.sketch_of(values), (0.5,))[0] == pytest.approx(0, abs=0.1)


def test_leaves_out_nan_and_infinity() -> None:
    blob = sketch.sketch_of(np.array([1.0, np.nan, np.inf, -np.inf, 3.0]))
    assert sketch.quantiles(blob, (0.0, 1.0)) == (1.0, 3.0)


def test_an_empty_sketch_has_an_answer() -> None:
    empty = sketch.sketch_of(np.array([np.nan]))
    assert sketch.quantiles(empty, (0.5,)) == (None,)
    assert sketch.cdf(empty, np.array([0.0])).tolist() == [0.0]
    assert sketch.ks(empty, sketch.sketch_of(_normal(100, 1))) == 0.0
    assert sketch.merge(b"", empty) == empty


def test_ks_after_merges_is_the_exact_one_within_the_tolerance() -> None:
    left, right = _normal(40_000, 1), _normal(40_000, 2, shift=0.2)
    merged = [b"", b""]
    for part in range(20):
        merged[0] = sketch.merge(merged[0], sketch.sketch_of(left[part::20]))
        merged[1] = sketch.merge(merged[1], sketch.sketch_of(right[part::20]))
    assert sketch.ks(merged[0], merged[1]) == pytest.approx(ks_2samp(left, right).statistic, abs=0.015)


def test_ks_of_small_samples_is_exact() -> None:
    left, right = _normal(300, 1), _normal(250, 2, shift=0.5)
    assert sketch.ks(sketch.sketch_of(left), sketch.sketch_of(right)) == pytest.approx(ks_2samp(left, right).statistic, abs=1e-12)


def test_sees_a_real_shift_where_the_library_s_own_test_sees_none() -> None:
    assert sketch.ks(sketch.sketch_of(_normal(2000, 1)), sketch.sketch_of(_normal(2000, 2, shift=0.5))) == pytest.approx(2 * norm.cdf(0.25) - 1, abs=0.05)


def test_counts_between_edges_add_up_and_include_the_right_edge() -> None:
    blob = sketch.sketch_of(np.array([1.0, 2.0, 2.0, 3.0, 5.0]))
    assert sketch.counts_between(blob, np.array([2.0, 4.0]), 5) == [3, 1, 1]
    assert sketch.counts_between(b"", np.array([2.0]), 0) == [0, 0]
