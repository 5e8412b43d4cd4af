"""The columns of a piece of the prediction log, and their form: Arrow IPC stream, compressed with zstd by compaction. Pure.

One record per row that was answered. Fixed columns are below; then ``in.<feature>`` (float64, int64,
bool or string; null is missing) and ``out.<output>`` (a scalar, or a list of float32 per row).

The data plane writes inputs as their tensors held them: a matrix is one column of lists, a missing number is
NaN. The field's metadata names the features, and ``decode`` makes their columns, where nobody waits, and marks
those of single precision. A text that is the same in every row is in its field's metadata alone. Where calls had
several rows, what belongs to the call is run-end encoded, and ``row`` is left out: ``read`` makes both again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from registry.signature import Feature, Kind

FIXED = pa.schema(
    [
        pa.field("prediction_id", pa.binary(16)),  # UUIDv7; one per request
        pa.field("row", pa.int32()),  # 0-based within the request
        pa.field("received_at", pa.timestamp("us", tz="UTC")),
        pa.field("latency_us", pa.int64()),
        pa.field("request_id", pa.string()),  # the caller's id, if given
        pa.field("key_id", pa.string()),
        pa.field("flags", pa.int32()),  # bits of the FLAG_ constants
    ]
)
FLAG_OUT_OF_BOUNDS = 1
FLAG_UNSEEN_CATEGORY = 2
FLAG_CLIPPED = 4
FLAG_REPLACED = 8
FLAG_CACHE_HIT = 16
FLAG_DEMO = 32  # the request said that it is demo traffic
FLAG_FILLED = 64  # missing, and the policy put the typical value in

WORDS_OF_FLAGS = {
    FLAG_OUT_OF_BOUNDS: "out of bounds",
    FLAG_UNSEEN_CATEGORY: "unseen category",
    FLAG_CLIPPED: "clipped",
    FLAG_REPLACED: "replaced",
    FLAG_CACHE_HIT: "cache hit",
    FLAG_DEMO: "demo",
    FLAG_FILLED: "missing, replaced",
}

PIECE_S = 120
"""Compaction puts segments together that lie in one stretch of so many seconds."""
LONGEST_CALL_S = 300
"""No endpoint lets a call take longer."""
LONGEST = timedelta(seconds=PIECE_S + LONGEST_CALL_S + 60)
"""From the first to the last prediction of a segment: a reader who knows a prediction's time looks no further."""

_FEATURES, _SAME, _SINGLE = b"features", b"same", b"single"
_decode_features = msgspec.json.Decoder(list[tuple[str, Kind]]).decode

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
_PLAIN = pa.ipc.IpcWriteOptions(compression=None)
PLAIN_BELOW_BYTES = 32 * 1024
"""Below this zstd makes the piece larger, and costs 3 ms each way for its contexts instead of 0.2 ms."""


def encode(table: pa.Table) -> bytes:
    """Write ``table`` as one Arrow IPC stream; a larger one has its buffers compressed with zstd."""
    sink = pa.BufferOutputStream()
    _write(table, sink, _COMPRESSED if table.nbytes >= PLAIN_BELOW_BYTES else _PLAIN)
    blob: bytes = sink.getvalue().to_pybytes()
    return blob


def encode_plain(table: pa.Table) -> memoryview:
    """Write ``table`` without compressing it, which costs twenty times what writing does: the data plane leaves that to compaction.

    Measured first, the bytes are written once, into their place.
    """
    size = pa.MockOutputStream()
    _write(table, size, _PLAIN)
    content = np.empty(size.size(), np.uint8)
    _write(table, pa.FixedSizeBufferWriter(pa.py_buffer(content)), _PLAIN)
    return content.data


def _write(table: pa.Table, sink: Any, options: pa.ipc.IpcWriteOptions) -> None:
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)


def decode(blob: bytes | memoryview) -> pa.Table:
    """Read what ``encode`` wrote, inputs as columns of their features."""
    table = read(blob)
    if not any(field.metadata for field in table.schema):
        return table
    columns: dict[str, tuple[pa.Field, Any]] = {}
    for field, column in zip(table.schema, table.columns, strict=True):
        if _FEATURES in (field.metadata or {}):
            mark = {_SINGLE: b""} if pa.types.is_float32(_value_type(field.type)) else None
            columns |= {name: (pa.field(name, made.type, metadata=mark), made) for name, made in _features_of(field, column.combine_chunks())}
        elif _is_same(field):
            columns[field.name] = (pa.field(field.name, pa.string()), _repeated(field, column))
        else:
            columns[field.name] = (field, column)
    return pa.Table.from_arrays([column for _, column in columns.values()], schema=pa.schema([field for field, _ in columns.values()]))


