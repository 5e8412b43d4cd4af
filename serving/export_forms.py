"""The forms of an export: logged rows as typed columns, and those as CSV lines or a Parquet file. Pure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from serving import segments
from serving.segments import WORDS_OF_FLAGS

FIXED = pa.schema(
    [
        pa.field("prediction_id", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("received_at", pa.timestamp("us", tz="UTC")),
        pa.field("slot", pa.string()),
        pa.field("model", pa.string()),
        pa.field("version", pa.int32()),
        pa.field("table_revision", pa.int64()),
        pa.field("latency_ms", pa.float64()),
        pa.field("request_id", pa.string()),
        pa.field("key_id", pa.string()),
        pa.field("flags", pa.list_(pa.string())),
    ]
)
_CSV_ROWS = 2000
Pieces = Iterator[pa.Table]


def typed(table: pa.Table, meta: Mapping[str, Any], columns: pa.Schema) -> pa.Table:
    """Give decoded rows of one segment the file's columns; ``meta`` has its slot, model, version and table revision."""
    rows = table.num_rows
    known = {
        "prediction_id": pa.array([str(UUID(bytes=value)) for value in table["prediction_id"].to_pylist()], pa.string()),
        "latency_ms": pa.array(table["latency_us"].to_numpy() / 1000),
        "flags": pa.array([words_of(bits) for bits in table["flags"].to_pylist()], pa.list_(pa.string())),
        "slot": pa.repeat(pa.scalar(meta["slot"]), rows),
        "model": pa.repeat(pa.scalar(meta["model"]), rows),
        "version": pa.repeat(pa.scalar(meta["version"], pa.int32()), rows),
        "table_revision": pa.repeat(pa.scalar(meta["table_revision"], pa.int64()), rows),
    }
    there = set(table.column_names)
    made = [
        known[field.name] if field.name in known else _cast(table[field.name], field.type) if field.name in there else pa.nulls(rows, field.type)
        for field in columns
    ]
    return pa.Table.from_arrays(made, schema=columns)


def words_of(bits: int | None) -> list[str]:
    """Name the flags of a row."""
    return [word for bit, word in WORDS_OF_FLAGS.items() if (bits or 0) & bit]


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Give the column in the file's type; what is a list in one version and a text in another becomes JSON."""
    if column.type == kind:
        return column
    if pa.types.is_string(kind) and pa.types.is_list(column.type):
        return pa.chunked_array([pa.array([None if value is None else json.dumps(value) for value in column.to_pylist()], pa.string())])
    if pa.types.is_list(kind) and not pa.types.is_list(column.type):  # an output of varying width that was one value wide
        values = column.cast(kind.value_type, safe=False).combine_chunks()
        return pa.chunked_array([pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)])
    return column.cast(kind, safe=False)


class _Sink(io.RawIOBase):
    """A file that is taken away piece by piece while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, content: Any) -> int:
        part = bytes(content)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def taken(self) -> bytes:
        """Give what was written since the last time."""
        content = b"".join(self._parts)
        self._parts.clear()
        return content


def as_parquet(columns: pa.Schema, pieces: Pieces) -> Iterator[bytes]:
    """Write a row group for each piece."""
    sink = _Sink()
    with pq.ParquetWriter(sink, columns, compression="zstd") as writer:
        for piece in pieces:
            writer.write_table(piece)
            yield sink.taken()
    yield sink.taken()


def as_csv(columns: pa.Schema, pieces: Pieces) -> Iterator[bytes]:
    """Write the header, then the rows; lists as JSON, flags as words."""
    yield _lines([columns.names])
    for piece in pieces:
        for batch in segments.shortest(piece).to_batches(max_chunksize=_CSV_ROWS):
            yield _lines([[_cell(name, value) for name, value in row.items()] for row in batch.to_pylist()])


def _lines(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(name: str, value: Any) -> Any:
    """Make a value text; one that a spreadsheet would run as a formula gets an apostrophe before it."""
    if name == "received_at":
        return value.isoformat()
    if name == "flags":
        return ", ".join(value)
    if isinstance(value, list):
        return json.dumps([_finite(each) for each in value])
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{value}"
    return _finite(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMS: dict[str, tuple[Callable[[pa.Schema, Pieces], Iterator[bytes]], str]] = {
    "csv": (as_csv, "text/csv; charset=utf-8"),
    "parquet": (as_parquet, "application/vnd.apache.parquet"),
}
"""How each form is written, and its media type."""
