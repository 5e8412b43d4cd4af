"""What happened: references, window profiles, drift results, outcomes, performance, rules and alerts.

Endpoints, models and versions are kept by name and number, as the prediction log keeps them, so
that what was measured stays readable when the thing itself is gone.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from core.clock import now
from core.ids import uuid7
from registry.models import Version


class Level(models.IntegerChoices):
    """The length of a window in seconds."""

    FIVE_MINUTES = 300
    HOUR = 3600
    DAY = 86400


LENGTH: dict[int, timedelta] = {level.value: timedelta(seconds=level.value) for level in Level}


class Reference(models.Model):
    """What a version's inputs and outputs should look like: from its training sample, or from an endpoint's traffic."""

    class Source(models.TextChoices):
        TRAINING = "training"
        TRAFFIC = "traffic"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="references")
    endpoint = models.CharField(max_length=100, blank=True, help_text="Empty: holds at every endpoint without a reference of its own.")
    source = models.CharField(max_length=16, choices=Source.choices)
    rows = models.PositiveBigIntegerField()
    document = models.BinaryField(help_text="monitoring.bins.ReferenceDocument as MessagePack.")
    from_at = models.DateTimeField(null=True)
    until_at = models.DateTimeField(null=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=now)
    created_by = models.CharField(max_length=150, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "endpoint"], condition=Q(active=True), name="reference_one_active")]

    def __str__(self) -> str:
        return f"{self.source} reference of {self.version_id}"


class WindowProfile(models.Model):
    """The mergeable profile of one version's traffic in one slot of an endpoint in one window, by event time."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=100)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    slot = models.CharField(max_length=32)
    level = models.PositiveIntegerField(choices=Level.choices)
    start_at = models.DateTimeField()
    n = models.PositiveBigIntegerField(default=0)
    reference = models.UUIDField(null=True, help_text="The reference in whose bins the values are counted.")
    document = models.BinaryField(default=bytes, help_text="monitoring.profile.Profile as MessagePack.")
    dirty = models.BooleanField(default=True, help_text="Rows came since it was last evaluated.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "model", "version", "slot", "level", "start_at"], name="profile_window_unique")]
        indexes = [
            models.Index(fields=["endpoint", "level", "-start_at"], name="profile_endpoint_start"),
            models.Index(fields=["endpoint"], condition=Q(dirty=True), name="profile_dirty"),
        ]

    def __str__(self) -> str:
        return f"{self.n} rows of {self.endpoint} {self.slot} from {self.start_at:%Y-%m-%d %H:%M}"


class Fault(models.Model):
    """Why a version's traffic at an endpoint cannot be profiled or judged; gone as soon as it can. Empty ``endpoint``: at every one."""

    class Part(models.TextChoices):
        REFERENCE = "reference"  # it cannot be made of the sample
        PROFILE = "profile"  # segments wait
        JUDGE = "judge"  # windows wait

    id = models.BigAutoField(primary_key=True)
    part = models.CharField(max_length=16, choices=Part.choices)
    endpoint = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    text = models.CharField(max_length=300)
    tries = models.PositiveIntegerField(default=0)
    since_at = models.DateTimeField(default=now)
    try_at = models.DateTimeField(default=now, help_text="Not before then is it tried again.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["part", "endpoint", "model", "version"], name="fault_one_per_part")]

    def __str__(self) -> str:
        return f"{self.endpoint or 'every endpoint'} {self.model} v{self.version}: {self.text}"


class Verdict(models.TextChoices):
    """What is said of a feature in a window, and of an endpoint now."""

    STABLE = "stable"
    WATCH = "watch"
    SEVERE = "severe"
    TOO_FEW = "too_few"
    NO_DATA = "no_data"


class DriftResult(models.Model):
    """One feature of one version in one window against the reference. ``feature`` is ``in.<name>`` or ``out.<name>``."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=100)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    feature = models.CharField(max_length=200)
    level = models.PositiveIntegerField(choices=Level.choices)
    start_at = models.DateTimeField()
    n = models.PositiveBigIntegerField()
    psi = models.FloatField(null=True)
    ks = models.FloatField(null=True, help_text="For categories: the total variation distance.")
    statistic = models.FloatField(null=True, help_text="T = PSI / (1/n + 1/m).")
    threshold = models.FloatField(null=True, help_text="The T above which the shift is more than chance.")
    p = models.FloatField(null=True)
    calibrated = models.BooleanField(default=False)
    verdict = models.CharField(max_length=16, choices=Verdict.choices)
    missing = models.FloatField(null=True, help_text="The share of the rows without a value.")
    quantiles = ArrayField(models.FloatField(null=True), null=True, help_text="Of a number: those of monitoring.sketch.RIBBON, for the trend.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "model", "version", "feature", "level", "start_at"], name="drift_window_unique")]
        indexes = [models.Index(fields=["endpoint", "level", "-start_at"], name="drift_endpoint_start")]

    def __str__(self) -> str:
        return f"{self.feature} of {self.endpoint} v{self.version}: {self.verdict}"


class Calibration(models.Model):
    """How much T jitters by itself at an endpoint: a gamma per feature, fitted to healthy windows."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=100)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    level = models.PositiveIntegerField(choices=Level.choices)
    reference = models.UUIDField()
    windows = models.PositiveIntegerField()
    gammas = models.JSONField(help_text="{feature: [shape, scale]}")
    made_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "model", "version", "level"], name="calibration_unique")]

    def __str__(self) -> str:
        return f"calibration of {self.endpoint} v{self.version} from {self.windows} windows"


