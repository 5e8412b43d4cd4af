"""Refuses uploads to pages before a byte of them is read: those of somebody not signed in, and those that are too large.

Without it Django would write the files of a form to disk first, when it looks for the form's token.
The REST API refuses strangers by itself; what is too large is refused here in its form, because looking for
the form's token would write the files before the API asks for a right.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse

from access.api.problems import CONTENT_TYPE, answer_of
from console.answers import page
from core.errors import SignalboxError, TooLarge

FORM_BYTES = 2**20
"""What a form may have beside its files."""
STRANGERS_BYTES = 16 * 2**10
"""What somebody not signed in may send as such a form: enough to sign in."""


class RefuseUploads:
    """Middleware; it stands after the one that knows who is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        length = _length(request)
        is_upload = length > STRANGERS_BYTES and request.content_type == "multipart/form-data"
        if request.path.startswith("/api/"):
            return _problem(_too_large()) if length > _limit() else self.get_response(request)
        if is_upload or length > _limit():
            return _checked(request, self.get_response)
        return self.get_response(request)


@page
def _checked(request: HttpRequest, go_on: Callable[[HttpRequest], HttpResponseBase]) -> HttpResponseBase:
    """Go on with somebody who is signed in and sends no more than is taken."""
    if _length(request) > _limit():
        raise _too_large()
    return go_on(request)


def _problem(error: SignalboxError) -> JsonResponse:
    return JsonResponse(answer_of(error).data, status=error.status, content_type=CONTENT_TYPE)


def _too_large() -> TooLarge:
    limit = settings.ENVIRONMENT.upload_limit_bytes
    return TooLarge(f"The upload is larger than {limit:,} bytes, the limit here (SIGNALBOX_UPLOAD_LIMIT_BYTES). Nothing was kept.")


def _limit() -> int:
    return settings.ENVIRONMENT.upload_limit_bytes + FORM_BYTES


def _length(request: HttpRequest) -> int:
    text = str(request.META.get("CONTENT_LENGTH") or "")
    return int(text) if text.isdecimal() else 0
