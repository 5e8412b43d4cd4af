"""Addresses of the registry API, under ``/api/v1/``."""

from __future__ import annotations

from django.urls import path

from registry.api import views

_MODEL = "models/<str:name>/"
_VERSION = "models/<str:name>/versions/<int:number>/"

urlpatterns = [
    path("models/", views.ModelsView.as_view(), name="api-models"),
    path(_MODEL, views.ModelView.as_view(), name="api-model"),
    path(f"{_MODEL}archive/", views.ModelArchiveView.as_view(), name="api-model-archive"),
    path(f"{_MODEL}restore/", views.ModelArchiveView.as_view(archived=False), name="api-model-restore"),
    path(f"{_MODEL}aliases/", views.AliasesView.as_view(), name="api-aliases"),
    path(f"{_MODEL}aliases/<str:alias>/", views.AliasView.as_view(), name="api-alias"),
    path(f"{_MODEL}compare/", views.CompareView.as_view(), name="api-compare"),
    path(f"{_MODEL}versions/", views.VersionsView.as_view(), name="api-versions"),
    path(_VERSION, views.VersionView.as_view(), name="api-version"),
    path(f"{_VERSION}archive/", views.VersionArchiveView.as_view(), name="api-version-archive"),
    path(f"{_VERSION}restore/", views.VersionArchiveView.as_view(archived=False), name="api-version-restore"),
    path(f"{_VERSION}recheck/", views.RecheckView.as_view(), name="api-version-recheck"),
    path(f"{_VERSION}download/", views.DownloadView.as_view(), name="api-version-download"),
]
