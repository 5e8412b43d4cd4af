"""Roll up what validation did: of hours that ended, the rows of all processes become one row per hour, slot, feature and action."""

from __future__ import annotations

from core.clock import now
from serving.roll_up_usage import MARGIN, MOST_ROWS, put_together

# As the statement for keys, and for the same reasons.
_PUT_TOGETHER = """
WITH part AS (
    DELETE FROM serving_validationcount WHERE id IN (
        SELECT id FROM serving_validationcount WHERE start_at < %(before)s AND process <> %(nobody)s
        ORDER BY start_at, endpoint LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ) RETURNING start_at, endpoint, slot, version, feature, action, count
), whole AS (
    INSERT INTO serving_validationcount AS kept (start_at, endpoint, slot, version, feature, action, process, count)
    SELECT start_at, endpoint, slot, version, feature, action, %(nobody)s, sum(count) FROM part
    GROUP BY start_at, endpoint, slot, version, feature, action ORDER BY start_at, endpoint, slot, version, feature, action
    ON CONFLICT (start_at, endpoint, slot, version, feature, action, process) DO UPDATE SET count = kept.count + excluded.count
)
SELECT count(*) FROM part
"""


def roll_up_validation(*, most_rows: int = MOST_ROWS) -> int:
    """Put the rows of hours that began before MARGIN together, a bounded number per run; gives how many rows of processes are gone."""
    return put_together(_PUT_TOGETHER, before=now() - MARGIN, most_rows=most_rows)
