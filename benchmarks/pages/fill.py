"""What the pages read, but for monitoring: versions, endpoints with a ledger, a day of predictions and of traffic, keys, the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa

from access.actors import Actor
from access.models import AuditEntry
from core.clock import now
from core.digests import digest_of
from core.ids import uuid7
from registry.models import Build, Model, Version
from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.latency import BUCKETS
from serving.models import PredictionSegment, TrafficWindow
from serving.segments import encode, table_of
from serving.split import split

VERSIONS, ENDPOINTS, FEATURES, AUDIT_ROWS = 10_000, 60, 30, 10_000
MODEL, ENDPOINT = "churn", "churn-scorer"
BLUE, GREEN = 12, 13
_OTHER_MODELS, _OF_EACH = 100, 10
_SEGMENT_ROWS, _AT_ONCE, _KNOWN_EVERY = 200, 250, 8
_SHIFTED_FEATURES, _SHIFTED_FOR = 3, timedelta(hours=3)

Columns = dict[str, np.ndarray]


class Row(NamedTuple):
    """A logged row whose outcome will be known."""

    prediction: UUID
    at: datetime
    label: int


def versions() -> None:
    """9,000 versions of one model, and ten each of a hundred others, with a build each."""
    signature = msgspec.to_builtins(
        Signature(
            layout=Layout.MATRIX,
            features=tuple(Feature(name=f"feature_{number}", kind=Kind.NUMBER, minimum=0, maximum=1, example=0.5) for number in range(FEATURES)),
            inputs=(Tensor("input", "FP32", (-1, FEATURES)),),
            outputs=(Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, 2))),
            labels=("0", "1"),
            task="classification",
        )
    )
    of_main = VERSIONS - _OTHER_MODELS * _OF_EACH
    models = [Model(name=MODEL, owner_name="admin", latest_number=of_main)]
    models += [Model(name=f"model-{number:03}", owner_name="admin", latest_number=_OF_EACH) for number in range(1, _OTHER_MODELS + 1)]
    Model.objects.bulk_create(models)
    made = [
        Version(model=model, number=number, state="ready", format="skops", signature=signature, metrics={"auc": 0.8, "f1": 0.7}, created_by="admin")
        for model in models
        for number in range(1, model.latest_number + 1)
    ]
    Version.objects.bulk_create(made, batch_size=1000)
    tensors = {"inputs": signature["inputs"], "outputs": signature["outputs"]}
    builds = [Build(version=version, kind="onnx", digest=digest_of(str(version.id).encode()), size_bytes=4096, **tensors) for version in made]
    Build.objects.bulk_create(builds, batch_size=1000)


def endpoints(actor: Actor) -> None:
    """60 endpoints with two versions each; the first has a ledger of 303 rows."""
    for name in [ENDPOINT, *(f"endpoint-{number:02}" for number in range(1, ENDPOINTS))]:
        create_endpoint(actor=actor, name=name)
        deploy(actor=actor, endpoint=name, model=MODEL, version=BLUE)
        deploy(actor=actor, endpoint=name, model=MODEL, version=GREEN)
    for number in range(300):
        split(actor=actor, endpoint=ENDPOINT, weights={"blue": 90 - number % 2, "green": 10 + number % 2}, revision=3 + number)


def inputs(random: np.random.Generator, rows: int, *, shifted: bool = False) -> Columns:
    """Draw rows, uniform in 0 to 1; shifted, some features are lower."""
    columns = {f"feature_{number}": random.random(rows) for number in range(FEATURES)}
    for number in range(_SHIFTED_FEATURES if shifted else 0):
        columns[f"feature_{number}"] **= 2
    return columns


def outputs(random: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    """Draw answers: the label by the second probability."""
    chance = random.random(rows, dtype=np.float32)
    both = np.stack([1 - chance, chance], axis=1)
    return {"label": pa.array((chance > 0.5).astype(np.int64)), "probabilities": pa.array(list(both), pa.list_(pa.float32()))}


def predictions(count: int) -> list[Row]:
    """A day of segments up to now, one in ten of the other version; gives the rows of every eighth.

    One row in ten is flagged, and in the last three hours some features are shifted.
    """
    random, until, segments = np.random.default_rng(7), now(), count // _SEGMENT_ROWS
    known: list[Row] = []
    for first in range(0, segments, _AT_ONCE):
        made = []
        for number in range(first, min(first + _AT_ONCE, segments)):
            begin = until - timedelta(days=1) * (1 - number / segments)
            segment, rows = _segment(random, begin, "green" if number % 10 == 0 else "blue", shifted=begin > until - _SHIFTED_FOR)
            made.append(segment)
            known += rows if number % _KNOWN_EVERY == 0 else []
        PredictionSegment.objects.bulk_create(made)
    return known


def _segment(random: np.random.Generator, begin: datetime, slot: str, *, shifted: bool) -> tuple[PredictionSegment, list[Row]]:
    times = [begin + timedelta(milliseconds=row) for row in range(_SEGMENT_ROWS)]
    ids = [uuid7(round(at.timestamp() * 1000)) for at in times]
    fixed = {
        "prediction_id": [each.bytes for each in ids],
        "row": [0] * _SEGMENT_ROWS,
        "received_at": times,
        "latency_us": random.integers(200, 9000, _SEGMENT_ROWS),
        "request_id": [None] * _SEGMENT_ROWS,
        "key_id": ["benchmark"] * _SEGMENT_ROWS,
        "flags": (random.random(_SEGMENT_ROWS) < 0.1).astype(np.int32),
    }
    answers = outputs(random, _SEGMENT_ROWS)
    segment = PredictionSegment(
        id=uuid7(round(begin.timestamp() * 1000)),
        endpoint=ENDPOINT,
        slot=slot,
        model=MODEL,
        version=GREEN if slot == "green" else BLUE,
        build_digest="d" * 64,
        table_revision=1,
        rows=_SEGMENT_ROWS,
        first_at=times[0],
        last_at=times[-1],
        columns=encode(table_of(fixed, inputs(random, _SEGMENT_ROWS, shifted=shifted), answers)),
    )
    return segment, [Row(*each) for each in zip(ids, times, answers["label"].to_pylist(), strict=True)]


def traffic() -> None:
    """Two hours in steps of ten seconds, a day in steps of five minutes."""
    latency = [0] * 15 + [40, 200, 500, 200, 50, 9, 1] + [0] * (BUCKETS - 22)
    processes = [uuid7(), uuid7()]
    end = int(now().timestamp()) // 300 * 300 + 300
    spans = [(10, 7200, processes), (300, 86_400, processes[:1])]
    rows = [
        TrafficWindow(
            level=level,
            start_at=datetime.fromtimestamp(at, UTC),
            endpoint=ENDPOINT,
            slot=slot,
            version=version,
            process=process,
            requests=1000,
            rows=1000,
            latency=latency,
        )
        for level, seconds, each in spans
        for at in range(end - seconds, end, level)
        for slot, version in (("blue", BLUE), ("green", GREEN))
        for process in each
    ]
    TrafficWindow.objects.bulk_create(rows, batch_size=2000)


def audit() -> None:
    """10,000 rows of the audit log."""
    subject = {"subject_kind": "model", "after": {}}
    actor = {"actor_kind": "person", "actor_id": "person:1", "actor_name": "admin"}
    rows = [AuditEntry(**actor, **subject, verb="edit", subject_name=f"model-{number % 100:03}") for number in range(AUDIT_ROWS)]
    AuditEntry.objects.bulk_create(rows, batch_size=2000)
