"""The page that registers a version: the file, a sample, a name; then the version's page shows the checklist tick."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from access.actors import EVERYTHING
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console.answers import done, page
from console.texts import numbers_of, pairs_of
from core.errors import Forbidden, SignalboxError, Unprocessable
from registry.register import register_version

_FIELDS = ("name", "description", "metrics", "tags")


@page
@require_http_methods(["GET", "HEAD", "POST"])
def register(request: HttpRequest) -> HttpResponse:
    """The form; a POST does what ``POST /api/v1/models/<name>/versions/`` does."""
    actor = request_actor(request)
    name = request.POST.get("name", request.GET.get("name", "")).strip()
    require(actor, Right.MODEL_REGISTER, f"model:{name}" if name else EVERYTHING)
    typed = {field: request.POST.get(field, "").strip() for field in _FIELDS} | {"name": name}
    if request.method != "POST":
        return _show(request, typed)
    file, sample = request.FILES.get("file"), request.FILES.get("sample")
    try:
        version = register_version(
            actor=actor,
            model_name=name,
            file=_chosen(file),
            filename=_name_of(file),
            sample=sample,
            sample_filename=_name_of(sample),
            description=typed["description"],
            tags=pairs_of(typed["tags"], "Tags"),
            metrics=numbers_of(typed["metrics"], "Metrics"),
        )
    except Forbidden:
        raise
    except SignalboxError as refusal:
        return _show(request, typed, refusal)
    return done(request, f"{version} is received and is being checked.", "version", name, version.number)


def _show(request: HttpRequest, typed: dict[str, str], refusal: SignalboxError | None = None) -> HttpResponse:
    context = {"typed": typed, "refusal": refusal, "limit": settings.ENVIRONMENT.upload_limit_bytes}
    return render(request, "register/register.html", context, status=refusal.status if refusal else 200)


def _chosen(file: UploadedFile[Any] | None) -> UploadedFile[Any]:
    if file is None:
        raise Unprocessable("Choose the model's file. Nothing was registered.")
    return file


def _name_of(file: UploadedFile[Any] | None) -> str:
    return (file.name if file else None) or ""
