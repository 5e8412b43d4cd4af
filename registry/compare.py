"""Compares two versions of a model: metrics, columns, size, speed, and what ``compare_answers`` found of their answers."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from registry.answers import Answers, turned
from registry.models import AnswerComparison, Artifact
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
    """Version ``a`` against ``b``. ``blocks`` says why ``b`` cannot replace ``a`` at an endpoint; empty if it can.

    ``answers_state`` is ``none`` (nobody asked yet), ``comparing``, ``done``, ``failed`` or
    ``impossible``; ``answers_reason`` says why of the last two. ``sample_number`` is the version on whose sample rows both answer.
    """

    a: VersionDetail
    b: VersionDetail
    metrics: list[MetricChange]
    columns: list[ColumnChange]
    blocks: list[str]
    answers_state: str
    answers_reason: str
    answers: Answers | None
    sample_number: int | None


def compare(model: str, a: int, b: int) -> Comparison:
    """Compare versions ``a`` and ``b``; raises VersionNotFound. Nine queries."""
    first, second = version_detail(model, a), version_detail(model, b)
    columns = column_changes(first.signature, second.signature)
    state, reason, answers = _answers(first, second)
    owner = sample_of(first, second)
    return Comparison(
        a=first,
        b=second,
        metrics=metric_changes(first.version.metrics, second.version.metrics),
        columns=columns,
        blocks=[*_unready(first, second), *(f"{change.name}: {change.text or change.change}" for change in columns if change.change != "same")],
        answers_state=state,
        answers_reason=reason,
        answers=answers,
        sample_number=owner.version.number if owner else None,
    )


def sample_of(a: VersionDetail, b: VersionDetail) -> VersionDetail | None:
    """Give the version on whose sample rows both answer: the newer one that has some."""
    newest_first = sorted((a, b), key=lambda detail: -detail.version.number)
    return next((detail for detail in newest_first if any(artifact.role == Artifact.Role.SAMPLE for artifact in detail.artifacts)), None)


def obstacle(a: VersionDetail, b: VersionDetail) -> str:
    """Say why the answers of both cannot be compared; empty if they can."""
    if a.version.number == b.version.number:
        return "It is one and the same version."
    for detail in (a, b):
        if detail.build is None or detail.signature is None:
            return f"v{detail.version.number} has no build to run."
    if any(change.change != "same" for change in column_changes(a.signature, b.signature)):
        return "They take different columns."
    return "" if sample_of(a, b) else "Neither was registered with sample rows."


def _answers(a: VersionDetail, b: VersionDetail) -> tuple[str, str, Answers | None]:
    """Give state, reason and result of the comparison of answers, turned so that ``a`` comes first. One query at most."""
    reason = obstacle(a, b)
    if reason:
        return "impossible", reason, None
    older, newer = sorted((a.version, b.version), key=lambda version: version.number)
    row = AnswerComparison.objects.filter(older=older, newer=newer).first()
    if row is None:
        return "none", "", None
    found = msgspec.convert(row.result, Answers) if row.result else None
    return row.state, row.failure, turned(found) if found and older is b.version else found


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
