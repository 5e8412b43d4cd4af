"""Deletes a version or an empty model for good. Refused while anything holds it."""

from __future__ import annotations

from collections.abc import Callable

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from access import audit
from access.actors import Actor
from access.people import end_grants_on
from access.permissions import require
from access.rights import Right
from registry import references
from registry.errors import InUse
from registry.find import model_named, version_numbered
from registry.models import Version

guards: list[Callable[[Version], str]] = []
"""Asked inside the transaction; each gives why the version must stay ("it is in the slot blue of churn-scorer"), or nothing."""


def delete_version(*, actor: Actor, model: str, version: int, reason: str = "") -> None:
    """Delete the version, its builds, and those of its files that no other version has; the number is never used again.

    Raises InUse while an alias is on it or a guard objects; nothing is changed then.
    """
    require(actor, Right.MODEL_DELETE, f"model:{model}")
    try:
        with transaction.atomic():
            row = version_numbered(model, version, lock=True)
            # Locked, so that nothing deploys a build between the guards' answer and the commit.
            builds = list(row.builds.select_for_update())
            refuse_if_held(row, "deleted")
            digests = [*row.artifacts.values_list("digest", flat=True), *(build.digest for build in builds)]
            audit.record(actor=actor, verb="delete", subject_kind="version", subject_name=str(row), before={"digests": digests}, reason=reason)
            row.delete()
    except (IntegrityError, ProtectedError) as error:
        raise InUse(f"{model} v{version} cannot be deleted: it has just come into use. Nothing was changed.") from error
    references.remove_unused(digests)


def delete_model(*, actor: Actor, model: str, reason: str = "") -> None:
    """Delete a model that has no versions, and the grants on it; raises InUse while it has any versions."""
    require(actor, Right.MODEL_DELETE, f"model:{model}")
    with transaction.atomic():
        row = model_named(model, lock=True)
        if count := row.versions.count():
            raise InUse(f"{model} has {count} versions. Delete them first, or archive the model. Nothing was changed.")
        audit.record(actor=actor, verb="delete", subject_kind="model", subject_name=model, reason=reason)
        end_grants_on(actor=actor, subject_kind="model", subject_name=model)
        row.delete()


def refuse_if_held(version: Version, what: str) -> None:
    """Raise InUse that names every alias on ``version`` and every objection of a guard."""
    names = version.aliases.order_by("name").values_list("name", flat=True)
    held = [f"it has the alias {name}" for name in names] + [why for guard in guards if (why := guard(version))]
    if held:
        raise InUse(f"{version} cannot be {what}: {'; '.join(held)}. Take it out of use first. Nothing was changed.", held=held)
