"""A part of a page that may fail alone: the rest of the page is still right, and the part says what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db import DatabaseError

from core.errors import SignalboxError

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tile(Generic[T]):
    """``value`` is None when it could not be read; ``wrong`` says why."""

    value: T | None = None
    wrong: str = ""


def tile(read: Callable[[], T]) -> Tile[T]:
    """Read the value; an expected failure, or the database's, is kept for the tile to show."""
    try:
        return Tile(read())
    except SignalboxError as error:
        return Tile(wrong=error.message)
    except DatabaseError:
        logger.exception("A tile could not be read.")
        return Tile(wrong="The database did not answer this question; the log says why. Try again in a moment.")