def singles_of(schema: pa.Schema) -> frozenset[str]:
    """Name the columns of what ``decode`` gave that are of single precision, or lists of it."""
    return frozenset(field.name for field in schema if _is_single(field))


def _is_single(field: pa.Field) -> bool:
    if pa.types.is_list(field.type):
        return bool(pa.types.is_float32(field.type.value_type))
    return bool(pa.types.is_floating(field.type)) and _SINGLE in (field.metadata or {})


def shortest_of(value: float) -> float:
    """Give a number of single precision as the shortest decimal that stands for it: 0.1, not 0.10000000149011612. For people; arithmetic takes it as it is."""
    return float(str(np.float32(value)))


def shortest(table: pa.Table) -> pa.Table:
    """Do what ``shortest_of`` does for all of what ``decode`` gave, for files. Lists become lists of float64."""
    for place, field in enumerate(table.schema):
        if not _is_single(field):
            continue
        column = table.column(place)
        if pa.types.is_list(field.type):
            lists = pa.chunked_array([_shortest_lists(chunk) for chunk in column.chunks], pa.list_(pa.float64()))
            table = table.set_column(place, field.name, lists)
        else:
            table = table.set_column(place, field, _shortest(column))
    return table


def _shortest(values: Any) -> Any:
    return values.cast(pa.float32()).cast(pa.string()).cast(pa.float64())


def _shortest_lists(lists: pa.ListArray) -> pa.ListArray:
    begins, length = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    values = _shortest(lists.values.slice(begins, length - begins))
    return pa.ListArray.from_arrays(pc.subtract(lists.offsets, begins), values, mask=lists.is_null() if lists.null_count else None)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_fixed_size_list(kind) else kind


def read(blob: bytes | memoryview) -> pa.Table:
    """Read what ``encode`` wrote, inputs as their tensors held them."""
    table = _as_written(blob)
    if not any(_is_in_runs(field) for field in table.schema):
        return table
    columns = {field.name: pc.run_end_decode(column) if _is_in_runs(field) else column for field, column in zip(table.schema, table.columns, strict=True)}
    columns["row"] = _rows_of(table.column("prediction_id"))
    fields = [FIXED.field(field.name) if _is_in_runs(field) else field for field in table.schema]
    fields.insert(FIXED.get_field_index("row"), FIXED.field("row"))
    return pa.Table.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))


def _as_written(blob: bytes | memoryview) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(blob)) as reader:
        return reader.read_all()


def _is_in_runs(field: pa.Field) -> bool:
    return bool(pa.types.is_run_end_encoded(field.type))


def _rows_of(predictions: pa.ChunkedArray) -> pa.Array:
    """Count the rows of each prediction from 0; ``predictions`` is run-end encoded, one run a call."""
    ends = predictions.combine_chunks().run_ends.to_numpy()
    lengths = np.diff(ends, prepend=0)
    return pa.array(np.arange(len(predictions), dtype=np.int32) - np.repeat(ends - lengths, lengths).astype(np.int32))


def types_of(blob: bytes | memoryview) -> dict[str, pa.DataType]:
    """Give the types of the inputs and outputs that hold any value: those of a float matrix are float64, whatever their kind."""
    types: dict[str, pa.DataType] = {}
    for field in _as_written(blob).schema:
        features = (field.metadata or {}).get(_FEATURES)
        if features is not None:
            kind = _value_type(field.type)
            wide = pa.float64() if pa.types.is_floating(kind) else pa.int64() if pa.types.is_integer(kind) else kind
            types |= {f"in.{name}": wide for name, _ in _decode_features(features)}
        elif field.name.startswith(("in.", "out.")):
            types[field.name] = field.type
    return types


