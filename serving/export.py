"""Export the prediction log as CSV, streamed segment by segment."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import NotFound
from serving.models import Endpoint
from serving.queries.predictions import Prediction, PredictionFilters, predictions_page

MOST_ROWS = 1_000_000
_AT_ONCE = 2000
_FIXED = ("prediction_id", "row", "received_at", "slot", "model", "version", "latency_ms", "request_id", "key_id", "flags")


class _Line:
    """A file for ``csv.writer`` that gives each line back."""

    def write(self, text: str) -> str:
        return text


def export_predictions(*, actor: Actor, endpoint: str, filters: PredictionFilters | None = None) -> Iterator[str]:
    """Give CSV lines, newest prediction first, at most a million rows; the columns are those of the newest row.

    Raises NotFound. The audit log says who took what.
    """
    require(actor, Right.PREDICTIONS_EXPORT, f"endpoint:{endpoint}")
    if not Endpoint.objects.filter(name=endpoint).exists():
        raise NotFound(f"There is no endpoint {endpoint}. The list of endpoints has those that exist.")
    wanted = filters or PredictionFilters()
    chosen = {"filters": {name: str(value) for name in PredictionFilters.__slots__ if (value := getattr(wanted, name))}}
    audit.record(actor=actor, verb="export", subject_kind="endpoint", subject_name=endpoint, after=chosen)
    return _lines(endpoint, wanted)


def _lines(endpoint: str, filters: PredictionFilters) -> Iterator[str]:
    writer = csv.writer(_Line())
    columns: tuple[list[str], list[str]] | None = None
    for written, each in enumerate(_predictions(endpoint, filters)):
        if columns is None:
            columns = list(each.inputs), list(each.outputs)
            yield writer.writerow([*_FIXED, *(f"in.{name}" for name in columns[0]), *(f"out.{name}" for name in columns[1])])
        if written >= MOST_ROWS:
            return
        yield writer.writerow([_cell(value) for value in _values(each, *columns)])
    if columns is None:
        yield writer.writerow(_FIXED)


def _predictions(endpoint: str, filters: PredictionFilters) -> Iterator[Prediction]:
    cursor: str | None = None
    while True:
        page = predictions_page(endpoint, filters=filters, cursor=cursor, limit=_AT_ONCE)
        yield from page.results
        cursor = page.next
        if cursor is None:
            return


def _values(each: Prediction, inputs: list[str], outputs: list[str]) -> list[Any]:
    flags = ", ".join(each.flags)
    fixed = [each.id, each.row, each.received_at.isoformat(), each.slot, each.model, each.version, each.latency_ms, each.request_id, each.key_id, flags]
    return [*fixed, *(each.inputs.get(name) for name in inputs), *(each.outputs.get(name) for name in outputs)]


def _cell(value: Any) -> Any:
    """Lists as JSON; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return value
