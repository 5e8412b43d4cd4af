"""Sums of traffic windows, and the numbers that people read from them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.latency import BUCKETS, add, quantile_ms


@dataclass(frozen=True, slots=True)
class Numbers:
    """What happened in ``seconds`` of traffic. Shares in percent, None where nothing was asked; latencies in ms."""

    seconds: float
    requests: int
    rows: int
    rps: float
    refused_per_minute: float
    errors_percent: float | None
    cache_hits_percent: float | None
    flagged_percent: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(slots=True)
class Counts:
    """A sum of windows. ``requests`` counts answers and our errors, not what was refused; ``latency`` is a histogram."""

    requests: int = 0
    rows: int = 0
    refused: int = 0
    errors: int = 0
    flagged: int = 0
    cache_hits: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, other: Counts) -> None:
        """Add ``other``, number by number and bucket by bucket."""
        self.requests += other.requests
        self.rows += other.rows
        self.refused += other.refused
        self.errors += other.errors
        self.flagged += other.flagged
        self.cache_hits += other.cache_hits
        add(self.latency, other.latency)

    def numbers(self, seconds: float) -> Numbers:
        """Give the rates and shares over ``seconds``, which must be positive."""
        return Numbers(
            seconds=seconds,
            requests=self.requests,
            rows=self.rows,
            rps=self.requests / seconds,
            refused_per_minute=self.refused * 60 / seconds,
            errors_percent=_percent(self.errors, self.requests),
            cache_hits_percent=_percent(self.cache_hits, self.requests),
            flagged_percent=_percent(self.flagged, self.rows),
            p50_ms=quantile_ms(self.latency, 0.50),
            p95_ms=quantile_ms(self.latency, 0.95),
            p99_ms=quantile_ms(self.latency, 0.99),
        )


def total(parts: Sequence[Counts]) -> Counts:
    """Add up ``parts``."""
    result = Counts()
    for part in parts:
        result.add(part)
    return result


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
