"""The job table: the row in Postgres is the job; a Celery message carries only its id and is only a bell."""

from __future__ import annotations

from django.db import models

from core.clock import now
from core.ids import uuid7


class Job(models.Model):
    """One piece of work for a worker. Claimed by compare-and-set, fenced by ``attempt``."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        DEAD = "dead"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    payload = models.JSONField(default=dict)
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0)
    traceparent = models.CharField(max_length=55, blank=True, default="", help_text="The span in which it was queued, where traces are on.")
    progress = models.JSONField(default=dict)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=now)
    due_at = models.DateTimeField(default=now)
    lease_until_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], condition=models.Q(state__in=["queued", "running"]), name="job_one_open_per_subject"),
        ]
        indexes = [
            models.Index(fields=["state", "due_at"], name="job_state_due"),
            models.Index(fields=["kind", "-created_at"], name="job_kind_created"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} ({self.state})"
