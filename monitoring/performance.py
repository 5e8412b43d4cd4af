"""Performance from outcomes, as counters that add up over windows. Pure.

Classification keeps the confusion matrix and, with two classes, the outcomes of each truth in 200
bins of the positive's score; regression keeps sums. Delay is the time from prediction to outcome.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np

BINS = 200
_LEAST = 1e-15
Z99 = 2.576
Key = TypeVar("Key", str, int)


class Counters(msgspec.Struct, kw_only=True):
    """All additive. ``confusion[truth][label]``; ``positives`` and ``negatives`` by bin of the score, as bin to count."""

    n: int = 0
    delay_s: float = 0.0
    confusion: dict[str, dict[str, int]] = {}
    scored: int = 0
    log_loss: float = 0.0
    brier: float = 0.0
    positives: dict[int, int] = {}
    negatives: dict[int, int] = {}
    numbers: int = 0
    absolute: float = 0.0
    absolute_squared: float = 0.0
    truth: float = 0.0
    truth_squared: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One prediction with its outcome. A regression has ``number`` (true) and ``score`` (predicted), else labels.

    For labels ``score`` is the positive's probability when ``positive`` is given, else that of the true class, or None.
    """

    delay_s: float
    truth: str = ""
    label: str = ""
    score: float | None = None
    number: float | None = None
    positive: str | None = None


def count(answers: Iterable[Answered]) -> Counters:
    """Count outcomes; what is not finite is left out of the sums."""
    made = Counters()
    for answer in answers:
        made.n += 1
        made.delay_s += max(0.0, answer.delay_s)
        if answer.number is not None:
            _count_number(made, answer.number, answer.score)
        else:
            row = made.confusion.setdefault(answer.truth, {})
            row[answer.label] = row.get(answer.label, 0) + 1
            _count_score(made, answer)
    return made


def _count_number(made: Counters, truth: float, predicted: float | None) -> None:
    if predicted is None or not math.isfinite(predicted) or not math.isfinite(truth):
        return
    error = abs(truth - predicted)
    made.numbers += 1
    made.absolute += error
    made.absolute_squared += error * error
    made.truth += truth
    made.truth_squared += truth * truth


def _count_score(made: Counters, answer: Answered) -> None:
    if answer.score is None or not 0 <= answer.score <= 1:
        return
    right = answer.score
    if answer.positive is not None:
        is_positive = answer.truth == answer.positive
        side = made.positives if is_positive else made.negatives
        place = min(BINS - 1, int(answer.score * BINS))
        side[place] = side.get(place, 0) + 1
        right = answer.score if is_positive else 1 - answer.score
    made.scored += 1
    made.log_loss -= math.log(max(_LEAST, right))
    made.brier += (1 - right) ** 2


_SUMS = ("n", "delay_s", "scored", "log_loss", "brier", "numbers", "absolute", "absolute_squared", "truth", "truth_squared")


def total(parts: Iterable[Counters]) -> Counters:
    """Give the counters of all the parts' outcomes."""
    made = Counters()
    for part in parts:
        for name in _SUMS:
            setattr(made, name, getattr(made, name) + getattr(part, name))
        for truth, row in part.confusion.items():
            _include(made.confusion.setdefault(truth, {}), row)
        _include(made.positives, part.positives)
        _include(made.negatives, part.negatives)
    return made


def _include(into: dict[Key, int], numbers: Mapping[Key, int]) -> None:
    for key, number in numbers.items():
        into[key] = into.get(key, 0) + number


def metrics(made: Counters) -> dict[str, float | None]:
    """Give the metrics there are counts for: accuracy, log_loss, brier, auc; or mae, rmse, r2. Never NaN."""
    if made.numbers:
        return _regression(made)
    found: dict[str, float | None] = {}
    if made.confusion:
        found["accuracy"] = right_of(made) / made.n
    if made.scored:
        found["log_loss"] = made.log_loss / made.scored
        found["brier"] = made.brier / made.scored
        found["auc"] = auc(made.positives, made.negatives)
    return found


def right_of(made: Counters) -> int:
    """Count the outcomes that agree with the predicted label."""
    return sum(row.get(truth, 0) for truth, row in made.confusion.items())


def _regression(made: Counters) -> dict[str, float | None]:
    around = made.truth_squared - made.truth**2 / made.numbers
    return {
        "mae": made.absolute / made.numbers,
        "rmse": math.sqrt(made.absolute_squared / made.numbers),
        "r2": 1 - made.absolute_squared / around if around > 0 else None,
    }


def auc(positives: dict[int, int], negatives: dict[int, int]) -> float | None:
    """Give the area under the ROC curve, ties in a bin counted half (Mann-Whitney); None without both classes."""
    up, down = np.zeros(BINS), np.zeros(BINS)
    for place, number in positives.items():
        up[place] = number
    for place, number in negatives.items():
        down[place] = number
    if not up.sum() or not down.sum():
        return None
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def interval(made: Counters) -> tuple[float, float] | None:
    """Give the 99 % interval of the headline: Wilson's for accuracy, the normal one for MAE; None without counts."""
    if made.numbers:
        mean = made.absolute / made.numbers
        spread = math.sqrt(max(0.0, made.absolute_squared / made.numbers - mean * mean) / made.numbers)
        return max(0.0, mean - Z99 * spread), mean + Z99 * spread
    if not made.n:
        return None
    share, z2 = right_of(made) / made.n, Z99 * Z99
    centre = (share + z2 / (2 * made.n)) / (1 + z2 / made.n)
    half = Z99 * math.sqrt(share * (1 - share) / made.n + z2 / (4 * made.n**2)) / (1 + z2 / made.n)
    return max(0.0, centre - half), min(1.0, centre + half)


def headline(made: Counters) -> tuple[str, float | None]:
    """Give the metric that is watched and its value: ``mae`` for numbers, else ``accuracy``."""
    if made.numbers:
        return "mae", made.absolute / made.numbers
    return "accuracy", right_of(made) / made.n if made.confusion else None


def clearly_worse(made: Counters, baseline: float, *, accuracy_drop: float, error_rise: float) -> bool:
    """Tell whether even the better end of the 99 % interval is past the limit from the baseline."""
    bounds = interval(made)
    if bounds is None:
        return False
    if made.numbers:
        return bounds[0] > baseline * (1 + error_rise)
    return bounds[1] < baseline - accuracy_drop
