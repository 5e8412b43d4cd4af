"""Reads of traffic: columns for charts, numbers for tiles and lists, all from the windows that the data plane writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q

from core.clock import now
from core.errors import Invalid, NotFound
from serving.counts import Counts, Numbers, total
from serving.models import LedgerEntry, Slot, TrafficWindow

TEN_S, FIVE_MIN_S = 10, 300
WINDOWS: dict[str, tuple[int, int]] = {"15m": (900, TEN_S), "1h": (3600, TEN_S), "6h": (21_600, FIVE_MIN_S), "24h": (86_400, FIVE_MIN_S)}
# How long after its end a window counts as complete: processes write every second, the roll-up runs every minute.
_GRACE_S = {TEN_S: 3, FIVE_MIN_S: 90}
NOW_S = 60
COMPARED_S = 900
_POINTS = 48
_MOST_MARKS = 50
_FIELDS = ("requests", "rows", "refused", "errors", "flagged", "cache_hits", "latency")


@dataclass(frozen=True, slots=True)
class TrafficSeries:
    """Columns for charts: ``t`` are the beginnings of the windows in seconds since 1970, ``step`` their length.

    Lines are ``<slot>.rps``, ``.p50``, ``.p95``, ``.p99`` (ms) and ``.errors`` (percent), and ``refused``
    (per minute, of the whole endpoint); None where nothing was asked. ``marks`` are all changes of the
    window up to now, {t, text}, also when only new points were asked for.
    """

    t: list[int]
    lines: dict[str, list[float | None]]
    marks: list[dict[str, Any]]
    step: int


@dataclass(frozen=True, slots=True)
class TrafficSummary:
    """The last minute against the 15 minutes before it, of the endpoint and of each slot; ``points`` are sparklines.

    ``points`` has the lines rps, p50, p99, errors, cache_hits, refused, flagged, one value per 10 s, oldest first.
    """

    now: Numbers
    before: Numbers
    slots: dict[str, Numbers]
    points: dict[str, list[float | None]]

    def share_of(self, slot: str) -> float | None:
        """Give the slot's actual share of the last minute's requests in percent, None without any."""
        here = self.slots.get(slot)
        return 100 * here.requests / self.now.requests if here and self.now.requests else None


def traffic_series(endpoint: str, window: str = "15m", since: float | None = None) -> TrafficSeries:
    """Give the columns of ``window`` (15m, 1h, 6h, 24h), only points after ``since`` if given. Three queries.

    Raises Invalid for another window, NotFound for no such endpoint.
    """
    if window not in WINDOWS:
        raise Invalid(f"The window {window!r} is unknown: choose {', '.join(WINDOWS)}.", field="window")
    seconds, step = WINDOWS[window]
    moment = now()
    end = int(moment.timestamp() - _GRACE_S[step]) // step * step
    first = begin = end - seconds
    if since is not None:
        begin = max(begin, (int(since) // step + 1) * step)
    times = list(range(begin, end, step))
    names = list(Slot.objects.filter(endpoint__name=endpoint).values_list("name", flat=True))
    if not names:
        raise NotFound(f"There is no endpoint {endpoint}. The list of endpoints has those that exist.")
    cells = _cells(_rows([endpoint], step, _at(begin), _at(end)))
    names += sorted({slot for _, slot in cells} - {"", *names})
    return TrafficSeries(t=times, lines=_lines(cells, names, times, step), marks=_marks(endpoint, _at(first), moment), step=step)


def traffic_summary(endpoint: str) -> TrafficSummary:
    """Give the numbers of tiles and slot cards, as new as the last second. One query."""
    moment = now().timestamp()
    first_now = int(moment) // TEN_S * TEN_S - NOW_S + TEN_S
    first = first_now - COMPARED_S
    rows = list(_rows([endpoint], TEN_S, _at(first), _at(moment + TEN_S)))
    every = _cells(rows)
    cells = _cells(row for row in rows if not row["shadow"])
    recent = {key: counts for key, counts in cells.items() if key[0] >= first_now}
    elapsed = moment - first_now
    of_slots = {key: counts for key, counts in every.items() if key[0] >= first_now}
    slots = sorted({slot for _, slot in of_slots} - {""})
    return TrafficSummary(
        now=total(list(recent.values())).numbers(elapsed),
        before=total([counts for key, counts in cells.items() if key[0] < first_now]).numbers(COMPARED_S),
        slots={name: total([counts for key, counts in of_slots.items() if key[1] == name]).numbers(elapsed) for name in slots},
        points=_points(cells, first_now + NOW_S - TEN_S),
    )


def traffic_now(endpoints: Collection[str]) -> dict[str, Numbers]:
    """Give the last minute's numbers of every named endpoint. One query."""
    moment = now().timestamp()
    first = int(moment) // TEN_S * TEN_S - NOW_S + TEN_S
    sums = {name: Counts() for name in endpoints}
    for row in _rows(endpoints, TEN_S, _at(first), _at(moment + TEN_S)):
        if not row["shadow"]:
            sums[row["endpoint"]].add(_counts(row))
    return {name: counts.numbers(moment - first) for name, counts in sums.items()}


