"""How pages answer: whole or as a fragment for htmx, with a toast, and with an error page for an expected failure."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse

from console import errors
from core.errors import SignalboxError

logger = logging.getLogger(__name__)
P = ParamSpec("P")


def page(view: Callable[Concatenate[HttpRequest, P], HttpResponseBase]) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Make a view a page of the console: only for who is signed in; an expected failure is answered with its status and its text."""

    @wraps(view)
    def wrapped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        try:
            if not request.user.is_authenticated:
                return _sign_in_first(request)
            return view(request, *args, **kwargs)
        except SignalboxError as error:
            return errors.failure(request, error)
        except (OperationalError, InterfaceError):
            logger.exception("The database is away.")
            return errors.unavailable(request)

    return wrapped


def is_fragment(request: HttpRequest) -> bool:
    """Tell whether htmx asks."""
    return request.headers.get("HX-Request") == "true"


def answer(request: HttpRequest, fragment: str, context: Mapping[str, Any] | None = None, status: int = 200) -> HttpResponse:
    """Answer the template ``fragment`` to htmx, and to everyone else the same fragment inside a page.

    The page takes ``title`` and ``crumbs`` (pairs of text and address) from the context.
    """
    if is_fragment(request):
        return render(request, fragment, {**(context or {}), "alone": False}, status=status)
    return render(request, "components/alone.html", {**(context or {}), "fragment": fragment, "alone": True}, status=status)


def with_toast(response: HttpResponse, text: str, *events: str) -> HttpResponse:
    """Let the page show ``text`` and close its dialog; ``events`` are triggered on the page as well."""
    response["HX-Trigger"] = json.dumps({"toast": {"text": text}, **{event: {} for event in events}})
    return response


def done(request: HttpRequest, text: str, to: str, *args: Any, **kwargs: Any) -> HttpResponse:
    """After a change: go to the page ``to`` (its name and arguments, or an address), which shows ``text`` as a toast."""
    messages.success(request, text)
    address = to if to.startswith("/") else reverse(to, args=args, kwargs=kwargs)
    if is_fragment(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = address
        return response
    return redirect(address)


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    """Send to the sign-in page and back again; a fragment sends the whole page there."""
    if not is_fragment(request):
        return redirect_to_login(request.get_full_path())
    current = urlsplit(request.headers.get("HX-Current-URL", "/"))
    response = HttpResponse(status=204)
    response["HX-Redirect"] = redirect_to_login(current.path or "/")["Location"]
    return response
