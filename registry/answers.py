"""How far do two versions answer the same rows alike, and how do their answers shift? Arithmetic on arrays, pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 10
MOST_CLASSES = 20
CLOSE = 0.95
"""From this share of agreeing rows on, two versions are called close."""
SAME_NUMBER = 0.05
"""Numbers agree when they differ by at most this share of the range that holds 90 % of the older version's answers."""
_EQUAL = 1e-6
_TOO_LARGE = 1e150  # the range of two such numbers would not be finite

Floats = NDArray[np.float64]
Words = Literal["same", "close", "different"]


class Pair(msgspec.Struct, frozen=True):
    """One number of both versions: ``a`` is the older one's."""

    name: str
    a: float
    b: float

    @property
    def change(self) -> float:
        return self.b - self.a


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """``agreeing`` of ``rows`` give the same answer.

    ``mean_difference`` and ``largest_difference`` are of probabilities (0 to 1) or of the predicted
    numbers. ``shift`` is half the summed differences of ``shares``, 0 to 1: the part of the rows that
    would have to move for both to answer alike as a whole. ``shares`` are of rows per class or range;
    ``numbers`` holds mean and quantiles, empty for classes.
    """

    kind: Literal["classes", "numbers"]
    rows: int
    agreeing: int
    mean_difference: float | None
    largest_difference: float | None
    shift: float
    shares: tuple[Pair, ...]
    numbers: tuple[Pair, ...] = ()

    @property
    def agreement(self) -> float:
        return self.agreeing / self.rows if self.rows else 0.0

    @property
    def verdict(self) -> Words:
        if self.agreeing == self.rows and (self.largest_difference or 0.0) <= _EQUAL:
            return "same"
        return "close" if self.agreement >= CLOSE else "different"


@dataclass(frozen=True, slots=True)
class Given:
    """What one version answered: outputs by name, and its classes in the order of its probabilities."""

    outputs: Mapping[str, Any]
    classes: tuple[str, ...] | None

    @property
    def labels(self) -> NDArray[np.str_] | None:
        """The answered class of each row as text, None for a regression."""
        if "label" in self.outputs:
            return np.array([str(one) for one in np.asarray(self.outputs["label"]).reshape(-1)])
        if self.classes and self.probabilities is not None:
            named: NDArray[np.str_] = np.array(self.classes)[self.probabilities.argmax(axis=1)]
            return named
        return None

    @property
    def probabilities(self) -> Floats | None:
        """Probabilities [rows, classes], None when the version gives none."""
        found = self.outputs.get("probabilities")
        if found is None or not self.classes or found.ndim != 2 or found.shape[1] != len(self.classes):
            return None
        return np.asarray(found, dtype=np.float64)

    @property
    def numbers(self) -> Floats | None:
        """The first output as numbers [rows], None when it is no single number a row."""
        first = next(iter(self.outputs.values()), None)
        if first is None or first.dtype.kind not in "fi" or first.size != len(first):
            return None
        found = np.asarray(first, dtype=np.float64).reshape(-1)
        return np.where(np.abs(found) > _TOO_LARGE, np.nan, found)


def compared(a: Given, b: Given) -> Answers | None:
    """Compare the answers of both to the same rows; None when they are of different kinds or lengths."""
    labels = a.labels, b.labels
    if labels[0] is not None and labels[1] is not None:
        return _classes(labels[0], labels[1], a, b) if labels[0].size == labels[1].size > 0 else None
    numbers = a.numbers, b.numbers
    if labels[0] is not None or labels[1] is not None or numbers[0] is None or numbers[1] is None or not numbers[0].size == numbers[1].size > 0:
        return None
    return _numbers(numbers[0], numbers[1])


def turned(answers: Answers) -> Answers:
    """Give the same comparison from the other side."""
    back = [tuple(Pair(pair.name, pair.b, pair.a) for pair in pairs) for pairs in (answers.shares, answers.numbers)]
    return msgspec.structs.replace(answers, shares=back[0], numbers=back[1])


def _classes(a: NDArray[np.str_], b: NDArray[np.str_], one: Given, other: Given) -> Answers:
    rows = int(a.size)
    names = sorted({*a.tolist(), *b.tolist()}, key=lambda name: -max(int((a == name).sum()), int((b == name).sum())))
    shares = [Pair(name, float((a == name).mean()), float((b == name).mean())) for name in names]
    gaps = _probability_gaps(one, other)
    return Answers(
        kind="classes",
        rows=rows,
        agreeing=int((a == b).sum()),
        mean_difference=None if gaps is None else float(gaps.mean()),
        largest_difference=None if gaps is None else float(gaps.max()),
        shift=_shift(shares),
        shares=_most(shares),
    )


def _most(shares: list[Pair]) -> tuple[Pair, ...]:
    """Keep the most frequent classes and put the rest together."""
    rest = shares[MOST_CLASSES:]
    together = [Pair("all others", sum(pair.a for pair in rest), sum(pair.b for pair in rest))] if rest else []
    return (*shares[:MOST_CLASSES], *together)


def _probability_gaps(one: Given, other: Given) -> Floats | None:
    """Give |p - q| [rows, classes] over the classes that both know, in one order; None without probabilities."""
    left, right = one.probabilities, other.probabilities
    if left is None or right is None or len(left) != len(right):
        return None
    both = [(place, (other.classes or ()).index(name)) for place, name in enumerate(one.classes or ()) if name in (other.classes or ())]
    if not both:
        return None
    return np.nan_to_num(np.abs(left[:, [i for i, _ in both]] - right[:, [j for _, j in both]]), nan=1.0)


def _numbers(a: Floats, b: Floats) -> Answers:
    """Rows in which either answer is not finite agree only if both are the same."""
    finite = np.isfinite(a) & np.isfinite(b)
    low, high = np.quantile(a[finite], (0.05, 0.95)) if finite.any() else (0.0, 0.0)
    gaps = np.abs(a - b, where=finite, out=np.full(a.size, np.inf))
    same = (gaps <= max(SAME_NUMBER * float(high - low), _EQUAL)) | (~finite & (np.isnan(a) & np.isnan(b) | (a == b)))
    known = gaps[finite]
    shares = _ranges(a[finite], b[finite]) if finite.any() else []
    return Answers(
        kind="numbers",
        rows=int(a.size),
        agreeing=int(same.sum()),
        mean_difference=float(known.mean()) if known.size else None,
        largest_difference=float(known.max()) if known.size else None,
        shift=_shift(shares),
        shares=tuple(shares),
        numbers=tuple(_summed(a[finite], b[finite])) if finite.any() else (),
    )


def _ranges(a: Floats, b: Floats) -> list[Pair]:
    """Give shares in ten equal ranges over both; all in one when there is a single value."""
    low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
    edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    left, right = (np.histogram(side, edges)[0] / side.size for side in (a, b))
    names = [f"{start:.4g} to {end:.4g}" for start, end in pairwise(edges)]
    return [Pair(name, float(p), float(q)) for name, p, q in zip(names, left, right, strict=True)]


def _summed(a: Floats, b: Floats) -> list[Pair]:
    wanted = {"p5": 0.05, "p50": 0.5, "p95": 0.95}
    quantiles = [Pair(name, float(np.quantile(a, at)), float(np.quantile(b, at))) for name, at in wanted.items()]
    return [Pair("mean", float(a.mean()), float(b.mean())), *quantiles]


def _shift(shares: list[Pair]) -> float:
    return sum(abs(pair.a - pair.b) for pair in shares) / 2
