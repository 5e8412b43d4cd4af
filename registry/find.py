"""Finds one model, version or alias by its name, for verbs and queries; says what is missing otherwise."""

from __future__ import annotations

from registry.errors import AliasNotFound, ModelNotFound, VersionNotFound
from registry.models import Alias, Model, Version

HIGHEST_NUMBER = 2**31 - 1


def model_named(name: str, *, lock: bool = False) -> Model:
    """Give the model; ``lock`` holds its row for the rest of the transaction. Raises ModelNotFound. One query."""
    models = Model.objects.select_for_update() if lock else Model.objects.all()
    model = None if "\0" in name else models.filter(name=name).first()
    if model is None:
        raise ModelNotFound(f"There is no model {name[:100]!r}. Look at the list of models.")
    return model


def version_numbered(name: str, number: int, *, lock: bool = False) -> Version:
    """Give the version with its model; ``lock`` holds its row. Raises VersionNotFound. One query."""
    versions = Version.objects.select_related("model")
    if lock:
        versions = versions.select_for_update(of=("self",))
    version = versions.filter(model__name=name, number=number).first() if 0 < number <= HIGHEST_NUMBER and "\0" not in name else None
    if version is None:
        raise VersionNotFound(f"There is no version {number} of a model {name[:100]!r}. Look at the model's page for its versions.")
    return version


def alias_named(model: Model, alias: str) -> Alias:
    """Give the alias with its version; raises AliasNotFound. One query."""
    found = Alias.objects.select_related("version").filter(model=model, name=alias).first()
    if found is None:
        raise AliasNotFound(f"The model {model.name} has no alias {alias[:64]!r}.")
    return found
