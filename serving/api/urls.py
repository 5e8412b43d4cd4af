"""Addresses of the serving API, under ``/api/v1/``."""

from __future__ import annotations

from django.urls import path

from serving.api import reads, verbs

urlpatterns = [
    path("endpoints/", verbs.EndpointsView.as_view(), name="api-endpoints"),
    path("endpoints/<str:name>/", verbs.EndpointView.as_view(), name="api-endpoint"),
    path("endpoints/<str:name>/deploy/", verbs.DeployView.as_view(), name="api-endpoint-deploy"),
    path("endpoints/<str:name>/empty-slot/", verbs.EmptySlotView.as_view(), name="api-endpoint-empty-slot"),
    path("endpoints/<str:name>/split/", verbs.SplitView.as_view(), name="api-endpoint-split"),
    path("endpoints/<str:name>/promote/", verbs.PromoteView.as_view(), name="api-endpoint-promote"),
    path("endpoints/<str:name>/roll-back/", verbs.RollBackView.as_view(), name="api-endpoint-roll-back"),
    path("endpoints/<str:name>/load/", verbs.LoadView.as_view(), name="api-endpoint-load"),
    path("endpoints/<str:name>/unload/", verbs.UnloadView.as_view(), name="api-endpoint-unload"),
    path("endpoints/<str:name>/ledger/", reads.LedgerView.as_view(), name="api-endpoint-ledger"),
    path("endpoints/<str:name>/traffic/", reads.TrafficView.as_view(), name="api-endpoint-traffic"),
    path("endpoints/<str:name>/validation/", reads.ValidationView.as_view(), name="api-endpoint-validation"),
    path("endpoints/<str:name>/predictions/", reads.PredictionsView.as_view(), name="api-endpoint-predictions"),
    path("endpoints/<str:name>/predictions/export/", reads.PredictionsExportView.as_view(), name="api-endpoint-predictions-export"),
    path("endpoints/<str:name>/predictions/<uuid:prediction_id>/", reads.PredictionView.as_view(), name="api-endpoint-prediction"),
    path("keys/<str:key_id>/usage/", reads.KeyUsageView.as_view(), name="api-key-usage"),
    path("system/", reads.SystemView.as_view(), name="api-system"),
]
