"""The exceptions that every part of Signalbox raises, drawn once.

SignalboxError
├── Invalid            400  the request is wrong; the text says what, where and what to do
│   └── Unprocessable  422  well formed, but against a rule; nothing was changed
├── NotSignedIn        401
├── Forbidden          403  names the right that is missing
├── NotFound           404
├── Conflict           409  somebody else changed it first; nothing was overwritten
├── TooLarge           413
├── TooMany            429
├── Unavailable        503  a part is away; try again
└── StorageFull        507  the disk is full; nothing was kept
Each app derives its own from these in its ``errors.py``. A caller's mistake is 4xx, ours is 5xx.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

DISK_FULL = "The disk of the server is full. Nothing was kept; an admin must free space under the data folder."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SignalboxError(Exception):
    """Base of all expected failures. ``message`` is shown to the caller as it is."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class Invalid(SignalboxError):
    code = "invalid"
    status = 400


class Unprocessable(Invalid):
    code = "unprocessable"
    status = 422


class NotSignedIn(SignalboxError):
    code = "not_signed_in"
    status = 401


class Forbidden(SignalboxError):
    code = "forbidden"
    status = 403


class NotFound(SignalboxError):
    code = "not_found"
    status = 404


class Conflict(SignalboxError):
    code = "conflict"
    status = 409


class TooLarge(SignalboxError):
    code = "too_large"
    status = 413


class TooMany(SignalboxError):
    code = "too_many"
    status = 429
    retryable = True


class Unavailable(SignalboxError):
    code = "unavailable"
    status = 503
    retryable = True


class StorageFull(SignalboxError):
    code = "storage_full"
    status = 507


def is_of_a_full_disk(error: object) -> bool:
    """Tell whether the operating system says that there is no room for a file."""
    return isinstance(error, OSError) and error.errno in _FULL
