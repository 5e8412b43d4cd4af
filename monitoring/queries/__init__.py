"""Reads for pages and the API: frozen dataclasses, a known number of SQL queries each."""

from __future__ import annotations

from monitoring.queries.alerts import (
    ALERT_SORTS,
    alert_detail,
    alerts_page,
    endpoint_verdicts,
    false_alarms,
    open_alert_count,
    open_alerts,
)
from monitoring.queries.features import data_quality, feature_detail
from monitoring.queries.grid import Known, drift_overview, known_of, output_psi, reference_info
from monitoring.queries.results import performance_series, performance_summary

__all__ = [
    "ALERT_SORTS",
    "Known",
    "alert_detail",
    "alerts_page",
    "data_quality",
    "drift_overview",
    "endpoint_verdicts",
    "false_alarms",
    "feature_detail",
    "known_of",
    "open_alert_count",
    "open_alerts",
    "output_psi",
    "performance_series",
    "performance_summary",
    "reference_info",
]
