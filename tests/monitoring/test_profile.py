"""Profiles add up: in any order, in any pieces."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import bins, profile
from monitoring.profile import KEYS, Bins, Profile
from tests.monitoring.world import people, reference_table, table

_BINS = {"in.x": Bins("number", (-1.0, 0.0, 2.5), -5.0, 5.0), "in.c": Bins("category")}
Rows = list[tuple[float | None, str | None]]
_rows = st.lists(
    st.tuples(st.none() | st.floats(-10, 10, width=32) | st.sampled_from([float("inf"), float("nan")]), st.none() | st.sampled_from("abcde")), max_size=30
)


def _of(rows: Rows) -> Profile:
    columns = {"in.x": pa.array([row[0] for row in rows], pa.float64()), "in.c": pa.array([row[1] for row in rows], pa.string())}
    return profile.profile_of(pa.table(columns), _BINS)


def _exact(made: Profile) -> object:
    """Everything but the sketch and the sums, which are exact only within a tolerance."""
    return {key: msgspec.structs.replace(one, sketch=b"", total=0.0, squares=0.0) for key, one in made.features.items()}, made.n


@settings(max_examples=60)
@given(_rows, _rows, _rows)
def test_merging_is_commutative_and_associative_and_the_same_as_profiling_all(one: Rows, two: Rows, three: Rows) -> None:
    a, b, c = _of(one), _of(two), _of(three)
    assert _exact(profile.merge(a, b)) == _exact(profile.merge(b, a))
    assert _exact(profile.merge(profile.merge(a, b), c)) == _exact(profile.merge(a, profile.merge(b, c)))
    assert _exact(profile.merge(profile.merge(a, b), c)) == _exact(_of([*one, *two, *three]))


@settings(max_examples=40)
@given(_rows, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: Rows, random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert _exact(_of(rows)) == _exact(_of(shuffled))


def test_counts_nulls_infinities_and_what_is_out_of_range_apart() -> None:
    made = _of([(None, None), (float("nan"), "a"), (float("inf"), "a"), (-7.0, "b"), (-1.0, "b"), (0.5, "b"), (9.0, "b")]).features
    numbers = made["in.x"]
    assert (numbers.n, numbers.nulls, numbers.infinities, numbers.below, numbers.above) == (7, 2, 1, 1, 1)
    assert numbers.counts == [2, 0, 1, 1]
    assert (numbers.minimum, numbers.maximum, numbers.total) == (-7.0, 9.0, 1.5)
    assert made["in.c"].categories == {"a": 2, "b": 4}
    assert made["in.c"].nulls == 1


def test_keeps_a_thousand_categories_and_counts_the_rest() -> None:
    texts = [f"k{place}" for place in range(KEYS + 50)] + ["k3"] * 9
    made = profile.profile_of(pa.table({"in.c": texts}), {}).features["in.c"]
    assert len(made.categories) == KEYS
    assert made.categories["k3"] == 10
    assert made.other == 50
    assert sum(made.categories.values()) + made.other == made.valid


def test_survives_the_way_to_bytes_and_back() -> None:
    made = profile.profile_of(table(people(100)), {})
    assert profile.decode(profile.encode(made)) == made
    assert profile.decode(b"") == Profile()


def test_two_class_probabilities_become_the_second_s_and_labels_are_categories() -> None:
    made = profile.profile_of(table(people(50)), {}).features
    assert set(made) == {"in.charges", "in.noise", "in.plan", "out.label", "out.probability"}
    assert made["out.label"].kind == "category"
    assert made["out.probability"].n == 50


def test_a_matrix_output_of_one_column_and_three_class_probabilities() -> None:
    one = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0]), 1)
    three = pa.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], pa.list_(pa.float32()))
    texts = pa.array([["a", "b"], ["c", "d"]])
    made = profile.profile_of(pa.table({"out.prediction": one, "out.probabilities": three, "out.other": three, "in.words": texts}), {}).features
    assert set(made) == {"out.prediction", "out.confidence"}
    assert made["out.confidence"].maximum == pytest.approx(0.8)


def test_columns_of_nulls_and_of_the_wrong_type_have_an_answer() -> None:
    rows = pa.table({"in.x": pa.nulls(4), "in.c": pa.array([1, 2, 2, None])})
    made = profile.profile_of(rows, _BINS).features
    assert (made["in.x"].nulls, made["in.x"].counts) == (4, [0, 0, 0, 0])
    assert made["in.c"].categories == {"1": 1, "2": 2}
    text = profile.profile_of(pa.table({"in.x": ["a", "b"]}), _BINS).features["in.x"]
    assert (text.n, text.nulls) == (2, 2)
    assert profile.merge_features(made["in.x"], made["in.c"]).n == 8


def test_fine_bins_add_up_to_exact_deciles() -> None:
    values = np.arange(1.0, 1001.0)
    edges, groups = bins.edges_of(values)
    assert len(edges) == 9 + 31 - 1  # the median is both a decile and a 32-quantile
    counts = np.bincount(np.array(groups), weights=np.array(profile.counts_in(values, np.array(edges))))
    assert counts.tolist() == [100.0] * 10


def test_few_distinct_numbers_get_a_bin_each_and_one_beyond_on_both_sides() -> None:
    edges, _ = bins.edges_of(np.array([0.0, 1.0, 1.0, 3.0]))
    assert profile.counts_in(np.array([-1.0, 0.0, 1.0, 2.5, 3.0, 4.0]), np.array(edges)) == [1, 1, 1, 2, 1]


def test_a_reference_of_no_rows_or_only_nulls_has_an_answer() -> None:
    assert bins.reference_of(reference_table(people(0))).rows == 0
    document = bins.reference_of(pa.table({"in.x": pa.array([None, None], pa.float64()), "out.prediction": [1.0, 2.0]}))
    assert bins.counts_for_test(document.features["in.x"], document.features["in.x"].profile).tolist() == [0, 2]
    assert bins.decode(bins.encode(document)) == document


def test_importance_finds_the_feature_that_decides() -> None:
    features = bins.reference_of(reference_table(people(3000))).features
    assert (features["in.charges"].importance or 0) > 0.98
    assert (features["in.noise"].importance or 0) < 0.01
    assert sum(one.importance or 0 for one in features.values()) == pytest.approx(1)
    assert features["out.label"].importance is None


def test_counts_in_other_bins_come_from_the_sketch() -> None:
    values = np.random.default_rng(5).normal(0, 1, 20_000)
    made = profile.profile_of(pa.table({"in.x": values}), {}).features["in.x"]
    moved = bins.rebinned(made, Bins("number", (-1.0, 0.0, 1.0), -2.0, 2.0))
    exact = profile.counts_in(values, np.array([-1.0, 0.0, 1.0]))
    assert sum(moved.counts) == 20_000
    assert np.abs(np.array(moved.counts) - np.array(exact)).max() < 200
    assert moved.above == pytest.approx((values > 2).sum(), abs=200)
