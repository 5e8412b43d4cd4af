"""REST views of monitoring: parse, ask for the right, call the verb or query, answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.actors import EVERYTHING
from access.api.bodies import body_of, parameters_of
from access.api.paging import PARAMETERS, cursor_and_limit, paged
from access.api.permissions import reading_needs
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from monitoring import handle_alert, outcomes, queries
from monitoring.api import serializers
from monitoring.errors import NoSuchEndpoint, WrongOutcomes
from monitoring.evaluate import evaluate_now
from monitoring.models import Verdict
from monitoring.rules import change_rule, rule_of
from monitoring.set_reference import set_reference
from serving.models import Endpoint

_TAGS = ["monitoring"]
_READS = reading_needs(Right.ENDPOINT_VIEW, "endpoint")


def _must_exist(endpoint: str) -> None:
    if not Endpoint.objects.filter(name=endpoint).exists():
        raise NoSuchEndpoint(f"There is no endpoint {endpoint}.")


class DriftView(APIView):
    permission_classes = _READS

    @extend_schema(
        operation_id="get_drift", parameters=[serializers.HoursIn], responses=serializers.DriftGridOut, summary="Drift of every feature by hour", tags=_TAGS
    )
    def get(self, request: Request, name: str) -> Response:
        _must_exist(name)
        # As it is: a serializer would copy some thousand cells field by field.
        return Response(msgspec.to_builtins(queries.drift_overview(name, **parameters_of(request, serializers.HoursIn))))


class FeatureView(APIView):
    permission_classes = _READS

    @extend_schema(
        operation_id="get_feature_drift", parameters=[serializers.HoursIn], responses=serializers.FeatureDetailOut, summary="One feature", tags=_TAGS
    )
    def get(self, request: Request, name: str, feature: str) -> Response:
        _must_exist(name)
        return Response(serializers.FeatureDetailOut(queries.feature_detail(name, feature, **parameters_of(request, serializers.HoursIn))).data)


class QualityView(APIView):
    permission_classes = _READS

    @extend_schema(
        operation_id="get_quality", parameters=[serializers.HoursIn], responses=serializers.DataQualityOut, summary="Missing and odd values", tags=_TAGS
    )
    def get(self, request: Request, name: str) -> Response:
        _must_exist(name)
        return Response(serializers.DataQualityOut(queries.data_quality(name, **parameters_of(request, serializers.HoursIn))).data)


class PerformanceView(APIView):
    permission_classes = _READS

    @extend_schema(
        operation_id="get_performance", parameters=[serializers.PerformanceIn], responses=serializers.PerformanceOut, summary="Performance", tags=_TAGS
    )
    def get(self, request: Request, name: str) -> Response:
        _must_exist(name)
        hours = parameters_of(request, serializers.PerformanceIn)["hours"]
        found = {"summary": queries.performance_summary(name, hours), "series": queries.performance_series(name, hours)}
        return Response(serializers.PerformanceOut(found).data)


class EvaluateView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="evaluate", request=None, responses=serializers.StandingOut, summary="Judge the newest traffic now", tags=_TAGS)
    def post(self, request: Request, name: str) -> Response:
        standing = evaluate_now(actor=request_actor(request), endpoint=name)
        if standing is None:
            return Response({"endpoint": name, "verdict": Verdict.NO_DATA.value, "text": "Nothing was predicted yet."})
        return Response(serializers.StandingOut(standing).data)


class RuleView(APIView):
    permission_classes = _READS

    @extend_schema(operation_id="get_rule", responses=serializers.RuleOut, summary="The limits", tags=_TAGS)
    def get(self, request: Request, name: str) -> Response:
        _must_exist(name)
        return Response(serializers.RuleOut(rule_of(name)).data)

    @extend_schema(operation_id="change_rule", request=serializers.RuleIn, responses=serializers.RuleOut, summary="Change limits", tags=_TAGS)
    def patch(self, request: Request, name: str) -> Response:
        return Response(serializers.RuleOut(change_rule(actor=request_actor(request), endpoint=name, **body_of(request, serializers.RuleIn))).data)


class ReferenceView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(
        operation_id="set_reference", request=serializers.ReferenceIn, responses=serializers.ReferenceOut, summary="Choose the reference", tags=_TAGS
    )
    def post(self, request: Request, name: str) -> Response:
        made = set_reference(actor=request_actor(request), endpoint=name, **body_of(request, serializers.ReferenceIn))
        return Response(serializers.ReferenceOut(made).data)


_CSV = "csv"


class CsvParser(BaseParser):
    """Gives the text of ``text/csv`` as it is; ``monitoring.outcomes`` knows its columns."""

    media_type = "text/csv"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            return {_CSV: stream.read().decode("utf-8-sig")}
        except UnicodeDecodeError as error:
            raise WrongOutcomes("The CSV must be UTF-8.") from error


class OutcomesView(APIView):
    permission_classes = [IsAuthenticated]
    parser_classes = [JSONParser, CsvParser]

    @extend_schema(
        operation_id="send_outcomes",
        request={"application/json": serializers.OutcomesIn, "text/csv": OpenApiTypes.STR},
        responses=serializers.AcceptedOut,
        summary="Send the true values of predictions",
        tags=_TAGS,
    )
    def post(self, request: Request) -> Response:
        if request.content_type.startswith(CsvParser.media_type):
            sent = outcomes.outcomes_of_csv(dict(request.data).get(_CSV, ""))  # an empty body is never parsed
        else:
            sent = [outcomes.OutcomeIn(**one) for one in body_of(request, serializers.OutcomesIn)["outcomes"]]
        return Response(serializers.AcceptedOut(outcomes.send_outcomes(actor=request_actor(request), outcomes=sent)).data)


class AlertsView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(
        operation_id="list_alerts",
        parameters=[serializers.AlertsIn, *PARAMETERS],
        responses=paged(serializers.AlertRowOut),
        summary="List alerts",
        tags=_TAGS,
    )
    def get(self, request: Request) -> Response:
        wanted = parameters_of(request, serializers.AlertsIn)
        require(request_actor(request), Right.ENDPOINT_VIEW, f"endpoint:{wanted['endpoint']}" if wanted["endpoint"] else EVERYTHING)
        cursor, limit = cursor_and_limit(request)
        page = queries.alerts_page(**wanted, cursor=cursor, limit=limit)
        return Response({"results": serializers.AlertRowOut(page.results, many=True).data, "next": page.next})


def _alert(request: Request, number: int) -> Response:
    found = queries.alert_detail(number)
    require(request_actor(request), Right.ENDPOINT_VIEW, f"endpoint:{found.alert.endpoint}")
    return Response(serializers.AlertDetailOut(found).data)


class AlertView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="get_alert", responses=serializers.AlertDetailOut, summary="Show an alert", tags=_TAGS)
    def get(self, request: Request, number: int) -> Response:
        return _alert(request, number)


class AcknowledgeView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(
        operation_id="acknowledge_alert", request=serializers.AcknowledgeIn, responses=serializers.AlertDetailOut, summary="Acknowledge an alert", tags=_TAGS
    )
    def post(self, request: Request, number: int) -> Response:
        handle_alert.acknowledge(actor=request_actor(request), number=number, **body_of(request, serializers.AcknowledgeIn))
        return _alert(request, number)


class ResolveView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="resolve_alert", request=serializers.ResolveIn, responses=serializers.AlertDetailOut, summary="Resolve an alert", tags=_TAGS)
    def post(self, request: Request, number: int) -> Response:
        handle_alert.resolve(actor=request_actor(request), number=number, **body_of(request, serializers.ResolveIn))
        return _alert(request, number)


class NotesView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(operation_id="note_alert", request=serializers.NoteIn, responses={201: serializers.AlertDetailOut}, summary="Write a note", tags=_TAGS)
    def post(self, request: Request, number: int) -> Response:
        handle_alert.note(actor=request_actor(request), number=number, **body_of(request, serializers.NoteIn))
        answer = _alert(request, number)
        answer.status_code = 201
        return answer
