"""What names, tags and metrics may look like. Pure: raises NotAllowed with a text for people."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from registry.errors import NotAllowed

RESERVED_NAMES = frozenset({"compare", "register"})
"""Addresses of pages under ``/models/``."""
MOST_TAGS = 50
MOST_METRICS = 200
LONGEST_DESCRIPTION = 20_000
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LIKE_A_VERSION = re.compile(r"latest|v?\d+", re.IGNORECASE)
_KEY = re.compile(r"[\w .:/@%()+-]{1,100}")
_LONGEST_VALUE = 500
_LONGEST_FILENAME = 255


def checked_model_name(name: str) -> str:
    if not _MODEL_NAME.fullmatch(name):
        raise NotAllowed(f"The model name {name[:120]!r} is not allowed: use 1 to 100 letters, digits and . _ - and begin with a letter or digit.")
    if name in RESERVED_NAMES:
        raise NotAllowed(f"The model name {name!r} is reserved for a page. Choose another name.")
    return name


def checked_alias(name: str) -> str:
    if not _ALIAS.fullmatch(name):
        raise NotAllowed(f"The alias {name[:80]!r} is not allowed: use 1 to 64 letters, digits and _ - .")
    if _LIKE_A_VERSION.fullmatch(name):
        raise NotAllowed(f"The alias {name!r} looks like a version; choose a word such as champion.")
    return name


def checked_tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Give tags as text to text; at most 50."""
    tags = tags or {}
    if len(tags) > MOST_TAGS:
        raise NotAllowed(f"There are {len(tags)} tags; at most {MOST_TAGS} are kept.")
    for key, value in tags.items():
        if not _KEY.fullmatch(key):
            raise NotAllowed(f"The tag name {key[:120]!r} is not allowed: use 1 to 100 letters, digits, spaces and . _ : / @ % ( ) + - .")
        if not isinstance(value, str) or len(value) > _LONGEST_VALUE or "\0" in value:
            raise NotAllowed(f"The value of the tag {key!r} must be text of at most {_LONGEST_VALUE} characters.")
    return dict(tags)


def checked_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Give metrics as name to finite number; at most 200."""
    metrics = metrics or {}
    if len(metrics) > MOST_METRICS:
        raise NotAllowed(f"There are {len(metrics)} metrics; at most {MOST_METRICS} are kept.")
    for key, value in metrics.items():
        if not _KEY.fullmatch(key):
            raise NotAllowed(f"The metric name {key[:120]!r} is not allowed: use 1 to 100 letters, digits, spaces and . _ : / @ % ( ) + - .")
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise NotAllowed(f"The metric {key!r} must be a finite number, not {str(value)[:40]!r}.")
    return {key: float(value) for key, value in metrics.items()}


def checked_description(text: str) -> str:
    if len(text) > LONGEST_DESCRIPTION or "\0" in text:
        raise NotAllowed(f"A description is text of at most {LONGEST_DESCRIPTION:,} characters; this one has {len(text):,}.")
    return text


def shown_filename(name: str) -> str:
    """Give an uploaded file's name as a label: the last part of any path, printable. No path is ever made of it."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(letter for letter in last if letter.isprintable())[-_LONGEST_FILENAME:].strip() or "file"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
