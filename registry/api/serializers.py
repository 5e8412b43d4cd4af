"""The JSON of models, versions, builds, files and aliases."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from access.api.fields import OneOf
from access.api.paging import SortField
from access.api.serializers import SearchIn
from registry.models import Alias, Artifact, Build, Version
from registry.queries import MODEL_SORTS, VERSION_SORTS


class Tags(serializers.DictField):
    child = serializers.CharField(allow_blank=True)


class ModelOut(serializers.Serializer[Any]):
    """``versions`` counts them; ``latest_number`` is the newest that exists (0: none); ``aliases`` is name to number."""

    name = serializers.CharField()
    description = serializers.CharField()
    tags = Tags()
    owner = serializers.CharField(source="owner_name")
    versions = serializers.IntegerField()
    latest_number = serializers.IntegerField()
    latest_state = serializers.CharField()
    latest_not_servable_reason = serializers.CharField(help_text="Why the latest version, though ready, has no build that serves here; else empty.")
    aliases = serializers.DictField(child=serializers.IntegerField())
    revision = serializers.IntegerField(help_text="Send it back with an edit: a stale one is refused.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    archived_at = serializers.DateTimeField(allow_null=True)


class ModelDetailOut(ModelOut):
    states = serializers.DictField(child=serializers.IntegerField(), help_text="Number of versions in each state.")


class ModelChange(serializers.Serializer[Any]):
    description = serializers.CharField(required=False, allow_blank=True)
    tags = Tags(required=False)
    revision = serializers.IntegerField(required=False, min_value=1)


class TensorOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    datatype = serializers.CharField()
    shape = serializers.ListField(child=serializers.IntegerField())


class BuildOut(serializers.ModelSerializer[Build]):
    inputs = TensorOut(many=True)
    outputs = TensorOut(many=True)

    class Meta:
        model = Build
        fields = ["kind", "digest", "size_bytes", "inputs", "outputs", "single_row_ms", "created_at"]


class ArtifactOut(serializers.ModelSerializer[Artifact]):
    class Meta:
        model = Artifact
        fields = ["role", "filename", "digest", "size_bytes", "created_at"]


class StepOut(serializers.Serializer[Any]):
    """One step of the checklist."""

    key = serializers.CharField()
    title = serializers.CharField()
    state = serializers.ChoiceField(choices=["waiting", "running", "passed", "failed", "skipped"])
    text = serializers.CharField()
    advice = serializers.CharField()
    took_ms = serializers.FloatField(allow_null=True)


class VersionOut(serializers.ModelSerializer[Version]):
    """A version in a list."""

    model = serializers.CharField(source="model.name")
    metrics = serializers.DictField(child=serializers.FloatField())
    tags = Tags()
    aliases: Any = serializers.SlugRelatedField(many=True, read_only=True, slug_field="name")
    builds: Any = serializers.SlugRelatedField(many=True, read_only=True, slug_field="kind")

    class Meta:
        model = Version
        fields = [
            "model",
            "number",
            "state",
            "format",
            "description",
            "tags",
            "metrics",
            "aliases",
            "builds",
            "refusal",
            "not_servable_reason",
            "revision",
            "created_by",
            "created_at",
            "ready_at",
            "archived_at",
        ]


class VersionDetailOut(VersionOut):
    """A version with its checklist, signature, conversion report, files and builds."""

    builds = BuildOut(many=True)
    artifacts = ArtifactOut(many=True)
    steps = StepOut(many=True)
    signature = serializers.DictField(allow_null=True, help_text="layout, features, inputs, outputs, labels, task.")
    conversion = serializers.DictField(help_text="libraries, opset, agreement, single_row_ms, size.")

    class Meta(VersionOut.Meta):
        fields = [*VersionOut.Meta.fields, "artifacts", "steps", "signature", "conversion"]


class VersionIn(serializers.Serializer[Any]):
    """A multipart form; ``tags`` and ``metrics`` are JSON objects as text."""

    file = serializers.FileField(help_text="The model: skops, joblib, pickle or ONNX.", allow_empty_file=True)
    sample = serializers.FileField(required=False, allow_empty_file=True, help_text="Rows like those it was trained on: CSV, JSON or Parquet.")
    description = serializers.CharField(required=False, default="", allow_blank=True)
    tags = serializers.JSONField(required=False, default=dict, help_text='{"team": "growth"}')
    metrics = serializers.JSONField(required=False, default=dict, help_text='{"accuracy": 0.93}')

    def validate_tags(self, value: object) -> object:
        return _an_object(value)

    def validate_metrics(self, value: object) -> object:
        return _an_object(value)


class VersionChange(serializers.Serializer[Any]):
    description = serializers.CharField(required=False, allow_blank=True)
    tags = Tags(required=False)
    metrics = serializers.DictField(child=serializers.FloatField(), required=False)
    revision = serializers.IntegerField(required=False, min_value=1)


class Reason(serializers.Serializer[Any]):
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class AliasOut(serializers.ModelSerializer[Alias]):
    version = serializers.IntegerField(source="version.number")

    class Meta:
        model = Alias
        fields = ["name", "version", "updated_at"]


class AliasesOut(serializers.Serializer[Any]):
    results = AliasOut(many=True)


class AliasIn(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1)
    seen = serializers.IntegerField(required=False, min_value=0, help_text="The version you saw it on (0: none); a stale one is refused.")


class SeenIn(serializers.Serializer[Any]):
    seen = serializers.IntegerField(required=False, min_value=0)


class ModelsFilter(SearchIn):
    tag = serializers.CharField(required=False, default="", allow_blank=True, max_length=600, help_text="`name`, or `name:value`.")
    archived = serializers.BooleanField(required=False, default=False)
    sort = SortField(MODEL_SORTS)


class VersionsFilter(ModelsFilter):
    sort = SortField(VERSION_SORTS)
    state = OneOf(choices=Version.State.choices, required=False, default="")


class DownloadIn(serializers.Serializer[Any]):
    what = OneOf(choices=["original", "sample", "reference", "onnx"], default="original")


class CompareIn(serializers.Serializer[Any]):
    a = serializers.IntegerField(min_value=1)
    b = serializers.IntegerField(min_value=1)


class MetricChangeOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    a = serializers.FloatField(allow_null=True)
    b = serializers.FloatField(allow_null=True)
    change = serializers.FloatField(allow_null=True)


class ColumnChangeOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    change = serializers.ChoiceField(choices=["same", "added", "removed", "changed"])
    text = serializers.CharField()


class PairOut(serializers.Serializer[Any]):
    name = serializers.CharField()
    a = serializers.FloatField()
    b = serializers.FloatField()


class AnswersOut(serializers.Serializer[Any]):
    """``agreeing`` of ``rows`` answers are the same; ``shift`` is half the summed differences of ``shares``, 0 to 1."""

    verdict = serializers.ChoiceField(choices=["same", "close", "different"])
    kind = serializers.ChoiceField(choices=["classes", "numbers"])
    rows = serializers.IntegerField()
    agreeing = serializers.IntegerField()
    mean_difference = serializers.FloatField(allow_null=True)
    largest_difference = serializers.FloatField(allow_null=True)
    shift = serializers.FloatField()
    shares = PairOut(many=True)
    numbers = PairOut(many=True)


class ComparisonOut(serializers.Serializer[Any]):
    """``blocks`` says why b cannot replace a at an endpoint; empty if it can. ``answers`` is there once ``answers_state`` is ``done``."""

    answers_state = serializers.ChoiceField(choices=["none", "comparing", "done", "failed", "impossible"])
    answers_reason = serializers.CharField()
    answers = AnswersOut(allow_null=True)
    sample_number = serializers.IntegerField(allow_null=True)

    metrics = MetricChangeOut(many=True)
    columns = ColumnChangeOut(many=True)
    blocks = serializers.ListField(child=serializers.CharField())


def _an_object(value: object) -> object:
    if not isinstance(value, dict):
        raise serializers.ValidationError("This must be a JSON object.")
    return value