def slots_since(endpoint: str, since: datetime) -> dict[tuple[str, int], Numbers]:
    """Give the numbers of each (slot, version) since a moment, at most 24 h ago, to 5 minutes. One query."""
    moment = now()
    since = max(since, moment - timedelta(hours=24))
    # Rolled-up windows up to the last that surely is rolled up, ten-second ones after it.
    seam = _at((int(moment.timestamp()) - _GRACE_S[FIVE_MIN_S]) // FIVE_MIN_S * FIVE_MIN_S)
    level = Q(level=FIVE_MIN_S, start_at__lt=seam) | Q(level=TEN_S, start_at__gte=seam)
    rows = TrafficWindow.objects.filter(level, endpoint=endpoint, start_at__gte=since).exclude(slot="")
    sums: dict[tuple[str, int], Counts] = {}
    for row in rows.values("slot", "version", *_FIELDS):
        sums.setdefault((row["slot"], row["version"]), Counts()).add(_counts(row))
    seconds = max(1.0, (moment - since).total_seconds())
    return {key: counts.numbers(seconds) for key, counts in sums.items()}


def _rows(endpoints: Collection[str], level: int, begin: datetime, end: datetime) -> Iterable[dict[str, Any]]:
    """Read windows. ``shadow``: the slot only gets copies, which are none of the endpoint's own requests."""
    shadow = Slot.objects.filter(endpoint__name=OuterRef("endpoint"), name=OuterRef("slot"), shadow=True)
    windows = TrafficWindow.objects.filter(endpoint__in=endpoints, level=level, start_at__gte=begin, start_at__lt=end)
    rows: Iterable[dict[str, Any]] = windows.annotate(shadow=Exists(shadow)).values("endpoint", "start_at", "slot", "shadow", *_FIELDS)
    return rows


def _counts(row: dict[str, Any]) -> Counts:
    """What was refused before a slot was chosen counts as refused, or as an error, but its time is nobody's latency."""
    if not row["slot"]:
        return Counts(requests=row["errors"], refused=row["refused"], errors=row["errors"])
    return Counts(**{name: row[name] for name in _FIELDS})


def _cells(rows: Iterable[dict[str, Any]]) -> dict[tuple[int, str], Counts]:
    """Add up the processes: (beginning of the window, slot) to counts."""
    cells: dict[tuple[int, str], Counts] = {}
    for row in rows:
        key = (int(row["start_at"].timestamp()), row["slot"])
        if key in cells:
            cells[key].add(_counts(row))
        else:
            cells[key] = _counts(row)
    return cells


def _lines(cells: dict[tuple[int, str], Counts], names: list[str], times: list[int], step: int) -> dict[str, list[float | None]]:
    lines: dict[str, list[float | None]] = {}
    nothing = Counts().numbers(step)
    for name in names:
        values = [cells[at, name].numbers(step) if (at, name) in cells else nothing for at in times]
        lines[f"{name}.rps"] = [_rounded(value.rps) for value in values]
        lines[f"{name}.p50"] = [_rounded(value.p50_ms) for value in values]
        lines[f"{name}.p95"] = [_rounded(value.p95_ms) for value in values]
        lines[f"{name}.p99"] = [_rounded(value.p99_ms) for value in values]
        lines[f"{name}.errors"] = [_rounded(value.errors_percent) for value in values]
    refused = [sum(cells[at, name].refused for name in [*names, ""] if (at, name) in cells) for at in times]
    lines["refused"] = [_rounded(count * 60 / step) for count in refused]
    return lines


def _points(cells: dict[tuple[int, str], Counts], last: int) -> dict[str, list[float | None]]:
    """Sparklines over the closed windows before ``last``."""
    times = range(last - _POINTS * TEN_S, last, TEN_S)
    by_time: dict[int, list[Counts]] = {}
    for (at, _), counts in cells.items():
        by_time.setdefault(at, []).append(counts)
    values = [total(by_time.get(at, [])).numbers(TEN_S) for at in times]
    return {
        "rps": [_rounded(value.rps) for value in values],
        "p50": [_rounded(value.p50_ms) for value in values],
        "p99": [_rounded(value.p99_ms) for value in values],
        "errors": [_rounded(value.errors_percent) for value in values],
        "cache_hits": [_rounded(value.cache_hits_percent) for value in values],
        "refused": [_rounded(value.refused_per_minute) for value in values],
        "flagged": [_rounded(value.flagged_percent) for value in values],
    }


def _marks(endpoint: str, begin: datetime, end: datetime) -> list[dict[str, Any]]:
    moved = LedgerEntry.objects.filter(endpoint__name=endpoint, at__gte=begin, at__lte=end).exclude(verb__in=["create", "edit"])
    rows = moved.order_by("-at").values_list("at", "summary")[:_MOST_MARKS]
    return [{"t": round(at.timestamp(), 3), "text": summary} for at, summary in reversed(rows)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
