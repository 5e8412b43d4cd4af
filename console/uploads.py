"""Refuses uploads before a byte of them is read: what is too large, and what the person who sends it may not register.

Without it Django would write the files of a form to disk first, when it looks for the form's token: it does that
before a page or a view of the REST API is asked. Its check of the token stays what it is and comes after.
The REST API refuses strangers and keys by itself, without reading. And what was only half written goes with the request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import Resolver404, resolve

from access.api.problems import CONTENT_TYPE, answer_of
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import page
from core.errors import Invalid, SignalboxError, TooLarge, Unavailable

FORM_BYTES = 2**20
"""What a form may have beside its files."""
SMALL_BYTES = 16 * 2**10
"""What anybody may send as such a form: enough to sign in."""
_TAKE_FILES = {"register", "api-versions"}
"""The addresses that take files, by name; all of them register a version."""


class RefuseUploads:
    """Middleware; it stands after the one that knows who is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_form = request.content_type == "multipart/form-data"
        answer = _answer_and_let_go(self.get_response) if is_form else self.get_response
        if _length(request) <= (SMALL_BYTES if is_form else _limit()):
            return answer(request)
        return _of_the_api(request, answer) if request.path.startswith("/api/") else _of_a_page(request, answer)


def _answer_and_let_go(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Answer, and leave no file that was only half written: Django closes the others, and this one not before the garbage is collected."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        try:
            return get_response(request)
        finally:
            for handler in request.upload_handlers:
                if (file := getattr(handler, "file", None)) is not None:
                    with contextlib.suppress(OSError):  # the disk is still full; the file goes all the same
                        file.close()

    return answer


@page
def _of_a_page(request: HttpRequest, go_on: Callable[[HttpRequest], HttpResponseBase]) -> HttpResponseBase:
    """Go on with somebody who is signed in and may send what comes."""
    _check(request)
    return go_on(request)


def _of_the_api(request: HttpRequest, go_on: Callable[[HttpRequest], HttpResponseBase]) -> HttpResponseBase:
    try:
        is_by_session = not request.headers.get("Authorization") and request.user.is_authenticated
        if is_by_session or _length(request) > _limit():
            _check(request)
    except SignalboxError as error:
        return _problem(error)
    except (OperationalError, InterfaceError):
        return _problem(Unavailable("The database is away. Nothing was changed; try again in a moment."))
    return go_on(request)


def _check(request: HttpRequest) -> None:
    """Raise what refuses the request by its head alone."""
    if _length(request) > _limit():
        limit = settings.ENVIRONMENT.upload_limit_bytes
        raise TooLarge(f"The upload is larger than {limit:,} bytes, the limit here (SIGNALBOX_UPLOAD_LIMIT_BYTES). Nothing was kept.")
    try:
        found = resolve(request.path_info)
    except Resolver404:
        return  # nothing will read it
    if found.url_name not in _TAKE_FILES:
        raise Invalid("This address takes no files. Nothing was kept.")
    actor, name = request_actor(request), found.kwargs.get("name")
    if name is not None or not actor.may_somewhere(Right.MODEL_REGISTER):  # a page's form has the name in it
        require(actor, Right.MODEL_REGISTER, f"model:{name}" if name else "*")


def _problem(error: SignalboxError) -> JsonResponse:
    return JsonResponse(answer_of(error).data, status=error.status, content_type=CONTENT_TYPE)


def _limit() -> int:
    return settings.ENVIRONMENT.upload_limit_bytes + FORM_BYTES


def _length(request: HttpRequest) -> int:
    text = str(request.META.get("CONTENT_LENGTH") or "")
    return int(text) if text.isdecimal() else 0
