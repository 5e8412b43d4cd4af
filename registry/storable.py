"""Makes what came out of the sandbox fit for Postgres' JSON and text: a report may hold anything. Pure."""

from __future__ import annotations

import math
from typing import Any


def storable(value: Any) -> Any:
    """Give ``value`` with no NUL or lone surrogate in its texts and None for each number that is not finite."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(key)): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [storable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def storable_text(text: str) -> str:
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
