"""What answers: endpoints, slots, the ledger, published route tables, the prediction log and traffic counts."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from core.clock import now
from core.ids import uuid7
from registry.models import Build


class Endpoint(models.Model):
    """The stable public name that clients call. ``revision`` rises with every change of what answers."""

    class LogPolicy(models.TextChoices):
        DURABLE = "durable"  # answered after the log is committed or fsynced
        FAST = "fast"  # logged within 50 ms
        SAMPLED = "sampled"  # a share of the predictions, chosen by the hash of the id
        OFF = "off"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    live_slot = models.CharField(max_length=32, default="blue")
    sticky_on = models.CharField(max_length=100, blank=True, help_text="The feature whose value keeps a caller on one slot; empty: the request's id.")
    log_policy = models.CharField(max_length=16, choices=LogPolicy.choices, default=LogPolicy.FAST)
    log_share = models.FloatField(default=1.0, help_text="With the policy sampled: the share that is logged, 0 to 1.")
    validation = models.JSONField(default=dict, help_text="{default: refuse|clip|replace|flag, features: {name: policy}}")
    limits = models.JSONField(default=dict, help_text="serving.table.Limits")
    masked_inputs = models.JSONField(default=list, help_text="Features whose logged values are shown only to whoever may unmask them.")
    cache = models.JSONField(default=dict, help_text="{ttl_s, max_bytes, private}; ttl_s 0 keeps no answers.")
    tags = models.JSONField(default=dict, blank=True)
    revision = models.PositiveIntegerField(default=1)
    unloaded_at = models.DateTimeField(null=True, help_text="Since when it is out of service; null: it is in service.")
    unloaded_by = models.CharField(max_length=150, blank=True)
    unload_reason = models.TextField(blank=True)
    created_by = models.CharField(max_length=150, blank=True)
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)

    class Meta:
        indexes = [models.Index(fields=["-updated_at", "-id"], name="endpoint_updated")]

    def __str__(self) -> str:
        return self.name

    @property
    def subject(self) -> str:
        """What grants and permission checks call this endpoint."""
        return f"endpoint:{self.name}"


class Slot(models.Model):
    """A place at an endpoint that holds one warm build."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="slots")
    name = models.CharField(max_length=32)
    build = models.ForeignKey(Build, null=True, on_delete=models.PROTECT, related_name="slots")
    weight = models.PositiveSmallIntegerField(default=0)
    shadow = models.BooleanField(default=False)
    deployed_at = models.DateTimeField(null=True)
    deployed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "name"], name="slot_name_unique"),
            models.CheckConstraint(condition=Q(weight__gte=0, weight__lte=100), name="slot_weight_percent"),
            models.CheckConstraint(condition=Q(build__isnull=False) | Q(weight=0), name="slot_empty_has_no_traffic"),
            models.CheckConstraint(condition=Q(shadow=False) | Q(weight=0), name="slot_shadow_has_no_traffic"),
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.name}"


class LedgerEntry(models.Model):
    """One change of what answers, with the whole routing state before and after. Append-only."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="ledger")
    revision = models.PositiveIntegerField(help_text="The endpoint's revision after this change.")
    verb = models.CharField(max_length=32)
    summary = models.CharField(max_length=500)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=150)
    reason = models.TextField(blank=True)
    before = models.JSONField(help_text="serving.traffic.RoutingState as JSON.")
    after = models.JSONField()
    restores = models.PositiveIntegerField(null=True, help_text="Of a roll back: the endpoint's revision whose state it applied.")
    table_revision = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["endpoint", "revision"], name="ledger_revision_unique")]
        indexes = [models.Index(fields=["endpoint", "-at"], name="ledger_endpoint_at")]

    def __str__(self) -> str:
        return f"{self.endpoint} r{self.revision}: {self.summary}"


class PublishedTable(models.Model):
    """A route table (``serving.table.RouteTable`` as JSON) with its rising revision."""

    revision = models.BigAutoField(primary_key=True)
    document = models.BinaryField()
    published_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return f"route table r{self.revision}"


class DataPlaneProcess(models.Model):
    """The last heartbeat of one data-plane process."""

    class Kind(models.TextChoices):
        HTTP = "http"
        GRPC = "grpc"

    id = models.UUIDField(primary_key=True)
    kind = models.CharField(max_length=8, choices=Kind.choices, db_default=Kind.HTTP)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    table_revision = models.PositiveBigIntegerField(default=0)
    ready = models.BooleanField(default=False)
    builds = models.JSONField(default=list, help_text="[{digest, error}] loaded, or failed with the reason.")
    memory_bytes = models.PositiveBigIntegerField(default=0)
    spooled_segments = models.PositiveIntegerField(default=0)
    lost_predictions = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class PredictionSegment(models.Model):
    """A columnar piece of the prediction log: Arrow IPC, zstd; the columns are in ``serving.segments``."""

    id = models.UUIDField(primary_key=True)
    endpoint = models.CharField(max_length=100)
    slot = models.CharField(max_length=32)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    build_digest = models.CharField(max_length=64)
    table_revision = models.PositiveBigIntegerField()
    rows = models.PositiveIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    columns = models.BinaryField()
    written_at = models.DateTimeField(db_default=Now())
    profiled_at = models.DateTimeField(null=True)
    compacted = models.BooleanField(db_default=False, help_text="Compaction is done with it: it is put together, or has nothing to be put to.")

    class Meta:
        indexes = [
            models.Index(fields=["last_at", "id"], condition=Q(compacted=False, profiled_at__isnull=False), name="segment_uncompacted"),
            models.Index(fields=["endpoint", "-last_at", "-id"], name="segment_endpoint_last"),
            models.Index(fields=["endpoint", "id"], condition=Q(profiled_at__isnull=True), name="segment_unprofiled"),
            models.Index(fields=["last_at", "first_at"], name="segment_last_first"),
        ]

    def __str__(self) -> str:
        return f"{self.rows} predictions of {self.endpoint} {self.slot}"


class Compaction(models.Model):
    """What one run of compaction did."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=now)
    segments_before = models.PositiveBigIntegerField(default=0)
    segments_after = models.PositiveBigIntegerField(default=0)
    bytes_before = models.PositiveBigIntegerField(default=0)
    bytes_after = models.PositiveBigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["at"], name="compaction_at")]

    def __str__(self) -> str:
        return f"{self.segments_before} segments became {self.segments_after}"


