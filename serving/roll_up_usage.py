"""Roll up what keys have used: of days that ended, the rows of all processes become one row per key and day."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

from django.db import connection

from core.clock import now

MARGIN = timedelta(days=2)
"""How long a day has ended before it is put together. A process that lost the database writes late, and writes absolute numbers:
one of a day that is put together already would be counted a second time. The data plane reads its own rows of two days as its own."""
MOST_ROWS = 20_000
MOST_ROUNDS = 50
_NOBODY = UUID(int=0)

# One statement: a row is deleted and counted, or neither, and a reader sees all of it or none. Two runs at once take
# different rows; both add to the sum, in the same order, so that neither waits for the other for ever.
_PUT_TOGETHER = """
WITH part AS (
    DELETE FROM serving_keyusage WHERE id IN (
        SELECT id FROM serving_keyusage WHERE day < %(before)s AND process <> %(nobody)s ORDER BY day, key_id LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ) RETURNING key_id, day, requests, rows
), whole AS (
    INSERT INTO serving_keyusage AS kept (key_id, day, process, requests, rows)
    SELECT key_id, day, %(nobody)s, sum(requests), sum(rows) FROM part GROUP BY key_id, day ORDER BY day, key_id
    ON CONFLICT (key_id, day, process) DO UPDATE SET requests = kept.requests + excluded.requests, rows = kept.rows + excluded.rows
)
SELECT count(*) FROM part
"""


def roll_up_usage(*, most_rows: int = MOST_ROWS) -> int:
    """Put the rows of days that ended at least MARGIN ago together, a bounded number per run; gives how many rows of processes are gone."""
    return put_together(_PUT_TOGETHER, before=now().date() - MARGIN, most_rows=most_rows)


def put_together(statement: str, *, before: date, most_rows: int) -> int:
    """Run ``statement`` until it takes fewer than ``most_rows`` rows of before that day or moment; gives how many it took in all."""
    taken = 0
    for _ in range(MOST_ROUNDS):
        with connection.cursor() as cursor:
            cursor.execute(statement, {"before": before, "nobody": _NOBODY, "most": most_rows})
            count = int(cursor.fetchone()[0])
        taken += count
        if count < most_rows:
            break
    return taken
