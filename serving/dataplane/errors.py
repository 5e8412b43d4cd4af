"""The data plane's refusals.

SignalboxError
├── BadRequest      400  the body, a tensor or a value is wrong
├── Unauthorized    401  no key, or one that does not hold
├── Denied          403  the key may not do this here
├── Unknown         404  no such endpoint, version or path
├── NotAllowed      405
├── AlreadyThere    409  the name is taken
├── Oversized       413
├── TooOften        429  a rate: soon again; Retry-After is sent
├── UsedUp          429  a budget
├── TooSlow         408  the request did not come in time
├── Unreadable      415  a content encoding that is not known
├── HeadTooLarge    431
├── Failed          500  ours; the log says how
├── Unsupported     501
├── Busy            503  too much at once, or nothing to answer with; Retry-After is sent
├── OutOfService    503  somebody has unloaded the endpoint; trying again does not help
└── Late            504  the deadline passed
"""

from __future__ import annotations

import math

from core.errors import Conflict, Forbidden, Invalid, NotFound, NotSignedIn, SignalboxError, TooLarge, TooMany, Unavailable


class BadRequest(Invalid):
    pass


class Unauthorized(NotSignedIn):
    pass


class Denied(Forbidden):
    pass


class Unknown(NotFound):
    pass


class NotAllowed(SignalboxError):
    code = "not_allowed"
    status = 405
    headers = b""


class AlreadyThere(Conflict):
    pass


class Oversized(TooLarge):
    pass


class _Waiting(TooMany):
    """``headers`` says how long to wait, in whole seconds."""

    headers = b""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        if wait_s is not None:
            self.headers = b"retry-after: %d\r\n" % math.ceil(wait_s)


class TooOften(_Waiting):
    code = "too_often"


class UsedUp(_Waiting):
    code = "used_up"
    retryable = False


class TooSlow(SignalboxError):
    code = "too_slow"
    status = 408
    retryable = True


class HeadTooLarge(SignalboxError):
    code = "head_too_large"
    status = 431


class Unreadable(SignalboxError):
    code = "unreadable"
    status = 415


class Failed(SignalboxError):
    code = "failed"
    status = 500


class Unsupported(SignalboxError):
    code = "unsupported"
    status = 501


class Busy(Unavailable):
    headers = b"retry-after: 1\r\n"


class OutOfService(Unavailable):
    code = "out_of_service"
    retryable = False


class Late(SignalboxError):
    code = "late"
    status = 504
    retryable = True
