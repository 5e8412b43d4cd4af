"""Reads the sample rows (CSV, JSON records or Parquet) into columns, and columns into tensors. In the sandbox only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from registry.convert.structure import LONGEST_TEXT, MOST_CATEGORIES
from registry.convert.verdict import Refused
from registry.signature import Feature, Kind, Layout, Signature

GENERATED_ROWS = 256
_SEPARATORS = (";", "\t", "|")
_HOW = "Send a CSV with a header, JSON records or a Parquet file of the rows that the model was trained on."
_DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}


@dataclass(frozen=True)
class Column:
    """One column: numbers as float64 with NaN where missing, texts as objects with None where missing."""

    kind: Kind
    values: Any

    @property
    def missing(self) -> Any:
        """Where values are missing, as a boolean array."""
        if self.kind is Kind.TEXT:
            return np.array([value is None for value in self.values], dtype=bool)
        return np.isnan(self.values)

    def head(self, rows: int) -> Column:
        return Column(self.kind, self.values[:rows])


Sample = dict[str, Column]


def parse(data: bytes, *, max_rows: int) -> Sample:
    """Read at most ``max_rows`` rows. Raises Refused with the parser's reason."""
    import pandas as pd

    try:
        frame = _frame(data, max_rows)
    except (Refused, MemoryError):
        raise
    except UnicodeDecodeError as error:
        raise Refused("The sample rows are neither text in UTF-8 nor a Parquet file.", _HOW) from error
    except Exception as error:  # parsers of a stranger's bytes raise all kinds
        raise Refused(f"The sample rows could not be read: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}", _HOW) from error
    if not len(frame) or not len(frame.columns):
        raise Refused("The sample holds no rows.", _HOW)
    frame = frame.head(max_rows)
    return {str(name): _column(frame.iloc[:, place], pd) for place, name in enumerate(frame.columns)}


def generated(width: int) -> Sample:
    """Make rows for a model of ``width`` numbers that came without a sample; the same ones each time."""
    random = np.random.default_rng(20_240)
    scale = 10.0 ** random.integers(-1, 3, size=(GENERATED_ROWS, 1))
    rows = (random.standard_normal((GENERATED_ROWS, width)) * scale).astype(np.float32).astype(np.float64)
    return {f"x{place}": Column(Kind.NUMBER, rows[:, place]) for place in range(width)}


def tensors(signature: Signature, sample: Sample) -> dict[str, Any]:
    """Give the build's inputs for the sample: null is NaN in numbers and the empty string in texts."""
    columns = [sample[feature.name] for feature in signature.features]
    if signature.layout is Layout.MATRIX:
        tensor = signature.inputs[0]
        return {tensor.name: np.column_stack([column.values for column in columns]).astype(_DTYPES[tensor.datatype])}
    return {tensor.name: _one_tensor(tensor.datatype, column) for tensor, column in zip(signature.inputs, columns, strict=True)}


def column_as(column: Column, kind: Kind) -> Column:
    """Read a column as ``kind``: numbers that stand for categories become texts. Raises Refused when it cannot be."""
    if kind is Kind.TEXT and column.kind is not Kind.TEXT:
        texts = [None if np.isnan(value) else _number_text(value, column.kind) for value in column.values]
        return Column(kind, np.array(texts, dtype=object))
    if kind is not Kind.TEXT and column.kind is Kind.TEXT:
        raise Refused("A column that the model takes as a number holds texts in the sample.", _HOW)
    return Column(kind, column.values)


def feature_of(name: str, column: Column) -> Feature:
    """Describe a column: bounds or categories, example, typical value."""
    missing = column.missing
    present = column.values[~missing]
    has_missing = bool(missing.any())
    kind = Kind.NUMBER if column.kind is Kind.INTEGER and has_missing else column.kind
    if not len(present):
        return Feature(name=name, kind=kind, missing=True)
    if kind is Kind.TEXT:
        found, counts = np.unique(present.astype(str), return_counts=True)
        if max(len(text) for text in found) > LONGEST_TEXT:  # prose, not categories
            return Feature(name=name, kind=kind, missing=has_missing)
        categories = tuple(str(text) for text in found) if len(found) <= MOST_CATEGORIES else None
        return Feature(name=name, kind=kind, missing=has_missing, categories=categories, example=str(present[0]), typical=str(found[counts.argmax()]))
    return Feature(
        name=name,
        kind=kind,
        missing=has_missing,
        minimum=float(present.min()),
        maximum=float(present.max()),
        example=_shown(present[0], kind),
        typical=float(np.median(present)),
    )


def _frame(data: bytes, max_rows: int) -> Any:
    import pandas as pd

    if data.startswith(b"PAR1"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)  # pq.read_table starts a thread, which a child may not
        return table.slice(0, max_rows).to_pandas(use_threads=False)
    if data.lstrip()[:1] in {b"[", b"{"}:
        return pd.DataFrame.from_records(_records(data)[:max_rows])
    header = data.partition(b"\n")[0].decode("utf-8-sig")
    separator = "," if "," in header else next((mark for mark in _SEPARATORS if mark in header), ",")
    return pd.read_csv(io.BytesIO(data), sep=separator, nrows=max_rows, encoding="utf-8-sig")


def _records(data: bytes) -> Sequence[dict[str, Any]]:
    import msgspec

    text = data.strip()
    if text.startswith(b"{") and b'"rows"' not in text[:200]:
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in text.splitlines() if line.strip()]
    if text.startswith(b"{"):
        return msgspec.json.decode(text, type=dict[str, list[dict[str, Any]]])["rows"]
    return msgspec.json.decode(text, type=list[dict[str, Any]])


def _column(series: Any, pd: Any) -> Column:
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype)
    present = series.dropna()
    if pd.api.types.is_bool_dtype(series.dtype) or (series.dtype == object and len(present) and all(isinstance(value, bool) for value in present)):
        return Column(Kind.BOOLEAN, series.astype(object).map({True: 1.0, False: 0.0}).to_numpy(dtype=np.float64, na_value=np.nan))
    if pd.api.types.is_numeric_dtype(series.dtype):
        kind = Kind.INTEGER if pd.api.types.is_integer_dtype(series.dtype) else Kind.NUMBER
        return Column(kind, series.to_numpy(dtype=np.float64, na_value=np.nan))
    if len(present) and all(isinstance(value, (int, float)) for value in present):
        return Column(Kind.NUMBER, pd.to_numeric(series).to_numpy(dtype=np.float64, na_value=np.nan))
    texts = [None if pd.isna(value) else str(value) for value in series]
    return Column(Kind.TEXT, np.array(texts, dtype=object))


def _one_tensor(datatype: str, column: Column) -> Any:
    if datatype == "BYTES":
        return np.array([["" if value is None else value] for value in column.values], dtype=object)
    return column.values.astype(_DTYPES[datatype]).reshape(-1, 1)


def _number_text(value: float, kind: Kind) -> str:
    if kind is Kind.BOOLEAN:
        return "True" if value else "False"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _shown(value: float, kind: Kind) -> float | int | bool:
    if kind is Kind.BOOLEAN:
        return bool(value)
    return int(value) if kind is Kind.INTEGER else float(value)
