"""The JSON of endpoints, their ledger and traffic, the prediction log and the processes."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateField,
    DateTimeField,
    DictField,
    FloatField,
    IntegerField,
    JSONField,
    ListField,
    UUIDField,
)

from access.api.fields import OneOf
from access.api.paging import SortField
from core.processes import PartState
from serving.models import Endpoint
from serving.queries import ENDPOINT_SORTS
from serving.queries.traffic import WINDOWS
from serving.queries.validation import MOST_HOURS

_HOW = "Send the revision that you saw, so that nothing done meanwhile is overwritten: `GET /api/v1/endpoints/{name}/` gives it."


class Numbers(serializers.Serializer[Any]):
    """What happened in ``seconds`` of traffic; null where nothing was asked."""

    seconds = FloatField()
    requests = IntegerField()
    rows = IntegerField()
    rps = FloatField()
    refused_per_minute = FloatField()
    errors_percent = FloatField(allow_null=True)
    cache_hits_percent = FloatField(allow_null=True)
    flagged_percent = FloatField(allow_null=True)
    p50_ms = FloatField(allow_null=True)
    p95_ms = FloatField(allow_null=True)
    p99_ms = FloatField(allow_null=True)


class SlotState(serializers.Serializer[Any]):
    name = CharField()
    build_id = CharField(allow_null=True)
    model = CharField(allow_null=True)
    version = IntegerField(allow_null=True)
    build_kind = CharField(allow_null=True)
    weight = IntegerField()
    shadow = BooleanField()


class RoutingState(serializers.Serializer[Any]):
    """Everything that decides what answers."""

    live_slot = CharField(allow_blank=True)
    slots = SlotState(many=True)
    loaded = BooleanField(help_text="False: out of service, whatever the slots hold.")


class EndpointRow(serializers.Serializer[Any]):
    """``traffic`` are the numbers of the last minute."""

    name = CharField()
    description = CharField()
    revision = IntegerField()
    standing = CharField()
    loaded = BooleanField(source="state.loaded")
    live_slot = CharField(source="state.live_slot")
    slots = SlotState(many=True, source="state.slots")
    sticky_on = CharField()
    traffic = Numbers(source="now")
    created_at = DateTimeField()
    updated_at = DateTimeField()


class SlotDetail(serializers.Serializer[Any]):
    """A slot; the fields of the build are empty in an empty slot."""

    name = CharField()
    role = CharField()
    live = BooleanField()
    weight = IntegerField()
    shadow = BooleanField()
    model = CharField(allow_blank=True)
    version = IntegerField()
    build_id = CharField(allow_blank=True)
    build_kind = CharField(allow_blank=True)
    digest = CharField(allow_blank=True)
    size_bytes = IntegerField()
    single_row_ms = FloatField(allow_null=True)
    deployed_at = DateTimeField(allow_null=True)
    deployed_by = CharField(allow_blank=True)
    load_error = CharField(allow_blank=True)


class Settings(serializers.Serializer[Any]):
    """What can be set when an endpoint is created, and edited later."""

    description = CharField(required=False, allow_blank=True, max_length=10_000)
    sticky_on = CharField(required=False, allow_blank=True, max_length=100, help_text="The feature whose value keeps a caller on one slot.")
    log_policy = OneOf(required=False, choices=Endpoint.LogPolicy.choices)
    log_share = FloatField(required=False, min_value=0, max_value=1)
    validation = DictField(required=False, child=JSONField(), help_text='{"default": "flag", "features": {"age": "refuse"}}')
    limits = DictField(required=False, child=JSONField(), help_text="max_rows, max_body_bytes, timeout_ms, max_concurrency, requests_per_s, burst")
    cache = DictField(required=False, child=JSONField(), help_text='{"ttl_s": 60, "max_bytes": 67108864, "private": false}; ttl_s 0 keeps no answers')
    tags = DictField(required=False, child=CharField())


class EndpointOut(serializers.Serializer[Any]):
    """An endpoint. Send ``revision`` back with a split or a promotion."""

    id = UUIDField()
    name = CharField()
    description = CharField()
    revision = IntegerField()
    standing = CharField()
    loaded = BooleanField(source="state.loaded")
    unloaded_at = DateTimeField(allow_null=True)
    unloaded_by = CharField(allow_blank=True)
    unload_reason = CharField(allow_blank=True)
    live_slot = CharField()
    slots = SlotDetail(many=True)
    sticky_on = CharField()
    log_policy = CharField()
    log_share = FloatField()
    masked_inputs = ListField(child=CharField())
    validation = DictField(child=JSONField())
    limits = DictField(child=JSONField())
    cache = DictField(child=JSONField())
    tags = DictField(child=CharField())
    created_by = CharField()
    created_at = DateTimeField()


class EndpointIn(Settings):
    name = CharField(max_length=100, help_text="Lower-case letters, digits and dashes: it stands in the address.")


class _Reasoned(serializers.Serializer[Any]):
    reason = CharField(required=False, default="", allow_blank=True, max_length=1000, help_text="Kept in the ledger and the audit log.")


class _Revised(_Reasoned):
    revision = IntegerField(min_value=1, help_text=_HOW, error_messages=dict.fromkeys(["required", "null"], _HOW.replace("{", "{{").replace("}", "}}")))


class _MaybeRevised(_Reasoned):
    revision = IntegerField(min_value=1, required=False, allow_null=True, default=None, help_text=f"{_HOW} Not checked if left away.")


class EndpointChange(Settings, _MaybeRevised):
    masked_inputs = ListField(
        required=False,
        child=CharField(trim_whitespace=False),
        help_text="All features whose logged values are shown only with the right predictions.unmask; taking one out of the list needs it too.",
    )


class DeleteIn(_Revised):
    pass


class DeployIn(_MaybeRevised):
    model = CharField(max_length=100)
    version = IntegerField(min_value=1)
    build_kind = CharField(required=False, default="onnx", max_length=16)
    slot = CharField(required=False, allow_null=True, default=None, max_length=32, help_text="By default the first empty slot, else one without traffic.")


class EmptySlotIn(_MaybeRevised):
    slot = CharField(max_length=32)


class SplitIn(_Revised):
    weights = DictField(child=IntegerField(), help_text='Whole percent, 100 in sum: {"blue": 90, "green": 10}. Slots that are not named get 0.')


class PromoteIn(_Revised):
    slot = CharField(required=False, allow_null=True, default=None, max_length=32, help_text="By default the candidate.")


class RollBackIn(_MaybeRevised):
    to_revision = IntegerField(required=False, allow_null=True, default=None, min_value=1, help_text="The ledger's revision whose state to apply.")


class LoadIn(_MaybeRevised):
    pass


class LedgerRow(serializers.Serializer[Any]):
    id = UUIDField()
    endpoint = CharField()
    revision = IntegerField()
    verb = CharField()
    summary = CharField()
    actor_kind = CharField()
    actor_name = CharField()
    reason = CharField()
    before = RoutingState()
    after = RoutingState()
    restores = IntegerField(allow_null=True)
    table_revision = IntegerField()
    at = DateTimeField()


class KeyBudget(serializers.Serializer[Any]):
    """What was used, beside the budget; null where there is none."""

    requests = IntegerField()
    rows = IntegerField()
    budget_rows = IntegerField(allow_null=True)


class KeyDay(serializers.Serializer[Any]):
    day = DateField()
    requests = IntegerField()
    rows = IntegerField()


class KeyUsed(serializers.Serializer[Any]):
    """Answered requests and their rows. ``days``: those of the last 30 (UTC) on which the key was used, newest first."""

    key_id = CharField()
    today = KeyBudget()
    in_all = KeyBudget()
    days = KeyDay(many=True)


class EndpointsIn(serializers.Serializer[Any]):
    search = CharField(required=False, default="", max_length=100, help_text="Part of the name.")
    sort = SortField(ENDPOINT_SORTS)


class LedgerIn(serializers.Serializer[Any]):
    at = DateTimeField(required=False, help_text="Answer only the change that was in force at this moment.")


class TrafficIn(serializers.Serializer[Any]):
    window = OneOf(choices=list(WINDOWS), default="15m")
    since = FloatField(required=False, default=None, allow_null=True, help_text="Only points after this one; the last `t` of the answer before.")


class Mark(serializers.Serializer[Any]):
    t = FloatField()
    text = CharField()


class Traffic(serializers.Serializer[Any]):
    """Columns: ``t`` in seconds since 1970, and a value per line and time."""

    t = ListField(child=IntegerField())
    lines = DictField(child=ListField(child=FloatField(allow_null=True)))
    marks = Mark(many=True)
    step = IntegerField()


class ValidationIn(serializers.Serializer[Any]):
    hours = IntegerField(required=False, default=24, min_value=1, max_value=MOST_HOURS, help_text="How far back: the present hour and those before it.")
    version = IntegerField(required=False, allow_null=True, default=None, min_value=1, help_text="By default all that answer.")


class FeatureActions(serializers.Serializer[Any]):
    """Values of a feature by what was done with them, and requests ``refused`` for one; ``share`` of the rows, 0 to 1, whose value was not taken as it was."""

    feature = CharField()
    policy = CharField(help_text="The policy that the feature has now.")
    clipped = IntegerField()
    replaced = IntegerField()
    filled = IntegerField(help_text="Missing, and replaced by the typical value.")
    flagged = IntegerField()
    refused = IntegerField()
    share = FloatField(allow_null=True)


class ValidationActions(serializers.Serializer[Any]):
    """What validation did in ``hours``; ``rows`` were checked. Features with nothing done are left out."""

    endpoint = CharField()
    version = IntegerField(allow_null=True)
    hours = IntegerField()
    since = DateTimeField()
    rows = IntegerField()
    features = FeatureActions(many=True)


class PredictionsIn(serializers.Serializer[Any]):
    slot = CharField(required=False, default="", max_length=32)
    version = IntegerField(required=False, allow_null=True, default=None, min_value=1)
    flagged = BooleanField(required=False, default=False)
    key_id = CharField(required=False, default="", max_length=16)
    request_id = CharField(required=False, default="", max_length=200)
    since = DateTimeField(required=False, allow_null=True, default=None)
    until = DateTimeField(required=False, allow_null=True, default=None)


class PredictionsExportIn(PredictionsIn):
    format = OneOf(required=False, default="", choices=["csv", "parquet"], help_text="By default as `Accept` says, else CSV.")


class Prediction(serializers.Serializer[Any]):
    """One answered row. A value of ``inputs`` that is null was missing; the inputs that you may not see are named in ``masked`` and are not in ``inputs``."""

    id = UUIDField()
    row = IntegerField()
    slot = CharField()
    model = CharField()
    version = IntegerField()
    received_at = DateTimeField()
    latency_ms = FloatField()
    request_id = CharField(allow_blank=True)
    key_id = CharField(allow_blank=True)
    flags = ListField(child=CharField())
    inputs = DictField(child=JSONField(allow_null=True))
    masked = ListField(child=CharField(), help_text="Seeing them needs the right predictions.unmask.")
    outputs = DictField(child=JSONField(allow_null=True))


class PredictionsPage(serializers.Serializer[Any]):
    """``searched_to`` is set when a filter stopped before the end of the log; ``next`` goes on from there."""

    results = Prediction(many=True)
    next = CharField(allow_null=True)
    searched_to = DateTimeField(allow_null=True)


class PredictionDetail(serializers.Serializer[Any]):
    """One answered request with all its rows."""

    id = UUIDField()
    endpoint = CharField()
    slot = CharField()
    model = CharField()
    version = IntegerField()
    build_digest = CharField()
    table_revision = IntegerField()
    rows = Prediction(many=True)


class Process(serializers.Serializer[Any]):
    id = UUIDField()
    kind = CharField(help_text="http or grpc")
    host = CharField()
    pid = IntegerField()
    table_revision = IntegerField()
    behind = IntegerField()
    ready = BooleanField()
    stale = BooleanField()
    builds = ListField(child=DictField(child=JSONField(allow_null=True)))
    memory_bytes = IntegerField()
    spooled_segments = IntegerField()
    lost_predictions = IntegerField()
    started_at = DateTimeField()
    seen_at = DateTimeField()


class Part(serializers.Serializer[Any]):
    """A part of Signalbox on the machine that answers: a process, and those that it has started."""

    name = CharField(help_text="As `signalbox up` calls it; what was started by hand by its kind.")
    state = ChoiceField(choices=[state.value for state in PartState], help_text="answers, runs (it is not asked), starts, silent, gone. The last two are bad.")
    pid = IntegerField(allow_null=True)
    processes = IntegerField()
    memory_bytes = IntegerField(help_text="Of all its processes, without files and shared memory.")
    started_at = DateTimeField(allow_null=True)


class JobCount(serializers.Serializer[Any]):
    """The jobs of one kind: open now, and ended dead within the last day."""

    kind = CharField()
    queued = IntegerField()
    running = IntegerField()
    dead = IntegerField()
    oldest_queued_at = DateTimeField(allow_null=True)


class Lost(serializers.Serializer[Any]):
    """Answered predictions of an endpoint that are not in the log."""

    endpoint = CharField()
    predictions = IntegerField()
    last_at = DateTimeField()


class Compacted(serializers.Serializer[Any]):
    """What compaction did within a day."""

    segments_before = IntegerField()
    segments_after = IntegerField()
    bytes_before = IntegerField()
    bytes_after = IntegerField()


class System(serializers.Serializer[Any]):
    """The published routes and who has taken them; ``disagree`` when two live processes differ for more than 2 s.

    ``processes`` are those of the data plane, of all machines; ``parts`` is everything on the machine that answers.
    """

    table_revision = IntegerField()
    published_at = DateTimeField(allow_null=True)
    disagree = BooleanField()
    processes = Process(many=True)
    parts = Part(many=True)
    jobs = JobCount(many=True)
    lost = Lost(many=True)
    compacted = Compacted(allow_null=True)
