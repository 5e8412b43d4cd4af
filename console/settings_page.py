"""The settings, to read: each with its value and where it comes from. Secrets are never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from console.templatetags.formats import size
from core.environment import SET_BY_UP, Environment, environment

_SECRET = {"secret_key"}
_ADDRESSES = {"external_database_url", "external_redis_url"}


@dataclass(frozen=True, slots=True)
class Setting:
    variable: str
    value: str
    description: str
    source: str


@page
@require_safe
def settings_page(request: HttpRequest) -> HttpResponse:
    """Every setting of this process."""
    require(request_actor(request), Right.SYSTEM_VIEW)
    return render(request, "settings_page/settings_page.html", {"settings": settings_of(environment())})


def settings_of(values: Environment) -> list[Setting]:
    """List all settings with what may be shown of their values."""
    set_by_up = os.environ.get(SET_BY_UP, "").split(",")
    found = []
    for name, field in Environment.model_fields.items():
        variable, value = str(field.validation_alias or f"SIGNALBOX_{name.upper()}"), getattr(values, name)
        if name not in values.model_fields_set or (variable in set_by_up and value == field.default):
            source = "default"
        else:
            source = "signalbox up" if variable in set_by_up else "environment"
        found.append(Setting(variable=variable, value=_shown(name, value), description=field.description or "", source=source))
    return found


def _shown(name: str, value: object) -> str:
    if name in _SECRET:
        return "set, not shown" if value else "made by Signalbox, not shown"
    if name in _ADDRESSES:
        return _without_password(str(value)) if value else "embedded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value} ({size(value)})"
    return str(value) if value != "" else "not set"


def _without_password(url: str) -> str:
    """Leave scheme, host, port and path of an address; user, password and options may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
