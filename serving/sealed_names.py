"""The names under which the log of a deleted endpoint is kept: they hold a ``~``, as no endpoint's name may. Pure."""

from __future__ import annotations

_MARK = "~"


def sealed_name(name: str, mark: str) -> str:
    """Give a name of at most 100 characters that no endpoint can have."""
    return f"{name[: 99 - len(mark)]}{_MARK}{mark}"


def is_sealed(name: str) -> bool:
    """Tell whether the endpoint is deleted."""
    return _MARK in name


def shown_name(name: str) -> str:
    """Write an endpoint's name for people: ``churn-scorer``, or ``churn-scorer (deleted)``."""
    return f"{name.partition(_MARK)[0]} (deleted)" if is_sealed(name) else name
