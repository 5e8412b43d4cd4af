"""The values that pages and the API get: frozen, without a query hidden in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class ReferenceInfo:
    """``source`` is ``training`` or ``traffic``."""

    source: str
    rows: int
    created_at: datetime
    text: str
    """``42,180 training rows`` or ``42,180 rows of traffic, 2026-11-01 to 2026-11-08``."""


@dataclass(frozen=True, slots=True)
class DriftCell:
    """One feature in one window. ``psi`` is None without enough rows."""

    start_at: datetime
    n: int
    psi: float | None
    verdict: str
    text: str
    """``PSI 0.31, 4,812 rows`` or ``214 of 500 rows``."""


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One feature. ``key`` is ``in.age``, ``feature`` is ``age``; ``importance`` a share from 0 to 1, None for outputs."""

    key: str
    feature: str
    role: str
    kind: str
    importance: float | None
    n: int
    psi: float | None
    ks: float | None
    statistic: float | None
    threshold: float | None
    limit: float | None
    """The PSI at which this window would alarm: ``threshold`` is of the statistic, not of the PSI."""
    calibrated: bool
    verdict: str
    text: str
    muted: bool
    cells: tuple[DriftCell | None, ...] = ()
    """One per hour of the grid; None where nothing was logged."""

    @property
    def is_output(self) -> bool:
        return self.role == "output"


@dataclass(frozen=True, slots=True)
class DriftGrid:
    """The heat map of one version at an endpoint, worst first, and the verdict of now."""

    endpoint: str
    model: str
    version: int | None
    versions: tuple[int, ...]
    hours: tuple[datetime, ...]
    """Where the windows of the cells begin; ``step_s`` is their length."""
    step_s: int
    rows: tuple[DriftRow, ...]
    verdict: str
    text: str
    """The verdict as a sentence."""
    window_at: datetime | None
    window_level: int | None
    window_n: int
    needed_n: int
    reference: ReferenceInfo | None
    calibrated: bool
    promise: str
    importance_text: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares (0 to 1) of the non-missing values per bin, reference and current, with a label per bin."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """PSI per window in event order; None without enough rows. ``limit`` is the PSI at which the window would alarm."""

    step_s: int
    t: tuple[datetime, ...]
    psi: tuple[float | None, ...]
    limit: tuple[float | None, ...]
    n: tuple[int, ...]
    missing: tuple[float | None, ...]
    quantiles: dict[str, tuple[float | None, ...]]
    """``p5``, ``p25``, ``p50``, ``p75``, ``p95`` per window; empty for categories."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number of the reference beside the current one."""

    name: str
    reference: float | None
    current: float | None


@dataclass(frozen=True, slots=True)
class FeatureDetail:
    """One feature's page. ``current_text`` names the window that is compared."""

    endpoint: str
    model: str
    version: int
    row: DriftRow
    reference: ReferenceInfo
    current_text: str
    window_at: datetime | None
    window_level: int
    histogram: Histogram
    trend: Trend
    shares: tuple[Comparison, ...]
    """``missing``, ``below the range``, ``above the range``, ``unseen``, ``infinite``: 0 to 1."""
    quantiles: tuple[Comparison, ...]
    """``minimum``, ``p5``, ... ``maximum``, ``mean``; empty for categories."""
    categories: tuple[Comparison, ...]
    """The most frequent categories with their shares; empty for numbers."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A change of what answers, for a vertical line."""

    at: datetime
    text: str
    actor: str


@dataclass(frozen=True, slots=True)
class PerformanceLine:
    """One version. ``value`` is in the units of the metric, None without outcomes; ``mature`` says solid or hollow."""

    version: int
    value: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    mature: tuple[bool, ...]
    n: tuple[int, ...]
    coverage: tuple[float | None, ...]
    baseline: float | None


@dataclass(frozen=True, slots=True)
class PerformanceSeries:
    """``metric`` is ``accuracy`` (share, 0 to 1) or ``mae`` (units of the target)."""

    endpoint: str
    metric: str
    t: tuple[datetime, ...]
    step_s: int
    lines: tuple[PerformanceLine, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class PerformanceSummary:
    """One version over the asked hours. ``metrics`` maps a name to a number or None."""

    endpoint: str
    model: str
    version: int
    task: str
    metric: str
    value: float | None
    n: int
    predictions: int
    coverage: float | None
    delay_s: float | None
    baseline: float | None
    baseline_text: str
    mature: bool
    text: str
    metrics: dict[str, float | None]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: the true class; columns: the predicted one."""


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Shares (0 to 1) of the rows of the window, and of the reference for ``missing``."""

    key: str
    feature: str
    n: int
    missing: float
    reference_missing: float
    infinite: float
    below: float
    above: float
    unseen: float


@dataclass(frozen=True, slots=True)
class DataQuality:
    endpoint: str
    version: int | None
    hours: int
    n: int
    rows: tuple[QualityRow, ...]


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert. ``first_at`` to ``first_end_at`` is the first window in which something crossed its limit, ``last_at`` to ``last_end_at`` the newest.

    In an hour or a day in which the version came, ``first_at`` is when it first had traffic. The ends are null where an alert is of a moment and not of
    a window (``crash``). ``deleted``: the endpoint is, and ``endpoint`` is the name under which its log is kept.
    """

    number: int
    endpoint: str
    deleted: bool
    model: str
    version: int
    cause: str
    state: str
    severity: str
    title: str
    first_at: datetime
    first_end_at: datetime | None
    last_at: datetime
    last_end_at: datetime | None
    acknowledged_by: str
    resolved_by: str
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """``counts`` maps each state to the number of alerts under the same endpoint filter."""

    results: tuple[AlertRow, ...]
    next: str | None
    counts: dict[str, int]
    quiet_since: datetime | None
    """When the last alert was resolved, if none is open."""


@dataclass(frozen=True, slots=True)
class AlertItem:
    """One thing that crossed its limit: a feature with its PSI, or a metric with its value."""

    name: str
    key: str
    measure: str
    value: float | None
    limit: float | None
    severity: str
    importance: float | None = None


@dataclass(frozen=True, slots=True)
class NoteRow:
    at: datetime
    author: str
    verb: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change shortly before the alert, from the ledger, newest first."""

    at: datetime
    revision: int
    verb: str
    summary: str
    actor: str
    before_s: int
    """Seconds from the change to the first window of the alert."""


@dataclass(frozen=True, slots=True)
class AlertChart:
    """The worst items around the moment. ``lines`` maps a name to one number (or None) per ``t``."""

    t: tuple[datetime, ...]
    lines: dict[str, tuple[float | None, ...]]
    limit: float | None
    unit: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class AlertDetail:
    alert: AlertRow
    revision: int
    resolution: str
    false_alarm: bool
    items: tuple[AlertItem, ...]
    chart: AlertChart
    changes: tuple[Change, ...]
    suggestion: str
    notes: tuple[NoteRow, ...]
    raw: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndpointVerdict:
    """``text`` is short enough for a list: ``stable``, ``severe: monthly_charges +2``."""

    endpoint: str
    verdict: str
    text: str
    at: datetime | None
    open_alerts: int
