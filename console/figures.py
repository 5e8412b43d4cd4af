"""Key figures of an endpoint: each with its unit, its window and a comparison. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from console.templatetags.formats import MINUS, NOTHING, number
from serving.counts import Numbers
from serving.queries import TrafficSummary

_SAME = 1e-9
VERSUS = "vs 15 min before"


@dataclass(frozen=True, slots=True)
class Figure:
    """One tile. ``tone`` is ``good`` or ``bad`` only where up or down is clearly one of them."""

    label: str
    value: str
    unit: str
    points: list[float | None] = field(default_factory=list)
    delta: str = ""
    note: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class _Sort:
    label: str
    unit: str
    line: str
    read: Callable[[Numbers], float | None]
    places: int
    less_is_better: bool | None = None
    in_points: bool = False


_SORTS = (
    _Sort("Requests", "/s", "rps", lambda n: n.rps, 1),
    _Sort("p50 latency", "ms", "p50", lambda n: n.p50_ms, 2, less_is_better=True),
    _Sort("p99 latency", "ms", "p99", lambda n: n.p99_ms, 1, less_is_better=True),
    _Sort("Errors", "%", "errors", lambda n: n.errors_percent, 2, less_is_better=True, in_points=True),
    _Sort("Odd inputs", "% of rows", "flagged", lambda n: n.flagged_percent, 1, in_points=True),
    _Sort("Refused", "/min", "refused", lambda n: n.refused_per_minute, 1),
)

_CACHE = _Sort("Cache hits", "%", "cache_hits", lambda n: n.cache_hits_percent, 1, less_is_better=False, in_points=True)


def figures(summary: TrafficSummary, *, cached: bool = False) -> list[Figure]:
    """Give the tiles: the last minute against the 15 minutes before it; the cache's only where there is one."""
    return [_figure(sort, summary) for sort in (*_SORTS, _CACHE)[: None if cached else -1]]


def _figure(sort: _Sort, summary: TrafficSummary) -> Figure:
    now, before = sort.read(summary.now), sort.read(summary.before)
    points = summary.points.get(sort.line, [])
    if now is None:
        return Figure(sort.label, NOTHING, "", points, note="none in last minute")
    delta, tone = _delta(sort, now, before)
    return Figure(sort.label, number(now, 0 if now >= 100 else sort.places), sort.unit, points, delta, VERSUS if delta else "last minute", tone)


def _delta(sort: _Sort, now: float, before: float | None) -> tuple[str, str]:
    """The change in points or in percent, and whether it is good or bad; changes below a tenth have no tone."""
    if before is None or (not before and not sort.in_points):
        return "", ""
    change = now - before
    text = f"{_signed(change, 2)} pt" if sort.in_points else _relative(now / before)
    large = abs(change) > (0.1 if sort.in_points else 0.1 * before) + _SAME
    if sort.less_is_better is None or not large:
        return text, ""
    return text, "good" if (change < 0) == sort.less_is_better else "bad"


def _relative(times: float) -> str:
    """Write a change in percent; from three times on in times, which reads easier than +741 %."""
    return f"{times:,.{0 if times >= 10 else 1}f} times" if times >= 3 else f"{_signed(100 * (times - 1), 0)} %"


def _signed(value: float, places: int) -> str:
    text = f"{abs(value):,.{places}f}"
    return text if not float(text.replace(",", "")) else f"{'+' if value > 0 else MINUS}{text}"
