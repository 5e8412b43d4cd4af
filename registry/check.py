"""The check of a version, in a worker: examined in the sandbox, then the whole result in one transaction.

The checklist is written as it goes, so that a page can watch. A late attempt is fenced off by its
job (``core.jobs``); running again after the result is written changes nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pyarrow as pa
from django.db import transaction

from access import audit
from access.actors import system
from core import jobs
from core.clock import now
from core.environment import environment
from core.models import Job
from registry import references, steps, storage
from registry.models import Artifact, Build, Version
from registry.storable import storable, storable_text
from registry.storage import Stored

if TYPE_CHECKING:
    from registry.convert.check import Examined, Step

_CONVERTER = system("converter")


def check_version(version_id: UUID, job: Job) -> None:
    """Examine the version's files and write what came out: signature, build, reference; ready or refused."""
    from registry.convert.check import SandboxLimits, examine

    version = Version.objects.select_related("model").filter(id=version_id, state=Version.State.CHECKING).first()
    if version is None:
        return
    files = {artifact.role: artifact for artifact in version.artifacts.all()}
    original, sample = files[Artifact.Role.ORIGINAL], files.get(Artifact.Role.SAMPLE)
    settings = environment()
    examined = examine(
        original=storage.path_of(original.digest),
        filename=original.filename,
        sample=storage.path_of(sample.digest) if sample else None,
        sample_filename=sample.filename if sample else "",
        limits=SandboxLimits(memory_bytes=settings.sandbox_memory_bytes, cpu_s=settings.sandbox_cpu_s),
        on_step=lambda step: _show(version, job, step),
    )
    _write(version, job, examined)


def _show(version: Version, job: Job, step: Step) -> None:
    """Write one step of the checklist at once; raises JobLost when another attempt has taken over."""
    jobs.renew(job)
    version.steps = steps.put(version.steps, storable(asdict(step)))
    Version.objects.filter(id=version.id, state=Version.State.CHECKING).update(steps=version.steps)


def _write(version: Version, job: Job, examined: Examined) -> None:
    reference = storage.store_bytes(_encoded(examined.reference)) if examined.reference is not None else None
    build = storage.store_bytes(examined.onnx) if examined.onnx is not None else None
    with transaction.atomic():
        jobs.hold(job)
        row = Version.objects.select_for_update(of=("self",)).select_related("model").filter(id=version.id, state=Version.State.CHECKING).first()
        if row is not None:
            row.steps = version.steps
            _fill(row, examined)
            references.hold()
            if build and examined.onnx is not None and examined.signature is not None:
                _put_build(row, examined, _there(build, examined.onnx))
            if reference and examined.reference is not None:
                _put_reference(row, _there(reference, _encoded(examined.reference)))
        jobs.finish(job)
    if row is None:
        references.remove_unused(stored.digest for stored in (reference, build) if stored)


def _fill(row: Version, examined: Examined) -> None:
    refused, reason = examined.verdict == "refused", storable_text(examined.reason)
    row.state = Version.State.REFUSED if refused else Version.State.READY
    row.format = examined.format or ""
    row.signature = storable(msgspec.to_builtins(examined.signature)) if examined.signature else None
    row.conversion = storable(examined.report)
    row.refusal = reason if refused else ""
    row.not_servable_reason = reason if examined.verdict == "not_servable" else ""
    row.ready_at = None if refused else now()
    row.steps = steps.ended(row.steps, _last_step(row, storable_text(examined.advice)))
    row.save()
    audit.record(
        actor=_CONVERTER,
        verb="refuse" if refused else "check",
        subject_kind="version",
        subject_name=str(row),
        after={"state": row.state, "format": row.format, "servable": examined.verdict == "servable"},
        reason=reason,
    )


def _last_step(row: Version, advice: str) -> steps.Step:
    if row.refusal:
        return steps.step("ready", "failed", row.refusal, advice=advice)
    if row.not_servable_reason:
        return steps.step("ready", "passed", f"Kept, without a build that serves here: {row.not_servable_reason}", advice=advice)
    return steps.step("ready", "passed", "Ready to deploy.", advice=advice)


def _put_build(row: Version, examined: Examined, stored: Stored) -> None:
    signature = storable(msgspec.to_builtins(examined.signature))
    timings = examined.report.get("single_row_ms") or {}
    Build.objects.update_or_create(
        version=row,
        kind=Build.Kind.ONNX,
        defaults={
            "digest": stored.digest,
            "size_bytes": stored.size_bytes,
            "inputs": signature["inputs"],
            "outputs": signature["outputs"],
            "single_row_ms": timings.get("onnx"),
        },
    )


def _put_reference(row: Version, stored: Stored) -> None:
    defaults = {"filename": "reference.arrow", "digest": stored.digest, "size_bytes": stored.size_bytes}
    Artifact.objects.update_or_create(version=row, role=Artifact.Role.REFERENCE, defaults=defaults)


def _there(stored: Stored, data: bytes) -> Stored:
    """See that the blob is in the store; no blob goes away while ``references.hold`` holds."""
    return stored if storage.exists(stored.digest) else storage.store_bytes(data)


def _encoded(table: pa.Table) -> bytes:
    """Write the reference as ``serving.segments.decode`` reads it: an Arrow IPC stream, zstd."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
