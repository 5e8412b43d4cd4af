"""Removes what a process left that was killed between storing a file and writing the row that names it."""

from __future__ import annotations

import logging
import time
from itertools import islice

from core.environment import environment
from registry import leftovers, references

logger = logging.getLogger(__name__)

EVERY_S = 300.0
MOST_FILES = 20_000
"""Files that one run looks at, of each kind."""
_BATCH = 500


def collect_leftovers(part: int | None = None) -> int:
    """Remove old half-written files, and old blobs without a row in one part of the store; gives how many files went.

    Each turn of the clock looks at another part, so all are seen within a day. Nobody loses a blob to it that is
    just being registered: what removes a blob asks the database under the lock that registering holds.
    """
    settings = environment()
    chosen = int(time.time() // EVERY_S) % leftovers.PARTS if part is None else part
    removed = 0
    for file in islice(leftovers.half_written([settings.artifacts_dir / "incoming", settings.uploads_dir]), MOST_FILES):
        file.path.unlink(missing_ok=True)
        removed += 1
    blobs = [digest for digest, _ in islice(leftovers.old_blobs(settings.artifacts_dir, chosen), MOST_FILES)]
    for start in range(0, len(blobs), _BATCH):
        unused = references.unused(blobs[start : start + _BATCH])
        removed += len(references.remove_unused(unused)) if unused else 0
    if removed:
        logger.info("Removed %s files that nothing refers to.", removed)
    return removed