class ReplacedSegment(models.Model):
    """A segment that compaction has put into a larger one: what comes late under its id is in the log already."""

    id = models.UUIDField(primary_key=True)
    at = models.DateTimeField(default=now)

    class Meta:
        indexes = [models.Index(fields=["at"], name="replaced_at")]

    def __str__(self) -> str:
        return f"segment {self.id}, replaced {self.at}"


class LostPredictions(models.Model):
    """Answered predictions of one data-plane process that are not in the log: it was killed, or could write nowhere.

    An absolute number: writing twice is harmless.
    """

    id = models.BigAutoField(primary_key=True)
    process = models.UUIDField()
    endpoint = models.CharField(max_length=160)
    slot = models.CharField(max_length=48)
    predictions = models.PositiveBigIntegerField()
    at = models.DateTimeField(help_text="When the number last rose.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["process", "endpoint", "slot"], name="lost_predictions_unique")]
        indexes = [models.Index(fields=["endpoint"], name="lost_predictions_endpoint")]

    def __str__(self) -> str:
        return f"{self.predictions} predictions of {self.endpoint} {self.slot}"


class KeyUsage(models.Model):
    """What one data-plane process has answered for one key on one day (UTC). Absolute values: writing twice is harmless."""

    id = models.BigAutoField(primary_key=True)
    key_id = models.CharField(max_length=16)
    day = models.DateField()
    process = models.UUIDField(help_text="The data-plane process; the nil UUID in a day that was put together.")
    requests = models.PositiveBigIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key_id", "day", "process"], name="key_usage_unique")]
        indexes = [models.Index(fields=["day"], name="key_usage_day")]

    def __str__(self) -> str:
        return f"{self.key_id} {self.day}: {self.rows}"


class ValidationCount(models.Model):
    """What validation did at one slot in one hour, as one data-plane process counted it. Absolute values: writing twice is harmless.

    ``action`` and what is counted: ``checked`` rows, with an empty ``feature``; ``clipped``, ``replaced``, ``flagged``
    and ``filled`` values of a feature, the last missing and replaced; ``refused`` requests for a value of it.
    """

    id = models.BigAutoField(primary_key=True)
    start_at = models.DateTimeField(help_text="The beginning of the hour.")
    endpoint = models.CharField(max_length=100)
    slot = models.CharField(max_length=32)
    version = models.PositiveIntegerField()
    feature = models.CharField(max_length=100, blank=True)
    action = models.CharField(max_length=16)
    process = models.UUIDField(help_text="The data-plane process; the nil UUID in an hour that was put together.")
    count = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["start_at", "endpoint", "slot", "version", "feature", "action", "process"], name="validation_count_unique")
        ]
        indexes = [models.Index(fields=["endpoint", "start_at"], name="validation_endpoint_start")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.slot} {self.start_at:%Y-%m-%d %H:%M}: {self.count} {self.action} {self.feature}".rstrip()


class TrafficWindow(models.Model):
    """What one data-plane process counted at one slot in one window. Absolute values: writing twice is harmless.

    ``slot`` is empty for what was refused before a slot was chosen. ``latency`` counts requests in
    the buckets of ``serving.latency.EDGES_US``.
    """

    class Level(models.IntegerChoices):
        TEN_SECONDS = 10
        FIVE_MINUTES = 300

    id = models.BigAutoField(primary_key=True)
    level = models.PositiveSmallIntegerField(choices=Level.choices)
    start_at = models.DateTimeField()
    endpoint = models.CharField(max_length=100)
    slot = models.CharField(max_length=32, blank=True)
    version = models.PositiveIntegerField(default=0)
    process = models.UUIDField(help_text="The data-plane process; the nil UUID in a rolled-up window.")
    requests = models.PositiveBigIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    refused = models.PositiveBigIntegerField(default=0, help_text="4xx: the caller's mistakes.")
    errors = models.PositiveBigIntegerField(default=0, help_text="5xx: ours.")
    flagged = models.PositiveBigIntegerField(default=0, help_text="Rows that were clipped, replaced or flagged.")
    cache_hits = models.PositiveBigIntegerField(default=0)
    latency = ArrayField(models.PositiveBigIntegerField())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["level", "start_at", "endpoint", "slot", "version", "process"], name="traffic_window_unique"),
            models.CheckConstraint(condition=Q(requests__gte=F("errors")), name="traffic_errors_within_requests"),
        ]
        indexes = [models.Index(fields=["endpoint", "level", "start_at"], name="traffic_endpoint_start")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.slot} {self.start_at:%H:%M:%S}"
