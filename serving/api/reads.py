"""REST views that only read: the ledger, traffic, the prediction log, the processes."""

from __future__ import annotations

from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.api.bodies import parameters_of
from access.api.paging import PARAMETERS, answer, cursor_and_limit, paged
from access.api.permissions import reading_needs
from access.queries import key_with_id
from access.requests import request_actor
from access.rights import Right
from core.environment import environment
from core.paging import Page
from core.processes import parts
from core.queries import job_counts
from serving import queries
from serving.api import serializers
from serving.api.downloads import download_of
from serving.export import export_predictions
from serving.queries.log import compacted, lost_everywhere

_TAGS = ["serving"]


class LedgerView(APIView):
    permission_classes = reading_needs(Right.ENDPOINT_VIEW, "endpoint")

    @extend_schema(
        operation_id="list_ledger",
        parameters=[serializers.LedgerIn, *PARAMETERS],
        responses=paged(serializers.LedgerRow),
        summary="What changed, and what served when",
        tags=_TAGS,
    )
    def get(self, request: Request, name: str) -> Response:
        at = parameters_of(request, serializers.LedgerIn).get("at")
        if at is not None:
            row = queries.state_at(name, at)
            return answer(Page([row] if row else []), serializers.LedgerRow)
        cursor, limit = cursor_and_limit(request)
        return answer(queries.ledger_page(endpoint=name, cursor=cursor, limit=limit), serializers.LedgerRow)


class TrafficView(APIView):
    permission_classes = reading_needs(Right.ENDPOINT_VIEW, "endpoint")

    @extend_schema(
        operation_id="get_traffic",
        parameters=[serializers.TrafficIn],
        responses=serializers.Traffic,
        summary="Latency, requests and errors over time",
        tags=_TAGS,
    )
    def get(self, request: Request, name: str) -> Response:
        series = queries.traffic_series(name, **parameters_of(request, serializers.TrafficIn))
        # Numbers already: a serializer would copy some thousand of them one by one.
        return Response({"t": series.t, "lines": series.lines, "marks": series.marks, "step": series.step})


class ValidationView(APIView):
    permission_classes = reading_needs(Right.ENDPOINT_VIEW, "endpoint")

    @extend_schema(
        operation_id="get_validation",
        parameters=[serializers.ValidationIn],
        responses=serializers.ValidationActions,
        summary="What was done with values outside the signature",
        tags=_TAGS,
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(serializers.ValidationActions(queries.validation_actions(name, **parameters_of(request, serializers.ValidationIn))).data)


class PredictionsView(APIView):
    permission_classes = reading_needs(Right.PREDICTIONS_VIEW, "endpoint")

    @extend_schema(
        operation_id="list_predictions",
        parameters=[serializers.PredictionsIn, *PARAMETERS],
        responses=serializers.PredictionsPage,
        summary="Logged predictions, newest first",
        tags=_TAGS,
    )
    def get(self, request: Request, name: str) -> Response:
        filters = queries.PredictionFilters(**parameters_of(request, serializers.PredictionsIn))
        cursor, limit = cursor_and_limit(request)
        page = queries.predictions_page(actor=request_actor(request), endpoint=name, filters=filters, cursor=cursor, limit=limit)
        return Response(serializers.PredictionsPage(page).data)


class PredictionView(APIView):
    permission_classes = reading_needs(Right.PREDICTIONS_VIEW, "endpoint")

    @extend_schema(operation_id="get_prediction", responses=serializers.PredictionDetail, summary="One logged prediction", tags=_TAGS)
    def get(self, request: Request, name: str, prediction_id: UUID) -> Response:
        return Response(serializers.PredictionDetail(queries.prediction(actor=request_actor(request), endpoint=name, identifier=prediction_id)).data)


class _FileRenderer(BaseRenderer):
    """Only so that the form is chosen by ``format`` or ``Accept``; the view streams by itself."""

    def render(self, data: object, accepted_media_type: str | None = None, renderer_context: object = None) -> bytes:
        return JSONRenderer().render(data)


class _CsvRenderer(_FileRenderer):
    media_type = "text/csv"
    format = "csv"


class _ParquetRenderer(_FileRenderer):
    media_type = "application/vnd.apache.parquet"
    format = "parquet"


class PredictionsExportView(APIView):
    permission_classes = reading_needs(Right.PREDICTIONS_EXPORT, "endpoint")
    renderer_classes = [_CsvRenderer, _ParquetRenderer, JSONRenderer]

    @extend_schema(
        operation_id="export_predictions",
        parameters=[serializers.PredictionsExportIn],
        responses={(200, "text/csv"): OpenApiResponse(OpenApiTypes.STR), (200, _ParquetRenderer.media_type): OpenApiResponse(OpenApiTypes.BINARY)},
        summary="Logged predictions as CSV or Parquet",
        description=(
            "Oldest first; the last 24 hours unless `since` and `until` say otherwise. One answer reads at most a million rows: "
            "where more were asked for, the header `Signalbox-Next-Since` is the `since` of the next request. "
            "Masked inputs are null in every row without the right predictions.unmask: `Signalbox-Masked` says how many columns are, "
            "`masked_inputs` of the endpoint which; a Parquet file names them in its metadata, `signalbox.masked`."
        ),
        tags=_TAGS,
    )
    def get(self, request: Request, name: str) -> StreamingHttpResponse:
        asked = parameters_of(request, serializers.PredictionsExportIn)
        form = asked.pop("format") or ("parquet" if isinstance(request.accepted_renderer, _ParquetRenderer) else "csv")
        export = export_predictions(actor=request_actor(request), endpoint=name, filters=queries.PredictionFilters(**asked), form=form)
        return download_of(export)


class KeyUsageView(APIView):
    permission_classes = reading_needs(Right.KEY_MANAGE)

    @extend_schema(operation_id="get_key_usage", responses=serializers.KeyUsed, summary="What an API key has used", tags=_TAGS)
    def get(self, request: Request, key_id: str) -> Response:
        key, use = key_with_id(key_id), queries.usage_of(key_id)
        today = {"requests": use.today.requests, "rows": use.today.rows, "budget_rows": key.limits.get("rows_per_day")}
        in_all = {"requests": use.in_all.requests, "rows": use.in_all.rows, "budget_rows": key.limits.get("rows_in_all")}
        return Response(serializers.KeyUsed({"key_id": key.id, "today": today, "in_all": in_all, "days": use.days}).data)


class SystemView(APIView):
    permission_classes = reading_needs(Right.SYSTEM_VIEW)

    @extend_schema(operation_id="get_system", responses=serializers.System, summary="Route tables and processes", tags=_TAGS)
    def get(self, request: Request) -> Response:
        state = queries.system_state()
        whole = {name: getattr(state, name) for name in ("table_revision", "published_at", "disagree", "processes")} | {
            "parts": parts(environment().run_dir),
            "jobs": job_counts(),
            "lost": lost_everywhere(),
            "compacted": compacted(),
        }
        return Response(serializers.System(whole).data)
