"""The REST API under ``/api/v1/``: the addresses of each app, in one list."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
for _app in ("access", "registry", "serving", "monitoring"):
    # while building, any app's may be missing
    if find_spec(f"{_app}.api.urls"):
        urlpatterns += import_module(f"{_app}.api.urls").urlpatterns
