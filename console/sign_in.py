"""Signing in and out: password, one-time link, own password. Five wrong passwords lock for a quarter of an hour."""

from __future__ import annotations

from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm, SetPasswordForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from access.audit import record
from access.models import Person
from access.requests import address_of, request_actor
from access.sign_in import check_link, use_link
from console.answers import done, page
from core.clock import now
from core.errors import SignalboxError

BACKEND = "django.contrib.auth.backends.ModelBackend"


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """The form; a POST checks the password. django-axes counts failures and answers with ``locked_out``."""
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(_next(request))
        return _show(request)
    person = authenticate(request, username=request.POST.get("username", "").strip(), password=request.POST.get("password", ""))
    if person is None:
        return _show(request, "The name or the password is wrong. After five wrong tries in a row the name is locked for 15 minutes.", 422)
    login(request, person)
    return redirect(_next(request))


def locked_out(request: HttpRequest, response: HttpResponse | None = None, credentials: dict[str, Any] | None = None) -> HttpResponse:
    """What django-axes answers instead of trying a password: until when the name is locked."""
    name = (credentials or {}).get("username") or request.POST.get("username", "").strip()
    tried = AccessAttempt.objects.filter(username=name).order_by("-attempt_time").values_list("attempt_time", flat=True).first()
    until = (tried or now()) + settings.AXES_COOLOFF_TIME
    text = (
        f"Too many wrong passwords for {name}. It is locked until {until:%H:%M:%S} UTC; each further try starts the 15 minutes again. "
        "An admin can send a one-time link."
    )
    return _show(request, text, 429)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """A button; only its POST uses the link up, so that whatever previews links does not."""
    try:
        if request.method != "POST":
            check_link(token)
            return render(request, "sign_in/link.html", {"token": token})
        person = use_link(token, address_of(request))
    except SignalboxError as refusal:
        return render(request, "sign_in/link.html", {"refusal": refusal}, status=refusal.status)
    login(request, person, backend=BACKEND)
    return redirect("overview" if person.has_usable_password() else "password")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("sign-in")


@page
@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """Set or change one's own password; other sessions of the person end."""
    actor = request_actor(request)
    person = Person.objects.get(username=request.user.get_username())
    kind = PasswordChangeForm if person.has_usable_password() else SetPasswordForm
    if request.method != "POST":
        return render(request, "sign_in/password.html", {"form": kind(person)})
    form = kind(person, request.POST)
    if not form.is_valid():
        return render(request, "sign_in/password.html", {"form": form}, status=422)
    form.save()
    record(actor=actor, verb="set_password", subject_kind="person", subject_name=person.username)
    update_session_auth_hash(request, person)
    return done(request, "Your password is set. Other sessions of yours have ended.", "overview")


def _show(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    first_start = not Person.objects.exists()
    typed = request.POST.get("username", "")
    return render(request, "sign_in/sign_in.html", {"error": error, "typed": typed, "next": _next(request), "first_start": first_start}, status=status)


def _next(request: HttpRequest) -> str:
    """Where to go afterwards: only to a page of this console."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return wanted if safe else resolve_url(settings.LOGIN_REDIRECT_URL)
