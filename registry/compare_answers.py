"""Runs two versions on the same sample rows, in the sandbox, and keeps how far they agree. Versions never change: once is enough."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from django.db import transaction

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core import jobs
from core.clock import now
from core.environment import environment
from core.models import Job
from registry import storage
from registry.answers import Given, compared
from registry.compare import obstacle, sample_of
from registry.errors import NotReady
from registry.models import AnswerComparison, Build
from registry.queries import VersionDetail, version_detail
from registry.storable import storable, storable_text

COMPARE = "registry.tasks.compare_answers"
_INTERRUPTED = "The comparison was interrupted three times, the last time with: {}"
_OTHER_KINDS = "They answer in different kinds: one with classes, the other with numbers, or one with several numbers a row."


def compare_answers(*, actor: Actor, model: str, a: int, b: int) -> AnswerComparison:
    """Begin to compare what versions ``a`` and ``b`` answer; one that ended is given back, one that failed begins anew.

    Raises NotReady when there is nothing to compare them on.
    """
    require(actor, Right.MODEL_REGISTER, f"model:{model}")
    older, newer = version_detail(model, min(a, b)), version_detail(model, max(a, b))
    reason = obstacle(older, newer)
    if reason:
        raise NotReady(f"{reason} Nothing was compared.")
    states = AnswerComparison.State
    with transaction.atomic():
        row, made = AnswerComparison.objects.get_or_create(older=older.version, newer=newer.version)
        again = AnswerComparison.objects.filter(id=row.id, state=states.FAILED).update(state=states.COMPARING, failure="")
        if made or again:
            jobs.enqueue(kind=COMPARE, subject=str(row.id))
        row.refresh_from_db()
    return row


def run_comparison(comparison_id: UUID, job: Job) -> None:
    """Let both builds answer the sample, and write what came out; running again after that changes nothing."""
    row = AnswerComparison.objects.select_related("older__model", "newer__model").filter(id=comparison_id, state=AnswerComparison.State.COMPARING).first()
    if row is None:
        return
    details = [version_detail(version.model.name, version.number) for version in (row.older, row.newer)]
    owner = sample_of(*details)
    given: list[Given] = []
    for detail in details:
        answers = _answered(detail, owner) if owner else "The sample rows are not there any more."
        if isinstance(answers, str):
            _end(row.id, job, failure=answers)
            return
        jobs.renew(job)
        given.append(answers)
    found = compared(*given)
    if found is None:
        _end(row.id, job, failure=_OTHER_KINDS)
    else:
        _end(row.id, job, result=storable(msgspec.to_builtins(found)))


def give_up_comparison(job: Job) -> None:
    """Fail the comparison of a dead job, inside the transaction that ends the job."""
    row = AnswerComparison.objects.filter(id=job.subject, state=AnswerComparison.State.COMPARING)
    row.update(state=AnswerComparison.State.FAILED, failure=_INTERRUPTED.format(job.error), ended_at=now())


def _answered(detail: VersionDetail, owner: VersionDetail) -> Given | str:
    """Let the version's build answer the owner's sample in a sandbox process; gives what went wrong as text."""
    from registry.convert import sandbox, wire
    from registry.convert.limits import SandboxLimits

    sample = next(artifact for artifact in owner.artifacts if artifact.role == "sample")
    build = next(build for build in detail.builds if build.kind == Build.Kind.ONNX)
    settings = environment()
    limits = SandboxLimits(memory_bytes=settings.sandbox_memory_bytes, cpu_s=settings.sandbox_cpu_s)
    arguments = {"signature": msgspec.json.encode(detail.signature).decode(), "sample_rows": limits.sample_rows, "confined": sandbox.can_confine()}
    files = {"onnx": storage.path_of(build.digest), "sample": storage.path_of(sample.digest)}
    outcome = sandbox.run("answer", files=files, limits=limits, arguments=arguments)
    if not isinstance(outcome.answer, wire.Answered):
        reason = outcome.answer.reason if isinstance(outcome.answer, wire.Halted) else "the sandbox gave no answers."
        return f"v{detail.version.number}: {reason}"
    outputs = {name.removeprefix("out."): values for name, values in outcome.blobs.items() if name.startswith("out.")}
    return Given(outputs, detail.signature.labels if detail.signature else None)


def _end(comparison_id: UUID, job: Job, *, result: dict[str, Any] | None = None, failure: str = "") -> None:
    states = AnswerComparison.State
    with transaction.atomic():
        jobs.hold(job)
        row = AnswerComparison.objects.filter(id=comparison_id, state=states.COMPARING)
        row.update(state=states.FAILED if failure else states.DONE, result=result, failure=storable_text(failure), ended_at=now())
        jobs.finish(job)
