"""How far two versions answer alike: the arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from registry.answers import MOST_CLASSES, Given, Pair, compared, turned


def _classes(labels: list[str], probabilities: list[list[float]] | None = None, classes: tuple[str, ...] = ("no", "yes")) -> Given:
    outputs = {"label": np.array(labels, dtype=object)}
    if probabilities is not None:
        outputs["probabilities"] = np.array(probabilities, dtype=np.float32)
    return Given(outputs, classes)


def _numbers(values: list[float]) -> Given:
    return Given({"prediction": np.array(values, dtype=np.float64).reshape(-1, 1)}, None)


def test_counts_equal_classes_and_the_shift_of_their_shares():
    found = compared(_classes(["no", "no", "yes", "yes"]), _classes(["no", "no", "no", "yes"]))
    assert found is not None
    assert (found.kind, found.rows, found.agreeing, found.agreement, found.shift, found.verdict) == ("classes", 4, 3, 0.75, 0.25, "different")
    assert found.shares == (Pair("no", 0.5, 0.75), Pair("yes", 0.5, 0.25))
    assert found.mean_difference is None


def test_lines_up_probabilities_by_class_and_not_by_place():
    a = _classes(["no", "yes"], [[0.9, 0.1], [0.2, 0.8]])
    b = _classes(["no", "yes"], [[0.1, 0.9], [0.6, 0.4]], classes=("yes", "no"))
    found = compared(a, b)
    assert found is not None
    assert (found.agreeing, found.verdict) == (2, "close")
    assert found.mean_difference == pytest.approx(0.1)
    assert found.largest_difference == pytest.approx(0.2)


def test_the_same_answers_are_called_the_same():
    one = _classes(["no", "yes"], [[0.9, 0.1], [0.2, 0.8]])
    found = compared(one, one)
    assert found is not None
    assert (found.verdict, found.shift, found.largest_difference) == ("same", 0.0, 0.0)


def test_a_class_without_a_label_is_the_most_probable_one():
    found = compared(Given({"probabilities": np.array([[0.9, 0.1], [0.2, 0.8]])}, ("no", "yes")), _classes(["no", "no"]))
    assert found is not None
    assert found.agreeing == 1


def test_numbers_agree_within_a_twentieth_of_the_usual_range():
    steps = list(np.linspace(0, 100, 101))
    found = compared(_numbers(steps), _numbers([*(value + 4 for value in steps[:-1]), 190.0]))
    assert found is not None
    assert (found.kind, found.rows, found.agreeing, found.largest_difference, found.verdict) == ("numbers", 101, 100, 90.0, "close")
    assert found.mean_difference == pytest.approx((400 + 90) / 101)
    assert [pair.name for pair in found.numbers] == ["mean", "p5", "p50", "p95"]
    assert sum(pair.a for pair in found.shares) == pytest.approx(1)
    assert sum(pair.b for pair in found.shares) == pytest.approx(1)


def test_what_is_not_finite_agrees_only_with_itself():
    found = compared(_numbers([1.0, float("nan"), float("nan"), 1e300]), _numbers([1.0, float("nan"), 2.0, 1e300]))
    assert found is not None
    assert (found.rows, found.agreeing, found.largest_difference) == (4, 3, 0.0)
    nothing = compared(_numbers([float("inf")]), _numbers([float("nan")]))
    assert nothing is not None
    assert (nothing.mean_difference, nothing.shares, nothing.shift) == (None, (), 0.0)


def test_one_value_on_both_sides_is_one_range():
    found = compared(_numbers([7.0, 7.0]), _numbers([7.0, 7.0]))
    assert found is not None
    assert found.shares == (Pair("6.5 to 7.5", 1.0, 1.0),)


def test_many_classes_are_put_together():
    names = [f"c{place:02d}" for place in range(MOST_CLASSES + 5)]
    found = compared(_classes(names), _classes(names))
    assert found is not None
    assert len(found.shares) == MOST_CLASSES + 1
    assert found.shares[-1].name == "all others"
    assert found.shares[-1].a == pytest.approx(5 / 25)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (_classes(["no"]), _numbers([1.0])),
        (_classes(["no"]), _classes(["no", "yes"])),
        (_numbers([1.0]), Given({"prediction": np.ones((1, 2))}, None)),
        (_numbers([]), _numbers([])),
    ],
)
def test_answers_of_different_kinds_are_not_compared(a: Given, b: Given):
    assert compared(a, b) is None


def test_the_other_side_sees_the_same_with_the_names_swapped():
    found = compared(_classes(["no", "no"]), _classes(["no", "yes"]))
    assert found is not None
    back = turned(found)
    assert back.shares == (Pair("no", 0.5, 1.0), Pair("yes", 0.5, 0.0))
    assert turned(back) == found
