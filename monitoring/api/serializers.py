"""The JSON of monitoring: answers are the queries' own shapes, bodies are declared here."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from access.api.fields import OneOf
from access.api.paging import SortField
from monitoring.api.from_dataclass import serializer_of
from monitoring.models import Reference, Rule, Standing
from monitoring.outcomes import Accepted
from monitoring.queries import ALERT_SORTS, shapes
from monitoring.rules import RANGES

DriftGridOut = serializer_of(shapes.DriftGrid)
FeatureDetailOut = serializer_of(shapes.FeatureDetail)
DataQualityOut = serializer_of(shapes.DataQuality)
PerformanceSummaryOut = serializer_of(shapes.PerformanceSummary)
PerformanceSeriesOut = serializer_of(shapes.PerformanceSeries)
AlertRowOut = serializer_of(shapes.AlertRow)
AlertDetailOut = serializer_of(shapes.AlertDetail)
AcceptedOut = serializer_of(Accepted)


class HoursIn(serializers.Serializer[Any]):
    hours = serializers.IntegerField(min_value=1, max_value=168, required=False, default=24, help_text="How far back, up to 168.")
    version = serializers.IntegerField(min_value=1, required=False, help_text="The version's number; the live one if not given.")


class PerformanceIn(serializers.Serializer[Any]):
    hours = serializers.IntegerField(min_value=1, max_value=24 * 365, required=False, default=24)


class PerformanceOut(serializers.Serializer[Any]):
    summary = PerformanceSummaryOut(many=True)
    series = PerformanceSeriesOut()


class StandingOut(serializers.ModelSerializer[Standing]):
    """What is said of an endpoint now."""

    class Meta:
        model = Standing
        fields = ["endpoint", "model", "version", "verdict", "text", "level", "window_at", "evaluated_at"]


class OutcomeIn(serializers.Serializer[Any]):
    prediction_id = serializers.CharField(max_length=64, help_text="The id that the prediction was answered with.")
    value = serializers.JSONField(allow_null=True, help_text="The true label (text, whole number, boolean) or number; null is refused.")
    row = serializers.IntegerField(required=False, default=0, help_text="The row within the prediction, from 0.")


class OutcomesIn(serializers.Serializer[Any]):
    outcomes = OutcomeIn(many=True, help_text="1 to 10,000.")


class RuleOut(serializers.ModelSerializer[Rule]):
    class Meta:
        model = Rule
        fields = ["endpoint", *RANGES, "muted_features", "revision", "updated_at", "updated_by"]


class RuleIn(serializers.Serializer[Any]):
    changes = serializers.DictField(help_text=f"Any of {', '.join(RANGES)}, muted_features.")
    revision = serializers.IntegerField(required=False, help_text="The revision you saw.")
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class ReferenceIn(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=100)
    version = serializers.IntegerField(min_value=1)
    days = serializers.IntegerField(required=False, allow_null=True, default=None, help_text="The traffic of so many days; the training sample if null.")
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class ReferenceOut(serializers.ModelSerializer[Reference]):
    class Meta:
        model = Reference
        fields = ["id", "endpoint", "source", "rows", "from_at", "until_at", "created_at", "created_by"]


class AlertsIn(serializers.Serializer[Any]):
    state = OneOf(choices=["open", "acknowledged", "resolved", "unresolved"], required=False, default="", allow_blank=True)
    endpoint = serializers.CharField(required=False, default="", allow_blank=True, max_length=100)
    sort = SortField(ALERT_SORTS)


class AcknowledgeIn(serializers.Serializer[Any]):
    revision = serializers.IntegerField(required=False, help_text="The revision you saw.")
    text = serializers.CharField(required=False, default="", allow_blank=True, max_length=2000)


class ResolveIn(AcknowledgeIn):
    false_alarm = serializers.BooleanField(required=False, default=False)


class NoteIn(serializers.Serializer[Any]):
    text = serializers.CharField(max_length=2000)
