"""Reads what forms carry: ``name = value`` lines, in which pages take tags and metrics and write them, and whole numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import Unprocessable


def pairs_of(text: str, where: str) -> dict[str, str]:
    """Read one pair per line; empty lines are skipped. Raises Unprocessable that names the line."""
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, sign, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not sign or not name:
            raise Unprocessable(f"{where}, line {number}: write name = value, not {line.strip()[:80]!r}. Nothing was changed.")
        pairs[name] = value
    return pairs


def numbers_of(text: str, where: str) -> dict[str, float]:
    """Read pairs whose values are numbers; raises Unprocessable that names the one that is none."""
    numbers: dict[str, float] = {}
    for name, value in pairs_of(text, where).items():
        try:
            numbers[name] = float(value)
        except ValueError as error:
            raise Unprocessable(f"{where}: {name} must be a number, not {value[:40]!r}. Nothing was changed.") from error
    return numbers


def number_of(text: str) -> int | None:
    """Read a whole number that a form carries along, such as a revision; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def lines_of(pairs: Mapping[str, object]) -> str:
    """Write pairs as they are read."""
    return "\n".join(f"{name} = {value}" for name, value in pairs.items())
