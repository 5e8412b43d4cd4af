"""Reads for pages and the API: frozen dataclasses, a known number of SQL queries each."""

from __future__ import annotations

from monitoring.queries.alerts import alert_detail, alerts_page, endpoint_verdict, endpoint_verdicts, open_alert_count
from monitoring.queries.features import data_quality, feature_detail
from monitoring.queries.grid import drift_overview
from monitoring.queries.results import performance_series, performance_summary

__all__ = [
    "alert_detail",
    "alerts_page",
    "data_quality",
    "drift_overview",
    "endpoint_verdict",
    "endpoint_verdicts",
    "feature_detail",
    "open_alert_count",
    "performance_series",
    "performance_summary",
]
