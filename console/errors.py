"""The pages for what went wrong: 400 to 429 and 507 say why and what to do, 500 has an id, 503 needs no database."""

from __future__ import annotations

import logging
import sys

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import is_valid_path

from access.api.problems import plain_answer_of
from access.models import Person, Role
from access.requests import request_id_of
from access.rights import Right, lowest_role_with
from core.errors import DISK_FULL, NotFound, SignalboxError, StorageFull, is_of_a_full_disk

logger = logging.getLogger(__name__)

_TITLES = {
    400: "That request is not right",
    403: "You may not do that",
    404: "There is no such page",
    405: "That address does not take this method",
    409: "Somebody else was faster",
    413: "That is too large",
    422: "Nothing was changed",
    429: "Too many requests",
    503: "Signalbox is not ready",
    507: "The disk is full",
}


def failure(request: HttpRequest, error: SignalboxError) -> HttpResponse:
    """Answer an expected failure: a dialog to htmx, a page to everyone else. A missing right is named, and who can give it."""
    context: dict[str, object] = {"status": error.status, "title": _TITLES.get(error.status, "That did not work"), "message": error.message, "error": error}
    right = error.detail.get("right")
    if error.status == 403 and right in set(Right):
        context |= {"right": right, "role": lowest_role_with(Right(right)), "admins": _admins()}
    if error.status == 404:
        context["search"] = next((part for part in reversed(request.path.split("/")) if part and not part.isdecimal()), "")
    if request.headers.get("HX-Request") == "true":
        response = render(request, "errors/dialog.html", context, status=error.status)
        response["HX-Retarget"], response["HX-Reswap"] = "#dialog", "innerHTML"
        return response
    return render(request, "errors/error.html", context, status=error.status)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 404 with a search for the last word of the address; to programs, as JSON, with where they may have wanted to go."""
    if request.path.startswith("/api/"):
        known = is_valid_path(f"{request.path_info}/")
        hint = f"Send it to {request.path}/, with the slash." if known else f"The page {settings.ENVIRONMENT.console_url}/api/ lists the addresses."
        return plain_answer_of(NotFound(f"Nothing lies at {request.path}. {hint}"))
    if request.path.startswith("/v2/"):
        return plain_answer_of(NotFound(f"Nothing lies at {request.path} of the console. Predictions are answered at {settings.ENVIRONMENT.predict_url}."))
    words = [part for part in request.path.split("/") if part]
    context = {"status": 404, "title": _TITLES[404], "message": f"Nothing lies at {request.path}.", "search": words[-1] if words else ""}
    signed_in = request.user.is_authenticated
    return render(request, "errors/error.html" if signed_in else "errors/bare.html", context, status=404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 400 for what Django itself refuses."""
    return _bare(400, "The address, the host name or the form is not one that Signalbox takes.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 403 for what Django itself refuses."""
    return _bare(403, "Signalbox refused this request.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403 when a form's token is missing or old."""
    return _bare(403, "The form is too old or came from another site. Nothing was changed. Go back, load the page again and send it once more.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 with an id that is in the log too; 507 where a form's files, which Django writes before it asks a page, found no room."""
    error = sys.exc_info()[1]
    if is_of_a_full_disk(error):
        logger.error("The disk is full at %s %s: %s", request.method, request.path, error)
        return _bare(StorageFull.status, DISK_FULL)
    identifier = request_id_of(request)
    logger.error("Error %s at %s %s", identifier, request.method, request.path, exc_info=sys.exc_info())
    return _bare(500, "Signalbox made a mistake. The log has it under this id; give it to whoever runs Signalbox.", identifier=identifier)


def unavailable(request: HttpRequest) -> HttpResponse:
    """Answer 503 without asking the database for anything."""
    response = _bare(503, "The database does not answer, or is being migrated. Predictions go on. This page tries again by itself.", refresh=True)
    response["Retry-After"] = "5"
    return response


def _bare(status: int, message: str, *, identifier: str = "", refresh: bool = False) -> HttpResponse:
    context = {"status": status, "title": _TITLES.get(status, "Something broke"), "message": message, "identifier": identifier, "refresh": refresh}
    return HttpResponse(render_to_string("errors/bare.html", context), status=status)


def _admins() -> list[str]:
    return list(Person.objects.filter(role=Role.ADMIN, is_active=True).order_by("username").values_list("username", flat=True)[:5])
