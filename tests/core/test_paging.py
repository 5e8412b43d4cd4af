"""Keyset paging: every row once, in order, whatever comes in between; a cursor is checked."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.errors import Invalid
from core.ids import uuid7
from core.models import Job
from core.paging import cursor_of, page_of

ORDER = ["kind", "-created_at", "-id"]


def _make(count: int) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    Job.objects.bulk_create(Job(kind="ab"[number % 2], subject=str(number), created_at=moment.replace(minute=number // 4)) for number in range(count))


def test_gives_every_row_once_in_order(db):
    _make(23)
    wanted, cursor = list(Job.objects.order_by(*ORDER)), None
    seen: list[Job] = []
    while True:
        page = page_of(Job.objects.all(), order=ORDER, cursor=cursor, limit=5)
        seen += page.results
        if page.next is None:
            break
        cursor = page.next
    assert seen == wanted


def test_gives_no_cursor_when_the_last_page_is_full(db):
    _make(5)
    assert page_of(Job.objects.all(), order=["-id"], limit=5).next is None


def test_skips_nothing_when_rows_come_in_front(db):
    _make(6)
    wanted = list(Job.objects.order_by("-id"))
    first = page_of(Job.objects.all(), order=["-id"], limit=3)
    Job.objects.create(kind="a", subject="new", id=uuid7(2**47))
    second = page_of(Job.objects.all(), order=["-id"], cursor=first.next, limit=3)
    assert [*first.results, *second.results] == wanted


@pytest.mark.parametrize(
    "cursor", ["x", "%%%", "é", cursor_of([]), cursor_of(["a"]), cursor_of([1, 2, 3]), cursor_of([None] * 3), cursor_of([[], {}, 1]), "A" * 5000]
)
def test_refuses_what_is_no_cursor(db, cursor):
    with pytest.raises(Invalid, match="cursor"):
        page_of(Job.objects.all(), order=ORDER, cursor=cursor)
