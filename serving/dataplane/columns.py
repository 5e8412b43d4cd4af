"""From answered batches to a segment's columns. Runs in the log's thread, never on the answer's path."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from core.ids import uuid7
from registry.signature import Feature, Kind
from serving import segments
from serving.dataplane.batch import Batch
from serving.dataplane.live import Slot
from serving.dataplane.spool import Segment
from serving.dataplane.tensors import Array


def segment_of(slot: Slot, batches: Sequence[Batch]) -> Segment:
    """Put the batches of one slot into one segment."""
    rows = np.concatenate([np.array(batch.row_counts, np.int64) for batch in batches])
    received = np.concatenate([np.array(batch.received_us, np.int64) for batch in batches])
    table = segments.table_of(_fixed(batches, rows, received), _inputs(slot, batches), _outputs(slot, batches))
    return Segment(
        id=uuid7(),
        endpoint=slot.endpoint_name,
        slot=slot.name,
        model=slot.entry.model,
        version=slot.entry.version,
        build_digest=slot.entry.digest,
        table_revision=slot.table_revision,
        rows=table.num_rows,
        first_at=_moment(int(received.min())),
        last_at=_moment(int(received.max())),
        columns=segments.encode(table),
    )


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _fixed(batches: Sequence[Batch], rows: Array, received: Array) -> dict[str, Any]:
    total = int(rows.sum())
    ids = np.frombuffer(b"".join(identifier for batch in batches for identifier in batch.ids), dtype="V16")
    first = np.repeat(np.cumsum(rows) - rows, rows)
    latency = np.concatenate([np.array(batch.latency_us, np.int64) for batch in batches])
    return {
        "prediction_id": pa.Array.from_buffers(pa.binary(16), total, [None, pa.py_buffer(np.repeat(ids, rows).tobytes())]),
        "row": np.arange(total, dtype=np.int64) - first,
        "received_at": np.repeat(received, rows),
        "latency_us": np.repeat(latency, rows),
        "request_id": _repeated([text for batch in batches for text in batch.request_ids], rows),
        "key_id": _repeated([text for batch in batches for text in batch.key_ids], rows),
        "flags": np.concatenate([batch.flags for batch in batches]),
    }


def _repeated(texts: list[str | None], rows: Array) -> pa.Array:
    column = pa.array(texts, pa.string())
    return column if len(texts) == rows.sum() else column.take(pa.array(np.repeat(np.arange(len(texts)), rows)))


def _inputs(slot: Slot, batches: Sequence[Batch]) -> dict[str, pa.Array]:
    features = slot.entry.signature.features
    names = list(batches[0].given)
    joined = {name: np.concatenate([batch.given[name] for batch in batches]) for name in names if _joinable(batches, name)}
    if slot.spec.is_matrix and len(names) == 1 and names[0] in joined:
        matrix = joined[names[0]]
        if matrix.ndim == 2 and matrix.shape[1] == len(features):
            return {feature.name: _feature(matrix[:, index], feature) for index, feature in enumerate(features)}
    by_name = {feature.name: feature for feature in features}
    return {name: _feature(array.reshape(-1), by_name[name]) if name in by_name else _values(array) for name, array in joined.items()}


def _joinable(batches: Sequence[Batch], name: str) -> bool:
    """Tell whether the batches' arrays have one row shape; a build of variable shapes is logged without those inputs."""
    return len({batch.given[name].shape[1:] for batch in batches}) == 1 and batches[0].given[name].ndim > 0


def _feature(column: Array, feature: Feature) -> pa.Array:
    """Give a column in its feature's own kind: float64, int64, bool or string; missing is null."""
    if column.dtype == np.object_:
        return pa.array(column.tolist(), pa.string())
    if column.dtype.kind != "f":
        return pa.array(column if feature.kind == Kind.BOOLEAN else column.astype(np.int64))
    missing = np.isnan(column)
    none_missing = not missing.any()
    if feature.kind in (Kind.INTEGER, Kind.BOOLEAN):
        known = column[~missing]
        if (np.abs(known) < 2**53).all() and (known == np.floor(known)).all():
            whole = np.where(missing, 0, column).astype(np.int64 if feature.kind == Kind.INTEGER else np.bool_)
            return pa.array(whole, mask=None if none_missing else missing)
    values = column.astype(np.float64)
    return pa.array(values, mask=None if none_missing else missing)


def _outputs(slot: Slot, batches: Sequence[Batch]) -> dict[str, pa.Array]:
    columns = {}
    for index, name in enumerate(slot.build.outputs):
        arrays = [batch.outputs[index] for batch in batches]
        if len({array.shape[1:] for array in arrays}) == 1:
            columns[name] = _values(np.concatenate(arrays))
    return columns


def _values(array: Array) -> pa.Array:
    """Give one scalar per row, or a list of float32 (or of text) per row."""
    rows = len(array)
    flat = array.reshape(-1)
    width = flat.size // rows
    if array.dtype == np.object_:
        values = pa.array([value.decode() if isinstance(value, bytes) else str(value) for value in flat.tolist()], pa.string())
    elif width != 1:
        values = pa.array(flat.astype(np.float32))
    else:
        values = pa.array(flat if array.dtype == np.bool_ else flat.astype(np.float64 if array.dtype.kind == "f" else np.int64))
    if width == 1:
        return values
    return pa.ListArray.from_arrays(pa.array(np.arange(0, flat.size + 1, width or 1, dtype=np.int32)), values)
