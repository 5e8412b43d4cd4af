"""All addresses of the console: the REST API first, then the pages."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("config.api_urls")),
    path("", include("console.urls")),
]
