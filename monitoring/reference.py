"""The reference of a version: made from its checked training sample when first needed."""

from __future__ import annotations

import logging
from uuid import UUID

import pyarrow as pa
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from core.digests import artifact_path
from monitoring import bins, faults
from monitoring.bins import ReferenceDocument
from monitoring.models import Fault, Reference, WindowProfile
from registry.models import Artifact, Version

logger = logging.getLogger(__name__)


def reference_for(endpoint: str, model: str, version: int) -> Reference | None:
    """Give what the version is compared with at ``endpoint``: its own reference there, else the training sample's.

    None when the version is gone or came without a sample.
    """
    ours = Reference.objects.filter(version__model__name=model, version__number=version, active=True, endpoint__in=["", endpoint])
    found = ours.order_by("-endpoint").first()
    if found is not None:
        return found
    sampled = Version.objects.filter(model__name=model, number=version, artifacts__role=Artifact.Role.REFERENCE).first()
    return ensure_reference(sampled) if sampled else None


def ensure_reference(version: Version) -> Reference | None:
    """Give the training reference of ``version``, making it if there is none yet; None without a readable sample.

    Windows that were profiled before are evaluated again.
    """
    existing = Reference.objects.filter(version=version, endpoint="", active=True).first()
    if existing is not None:
        return existing
    artifact = Artifact.objects.filter(version=version, role=Artifact.Role.REFERENCE).first()
    table = _read(artifact) if artifact else None
    if table is None:
        return None
    document = bins.reference_of(table)
    with transaction.atomic():
        made, fresh = Reference.objects.get_or_create(
            version=version,
            endpoint="",
            active=True,
            defaults={"source": Reference.Source.TRAINING, "rows": document.rows, "document": bins.encode(document)},
        )
        if fresh:
            WindowProfile.objects.filter(model=version.model.name, version=version.number).update(dirty=True)
    return made


def ensure_references(limit: int = 20) -> int:
    """Make the references of versions that became ready since; gives how many. One that cannot be made keeps no other waiting."""
    waiting = Version.objects.filter(state=Version.State.READY, artifacts__role=Artifact.Role.REFERENCE, references__isnull=True)
    made = 0
    for version in waiting.select_related("model").order_by("-ready_at")[:limit]:
        subject = ("", version.model.name, version.number)
        try:
            with transaction.atomic():
                made += ensure_reference(version) is not None
        except (OperationalError, InterfaceError, SoftTimeLimitExceeded):
            raise
        except Exception as error:  # a version's sample may be anything; it must not keep the others from theirs
            logger.exception("The reference of %s cannot be made.", version)
            faults.note(Fault.Part.REFERENCE, subject, error)
        else:
            faults.forget_worked(Fault.Part.REFERENCE, [subject])
    return made


def _read(artifact: Artifact) -> pa.Table | None:
    path = artifact_path(settings.ENVIRONMENT.artifacts_dir, artifact.digest)
    try:
        with pa.memory_map(str(path)) as source:
            return _table(source)
    except (OSError, pa.ArrowInvalid) as error:
        logger.warning("The reference sample %s cannot be read: %s", artifact, error)
        return None


def _table(source: pa.MemoryMappedFile) -> pa.Table:
    """Read either form of Arrow IPC: the file and the stream."""
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


_documents: dict[UUID, ReferenceDocument] = {}
_MOST_DOCUMENTS = 64


def document_of(reference: Reference) -> ReferenceDocument:
    """Decode a reference; kept in the process, since a reference never changes."""
    if reference.id not in _documents:
        if len(_documents) >= _MOST_DOCUMENTS:
            _documents.clear()
        _documents[reference.id] = bins.decode(reference.document)
    return _documents[reference.id]
