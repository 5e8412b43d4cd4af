"""Why a file goes no further: ``Refused`` (not to be trusted, or broken) and ``NotServable`` (good, but no build here)."""

from __future__ import annotations


class Stopped(Exception):
    """A sandbox job that ends with a reason; both texts are shown to the person who uploaded the file."""

    verdict = "refused"

    def __init__(self, reason: str, advice: str = "", *, step: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.advice = advice
        self.step = step


class Refused(Stopped):
    """The file is not what it should be; nothing of it is kept in use."""


class NotServable(Stopped):
    """A good model that has no build here."""

    verdict = "not_servable"
