"""What models exist: models, their immutable versions, the files and builds of each, aliases."""

from __future__ import annotations

from django.db import models

from core.clock import now
from core.ids import uuid7


class Model(models.Model):
    """A named line of versions."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    owner_name = models.CharField(max_length=150, blank=True)
    latest_number = models.PositiveIntegerField(default=0)
    revision = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["-updated_at", "-id"], name="model_updated")]

    def __str__(self) -> str:
        return self.name

    @property
    def subject(self) -> str:
        """What grants and permission checks call this model."""
        return f"model:{self.name}"


class Version(models.Model):
    """One immutable version: files with digests, signature, metrics, conversion report."""

    class State(models.TextChoices):
        CHECKING = "checking"
        READY = "ready"
        REFUSED = "refused"

    class Format(models.TextChoices):
        SKOPS = "skops"
        PICKLE = "pickle"
        ONNX = "onnx"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.CHECKING)
    format = models.CharField(max_length=16, choices=Format.choices, blank=True)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True, help_text="Name to number, as measured by whoever trained it.")
    signature = models.JSONField(null=True, blank=True, help_text="registry.signature.Signature as JSON.")
    steps = models.JSONField(default=list, help_text="The checklist: [{key, title, state, text, advice, took_ms}].")
    refusal = models.TextField(blank=True, help_text="Why it was refused; empty otherwise.")
    not_servable_reason = models.TextField(blank=True, help_text="Why a good version has no build here; empty otherwise.")
    conversion = models.JSONField(default=dict, help_text="The conversion report: libraries, opset, agreement, timings.")
    revision = models.PositiveIntegerField(default=1, help_text="Of the words about it: description, tags, metrics.")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=now)
    ready_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "number"], name="version_number_unique")]
        indexes = [
            models.Index(fields=["model", "-number"], name="version_model_number"),
            models.Index(fields=["model", "-created_at", "-number"], name="version_model_registered"),
        ]

    def __str__(self) -> str:
        return f"{self.model.name} v{self.number}"


class Artifact(models.Model):
    """A file of a version in the content-addressed store. The bytes never change; the digest says so."""

    class Role(models.TextChoices):
        ORIGINAL = "original"  # what was uploaded
        SAMPLE = "sample"  # the training sample as uploaded
        REFERENCE = "reference"  # the sample's inputs and the build's outputs on them, checked, as Arrow IPC

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="artifacts")
    role = models.CharField(max_length=16, choices=Role.choices)
    filename = models.CharField(max_length=255)
    digest = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "role"], name="artifact_role_unique")]
        indexes = [models.Index(fields=["digest"], name="artifact_digest")]

    def __str__(self) -> str:
        return f"{self.filename} ({self.digest[:12]})"


class Build(models.Model):
    """One servable form of a version."""

    class Kind(models.TextChoices):
        NATIVE = "native"
        ONNX = "onnx"
        ONNX_INT8 = "onnx-int8"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="builds")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    digest = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    inputs = models.JSONField(help_text="[{name, datatype, shape}] as the Open Inference Protocol names them.")
    outputs = models.JSONField(help_text="[{name, datatype, shape}]")
    single_row_ms = models.FloatField(null=True)
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "kind"], name="build_kind_unique")]

    def __str__(self) -> str:
        return f"{self.version} {self.kind}"


class Alias(models.Model):
    """A label on a version (champion). It routes nothing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=64)
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="aliases")
    updated_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "name"], name="alias_name_unique")]

    def __str__(self) -> str:
        return f"{self.name} of {self.model}"


class AnswerComparison(models.Model):
    """How far two versions answer the same sample rows alike. Versions never change, so it is found once."""

    class State(models.TextChoices):
        COMPARING = "comparing"
        DONE = "done"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    older = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="+")
    newer = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=16, choices=State.choices, default=State.COMPARING)
    result = models.JSONField(null=True, blank=True, help_text="registry.answers.Answers as JSON, a being the older version.")
    failure = models.TextField(blank=True, help_text="Why there is no result; empty otherwise.")
    created_at = models.DateTimeField(default=now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["older", "newer"], name="answer_comparison_unique")]

    def __str__(self) -> str:
        return f"{self.older} and v{self.newer.number}"
