"""The page of one version: checklist, signature, conversion report, files, where it serves; and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access.permissions import require
from access.queries import AuditFilter, audit_page
from access.requests import request_actor
from access.rights import Right
from console.answers import answer, done, page
from console.templatetags.formats import size
from console.texts import lines_of, number_of, numbers_of, pairs_of
from core.errors import SignalboxError
from registry.archive import archive_version
from registry.delete import delete_version
from registry.download import download
from registry.edit import edit_version
from registry.errors import Changed
from registry.find import version_numbered
from registry.models import Version
from registry.queries import VersionDetail, version_detail
from registry.recheck import recheck_version
from serving.models import Endpoint
from serving.queries import endpoints_with_version

_ENDPOINTS = 20
_BUILD_TITLES = {"onnx": "ONNX build", "onnx-int8": "ONNX build, 8 bits", "native": "Native build"}
_REPORT_TITLES = {"opset": "ONNX opset", "ir_version": "ONNX format version", "size_bytes": "Size of the build"}
_FILE_TITLES = {"original": "Model as uploaded", "sample": "Training sample", "reference": "Reference rows"}


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of the version; ``what`` is its word in the download's address."""

    title: str
    what: str
    filename: str
    digest: str
    size_bytes: int


@page
@require_safe
def version(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Everything about the version."""
    actor = request_actor(request)
    require(actor, Right.MODEL_VIEW, f"model:{name}")
    detail = version_detail(name, number)
    row = detail.version
    agreement, timings, report = _report(row.conversion)
    context: dict[str, Any] = {"version": row, "signature": detail.signature, "aliases": detail.aliases, "subject": str(row)}
    context |= {"agreement": agreement, "timings": timings, "report": report, "files": _files(detail), "can_retry": _can_retry(detail)}
    context |= {"servable": bool(detail.builds) and row.state == Version.State.READY and not row.archived_at and not row.model.archived_at}
    serving = endpoints_with_version(name)
    context |= {"serving": serving.get(number, []), "previous": _previous(row)}
    context |= {"endpoints": _targets([endpoint for slots in serving.values() for endpoint, _ in slots])}
    context |= {"entries": audit_page(AuditFilter(subject_kind="version", subject_name=str(row)), limit=6).results}
    context |= {"may_download": actor.may(Right.MODEL_DOWNLOAD, f"model:{name}"), "may_register": actor.may(Right.MODEL_REGISTER, f"model:{name}")}
    context |= {"deploy_command": f"signalbox deploy {(context['endpoints'] or ['my-endpoint'])[0]} {name} {number}"}
    return render(request, "version/version.html", context)


@page
@require_safe
def checklist(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """The checklist alone, asked for every two seconds; when it has ended the whole page is shown anew. At most three queries."""
    actor = request_actor(request)
    require(actor, Right.MODEL_VIEW, f"model:{name}")
    row = version_numbered(name, number)
    response = render(request, "version/_checklist.html", {"version": row, "can_retry": False})
    if row.state != Version.State.CHECKING:
        response["HX-Refresh"] = "true"
    return response


@page
@require_POST
def retry(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Check the same files again."""
    row = recheck_version(actor=request_actor(request), model=name, version=number)
    return done(request, f"{row} is being checked again.", "version", name, number)


@page
@require_safe
def download_file(request: HttpRequest, name: str, number: int, what: str) -> HttpResponseBase:
    """Send a file's bytes, as an attachment that no browser opens by itself."""
    found = download(actor=request_actor(request), model=name, version=number, what=what)
    response = FileResponse(found.file, as_attachment=True, filename=found.filename, content_type="application/octet-stream")
    response["Content-Length"] = found.size_bytes
    response["X-Content-Type-Options"] = "nosniff"
    return response


@page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Description, metrics and tags, guarded by the revision that the form was made from; files and signature never change."""
    actor = request_actor(request)
    require(actor, Right.MODEL_EDIT, f"model:{name}")
    row = version_numbered(name, number)
    if request.method != "POST":
        return _edit_form(request, row, _words_of(row))
    typed = {key: request.POST.get(key, "") for key in ("description", "tags", "metrics", "revision")}
    try:
        words: dict[str, Any] = {"tags": pairs_of(typed["tags"], "Tags"), "metrics": numbers_of(typed["metrics"], "Metrics")}
        edit_version(actor=actor, model=name, version=number, description=typed["description"], **words, revision=number_of(typed["revision"]))
    except Changed as refusal:
        present = _words_of(version_numbered(name, number))
        return _edit_form(request, row, typed | {"revision": present["revision"]}, refusal, present)
    except SignalboxError as refusal:
        return _edit_form(request, row, typed, refusal)
    return done(request, f"{row} is described anew.", "version", name, number)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def archive(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Ask, then archive or restore."""
    actor = request_actor(request)
    require(actor, Right.MODEL_EDIT, f"model:{name}")
    row = version_numbered(name, number)
    archived = row.archived_at is not None
    if request.method == "POST":
        archive_version(actor=actor, model=name, version=number, archived=not archived, reason=request.POST.get("reason", ""))
        return done(request, f"{row} is {'restored' if archived else 'archived'}.", "version", name, number)
    verb = "Restore" if archived else "Archive"
    text = "It can be deployed again." if archived else "It leaves the list and cannot be deployed. An alias or a slot that holds it must let go first."
    return _confirm(
        request, row, {"heading": f"{verb} {row}?", "text": text, "button": f"{verb} {row}", "action": reverse("version-archive", args=[name, number])}
    )


@page
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Ask, then delete for good."""
    actor = request_actor(request)
    require(actor, Right.MODEL_DELETE, f"model:{name}")
    row = version_numbered(name, number)
    if request.method == "POST":
        delete_version(actor=actor, model=name, version=number, reason=request.POST.get("reason", ""))
        return done(request, f"{row} is deleted.", "model", name)
    text = "Its files and builds go for good, and the number is never used again. The audit log keeps their digests. Archiving keeps everything."
    context = {"heading": f"Delete {row}?", "text": text, "button": f"Delete {row}", "action": reverse("version-delete", args=[name, number]), "danger": True}
    return _confirm(request, row, context)


def _targets(own: list[str]) -> list[str]:
    """Give the endpoints where the version fits: those that hold another version of its model, then those that are empty. One query."""
    first = sorted(set(own))
    empty = Endpoint.objects.exclude(name__in=first).exclude(slots__build__isnull=False).order_by("name").values_list("name", flat=True)
    return [*first, *empty[:_ENDPOINTS]]


def _report(conversion: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, float]], list[tuple[str, str]]]:
    """Take the conversion report apart: agreement, times of one row in ms, and the rest as words."""
    agreement = conversion.get("agreement") or {}
    times = conversion.get("single_row_ms") or {}
    timings = [(key, value) for key, value in times.items() if isinstance(value, int | float)] if isinstance(times, dict) else [("ONNX", times)]
    rest = {key: value for key, value in conversion.items() if key not in {"agreement", "single_row_ms"} and value not in (None, "", {}, [])}
    return agreement, timings, [(_REPORT_TITLES.get(key) or key.replace("_", " ").capitalize(), _words(key, value)) for key, value in rest.items()]


def _words(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words('', inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_words("", inner) for inner in value)
    return size(value) if key.endswith(("size", "bytes")) and isinstance(value, int) else str(value)


def _files(detail: VersionDetail) -> list[FileRow]:
    kept = [FileRow(_FILE_TITLES[file.role], file.role, file.filename, file.digest, file.size_bytes) for file in detail.artifacts]
    built = [
        FileRow(_BUILD_TITLES.get(build.kind, f"Build {build.kind}"), build.kind, "answers predictions", build.digest, build.size_bytes)
        for build in detail.builds
    ]
    return kept + built


def _can_retry(detail: VersionDetail) -> bool:
    state = detail.version.state
    return state == Version.State.REFUSED or (state == Version.State.READY and not detail.builds)


def _previous(row: Version) -> int | None:
    return Version.objects.filter(model=row.model, number__lt=row.number).order_by("-number").values_list("number", flat=True).first()


def _words_of(row: Version) -> dict[str, Any]:
    return {"description": row.description, "tags": lines_of(row.tags), "metrics": lines_of(row.metrics), "revision": row.revision}


def _edit_form(
    request: HttpRequest, row: Version, typed: dict[str, Any], refusal: SignalboxError | None = None, present: dict[str, Any] | None = None
) -> HttpResponse:
    """Show the form with what was typed; ``present`` is what somebody else has written meanwhile."""
    place = [row.model.name, row.number]
    context = {"typed": typed, "refusal": refusal, "present": present, "metrics": True, "heading": f"Edit {row}", "action": reverse("version-edit", args=place)}
    return answer(request, "model/edit.html", context | _frame(row, "Edit"), status=refusal.status if refusal else 200)


def _confirm(request: HttpRequest, row: Version, context: dict[str, Any]) -> HttpResponse:
    return answer(request, "model/confirm.html", context | _frame(row, context["button"]))


def _frame(row: Version, what: str) -> dict[str, Any]:
    model, here = reverse("model", args=[row.model.name]), reverse("version", args=[row.model.name, row.number])
    return {"back": here, "title": f"{what}: {row}", "crumbs": [("Models", reverse("models")), (row.model.name, model), (f"v{row.number}", here), (what, "")]}
