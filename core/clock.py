"""The one place where the time is read, always aware UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Give the present moment, aware UTC."""
    return datetime.now(UTC)
