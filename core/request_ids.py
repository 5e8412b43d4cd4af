"""The id of a request, ``X-Request-Id``: the caller's, if it can stand in a header and a log; else one of our own. Pure."""

from __future__ import annotations

import re

from core.ids import uuid7

HEADER = "X-Request-Id"
_ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")


def accepted(text: str) -> str | None:
    """Give the caller's id, None for one that is missing, too long or has other characters."""
    return text if _ACCEPTED.fullmatch(text) else None


def fresh() -> str:
    """Make one; they sort by time."""
    return str(uuid7())