def joined(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Put what ``read`` gave together, in order: one table for each set of columns."""
    groups: dict[str, list[pa.Table]] = {}
    for table in tables:
        groups.setdefault(_shape_of(table), []).append(table)
    return [_joined(group) for group in groups.values()]


def _shape_of(table: pa.Table) -> str:
    """Name the columns and their types; a text that is always the same is a text."""
    marks = [field.metadata or {} for field in table.schema]
    fields = [
        (field.name, "string" if _is_same(field) else str(field.type), mark.get(_FEATURES), mark.get(_SINGLE))
        for field, mark in zip(table.schema, marks, strict=True)
    ]
    return str(fields)


def _joined(tables: list[pa.Table]) -> pa.Table:
    columns: list[pa.ChunkedArray] = []
    fields: list[pa.Field] = []
    for place, name in enumerate(tables[0].schema.names):
        found = [table.schema.field(place) for table in tables]
        pieces = [table.column(place) for table in tables]
        if any(_is_same(field) for field in found) and any(not field.equals(found[0], check_metadata=True) for field in found):
            pieces = [_repeated(field, piece) for field, piece in zip(found, pieces, strict=True)]
            fields.append(pa.field(name, pa.string()))
        else:
            fields.append(found[0])
        columns.append(pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], fields[-1].type).combine_chunks())
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _is_same(field: pa.Field) -> bool:
    return _SAME in (field.metadata or {})


def _repeated(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not _is_same(field):
        return column
    return pa.chunked_array([pa.repeat(pa.scalar(msgspec.json.decode(field.metadata[_SAME]), pa.string()), len(column))])


def same_field(name: str, value: str | None) -> pa.Field:
    """Describe a column of nulls that stands for ``value`` in every row."""
    return pa.field(name, pa.null(), metadata={_SAME: msgspec.json.encode(value)})


def output_field(name: str, kind: pa.DataType, *, single: bool) -> pa.Field:
    """Describe a column of outputs; ``single`` where its float64 came from single precision."""
    return pa.field(f"out.{name}", kind, metadata={_SINGLE: b""} if single and pa.types.is_float64(kind) else None)


def sent_field(name: str, kind: pa.DataType, features: Sequence[Feature]) -> pa.Field:
    """Describe a column of inputs as their tensor held them: lists with a value per feature, or the values of one feature."""
    return pa.field(name, kind, metadata={_FEATURES: msgspec.json.encode([(feature.name, feature.kind) for feature in features])})


def _features_of(field: pa.Field, column: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Give the columns of the features that one column of inputs holds."""
    features = _decode_features(field.metadata[_FEATURES])
    flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    if flat.null_count and not pa.types.is_floating(flat.type) and not pa.types.is_string(flat.type):
        yield from _with_gaps(features, flat)
        return
    if pa.types.is_fixed_size_list(column.type):
        values = np.ascontiguousarray(flat.to_numpy(zero_copy_only=False).reshape(len(column), len(features)).T)
    elif pa.types.is_string(column.type):
        yield f"in.{features[0][0]}", column
        return
    else:
        values = column.to_numpy(zero_copy_only=False)[None]
    if values.dtype.kind != "f":
        for (name, kind), row in zip(features, values, strict=True):
            yield f"in.{name}", pa.array(row if kind == Kind.BOOLEAN else row.astype(np.int64))
        return
    values = values.astype(np.float64)
    missing = np.isnan(values)
    any_missing = missing.any(axis=1)
    for place, (name, kind) in enumerate(features):
        yield f"in.{name}", _feature(values[place], kind, missing[place] if any_missing[place] else None)


def _with_gaps(features: Sequence[tuple[str, Kind]], flat: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """Give the columns of whole numbers or truths of which some are missing, row-major in ``flat``; numpy would make floats of them."""
    for place, (name, kind) in enumerate(features):
        column = flat.take(pa.array(range(place, len(flat), len(features))))
        yield f"in.{name}", column if kind == Kind.BOOLEAN else column.cast(pa.int64())


def _feature(column: NDArray[np.float64], kind: Kind, missing: NDArray[np.bool_] | None) -> pa.Array:
    """Give floats in their feature's kind: float64, or int64 or bool where all are whole; missing is null."""
    if kind in (Kind.INTEGER, Kind.BOOLEAN):
        whole = column if missing is None else np.where(missing, 0.0, column)
        if (np.abs(whole) < 2**53).all() and (whole == np.floor(whole)).all():
            return pa.array(whole.astype(np.int64 if kind == Kind.INTEGER else np.bool_), mask=missing)
    return pa.array(column, mask=missing)


def table_of(fixed: Mapping[str, Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> pa.Table:
    """Put columns together: ``fixed`` by the schema's names, inputs and outputs without their prefix."""
    columns = {field.name: pa.array(fixed[field.name], field.type) for field in FIXED}
    columns |= {f"in.{name}": pa.array(values) for name, values in inputs.items()}
    columns |= {f"out.{name}": pa.array(values) for name, values in outputs.items()}
    return pa.table(columns)
