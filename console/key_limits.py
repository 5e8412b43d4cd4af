"""The limits of a key as pages name, read and write them, and its budgets beside what was used. Pure but for the errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from console.templatetags.formats import counted, ms, number, size
from core.errors import Unprocessable
from serving.queries import KeyUse


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: its name in ``access.limits``, and its words."""

    name: str
    label: str
    note: str = ""
    step: str = "1"


LIMITS = (
    Limit("requests_per_s", "Requests per second", step="any"),
    Limit("burst", "Burst", "at once; empty: those of a second"),
    Limit("max_rows", "Rows per request"),
    Limit("max_body_bytes", "Size of a request", "bytes, also when unpacked"),
    Limit("timeout_ms", "Time for an answer", "ms"),
    Limit("max_concurrency", "Requests at once", "per process"),
    Limit("rows_per_day", "Rows per day", "until midnight UTC"),
    Limit("rows_in_all", "Rows in all", "since its first request"),
)


@dataclass(frozen=True, slots=True)
class Share:
    """What was used; ``part`` of the budget, 0 to 1, is None where there is no budget."""

    text: str
    part: float | None = None

    @property
    def tone(self) -> str:
        """Give ``warn`` near the end of a budget, ``bad`` at it."""
        return "" if self.part is None or self.part < 0.8 else "warn" if self.part < 1 else "bad"


def read_limits(typed: Mapping[str, str]) -> dict[str, float]:
    """Read all fields of a form, empty as 0, which is no limit; raises Unprocessable that names the field."""
    return {limit.name: _read(limit, (typed.get(limit.name) or "").strip()) for limit in LIMITS}


def short_of(limits: Mapping[str, Any]) -> list[str]:
    """Write the limits that are no budgets, each in a few words."""
    texts = []
    if rate := limits.get("requests_per_s"):
        burst = f", burst {number(limits['burst'])}" if limits.get("burst") else ""
        texts.append(f"{rate:g}/s{burst}")
    if rows := limits.get("max_rows"):
        texts.append(f"{counted(rows, 'rows')} per request")
    if most := limits.get("max_body_bytes"):
        texts.append(f"{size(most)} per request")
    if most := limits.get("timeout_ms"):
        texts.append(f"{ms(most)} per answer")
    if most := limits.get("max_concurrency"):
        texts.append(f"{number(most)} at once")
    return texts


def shares_of(limits: Mapping[str, Any], use: KeyUse) -> list[Share]:
    """Write what was used today, and in all where that is limited, beside the budgets."""
    shares = [_share(use.today.rows, limits.get("rows_per_day", 0), "today")]
    if limits.get("rows_in_all"):
        shares.append(_share(use.in_all.rows, limits["rows_in_all"], "in all"))
    return shares


def _share(rows: int, budget: int, when: str) -> Share:
    if not budget:
        return Share(f"{counted(rows, 'rows')} {when}")
    return Share(f"{number(rows, 0)} of {number(budget, 0)} rows {when}", rows / budget)


def _read(limit: Limit, text: str) -> float:
    if not text:
        return 0
    try:
        return int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError as error:
        raise Unprocessable(f"{limit.label}: {text[:40]!r} is no number. Nothing was changed.") from error
