"""Latency histograms: fixed buckets that add up over processes and windows, and their quantiles. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

# Upper edges in microseconds, a factor of 10^(1/10) apart (26 % steps) from 10 us to 100 s.
EDGES_US: tuple[int, ...] = tuple(round(10 ** (1 + step / 10)) for step in range(71))
BUCKETS = len(EDGES_US) + 1


def bucket_of(latency_us: float) -> int:
    """Give the bucket, 0 to BUCKETS - 1, of a latency in microseconds."""
    return bisect_left(EDGES_US, latency_us)


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """Give the latency in ms under which ``share`` (0 to 1) of the counted requests lie, None without any.

    Linear within a bucket, so the error is at most the bucket's width, 26 %; the last, open bucket
    answers its lower edge.
    """
    total = sum(counts)
    if total == 0:
        return None
    wanted = share * total
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= wanted:
            low = EDGES_US[index - 1] if index else 0
            high = EDGES_US[index] if index < len(EDGES_US) else low
            return (low + (high - low) * max(0.0, wanted - below) / count) / 1000
        below += count
    return EDGES_US[-1] / 1000


def add(into: list[int], counts: Sequence[int]) -> None:
    """Add a histogram to ``into``, bucket by bucket."""
    for index, count in enumerate(counts):
        into[index] += count
