"""Who may do what: people, grants, API keys, one-time sign-in links and the audit log."""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Coalesce

from core.clock import now
from core.ids import uuid7


class Role(models.TextChoices):
    """Each role has the rights of the ones before it; ``access.rights`` lists them."""

    VIEWER = "viewer"
    SCIENTIST = "scientist"
    OPERATOR = "operator"
    ADMIN = "admin"


_BEFORE_ANYBODY = datetime(1970, 1, 1, tzinfo=UTC)


class Person(AbstractUser):
    """Somebody who signs in. ``role`` holds everywhere; grants add to it for one model or endpoint."""

    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    # For the order alone: pages follow each other by values, and a null has no place among them.
    seen_at = models.GeneratedField(expression=Coalesce("last_login", models.Value(_BEFORE_ANYBODY)), output_field=models.DateTimeField(), db_persist=True)

    class Meta(AbstractUser.Meta):
        indexes = [models.Index(fields=["-seen_at", "-id"], name="person_seen")]


class Grant(models.Model):
    """A role for one person on one model or one endpoint."""

    class SubjectKind(models.TextChoices):
        MODEL = "model"
        ENDPOINT = "endpoint"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="grants")
    subject_kind = models.CharField(max_length=16, choices=SubjectKind.choices)
    subject_name = models.CharField(max_length=100)
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["person", "subject_kind", "subject_name"], name="grant_one_per_subject")]

    def __str__(self) -> str:
        return f"{self.person} is {self.role} of {self.subject_kind} {self.subject_name}"


class Scope(models.TextChoices):
    """What an API key may do."""

    PREDICT = "predict"
    READ = "read"
    OUTCOMES = "outcomes"
    REGISTER = "register"
    OPERATE = "operate"
    ADMIN = "admin"


class ApiKey(models.Model):
    """A key for a program. Only the SHA-256 of the secret is kept; the key itself is shown once."""

    id = models.CharField(primary_key=True, max_length=16)
    name = models.CharField(max_length=100)
    secret_digest = models.CharField(max_length=64)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices))
    endpoints = ArrayField(models.CharField(max_length=100), default=list, blank=True, help_text="Empty: every endpoint.")
    limits = models.JSONField(default=dict, blank=True, help_text="access.limits.KeyLimits; what is not there is not limited.")
    owner = models.ForeignKey(Person, null=True, on_delete=models.SET_NULL, related_name="api_keys")
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["-created_at", "-id"], name="key_created"), models.Index(fields=["name", "id"], name="key_name")]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class SignInLink(models.Model):
    """A link that signs one person in once, within minutes. Only its digest is kept."""

    digest = models.CharField(primary_key=True, max_length=64)
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"sign-in link of {self.person}"


class AuditEntry(models.Model):
    """One change of state: who, what, from and to, why, from where. Never updated, never deleted by hand."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField(default=now)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=150)
    verb = models.CharField(max_length=64)
    subject_kind = models.CharField(max_length=32)
    subject_name = models.CharField(max_length=200)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.TextField(blank=True)
    address = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject_kind", "subject_name", "-id"], name="audit_subject"),
            models.Index(fields=["actor_id", "-id"], name="audit_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_name} {self.verb} {self.subject_kind} {self.subject_name}"
