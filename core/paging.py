"""Keyset paging: the next page begins after the last row of this one, so page 1,000 costs what page 1 does.

A cursor is the order and the last row's values in it, as base64url of a JSON list. It is data, not a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Field, Model, Q, QuerySet

from core.errors import Invalid

ROWS = 50
MOST_ROWS = 200
_LONGEST_CURSOR = 1000
T = TypeVar("T")
U = TypeVar("U")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page: its rows, and the cursor of the next page or None."""

    results: Sequence[T]
    next: str | None = None

    def map(self, change: Callable[[T], U]) -> Page[U]:
        """Give the same page with ``change`` done to each row."""
        return Page([change(row) for row in self.results], self.next)


@dataclass(frozen=True, slots=True)
class Sorts:
    """What a list can be sorted by: word of the address to the fields, rising; the last field is unique, and an index has them all.

    A word with ``-`` before it is the same order backwards, which the same index serves. ``default`` holds where none is named.
    """

    default: str
    fields: Mapping[str, Sequence[str]]

    @property
    def words(self) -> list[str]:
        """Every sort that can be asked for."""
        return [f"{sign}{word}" for word in self.fields for sign in ("", "-")]

    def order(self, sort: str = "") -> list[str]:
        """Give the order for ``page_of``; raises Invalid, which names the sorts that there are."""
        wanted = sort or self.default
        fields = self.fields.get(wanted.removeprefix("-"))
        if fields is None:
            raise Invalid(f"There is no sort {wanted[:40]!r}; the sorts are {', '.join(self.words)}.")
        return [_turned(name) for name in fields] if wanted.startswith("-") else list(fields)


def page_of(rows: QuerySet[M], *, order: Sequence[str], cursor: str | None = None, limit: int = ROWS) -> Page[M]:
    """Give one page of ``rows`` in ``order`` (fields, ``-`` for falling; the last one unique, none null). One query."""
    rows = rows.order_by(*order)
    if cursor:
        rows = rows.filter(_after(order, _values_of(rows.model, order, cursor)))
    found = list(rows[: limit + 1])
    if len(found) <= limit:
        return Page(found)
    return Page(found[:limit], cursor_of([_key(order), *(_json(getattr(found[limit - 1], name.lstrip("-"))) for name in order)]))


def cursor_of(values: Sequence[Any]) -> str:
    """Write ``values`` (JSON) as a cursor."""
    return base64.urlsafe_b64encode(json.dumps(list(values), separators=(",", ":"), ensure_ascii=False).encode()).decode().rstrip("=")


def values_of_cursor(cursor: str, length: int) -> list[Any]:
    """Read a cursor of ``length`` values; raises Invalid for anything else."""
    if len(cursor) > _LONGEST_CURSOR:
        raise _not_a_cursor()
    try:
        values = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise _not_a_cursor() from error
    if not isinstance(values, list) or len(values) != length or not all(_can_be_asked_for(value) for value in values):
        raise _not_a_cursor()
    return values


def _values_of(model: type[Model], order: Sequence[str], cursor: str) -> list[Any]:
    key, *values = values_of_cursor(cursor, len(order) + 1)
    if key != _key(order):
        raise Invalid("The cursor is of another order of this list. Leave `cursor` away to begin at the first page.")
    fields: dict[str, Field[Any, Any]] = {field.name: field for field in model._meta.concrete_fields}  # noqa: SLF001  # _meta is documented API
    try:
        return [fields[name.lstrip("-")].to_python(value) for name, value in zip(order, values, strict=True)]
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        raise _not_a_cursor() from error


def _after(order: Sequence[str], values: Sequence[Any]) -> Q:
    """Everything behind ``values`` in ``order``: (a < x) or (a = x and b < y) ..., led by a <= x for the index."""
    condition = Q()
    for name, value in reversed(list(zip(order, values, strict=True))):
        field, side = name.lstrip("-"), "lt" if name.startswith("-") else "gt"
        beyond = Q(**{f"{field}__{side}": value})
        condition = Q(**{f"{field}__{side}e": value}) & (beyond | condition) if condition else beyond
    return condition


def _key(order: Sequence[str]) -> str:
    return ",".join(order)


def _turned(name: str) -> str:
    return name[1:] if name.startswith("-") else f"-{name}"


def _can_be_asked_for(value: object) -> bool:
    """Tell whether the database takes the value: a number, or a text without NUL and half characters."""
    if isinstance(value, str):
        return "\0" not in value and value == value.encode(errors="ignore").decode()
    return isinstance(value, int | float)


def _json(value: Any) -> Any:
    return value if isinstance(value, int | float) else value.isoformat() if hasattr(value, "isoformat") else str(value)


def _not_a_cursor() -> Invalid:
    return Invalid("The cursor is not one that this list gave. Leave `cursor` away to begin at the first page.")
