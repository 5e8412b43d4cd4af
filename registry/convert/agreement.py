"""Do two sets of answers agree? Arithmetic on arrays; the parent runs it on what two sandboxes gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-4
"""Largest difference of a probability; for numbers of any size, relative to the largest answer of the sample."""
ENOUGH = 0.99
"""The share of rows that must agree. Rows that lie on a threshold of a tree may fall to the other side in float32."""


@dataclass(frozen=True)
class Agreement:
    """``agreeing`` of ``rows``; the largest difference over all rows and tensors, on the scale of ``tolerance``."""

    rows: int
    agreeing: int
    max_difference: float
    tolerance: float

    @property
    def good(self) -> bool:
        return self.rows > 0 and self.agreeing >= ENOUGH * self.rows


def compare(original: Mapping[str, Any], converted: Mapping[str, Any]) -> Agreement:
    """Compare tensor by tensor over the original's rows; a tensor that is missing or of another shape agrees nowhere."""
    rows = min((len(values) for values in original.values()), default=0)
    agreeing = np.ones(rows, dtype=bool)
    largest = 0.0
    for name, values in original.items():
        found = converted.get(name)
        if found is None or len(found) < rows or found.size // max(len(found), 1) != values.size // max(len(values), 1):
            return Agreement(rows, 0, float("inf"), TOLERANCE)
        left, right = values[:rows].reshape(rows, -1), found[:rows].reshape(rows, -1)
        if name == "label":
            agreeing &= _same_labels(left, right, original.get("probabilities"))
            continue
        difference = _differences(left, right)
        agreeing &= difference <= TOLERANCE
        largest = max(largest, float(difference.max(initial=0.0)))
    return Agreement(rows, int(agreeing.sum()), largest, TOLERANCE)


def _differences(left: Any, right: Any) -> Any:
    """Largest difference of each row, over the size of the largest finite answer where that is above 1."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    finite = np.abs(left[np.isfinite(left)])
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(left - right) / max(1.0, float(finite.max(initial=0.0))))
    return np.nan_to_num(gap, nan=np.inf).max(axis=1)


def _same_labels(left: Any, right: Any, probabilities: Any) -> Any:
    """Equal labels; where the two best probabilities are equal too, either label is right."""
    same = np.array([str(one) == str(other) for one, other in zip(left[:, 0], right[:, 0], strict=True)], dtype=bool)
    if probabilities is None or probabilities.ndim != 2 or probabilities.shape[1] < 2:
        return same
    best = np.sort(probabilities[: len(same)], axis=1)
    tied: Any = best[:, -1] - best[:, -2] <= TOLERANCE
    return same | tied
