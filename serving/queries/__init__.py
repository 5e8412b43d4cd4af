"""Reads of serving for pages and the REST API: endpoints and their ledger, traffic, validation, the prediction log, processes."""

from serving.queries.endpoints import (
    ENDPOINT_SORTS,
    EndpointDetail,
    EndpointRow,
    LedgerRow,
    SlotDetail,
    endpoint_detail,
    endpoints_page,
    endpoints_with_version,
    ledger_page,
    roll_back_target,
    state_at,
)
from serving.queries.key_usage import KeyUse, usage_of, usage_of_each
from serving.queries.predictions import Prediction, PredictionDetail, PredictionFilters, PredictionsPage, prediction, predictions_page
from serving.queries.system import ProcessState, SystemState, processes, system_state
from serving.queries.traffic import TrafficSeries, TrafficSummary, slots_since, traffic_now, traffic_series, traffic_summary
from serving.queries.validation import FeatureActions, ValidationActions, validation_actions

__all__ = [
    "ENDPOINT_SORTS",
    "EndpointDetail",
    "EndpointRow",
    "FeatureActions",
    "KeyUse",
    "LedgerRow",
    "Prediction",
    "PredictionDetail",
    "PredictionFilters",
    "PredictionsPage",
    "ProcessState",
    "SlotDetail",
    "SystemState",
    "TrafficSeries",
    "TrafficSummary",
    "ValidationActions",
    "endpoint_detail",
    "endpoints_page",
    "endpoints_with_version",
    "ledger_page",
    "prediction",
    "predictions_page",
    "processes",
    "roll_back_target",
    "slots_since",
    "state_at",
    "system_state",
    "traffic_now",
    "traffic_series",
    "traffic_summary",
    "usage_of",
    "usage_of_each",
    "validation_actions",
]
