"""From answered batches to a segment's columns. Runs in the log's thread, never on the answer's path.

That thread shares the interpreter with the event loop, so work per call and per feature is left to
``segments.decode``, and compressing to compaction: what a batch holds is joined and written as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from core.ids import uuid7
from registry.signature import Feature
from serving import segments
from serving.dataplane.batch import Batch
from serving.dataplane.live import Slot
from serving.dataplane.spool import Segment
from serving.dataplane.tensors import NUMPY_OF, Array

Columns = list[tuple[pa.Field, pa.Array]]
_NUMERIC = [segments.FIXED.field(name) for name in ("prediction_id", "row", "received_at", "latency_us")]
_ID, _WHEN = _NUMERIC[0].type, _NUMERIC[2].type
_FLAGS = segments.FIXED.field("flags")


class _Calls(NamedTuple):
    """``Logged`` of many calls, turned: one sequence per field."""

    ids: tuple[bytes, ...]
    rows: tuple[int, ...]
    received_us: tuple[int, ...]
    latency_us: tuple[int, ...]
    request_ids: tuple[str | None, ...]
    key_ids: tuple[str | None, ...]


def segment_of(slot: Slot, batches: Sequence[Batch]) -> Segment:
    """Put the batches of one slot into one segment."""
    calls = _Calls(*zip(*chain.from_iterable([batch.calls for batch in batches]), strict=True))
    rows = sum(calls.rows)
    columns = [*_fixed(batches, calls, rows), *_inputs(slot, batches, rows), *_outputs(slot, batches, rows)]
    schema = pa.schema([field for field, _ in columns])
    return Segment(
        id=uuid7(),
        endpoint=slot.endpoint_name,
        slot=slot.name,
        model=slot.entry.model,
        version=slot.entry.version,
        build_digest=slot.entry.digest,
        table_revision=slot.table_revision,
        rows=rows,
        first_at=_moment(min(calls.received_us)),
        last_at=_moment(max(calls.received_us)),
        columns=segments.encode_plain(pa.Table.from_arrays([column for _, column in columns], schema=schema)),
    )


def _moment(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _fixed(batches: Sequence[Batch], calls: _Calls, rows: int) -> Columns:
    """Give the columns of ``segments.FIXED``, in its order; where a call has several rows, in runs and without ``row``."""
    count = len(calls.ids)
    identifiers, times = _plain(_ID, count, b"".join(calls.ids)), _plain(_WHEN, count, np.array(calls.received_us, np.int64))
    latencies = pa.array(np.array(calls.latency_us, np.int64))
    texts = [_texts(name, values) for name, values in (("request_id", calls.request_ids), ("key_id", calls.key_ids))]
    flags = _flags(batches)
    if count == rows:
        numbers = [identifiers, pa.array(np.zeros(rows, np.int32)), times, latencies]
        return [*zip(_NUMERIC, numbers, strict=True), *texts, (_FLAGS, pa.array(np.zeros(rows, np.int32) if flags is None else flags))]
    of_calls = [(_NUMERIC[0], identifiers), (_NUMERIC[2], times), (_NUMERIC[3], latencies), *texts]
    ends = pa.array(np.cumsum(calls.rows, dtype=np.int32))
    none = _in_runs(_FLAGS, pa.array([0], pa.int32()), pa.array([rows], pa.int32()))
    return [*(_in_runs(field, column, ends) for field, column in of_calls), none if flags is None else (_FLAGS, pa.array(flags))]


def _plain(kind: pa.DataType, rows: int, values: bytes | Array) -> pa.Array:
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(values)])


def _texts(name: str, texts: Sequence[str | None]) -> tuple[pa.Field, pa.Array]:
    """Make a column of texts; one that is the same in all rows, as most are, is only named."""
    if texts.count(texts[0]) == len(texts):
        return segments.same_field(name, texts[0]), pa.nulls(len(texts))
    return segments.FIXED.field(name), pa.array(texts, pa.string())


def _in_runs(field: pa.Field, values: pa.Array, ends: pa.Array) -> tuple[pa.Field, pa.Array]:
    """Let each value stand for the rows before its end; nulls, which only name a text, for all of them."""
    if pa.types.is_null(field.type):
        return field, pa.nulls(ends[-1].as_py())
    column = pa.RunEndEncodedArray.from_arrays(ends, values)
    return pa.field(field.name, column.type), column


def _flags(batches: Sequence[Batch]) -> Array | None:
    """Give the flags of each row; None when no row has any."""
    if not any(batch.flags is not None for batch in batches):
        return None
    return np.concatenate([np.zeros(sum(call[1] for call in batch.calls), np.int32) if batch.flags is None else batch.flags for batch in batches])


def _inputs(slot: Slot, batches: Sequence[Batch], rows: int) -> Columns:
    features = slot.entry.signature.features
    by_name = {feature.name: feature for feature in features}
    columns: Columns = []
    for name in batches[0].given:
        array = _joined([batch.given[name] for batch in batches], slot, rows, slot.spec.variable)
        if array is None:
            continue
        if slot.spec.is_matrix and array.shape == (rows, len(features)):
            columns += _matrix(name, array, slot.spec.inputs[name].datatype, features)
        elif name in by_name and array.size == rows:
            flat = array.reshape(-1)
            column = _typed(flat, slot.spec.inputs[name].datatype)
            columns.append((segments.sent_field(f"in.{name}", column.type, [by_name[name]]), column))
        else:
            column = _values(array, as_lists=slot.spec.variable)
            columns.append((pa.field(f"in.{name}", column.type), column))
    return columns


def _matrix(name: str, array: Array, datatype: str, features: Sequence[Feature]) -> Columns:
    if datatype == "BYTES":
        return [(pa.field(f"in.{feature.name}", pa.string()), pa.array(array[:, place].tolist(), pa.string())) for place, feature in enumerate(features)]
    lists = pa.FixedSizeListArray.from_arrays(_typed(array.reshape(-1), datatype), len(features))
    return [(segments.sent_field(f"in.{name}", lists.type, features), lists)]


def _typed(flat: Array, datatype: str) -> pa.Array:
    """Give texts as such, and whole numbers and truths of which some are missing, which come as objects, with nulls."""
    if flat.dtype != np.object_:
        return pa.array(flat)
    if datatype == "BYTES":
        return pa.array(flat.tolist(), pa.string())
    return pa.array(flat.tolist(), pa.from_numpy_dtype(NUMPY_OF[datatype]), from_pandas=True)


def _outputs(slot: Slot, batches: Sequence[Batch], rows: int) -> Columns:
    fixed = {tensor.name for tensor in slot.entry.signature.outputs if -1 not in tensor.shape[1:]}
    columns: Columns = []
    for index, name in enumerate(slot.build.outputs):
        array = _joined([batch.outputs[index] for batch in batches], slot, rows, name not in fixed)
        if array is not None:
            column = _values(array, as_lists=name not in fixed)
            columns.append((segments.output_field(name, column.type, single=array.dtype == np.float32), column))
    return columns


def _joined(arrays: list[Array], slot: Slot, rows: int, variable: bool) -> Array | None:
    """Put the batches' rows together; None where their shapes differ: a build of variable shapes is logged without them.

    Where the first axis is no row, each batch is one row with all its values.
    """
    if not slot.spec.batched:
        arrays = [array.reshape(1, -1) for array in arrays]
    first = arrays[0]
    if len(arrays) == 1:
        joined = first
    elif (variable or not slot.spec.batched) and any(array.shape[1:] != first.shape[1:] for array in arrays):
        return None
    else:
        joined = _concatenated(arrays)
    return joined if len(joined) == rows else None


def _concatenated(arrays: list[Array]) -> Array:
    """Do what ``numpy.concatenate`` does for arrays of one type and row shape, four times as fast."""
    first = arrays[0]
    if first.dtype != np.object_ and [array.dtype for array in arrays].count(first.dtype) == len(arrays):
        with contextlib.suppress(TypeError):  # one is a view with gaps
            return np.frombuffer(b"".join(arrays), first.dtype).reshape(-1, *first.shape[1:])  # type: ignore[arg-type]  # arrays are buffers; the stubs know it from Python 3.12 on
    return np.concatenate(arrays)


def _values(array: Array, *, as_lists: bool) -> pa.Array:
    """Give one scalar per row, or a list of float32 (or of text) per row; always ``as_lists`` where the width varies, so that all segments are alike."""
    rows = len(array)
    flat = array.reshape(-1)
    width = flat.size // rows
    if array.dtype == np.object_:
        values = pa.array([value.decode() if isinstance(value, bytes) else str(value) for value in flat.tolist()], pa.string())
    elif width != 1 or as_lists:
        values = pa.array(flat.astype(np.float32))
    else:
        values = pa.array(flat if array.dtype == np.bool_ else flat.astype(np.float64 if array.dtype.kind == "f" else np.int64))
    if width == 1 and not as_lists:
        return values
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), values)
