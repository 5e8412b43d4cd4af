"""Ends the wait for a check whose job died: the version is refused, and says what to do."""

from __future__ import annotations

from access import audit
from access.actors import system
from core.models import Job
from registry import steps
from registry.models import Version

_INTERRUPTED = "The check was interrupted three times, the last time with: {}"
_RETRY = "Check it again from the version's page. If that ends the same, the file needs more memory or time than the sandbox has."


def give_up(job: Job) -> None:
    """Refuse the version of a dead check, inside the transaction that ends the job; one that has its result stays."""
    version = Version.objects.select_for_update(of=("self",)).select_related("model").filter(id=job.subject, state=Version.State.CHECKING).first()
    if version is None:
        return
    version.state = Version.State.REFUSED
    version.refusal = _INTERRUPTED.format(job.error)
    version.steps = steps.ended(version.steps, steps.step("ready", "failed", version.refusal, advice=_RETRY))
    version.save(update_fields=["state", "refusal", "steps"])
    audit.record(
        actor=system("converter"), verb="refuse", subject_kind="version", subject_name=str(version), after={"state": version.state}, reason=version.refusal
    )
