"""What every page shows around its content: theme, navigation, the person, and the number of open alerts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from monitoring.queries import open_alert_count

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the navigation; ``current`` when the page shown lies under it."""

    key: str
    title: str
    icon: str
    path: str
    low: bool = False


SECTIONS = (
    Section("", "Overview", "layout-dashboard", "/"),
    Section("models", "Models", "boxes", "/models/"),
    Section("endpoints", "Endpoints", "waypoints", "/endpoints/"),
    Section("monitoring", "Monitoring", "activity", "/monitoring/"),
    Section("alerts", "Alerts", "bell", "/alerts/"),
    Section("audit", "Audit log", "scroll-text", "/audit/", low=True),
    Section("keys", "API keys", "key-round", "/keys/", low=True),
    Section("people", "People", "users", "/people/", low=True),
    Section("system", "System", "server", "/system/", low=True),
    Section("settings", "Settings", "settings", "/settings/", low=True),
    Section("api", "API", "braces", "/api/", low=True),
)


def context(request: HttpRequest) -> dict[str, Any]:
    """Give the shell's context. ``theme`` is '', 'light' or 'dark'; '' follows the operating system.

    The count of alerts is asked for only when a page shows it: a fragment costs no query.
    """
    theme = request.COOKIES.get("theme", "")
    return {
        "theme": theme if theme in {"light", "dark"} else "",
        "sections": SECTIONS,
        "section": request.path.strip("/").split("/", 1)[0],
        "open_alerts": SimpleLazyObject(_open_alerts),
        "predict_url": settings.ENVIRONMENT.predict_url,
        "console_url": settings.ENVIRONMENT.console_url,
    }


def _open_alerts() -> int:
    """Count the open alerts; a count that fails must not take the page with it."""
    try:
        return open_alert_count()
    except DatabaseError:
        logger.warning("The open alerts could not be counted.", exc_info=True)
        return 0
