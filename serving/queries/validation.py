"""Reads of what validation did with values outside the signature."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Sum

from core.clock import now
from core.errors import NotFound
from serving.models import Endpoint, Slot, ValidationCount

MOST_HOURS = 168


@dataclass(frozen=True, slots=True)
class FeatureActions:
    """What was done with values of one feature, and the policy that it has now. ``refused`` counts requests.

    ``share`` of the checked rows, 0 to 1, whose value was clipped, replaced, filled in or flagged; None without rows.
    """

    feature: str
    policy: str
    clipped: int
    replaced: int
    filled: int
    flagged: int
    refused: int
    share: float | None


@dataclass(frozen=True, slots=True)
class ValidationActions:
    """What validation did since ``since``, the present hour and those before it; ``rows`` were checked. Features with the largest share first."""

    endpoint: str
    version: int | None
    hours: int
    since: datetime
    rows: int
    features: tuple[FeatureActions, ...]


def validation_actions(endpoint: str, hours: int = 24, *, version: int | None = None) -> ValidationActions:
    """Give what was done in the last ``hours`` (at most 168), at all slots that answer or for one version. Two queries.

    Raises NotFound for no such endpoint.
    """
    policies = Endpoint.objects.filter(name=endpoint).values_list("validation", flat=True).first()
    if policies is None:
        raise NotFound(f"There is no endpoint {endpoint}. The list of endpoints has those that exist.")
    hours = min(max(1, hours), MOST_HOURS)
    since = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
    counts = ValidationCount.objects.filter(endpoint=endpoint, start_at__gte=since)
    if version is None:
        counts = counts.exclude(Exists(Slot.objects.filter(endpoint__name=endpoint, name=OuterRef("slot"), shadow=True)))
    else:
        counts = counts.filter(version=version)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for feature, action, count in counts.values_list("feature", "action").annotate(sum=Sum("count")).order_by("feature"):
        found[feature][action] = count
    rows = found.get("", {}).pop("checked", 0)
    features = [_feature(name, policies, actions, rows) for name, actions in found.items() if actions]
    return ValidationActions(endpoint, version, hours, since, rows, tuple(sorted(features, key=lambda each: -(each.share or 0))))


def _feature(name: str, policies: dict[str, dict[str, str] | str], actions: dict[str, int], rows: int) -> FeatureActions:
    of_features = policies.get("features")
    policy = of_features.get(name) if isinstance(of_features, dict) else None
    changed = {action: actions.get(action, 0) for action in ("clipped", "replaced", "filled", "flagged")}
    return FeatureActions(
        feature=name,
        policy=policy or str(policies.get("default", "flag")),
        **changed,
        refused=actions.get("refused", 0),
        share=min(1.0, sum(changed.values()) / rows) if rows else None,
    )
