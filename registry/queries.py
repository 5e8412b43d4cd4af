"""Reads of models and versions, for pages and the REST API; each says how many SQL queries it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import Count, Prefetch, Q, QuerySet

from core.errors import Invalid
from core.paging import ROWS, Page, Sorts, page_of
from registry.find import model_named, version_numbered
from registry.models import Alias, Artifact, Build, Model, Version
from registry.signature import Signature

MODEL_SORTS = Sorts("-changed", {"name": ["name"], "changed": ["updated_at", "id"]})
VERSION_SORTS = Sorts("-number", {"number": ["number"], "registered": ["created_at", "number"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model in a list. What begins with ``latest_`` is of the newest version that exists; 0 and empty for none."""

    id: UUID
    name: str
    description: str
    tags: dict[str, str]
    owner_name: str
    versions: int
    latest_number: int
    latest_state: str
    latest_not_servable_reason: str
    latest_at: datetime | None
    aliases: dict[str, int]
    revision: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


@dataclass(frozen=True, slots=True)
class ModelDetail(ModelRow):
    """One model, with the number of versions in each state (``checking``, ``ready``, ``refused``)."""

    states: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionDetail:
    """One version with everything the registry knows of it."""

    version: Version
    signature: Signature | None
    builds: list[Build]
    artifacts: list[Artifact]
    aliases: list[str]

    @property
    def build(self) -> Build | None:
        """The ONNX build, if there is one."""
        return next((build for build in self.builds if build.kind == Build.Kind.ONNX), None)


def models_page(*, q: str = "", tag: str = "", archived: bool = False, sort: str = "", cursor: str | None = None, limit: int = ROWS) -> Page[ModelRow]:
    """Give models, the last changed first unless ``sort`` says otherwise. Four queries however many versions there are."""
    models = Model.objects.filter(archived_at__isnull=not archived)
    if q:
        models = models.filter(Q(name__icontains=q) | Q(description__icontains=q) | Q(owner_name__icontains=q))
    if tag:
        models = models.filter(_tagged(tag))
    page = page_of(models, order=MODEL_SORTS.order(sort), cursor=cursor, limit=limit)
    facts = _facts([model.id for model in page.results])
    return page.map(lambda model: ModelRow(**_row(model, facts)))


def model_detail(name: str) -> ModelDetail:
    """Give one model; raises ModelNotFound. Five queries."""
    model = model_named(name)
    states = dict(Version.objects.filter(model=model).order_by().values_list("state").annotate(Count("id")))
    return ModelDetail(**_row(model, _facts([model.id])), states={state: states.get(state, 0) for state in Version.State.values})


def versions_page(
    model: str, *, q: str = "", state: str = "", tag: str = "", archived: bool = False, sort: str = "", cursor: str | None = None, limit: int = ROWS
) -> Page[Version]:
    """Give the versions of ``model``, newest first unless ``sort`` says otherwise, each with ``model``, ``builds`` and ``aliases`` loaded. Four queries."""
    versions = with_parts(Version.objects.filter(model=model_named(model), archived_at__isnull=not archived))
    if q:
        versions = versions.filter(Q(description__icontains=q) | Q(created_by__icontains=q) | (Q(number=int(q)) if _is_number(q) else Q()))
    if state:
        versions = versions.filter(state=_known_state(state))
    if tag:
        versions = versions.filter(_tagged(tag))
    return page_of(versions, order=VERSION_SORTS.order(sort), cursor=cursor, limit=limit)


def version_detail(model: str, number: int) -> VersionDetail:
    """Give one version; raises VersionNotFound. Four queries."""
    version = version_numbered(model, number)
    return VersionDetail(
        version=version,
        signature=signature_of(version),
        builds=list(version.builds.order_by("kind")),
        artifacts=list(version.artifacts.order_by("role")),
        aliases=list(version.aliases.order_by("name").values_list("name", flat=True)),
    )


def aliases_of(model: str) -> list[Alias]:
    """Give the aliases of ``model`` by name, each with its version; raises ModelNotFound. Two queries."""
    return list(Alias.objects.filter(model=model_named(model)).select_related("version").order_by("name"))


def signature_of(version: Version) -> Signature | None:
    """Give the version's signature as a value, None while it has none."""
    return msgspec.convert(version.signature, Signature) if version.signature else None


def with_parts(versions: QuerySet[Version]) -> QuerySet[Version]:
    """Load model, builds and aliases along: two queries more, whatever the number of rows. No big columns."""
    aliases = Prefetch("aliases", Alias.objects.order_by("name"))
    return versions.select_related("model").prefetch_related("builds", aliases).defer("signature", "conversion")


@dataclass(frozen=True, slots=True)
class _Facts:
    latest: dict[UUID, Version]
    counts: dict[UUID, int]
    aliases: dict[UUID, dict[str, int]]


def _facts(models: Collection[UUID]) -> _Facts:
    """Look up what is known of these models by number of versions, newest version and aliases. Three queries."""
    versions = Version.objects.filter(model__in=models)
    newest = versions.order_by("model_id", "-number").distinct("model_id").only("model_id", "number", "state", "not_servable_reason", "created_at")
    aliases: dict[UUID, dict[str, int]] = defaultdict(dict)
    for model_id, name, number in Alias.objects.filter(model__in=models).order_by("name").values_list("model_id", "name", "version__number"):
        aliases[model_id][name] = number
    counts = dict(versions.order_by().values_list("model_id").annotate(Count("id")))
    return _Facts({version.model_id: version for version in newest}, counts, aliases)


def _row(model: Model, facts: _Facts) -> dict[str, Any]:
    latest = facts.latest.get(model.id)
    same = ("id", "name", "description", "tags", "owner_name", "revision", "created_at", "updated_at", "archived_at")
    return {
        **{name: getattr(model, name) for name in same},
        "versions": facts.counts.get(model.id, 0),
        "latest_number": latest.number if latest else 0,
        "latest_state": latest.state if latest else "",
        "latest_not_servable_reason": latest.not_servable_reason if latest else "",
        "latest_at": latest.created_at if latest else None,
        "aliases": facts.aliases.get(model.id, {}),
    }


def _tagged(tag: str) -> Q:
    """``key`` or ``key:value``."""
    key, colon, value = tag.partition(":")
    return Q(tags__contains={key: value}) if colon else Q(tags__has_key=key)


def _known_state(state: str) -> str:
    if state not in Version.State.values:
        raise Invalid(f"There is no version state {state[:40]!r}; the states are {', '.join(Version.State.values)}.")
    return state


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
