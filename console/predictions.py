"""The prediction log of an endpoint: a list, one prediction, and an export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from console import snippets
from console.answers import page
from console.endpoint import shown
from console.tiles import tile
from core.errors import Invalid
from monitoring.models import Outcome
from serving import console_key
from serving.api.downloads import download_of
from serving.export import export_predictions
from serving.queries import EndpointDetail, Prediction, PredictionFilters, endpoint_detail, prediction, predictions_page
from serving.queries.log import lost_at

_PAGE = 50


@require_safe
@page
def view(request: HttpRequest, name: str) -> HttpResponse:
    """Answer one page of the log, newest first; the address holds the filters and the cursor."""
    actor = request_actor(request)
    require(actor, Right.PREDICTIONS_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    filters = _filters(request)
    found = predictions_page(actor=actor, endpoint=name, filters=filters, cursor=request.GET.get("cursor"), limit=_PAGE)
    outcomes = _outcomes(found.results)
    context = shown(actor, detail, "predictions") | {
        "title": f"Predictions of {name}",
        "rows": found,
        "lines": [(row, outcomes.get((row.id, row.row))) for row in found.results],
        "filters": filters,
        "filtered": filters != PredictionFilters(),
        "typed": request.GET,
        "slot_choices": [("", "any")] + [(slot.name, slot.name) for slot in detail.slots],
        "may_unmask": actor.may(Right.PREDICTIONS_UNMASK, f"endpoint:{name}"),
        "may_export": actor.may(Right.PREDICTIONS_EXPORT, f"endpoint:{name}"),
        "curl": _example(detail),
        "lost": lost_at(name),
        "retention_days": settings.ENVIRONMENT.log_retention_days,
    }
    return render(request, "predictions/page.html", context)


@require_safe
@page
def one(request: HttpRequest, name: str, identifier: UUID) -> HttpResponse:
    """Answer one logged request: its rows against the signature, the way it took, and what turned out to be true."""
    actor = request_actor(request)
    require(actor, Right.PREDICTIONS_VIEW, f"endpoint:{name}")
    detail = endpoint_detail(name)
    found = prediction(actor=actor, endpoint=name, identifier=identifier)
    signature = next((slot.signature for slot in detail.slots if slot.digest == found.build_digest), None)
    features = {feature.name: feature for feature in signature.features} if signature else {}
    rows = [
        {
            "prediction": row,
            "inputs": [(key, value, features.get(key)) for key, value in row.inputs.items()],
            "masked": [(key, features.get(key)) for key in row.masked],
        }
        for row in found.rows
    ]
    first = found.rows[0]
    context = shown(actor, detail, "predictions") | {
        "title": f"Prediction {str(identifier)[:13]}",
        "found": found,
        "first": first,
        "rows": rows,
        "may_unmask": actor.may(Right.PREDICTIONS_UNMASK, f"endpoint:{name}"),
        "outcomes": tile(lambda: list(Outcome.objects.filter(prediction_id=identifier).order_by("row", "-id")[:100])),
        "curl": "" if first.masked else snippets.curl(settings.ENVIRONMENT.predict_url, name, first.inputs),
        "outcome_curl": _outcome_curl(identifier),
        "console_key": console_key.ID,
    }
    return render(request, "predictions/one.html", context)


@require_safe
@page
def export(request: HttpRequest, name: str, form: str) -> StreamingHttpResponse:
    """Answer the filtered log as CSV or Parquet while it is read."""
    return download_of(export_predictions(actor=request_actor(request), endpoint=name, filters=_filters(request), form=form))


def _outcomes(rows: Sequence[Prediction]) -> dict[tuple[UUID, int], Outcome]:
    """Find what turned out to be true of some rows, by their prediction's id and place. One query, however many rows the predictions have beside these."""
    found = Outcome.objects.filter(prediction_id__in={each.id for each in rows}, row__in={each.row for each in rows}, current=True)
    return {(each.prediction_id, each.row): each for each in found}


def _filters(request: HttpRequest) -> PredictionFilters:
    get = request.GET
    version = get.get("version", "").strip().lstrip("v")
    if version and not (version.isdecimal() and len(version) < 9):
        raise Invalid(f"The version {version!r} is not a number. Nothing was searched.", field="version")
    return PredictionFilters(
        slot=get.get("slot", ""),
        version=int(version) if version else None,
        flagged=get.get("flagged") == "on",
        request_id=get.get("request_id", "").strip(),
        since=_moment(get.get("since", "")),
        until=_moment(get.get("until", "")),
    )


def _moment(text: str) -> datetime | None:
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise Invalid(f"The time {text[:40]!r} is not one. Write it as 2026-11-22T14:05, in UTC.") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _example(detail: EndpointDetail) -> str:
    live = detail.live
    if live is None or live.signature is None:
        return ""
    return snippets.curl(settings.ENVIRONMENT.predict_url, detail.name, snippets.example(live.signature.features))


def _outcome_curl(identifier: UUID) -> str:
    body = json.dumps({"outcomes": [{"prediction_id": str(identifier), "value": "<what turned out to be true>"}]})
    url = f"{settings.ENVIRONMENT.console_url}/api/v1/outcomes/"
    return f"curl {url} \\\n  -H \"Authorization: Bearer $SIGNALBOX_KEY\" -H 'Content-Type: application/json' \\\n  -d '{body}'"
