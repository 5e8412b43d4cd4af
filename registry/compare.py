"""Compares two versions of a model: metrics, columns, size, speed. What they predict is compared by whoever serves them."""

from __future__ import annotations

from dataclasses import dataclass

from registry.queries import VersionDetail, version_detail
from registry.signature import Feature, Signature


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric of both; None where a version does not have it."""

    name: str
    a: float | None
    b: float | None

    @property
    def change(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """One input column: ``same``, ``added``, ``removed``, or ``changed`` with ``text`` saying how."""

    name: str
    change: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Version ``a`` against ``b``. ``blocks`` says why ``b`` cannot replace ``a`` at an endpoint; empty if it can."""

    a: VersionDetail
    b: VersionDetail
    metrics: list[MetricChange]
    columns: list[ColumnChange]
    blocks: list[str]


def compare(model: str, a: int, b: int) -> Comparison:
    """Compare versions ``a`` and ``b``; raises VersionNotFound. Eight queries."""
    first, second = version_detail(model, a), version_detail(model, b)
    columns = column_changes(first.signature, second.signature)
    return Comparison(
        a=first,
        b=second,
        metrics=metric_changes(first.version.metrics, second.version.metrics),
        columns=columns,
        blocks=[*_unready(first, second), *(f"{change.name}: {change.text or change.change}" for change in columns if change.change != "same")],
    )


def metric_changes(a: dict[str, float], b: dict[str, float]) -> list[MetricChange]:
    """Give every metric that either has, by name."""
    return [MetricChange(name, a.get(name), b.get(name)) for name in sorted({*a, *b})]


def column_changes(a: Signature | None, b: Signature | None) -> list[ColumnChange]:
    """Give every input column of either, those of ``a`` first in their order; nothing while a signature is unknown."""
    if a is None or b is None:
        return []
    old, new = {feature.name: feature for feature in a.features}, {feature.name: feature for feature in b.features}
    removed_or_kept = [_column_change(feature, new.get(name)) for name, feature in old.items()]
    return [*removed_or_kept, *(ColumnChange(name, "added", f"{feature.kind}, only in b") for name, feature in new.items() if name not in old)]


def _column_change(a: Feature, b: Feature | None) -> ColumnChange:
    if b is None:
        return ColumnChange(a.name, "removed", f"{a.kind}, only in a")
    if a.kind != b.kind:
        return ColumnChange(a.name, "changed", f"{a.kind} in a, {b.kind} in b")
    return ColumnChange(a.name, "same")


def _unready(a: VersionDetail, b: VersionDetail) -> list[str]:
    return [f"{detail.version} has no signature: it is {detail.version.state}" for detail in (a, b) if detail.signature is None]
