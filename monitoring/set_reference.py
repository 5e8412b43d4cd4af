"""Choose what an endpoint's traffic is compared with: the training sample, or its own traffic of some days."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from core.errors import Invalid
from monitoring import bins, faults, profile
from monitoring.bins import ReferenceDocument
from monitoring.errors import NoReference, NoSuchEndpoint
from monitoring.models import Level, Reference, WindowProfile
from monitoring.profile import Profile
from monitoring.reference import document_of, ensure_reference
from registry.models import Version
from serving.models import Endpoint

MOST_DAYS = 90
LEAST_ROWS = 500


def set_reference(*, actor: Actor, endpoint: str, model: str, version: int, days: int | None = None, reason: str = "") -> Reference:
    """Compare ``version`` at ``endpoint`` with its training sample (``days`` None) or its traffic of the last ``days``.

    All its windows are judged again, with the counts made anew from their sketches. Raises
    NoSuchEndpoint, NoReference when there is no sample to compare with or too little traffic, Invalid for the days.
    """
    require(actor, Right.MONITORING_EDIT, f"endpoint:{endpoint}")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise Invalid(f"days must be from 1 to {MOST_DAYS}, not {days}. Nothing was changed.", field="days")
    if not Endpoint.objects.filter(name=endpoint).exists():
        raise NoSuchEndpoint(f"There is no endpoint {endpoint}.")
    row = Version.objects.filter(model__name=model, number=version).select_related("model").first()
    if row is None:
        raise NoReference(f"There is no {model} v{version}. Nothing was changed.")
    training = None if days else _training(row)
    with transaction.atomic():
        before = Reference.objects.select_for_update().filter(version=row, endpoint=endpoint, active=True).first()
        Reference.objects.filter(version=row, endpoint=endpoint, active=True).update(active=False)
        made = training or _of_traffic(actor, endpoint, row, days or 0)
        faults.forget(endpoint, model, version)
        WindowProfile.objects.filter(endpoint=endpoint, model=model, version=version).update(dirty=True)
        audit.record(
            actor=actor,
            verb="set reference",
            subject_kind="endpoint",
            subject_name=endpoint,
            before={"reference": str(before.id) if before else "training"},
            after={"reference": "training" if training else str(made.id), "version": version, "days": days},
            reason=reason,
        )
    return made


def _training(version: Version) -> Reference:
    found = ensure_reference(version)
    if found is None:
        raise NoReference(f"{version} came without sample rows. Compare it with its own traffic, or register it again with a sample.")
    return found


def _of_traffic(actor: Actor, endpoint: str, version: Version, days: int) -> Reference:
    at = now()
    since = at - timedelta(days=days)
    windows = WindowProfile.objects.filter(endpoint=endpoint, model=version.model.name, version=version.number, level=Level.HOUR, start_at__gte=since)
    total = Profile()
    for row in windows.order_by("start_at").iterator(chunk_size=50):
        total = profile.merge(total, profile.uncounted(profile.decode(row.document)))  # the bins are made anew
    if total.n < LEAST_ROWS:
        raise NoReference(f"{endpoint} answered {total.n:,} rows with v{version.number} in the last {days} days; a reference needs {LEAST_ROWS:,}.")
    return Reference.objects.create(
        version=version,
        endpoint=endpoint,
        source=Reference.Source.TRAFFIC,
        rows=total.n,
        document=bins.encode(bins.reference_from_profile(total, _document_of_training(version))),
        from_at=since,
        until_at=at,
        created_by=actor.name,
    )


def _document_of_training(version: Version) -> ReferenceDocument | None:
    """Give what is known of the features' importance; nothing where there is no sample, or one that cannot be read."""
    found = Reference.objects.filter(version=version, endpoint="", active=True).first()
    try:
        return document_of(found) if found else None
    except (msgspec.MsgspecError, ValueError):
        return None
