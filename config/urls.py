"""All addresses of the console: the REST API first, then the pages."""

from __future__ import annotations

from django.urls import include, path

from access.api.document import DocumentView
from access.api.page import page
from console import metrics

urlpatterns = [
    path("api/", page, name="api"),
    path("api/schema/", DocumentView.as_view(), name="api-schema"),
    path("api/v1/", include("config.api_urls")),
    path("metrics", metrics.view, name="metrics"),
    path("", include("console.urls")),
]
handler400 = "console.errors.bad_request"
handler403 = "console.errors.forbidden"
handler404 = "console.errors.not_found"
handler500 = "console.errors.server_error"