class Standing(models.Model):
    """What was last said of an endpoint, so that lists of endpoints cost one query."""

    endpoint = models.CharField(primary_key=True, max_length=100)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    verdict = models.CharField(max_length=16, choices=Verdict.choices)
    text = models.CharField(max_length=200)
    level = models.PositiveIntegerField(choices=Level.choices, null=True)
    window_at = models.DateTimeField(null=True)
    evaluated_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return f"{self.endpoint} is {self.verdict}"


class OutcomeBatch(models.Model):
    """One delivery of outcomes: who sent it, and for which endpoints that actor may."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=150)
    endpoints = ArrayField(models.CharField(max_length=100), default=list, blank=True, help_text="Empty: every endpoint.")
    rows = models.PositiveIntegerField()
    received_at = models.DateTimeField(default=now)

    def __str__(self) -> str:
        return f"{self.rows} outcomes from {self.actor_name}"


class Outcome(models.Model):
    """The true value of one predicted row. The last one sent is ``current``; earlier ones stay as history."""

    class State(models.TextChoices):
        PARKED = "parked"  # no such prediction yet; tried again
        JOINED = "joined"
        REFUSED = "refused"  # does not fit the prediction; ``refusal`` says why

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    batch = models.ForeignKey(OutcomeBatch, on_delete=models.CASCADE, related_name="outcomes")
    prediction_id = models.UUIDField()
    row = models.PositiveIntegerField(default=0)
    value = models.JSONField()
    current = models.BooleanField(default=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PARKED)
    refusal = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    try_at = models.DateTimeField(null=True, default=now, help_text="When to look for the prediction again; empty: no more.")
    endpoint = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=100, blank=True)
    version = models.PositiveIntegerField(default=0)
    slot = models.CharField(max_length=32, blank=True)
    predicted_at = models.DateTimeField(null=True)
    truth = models.CharField(max_length=100, blank=True, help_text="The class, as the model names it.")
    label = models.CharField(max_length=100, blank=True, help_text="The class that was predicted.")
    positive = models.CharField(max_length=100, blank=True, help_text="With two classes: the second, whose probability ``score`` is.")
    score = models.FloatField(
        null=True, help_text="Two classes: the predicted probability of the second; more: of the true one; a regression: the predicted number."
    )
    number = models.FloatField(null=True, help_text="The true value of a regression.")
    received_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["prediction_id", "row"], condition=Q(current=True), name="outcome_one_current")]
        indexes = [
            models.Index(fields=["prediction_id", "row", "-id"], name="outcome_prediction"),
            models.Index(fields=["try_at"], condition=Q(state="parked"), name="outcome_parked"),
            models.Index(fields=["endpoint", "predicted_at"], condition=Q(current=True, state="joined"), name="outcome_joined"),
        ]

    def __str__(self) -> str:
        return f"outcome of {self.prediction_id} row {self.row} ({self.state})"


class PerformanceWindow(models.Model):
    """Additive counters of one version's outcomes in one window, by the time of the prediction."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=100)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    level = models.PositiveIntegerField(choices=Level.choices)
    start_at = models.DateTimeField()
    n = models.PositiveBigIntegerField(default=0)
    counters = models.JSONField(default=dict, help_text="monitoring.performance.Counters as JSON.")
    dirty = models.BooleanField(default=True, help_text="Outcomes came since it was last computed.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["endpoint", "model", "version", "level", "start_at"], name="performance_window_unique")]
        indexes = [
            models.Index(fields=["endpoint", "level", "-start_at"], name="performance_endpoint_start"),
            models.Index(fields=["endpoint"], condition=Q(dirty=True), name="performance_dirty"),
        ]

    def __str__(self) -> str:
        return f"{self.n} outcomes of {self.endpoint} v{self.version} from {self.start_at:%Y-%m-%d %H:%M}"


class Rule(models.Model):
    """The limits of one endpoint. An endpoint without a row has these defaults."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    endpoint = models.CharField(max_length=100, unique=True)
    alpha = models.FloatField(default=0.01, help_text="Chance of a false alarm per evaluation, over all features.")
    minimum_psi = models.FloatField(default=0.02, help_text="Shifts smaller than this never alarm.")
    minimum_ks = models.FloatField(default=0.05)
    severe_psi = models.FloatField(default=0.25)
    windows_in_a_row = models.PositiveSmallIntegerField(default=2)
    minimum_rows = models.PositiveIntegerField(default=500, help_text="Fewer rows in a window are not judged.")
    minimum_outcomes = models.PositiveIntegerField(default=200, help_text="Fewer outcomes in a window are not judged.")
    minimum_coverage = models.FloatField(default=0.1, help_text="Share of the predictions with an outcome, below which a window is not judged.")
    accuracy_drop = models.FloatField(default=0.03, help_text="Alarm when accuracy is clearly this far below its baseline, 0 to 1.")
    error_rise = models.FloatField(default=0.2, help_text="Alarm when a regression's error is clearly this share above its baseline.")
    muted_features = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    revision = models.PositiveIntegerField(default=1)
    updated_at = models.DateTimeField(default=now)
    updated_by = models.CharField(max_length=150, blank=True)

    def __str__(self) -> str:
        return f"rule of {self.endpoint}"


class Alert(models.Model):
    """One incident: one endpoint and one cause, from its opening until it is resolved."""

    class State(models.TextChoices):
        OPEN = "open"
        ACKNOWLEDGED = "acknowledged"
        RESOLVED = "resolved"

    class Severity(models.TextChoices):
        WATCH = "watch"
        SEVERE = "severe"

    class Cause(models.TextChoices):
        DRIFT = "drift"
        OUTPUT_DRIFT = "output-drift"
        PERFORMANCE = "performance"
        CRASH = "crash"

    number = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=100)
    model = models.CharField(max_length=100)
    version = models.PositiveIntegerField()
    cause = models.CharField(max_length=16, choices=Cause.choices)
    dedup_key = models.CharField(max_length=150)
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    severity = models.CharField(max_length=16, choices=Severity.choices)
    title = models.CharField(max_length=200)
    detail = models.JSONField(default=dict, help_text="What crossed which limit: {items: [...], level, window_at}.")
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=150, blank=True)
    resolution = models.TextField(blank=True)
    false_alarm = models.BooleanField(default=False)
    waits_for_calm = models.BooleanField(default=False, help_text="Resolved by a person while it lasted: it opens again only after a calm spell.")
    revision = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dedup_key"], condition=~Q(state="resolved"), name="alert_one_unresolved")]
        indexes = [
            models.Index(fields=["state", "-number"], name="alert_state"),
            models.Index(fields=["endpoint", "-number"], name="alert_endpoint"),
            models.Index(fields=["dedup_key", "-number"], name="alert_dedup"),
            models.Index(fields=["-first_at", "-number"], name="alert_first"),
            models.Index(fields=["-last_at", "-number"], name="alert_last"),
            models.Index(fields=["severity", "-number"], name="alert_severity"),
        ]

    def __str__(self) -> str:
        return f"alert {self.number}: {self.title}"


class AlertNote(models.Model):
    """What somebody wrote about an alert, or what was done with it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notes")
    at = models.DateTimeField(default=now)
    author = models.CharField(max_length=150)
    verb = models.CharField(max_length=16, default="noted")
    text = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.author} {self.verb}"
