"""The JSON of people, grants, keys and the audit log."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from access.api.fields import OneOf
from access.api.paging import SortField
from access.models import ApiKey, AuditEntry, Grant, Person, Role, Scope
from access.queries import KEY_SORTS, KEY_STATES, PEOPLE_SORTS, state_of


class Me(serializers.Serializer[Any]):
    """Who is asking, and what they may do where (``*`` is everywhere)."""

    kind = serializers.ChoiceField(choices=["person", "key", "system"])
    name = serializers.CharField()
    predict_url = serializers.CharField(help_text="Where the data plane answers predictions.")
    rights = serializers.DictField(child=serializers.ListField(child=serializers.CharField()))


class GrantOut(serializers.ModelSerializer[Grant]):
    class Meta:
        model = Grant
        fields = ["subject_kind", "subject_name", "role", "created_at"]


class GrantIn(serializers.Serializer[Any]):
    subject_kind = OneOf(choices=Grant.SubjectKind.choices)
    subject_name = serializers.CharField(max_length=100)
    role = OneOf(choices=Role.choices)


class PersonOut(serializers.ModelSerializer[Person]):
    active = serializers.BooleanField(source="is_active")
    grants = GrantOut(many=True)

    class Meta:
        model = Person
        fields = ["username", "email", "role", "active", "grants", "date_joined", "last_login"]


class PersonIn(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=100)
    role = OneOf(choices=Role.choices, default=Role.VIEWER)
    email = serializers.EmailField(required=False, default="")


class PersonChange(serializers.Serializer[Any]):
    role = OneOf(choices=Role.choices, required=False)
    active = serializers.BooleanField(required=False)
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class SignInLinkOut(serializers.Serializer[Any]):
    """A link for one person; shown this once."""

    url = serializers.URLField(help_text="Signs the person in, once, within 15 minutes.")


class KeyLimitsFields(serializers.Serializer[Any]):
    """What a key may use at most. A limit that is not there does not hold; 0 takes one away."""

    requests_per_s = serializers.FloatField(required=False, min_value=0, help_text="Over all endpoints and processes; beyond it 429.")
    burst = serializers.IntegerField(required=False, min_value=0, help_text="Requests that may come at once; by default those of a second.")
    max_rows = serializers.IntegerField(required=False, min_value=0, help_text="Rows per request; beyond it 413.")
    max_body_bytes = serializers.IntegerField(required=False, min_value=0, help_text="Bytes of a request, also when unpacked; beyond it 413.")
    timeout_ms = serializers.IntegerField(required=False, min_value=0, help_text="Milliseconds for an answer; beyond it 504.")
    max_concurrency = serializers.IntegerField(required=False, min_value=0, help_text="Requests at once, per process; beyond it 503.")
    rows_per_day = serializers.IntegerField(required=False, min_value=0, help_text="A day ends at midnight UTC.")
    rows_in_all = serializers.IntegerField(required=False, min_value=0, help_text="From the first request of the key on.")


@extend_schema_field(KeyLimitsFields)
class LimitsField(serializers.DictField):
    """The limits of a key as they come; the verb reads them strictly and names what is wrong."""

    child = serializers.JSONField()


class KeyOut(serializers.ModelSerializer[ApiKey]):
    owner = serializers.SerializerMethodField(allow_null=True)
    state = serializers.SerializerMethodField()
    limits = LimitsField()

    class Meta:
        model = ApiKey
        fields = ["id", "name", "scopes", "endpoints", "limits", "owner", "state", "created_at", "expires_at", "revoked_at"]

    def get_owner(self, key: ApiKey) -> str | None:
        return key.owner.username if key.owner else None

    @extend_schema_field(serializers.ChoiceField(choices=KEY_STATES))
    def get_state(self, key: ApiKey) -> str:
        return state_of(key)


class KeyIn(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    scopes = serializers.ListField(child=OneOf(choices=Scope.choices), allow_empty=False)
    endpoints = serializers.ListField(child=serializers.CharField(max_length=100), default=list, help_text="Empty: every endpoint.")
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    limits = LimitsField(default=dict)


class KeyChange(serializers.Serializer[Any]):
    limits = LimitsField(help_text="Those that are named are set, 0 taking one away; the others stay.")
    reason = serializers.CharField(required=False, default="", allow_blank=True, max_length=500)


class KeyIssued(KeyOut):
    """A new key; ``key`` is shown this once."""

    key = serializers.CharField()

    class Meta(KeyOut.Meta):
        fields = [*KeyOut.Meta.fields, "key"]


class AuditOut(serializers.ModelSerializer[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = ["id", "at", "actor_kind", "actor_name", "verb", "subject_kind", "subject_name", "before", "after", "reason", "address"]


class SearchIn(serializers.Serializer[Any]):
    q = serializers.CharField(required=False, default="", allow_blank=True, max_length=200, help_text="Text to look for.")


class PeopleFilter(SearchIn):
    sort = SortField(PEOPLE_SORTS)


class KeysFilter(SearchIn):
    state = OneOf(choices=KEY_STATES, required=False, default="")
    sort = SortField(KEY_SORTS)


class AuditFilterIn(SearchIn):
    actor = serializers.CharField(required=False, default="", allow_blank=True, max_length=150)
    verb = serializers.CharField(required=False, default="", allow_blank=True, max_length=64)
    subject_kind = serializers.CharField(required=False, default="", allow_blank=True, max_length=32)
    subject_name = serializers.CharField(required=False, default="", allow_blank=True, max_length=200)
    since = serializers.DateTimeField(required=False, default=None)
    until = serializers.DateTimeField(required=False, default=None)
