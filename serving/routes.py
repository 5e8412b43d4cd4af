"""Publishes the route table: one document with a rising revision, written with the change that it follows from."""

from __future__ import annotations

import msgspec
from django.db import connection, transaction
from django.db.models import Q

from access.limits import KeyLimits
from access.models import ApiKey
from access.rights import RIGHTS_OF_SCOPE, Right
from core.clock import now
from registry.models import Build
from registry.signature import Signature, Tensor
from serving import console_key
from serving.models import Endpoint, PublishedTable, Slot
from serving.table import CHANNEL, BuildEntry, CachePolicy, EndpointEntry, KeyEntry, Limits, RouteTable, SlotEntry, ValidationPolicy, encode

KEPT = 100
# Any number will do; it is the same in every process and used for nothing else.
_LOCK = 0x5197_A1B0
_KNOWN_SCOPES = sorted(scope for scope, rights in RIGHTS_OF_SCOPE.items() if rights & {Right.PREDICT, Right.SYSTEM_VIEW})


def publish() -> int:
    """Compile and store the table inside the caller's transaction; gives its revision.

    The lock is held until the transaction ends, so revisions rise in the order of the commits and
    each table holds everything that was committed before it. The NOTIFY goes out on commit.
    """
    with transaction.atomic():
        revision = _next_revision()
        moment = now()
        document = encode(compile_table(revision))
        PublishedTable.objects.create(revision=revision, document=document, published_at=moment)
        PublishedTable.objects.filter(revision__lte=revision - KEPT).delete()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(revision)])
    return revision


def publish_if_missing() -> None:
    """Publish a first table where there is none, so that the data plane has something to stand on."""
    if not PublishedTable.objects.exists():
        publish()


def compile_table(revision: int) -> RouteTable:
    """Read everything that the data plane needs, in three queries whatever the number of endpoints."""
    endpoints = list(Endpoint.objects.order_by("name"))
    filled = Slot.objects.filter(build__isnull=False, endpoint__unloaded_at__isnull=True).select_related("build__version__model").order_by("name")
    slots: dict[object, list[Slot]] = {}
    builds: dict[object, BuildEntry] = {}
    for slot in filled:
        slots.setdefault(slot.endpoint_id, []).append(slot)
        if slot.build is not None:
            builds.setdefault(slot.build.id, _build_entry(slot.build))
    return RouteTable(
        revision=revision,
        published_at=now().timestamp(),
        endpoints=tuple(_endpoint_entry(endpoint, slots.get(endpoint.id, [])) for endpoint in endpoints),
        builds=tuple(builds.values()),
        keys=(*_key_entries(), console_key.entry()),
    )


def signature_of(build: Build) -> Signature:
    """Give the version's signature with the tensors of this build."""
    signature = msgspec.convert(build.version.signature, Signature)
    inputs = msgspec.convert(build.inputs, tuple[Tensor, ...])
    outputs = msgspec.convert(build.outputs, tuple[Tensor, ...])
    return msgspec.structs.replace(signature, inputs=inputs, outputs=outputs)


def _next_revision() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        table = PublishedTable._meta.db_table  # noqa: SLF001  # _meta is documented API
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'revision'))", [table])
        return int(cursor.fetchone()[0])


def _endpoint_entry(endpoint: Endpoint, slots: list[Slot]) -> EndpointEntry:
    return EndpointEntry(
        id=str(endpoint.id),
        name=endpoint.name,
        revision=endpoint.revision,
        slots=tuple(_slot_entry(endpoint, slot, slot.build) for slot in slots if slot.build),
        unloaded=_unloaded(endpoint),
        sticky_on=endpoint.sticky_on,
        log_policy=endpoint.log_policy,
        log_share=endpoint.log_share,
        validation=msgspec.convert(endpoint.validation, ValidationPolicy),
        limits=msgspec.convert(endpoint.limits, Limits),
        cache=msgspec.convert(endpoint.cache, CachePolicy),
    )


def _unloaded(endpoint: Endpoint) -> str:
    """Say who took the endpoint out of service, as its callers read it; empty while it is in service."""
    if endpoint.unloaded_at is None:
        return ""
    why = f" ({endpoint.unload_reason})" if endpoint.unload_reason else ""
    return f"{endpoint.unloaded_by} unloaded it at {endpoint.unloaded_at:%Y-%m-%d %H:%M} UTC{why}"


def _slot_entry(endpoint: Endpoint, slot: Slot, build: Build) -> SlotEntry:
    return SlotEntry(
        name=slot.name,
        build_digest=build.digest,
        model=build.version.model.name,
        version=build.version.number,
        weight=slot.weight,
        live=slot.name == endpoint.live_slot,
        shadow=slot.shadow,
        deployed_at=slot.deployed_at.timestamp() if slot.deployed_at else 0.0,
    )


def _build_entry(build: Build) -> BuildEntry:
    version = build.version
    return BuildEntry(
        digest=build.digest,
        kind=build.kind,
        size_bytes=build.size_bytes,
        model=version.model.name,
        version=version.number,
        signature=signature_of(build),
    )


def _key_entries() -> tuple[KeyEntry, ...]:
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=now())
    keys = ApiKey.objects.filter(unexpired, revoked_at__isnull=True, scopes__overlap=_KNOWN_SCOPES).order_by("id")
    return tuple(
        KeyEntry(
            id=key.id,
            secret_digest=key.secret_digest,
            name=key.name,
            scopes=tuple(key.scopes),
            endpoints=tuple(key.endpoints),
            expires_at=key.expires_at.timestamp() if key.expires_at else None,
            limits=msgspec.convert(key.limits, KeyLimits),
        )
        for key in keys
    )
