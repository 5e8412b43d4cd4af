"""A small world for the tests: a version with a reference, and pieces of the prediction log as the data plane writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from django.conf import settings

from core.clock import now
from core.digests import artifact_path, digest_of
from core.ids import uuid7
from registry.models import Artifact, Model, Version
from serving import segments
from serving.models import Endpoint, PredictionSegment

ENDPOINT, MODEL, VERSION = "churn-scorer", "churn", 12
SIGNATURE = {
    "layout": "matrix",
    "features": [{"name": "charges", "kind": "number"}, {"name": "plan", "kind": "text"}],
    "inputs": [],
    "outputs": [],
    "labels": ["0", "1"],
    "task": "classification",
}
FIVE_MINUTES = timedelta(minutes=5)
_present: list[datetime] = []


def people(n: int, seed: int = 0, *, shift: float = 0.0, noise: str = "noise") -> dict[str, Any]:
    """Draw n rows: ``charges`` normal (it decides the answer), ``noise`` (or another name) uniform (it does not), ``plan`` of three."""
    random = np.random.default_rng(seed)
    return {
        "charges": random.normal(60 + shift, 15, n),
        noise: random.uniform(0, 1, n),
        "plan": random.choice(["basic", "plus", "pro"], n, p=[0.6, 0.3, 0.1]),
    }


def answers(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the model of this world answers: the chance rises with the charges."""
    chance = 1 / (1 + np.exp(-(np.nan_to_num(np.asarray(inputs["charges"], dtype=np.float64)) - 60) / 10))
    probabilities = pa.FixedSizeListArray.from_arrays(pa.array(np.stack([1 - chance, chance], axis=1).ravel(), pa.float32()), 2)
    return {"label": (chance > 0.5).astype(np.int64), "probabilities": probabilities}


def table(inputs: Mapping[str, Any], at: datetime | None = None, ids: list[UUID] | None = None) -> pa.Table:
    """Make a piece of the log, all its rows received within a second from ``at``."""
    n, at = len(next(iter(inputs.values()))), at or now()
    moments = [at + timedelta(microseconds=place) for place in range(n)]
    identifiers = ids or [uuid7(int(moment.timestamp() * 1000)) for moment in moments]
    fixed = {
        "prediction_id": [identifier.bytes for identifier in identifiers],
        "row": [0] * n,
        "received_at": moments,
        "latency_us": [900] * n,
        "request_id": [None] * n,
        "key_id": ["k"] * n,
        "flags": [0] * n,
    }
    return segments.table_of(fixed, inputs, answers(inputs))


def log(inputs: Mapping[str, Any], at: datetime, *, slot: str = "blue", version: int = VERSION, ids: list[UUID] | None = None) -> PredictionSegment:
    """Write a segment, as the data plane does."""
    piece = table(inputs, at, ids)
    received = piece["received_at"].to_pylist()
    return PredictionSegment.objects.create(
        id=uuid7(),
        endpoint=ENDPOINT,
        slot=slot,
        model=MODEL,
        version=version,
        build_digest="0" * 64,
        table_revision=1,
        rows=piece.num_rows,
        first_at=received[0],
        last_at=received[-1],
        columns=segments.encode(piece),
    )


def reference_table(inputs: Mapping[str, Any]) -> pa.Table:
    """The checked sample: inputs and the build's answers."""
    columns = {f"in.{name}": pa.array(values) for name, values in inputs.items()}
    return pa.table(columns | {f"out.{name}": pa.array(values) for name, values in answers(inputs).items()})


def register(number: int = VERSION, *, metrics: dict[str, float] | None = None, rows: int = 2000, noise: str = "noise") -> Version:
    """Register a ready version with its reference in the artifact store; the endpoint too."""
    model, _ = Model.objects.get_or_create(name=MODEL)
    version = Version.objects.create(model=model, number=number, state="ready", ready_at=now(), signature=SIGNATURE, metrics=metrics or {}, created_by="t")
    sink = pa.BufferOutputStream()
    sample = reference_table(people(rows, seed=number, noise=noise))
    with pa.ipc.new_file(sink, sample.schema) as writer:
        writer.write_table(sample)
    blob = sink.getvalue().to_pybytes()
    path = artifact_path(settings.ENVIRONMENT.artifacts_dir, digest_of(blob))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(blob)
    Artifact.objects.create(version=version, role="reference", filename="reference.arrow", digest=digest_of(blob), size_bytes=len(blob))
    Endpoint.objects.get_or_create(name=ENDPOINT)
    return version


def set_clock() -> None:
    """Say that this is the present window, until the test ends: a test may run across the edge of one."""
    seconds = int(now().timestamp())
    _present[:] = [datetime.fromtimestamp(seconds - seconds % 300, UTC)]


def window(back: int = 0) -> datetime:
    """Give the start of the five-minute window ``back`` windows before the present one."""
    return _present[0] - back * FIVE_MINUTES
