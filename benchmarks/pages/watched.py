"""What monitoring has made of the predictions, by its own functions: references, profiles, verdicts, outcomes, alerts. A day of it, six times over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa
from django.conf import settings
from django.db import connection, models

from access.actors import Actor
from benchmarks.pages import fill
from benchmarks.pages.fill import BLUE, ENDPOINT, GREEN, MODEL, Row
from core.clock import now
from core.digests import artifact_path, digest_of
from monitoring.evaluate import evaluate_endpoint
from monitoring.join_outcomes import join_parked
from monitoring.models import Alert, DriftResult, PerformanceWindow, WindowProfile
from monitoring.outcomes import JOINED_AT_ONCE, OutcomeIn, send_outcomes
from monitoring.profile_segments import profile_segments
from monitoring.reference import ensure_references
from registry.models import Artifact, Version

DAYS, OLD_ALERTS = 7, 1000
_SAMPLE_ROWS = 5000
_RIGHT, _RIGHT_LATELY, _LATELY = 0.9, 0.6, timedelta(hours=3)


def watch(actor: Actor, rows: Sequence[Row]) -> None:
    """Register samples, profile all that was logged, send the outcomes of ``rows``, judge."""
    for number in (BLUE, GREEN):
        _sample(Version.objects.get(model__name=MODEL, number=number))
    ensure_references()
    while profile_segments():
        pass
    _outcomes(actor, rows)
    evaluate_endpoint(ENDPOINT)
    for table in (WindowProfile, DriftResult, PerformanceWindow):
        _repeat(table)
    _old_alerts()


def _sample(version: Version) -> None:
    random = np.random.default_rng(version.number)
    columns = {f"in.{name}": pa.array(values) for name, values in fill.inputs(random, _SAMPLE_ROWS).items()}
    columns |= {f"out.{name}": values for name, values in fill.outputs(random, _SAMPLE_ROWS).items()}
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    path = artifact_path(settings.ENVIRONMENT.artifacts_dir, digest_of(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    Artifact.objects.create(version=version, role=Artifact.Role.REFERENCE, filename="reference.arrow", digest=digest_of(content), size_bytes=len(content))


def _outcomes(actor: Actor, rows: Sequence[Row]) -> None:
    """Send what was true: nine in ten labels were right, of late six in ten."""
    lately, random = now() - _LATELY, np.random.default_rng(1)
    sent = [OutcomeIn(row.prediction, row.label if random.random() < (_RIGHT_LATELY if row.at > lately else _RIGHT) else 1 - row.label) for row in rows]
    for start in range(0, len(sent), JOINED_AT_ONCE):
        send_outcomes(actor=actor, outcomes=sent[start : start + JOINED_AT_ONCE])
    while join_parked():
        pass


def _repeat(table: type[models.Model]) -> None:
    """Copy the day's windows to the six days before."""
    meta = table._meta  # noqa: SLF001  # Django's documented interface
    columns = ", ".join(f'"{field.column}"' for field in meta.concrete_fields if field.name not in ("id", "start_at"))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {meta.db_table} ({columns}, start_at) SELECT {columns}, start_at - interval '1 day' * back"
            f" FROM {meta.db_table}, generate_series(1, %s) AS back ON CONFLICT DO NOTHING",
            [DAYS - 1],
        )


def _old_alerts() -> None:
    """1,000 that were resolved, over all endpoints and three months."""
    at = now()
    made = [
        Alert(
            endpoint=ENDPOINT if number % 2 else f"endpoint-{number % (fill.ENDPOINTS - 1) + 1:02}",
            model=MODEL,
            version=BLUE,
            cause=Alert.Cause.DRIFT,
            dedup_key=f"old:{number}",
            state=Alert.State.RESOLVED,
            severity=Alert.Severity.WATCH,
            title=f"Drift in feature_{number % fill.FEATURES}",
            first_at=at - timedelta(hours=2 * number + 48),
            last_at=at - timedelta(hours=2 * number + 47),
            resolved_at=at - timedelta(hours=2 * number + 46),
            resolved_by="admin",
        )
        for number in range(OLD_ALERTS)
    ]
    Alert.objects.bulk_create(made)
