"""The REST API under ``/api/v1/``: the addresses of each app, in one list."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("access.api.urls")),
    path("", include("registry.api.urls")),
    path("", include("serving.api.urls")),
    path("", include("monitoring.api.urls")),
]
