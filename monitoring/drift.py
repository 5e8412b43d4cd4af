"""Is this window different from the reference, by more than chance and by enough to matter? Pure.

PSI = sum (p - q) ln(p / q) over the bins, each count plus one half (Jeffreys), so that an empty bin
has an answer. Without drift T = PSI / (1/n + 1/m) is chi-squared with B - 1 degrees of freedom
(Yurdakul 2018, "Statistical properties of the population stability index"), so the sizes n and m
are built in. Windows of real traffic jitter more than chance: a gamma fitted to healthy windows
replaces the chi-squared where it is wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, chdtri, gammaincc, gammainccinv  # scipy.stats takes a second to import

Counts = NDArray[np.int64]
HALF = 0.5
REFERENCE_WINDOWS = 10
IMPORTANT = 0.2
SEVERE_WHEN_IMPORTANT = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """When a shift counts. ``alpha`` is already divided by the number of features."""

    alpha: float
    minimum_psi: float = 0.02
    minimum_distance: float = 0.05
    severe_psi: float = 0.25
    minimum_rows: int = 500


@dataclass(frozen=True, slots=True)
class Shift:
    """One feature in one window. All numbers are finite; ``verdict`` is stable, watch, severe or too_few."""

    n: int
    psi: float
    distance: float
    statistic: float
    threshold: float
    p: float
    calibrated: bool
    verdict: str


def psi(reference: Counts, current: Counts) -> float:
    """Give the population stability index of two counts [b], at least 0; 0 when either side is empty.

    Bins that are empty on both sides are left out. 0.1 is by custom a small shift, 0.25 a large one.
    """
    used = (reference + current) > 0
    if not reference.sum() or not current.sum():
        return 0.0
    p = (reference[used] + HALF) / (reference[used] + HALF).sum()
    q = (current[used] + HALF) / (current[used] + HALF).sum()
    return float(((p - q) * np.log(p / q)).sum())


def statistic(reference: Counts, current: Counts) -> float:
    """Give T = PSI / (1/n + 1/m); 0 when either side is empty."""
    m, n = int(reference.sum()), int(current.sum())
    return psi(reference, current) / (1 / n + 1 / m) if n and m else 0.0


def freedom(reference: Counts, current: Counts) -> int:
    """Give B - 1, B the number of bins with a count on either side; at least 1."""
    return max(1, int(((reference + current) > 0).sum()) - 1)


def total_variation(reference: Counts, current: Counts) -> float:
    """Give half the sum of |p - q|, 0 to 1: the share of rows that would have to move. 0 when either side is empty."""
    if not reference.sum() or not current.sum():
        return 0.0
    return float(np.abs(reference / reference.sum() - current / current.sum()).sum() / 2)


def fit_gamma(values: Sequence[float]) -> tuple[float, float] | None:
    """Fit (shape, scale) by moments to leave-one-out T of healthy windows; None with fewer than 10 or no spread."""
    found = np.asarray(values, dtype=np.float64)
    if found.size < REFERENCE_WINDOWS:
        return None
    mean, variance = float(found.mean()), float(found.var(ddof=1))
    if mean <= 0 or variance <= 0:
        return None
    return mean * mean / variance, variance / mean


def leave_one_out(windows: Sequence[Counts]) -> list[float]:
    """Give T of each window against all the others together."""
    total = np.sum(windows, axis=0)
    return [statistic(total - window, window) for window in windows]


def threshold(degrees: int, alpha: float, fitted: tuple[float, float] | None = None) -> float:
    """Give the T that is passed with chance ``alpha`` without drift: the chi-squared's, or the gamma's where that is larger."""
    chance = float(chdtri(degrees, alpha))
    if fitted is None:
        return chance
    wider = fitted[1] * float(gammainccinv(fitted[0], alpha))
    return max(chance, wider) if np.isfinite(wider) else chance


def p_value(found: float, degrees: int, fitted: tuple[float, float] | None = None) -> float:
    """Give the chance of a T at least as large without drift, 0 to 1."""
    chance = float(chdtrc(degrees, found))
    return chance if fitted is None else max(chance, float(gammaincc(fitted[0], found / fitted[1])))


def judge(
    reference: Counts, current: Counts, *, ks: float | None, limits: Limits, importance: float | None = None, fitted: tuple[float, float] | None = None
) -> Shift:
    """Judge one feature. ``ks`` is the distance of the numbers; None for categories, whose total variation is used.

    A change in the share of missing values counts as a distance too. The last count is missing.
    """
    n = int(current.sum())
    effect, found, degrees = psi(reference, current), statistic(reference, current), freedom(reference, current)
    distance = total_variation(reference, current) if ks is None else max(ks, _missing_change(reference, current))
    limit = threshold(degrees, limits.alpha, fitted)
    passed = found > limit and effect >= limits.minimum_psi and distance >= limits.minimum_distance
    verdict = severity(effect, limits, importance) if passed else "stable"
    if n < limits.minimum_rows or not reference.sum():
        verdict = "too_few"
    return Shift(n, effect, distance, found, limit, p_value(found, degrees, fitted), fitted is not None, verdict)


def _missing_change(reference: Counts, current: Counts) -> float:
    if not reference.sum() or not current.sum():
        return 0.0
    return abs(float(reference[-1] / reference.sum() - current[-1] / current.sum()))


def severity(effect: float, limits: Limits, importance: float | None) -> str:
    """Say ``severe`` or ``watch`` from the size of the shift, and sooner for a feature that matters; never from p."""
    limit = min(limits.severe_psi, SEVERE_WHEN_IMPORTANT) if importance is not None and importance >= IMPORTANT else limits.severe_psi
    return "severe" if effect >= limit else "watch"


def psi_limit(limit: float, n: int, m: int, minimum_psi: float) -> float:
    """Give the PSI at which a window of ``n`` rows alarms against ``m``, for drawing."""
    return max(minimum_psi, limit * (1 / n + 1 / m)) if n and m else minimum_psi


def confirmed(verdicts: Sequence[str], in_a_row: int) -> bool:
    """Tell whether the newest ``in_a_row`` windows (newest first) all drifted."""
    newest = verdicts[:in_a_row]
    return len(newest) == in_a_row and all(verdict in ("watch", "severe") for verdict in newest)


def calm(verdicts: Sequence[str], in_a_row: int) -> bool:
    """Tell whether the newest ``in_a_row`` windows (newest first) were all stable."""
    newest = verdicts[:in_a_row]
    return len(newest) == in_a_row and all(verdict == "stable" for verdict in newest)


def false_alarms_per_year(alpha: float, in_a_row: int, windows_per_day: float) -> float:
    """Give the expected false alarms a year if windows were independent: alpha^k per window. An upper bound: the effect limits come on top."""
    return float(alpha**in_a_row * windows_per_day * 365)
