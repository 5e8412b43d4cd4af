"""Addresses of all pages; those of models, monitoring, alerts and administration are in ``console.pages_urls``."""

from __future__ import annotations

from django.urls import path

from console import gallery, pages_urls, search

urlpatterns = [
    path("search/", search.view, name="search"),
    path("ui/", gallery.view, name="gallery"),
    *pages_urls.urlpatterns,
]
