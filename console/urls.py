"""Addresses of all pages; those of models, monitoring, alerts and administration are in ``console.pages_urls``."""

from __future__ import annotations

from django.urls import path

from console import change_traffic, endpoint, endpoint_settings, endpoints, gallery, ledger, overview, pages_urls, predictions, search, try_it

urlpatterns = [
    path("", overview.view, name="overview"),
    path("overview/board/", overview.board, name="overview-board"),
    path("search/", search.view, name="search"),
    path("ui/", gallery.view, name="gallery"),
    path("endpoints/", endpoints.view, name="endpoints"),
    path("endpoints/new/", endpoints.create, name="endpoint-create"),
    path("endpoints/<slug:name>/", endpoint.view, name="endpoint"),
    path("endpoints/<slug:name>/pulse/", endpoint.pulse, name="endpoint-pulse"),
    path("endpoints/<slug:name>/traffic/", endpoint.traffic, name="endpoint-traffic"),
    path("endpoints/<slug:name>/side/", endpoint.side, name="endpoint-side"),
    path("endpoints/<slug:name>/series.json", endpoint.series, name="endpoint-series"),
    path("endpoints/<slug:name>/split/", change_traffic.split, name="endpoint-split"),
    path("endpoints/<slug:name>/promote/", change_traffic.promote, name="endpoint-promote"),
    path("endpoints/<slug:name>/roll-back/", change_traffic.roll_back, name="endpoint-roll-back"),
    path("endpoints/<slug:name>/deploy/", change_traffic.deploy, name="endpoint-deploy"),
    path("endpoints/<slug:name>/slots/<slug:slot>/empty/", change_traffic.empty_slot, name="endpoint-empty-slot"),
    path("endpoints/<slug:name>/unload/", change_traffic.unload, name="endpoint-unload"),
    path("endpoints/<slug:name>/load/", change_traffic.load, name="endpoint-load"),
    path("endpoints/<slug:name>/settings/", endpoint_settings.view, name="endpoint-settings"),
    path("endpoints/<slug:name>/delete/", endpoint_settings.delete, name="endpoint-delete"),
    path("endpoints/<slug:name>/ledger/", ledger.view, name="endpoint-ledger"),
    path("endpoints/<slug:name>/try/", try_it.view, name="endpoint-try"),
    path("endpoints/<slug:name>/predictions/", predictions.view, name="predictions"),
    path("endpoints/<slug:name>/predictions/export.csv", predictions.export, {"form": "csv"}, name="predictions-export"),
    path("endpoints/<slug:name>/predictions/export.parquet", predictions.export, {"form": "parquet"}, name="predictions-export-parquet"),
    path("endpoints/<slug:name>/predictions/<uuid:identifier>/", predictions.one, name="prediction"),
    *pages_urls.urlpatterns,
]
