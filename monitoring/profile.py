"""Profiles: what is kept of a window's rows, so that windows add up and nothing is read twice. Pure.

A profile of two sets of rows is the merge of their profiles, in any order: counts are exact,
sums are floating point, the sketch is right within its tolerance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from monitoring import sketch

KEYS = 1000
Kind = Literal["number", "category"]
Floats = NDArray[np.float64]


class FeatureProfile(msgspec.Struct, kw_only=True):
    """One feature or output. For numbers the counts are in the bins (e[i-1], e[i]] of the reference, open at both ends."""

    kind: Kind
    n: int = 0
    nulls: int = 0
    infinities: int = 0
    below: int = 0
    above: int = 0
    total: float = 0.0
    squares: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    counts: list[int] = []
    sketch: bytes = b""
    categories: dict[str, int] = {}
    other: int = 0
    """Rows whose category is not among the ``KEYS`` most frequent."""

    @property
    def valid(self) -> int:
        """Rows with a finite value or a category."""
        return self.n - self.nulls - self.infinities


class Profile(msgspec.Struct, kw_only=True):
    """A window: ``n`` rows, and its features by key (``in.age``, ``out.label``)."""

    n: int = 0
    features: dict[str, FeatureProfile] = {}


class Bins(msgspec.Struct, frozen=True):
    """Where the values of a feature are counted: its kind, interior edges [b - 1], and the range that is normal."""

    kind: Kind
    edges: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None


_ONE_FOR_ALL = {"out.probabilities": ("out.probability", "out.confidence"), "out.scores": ("out.score", "out.highest_score")}
"""By output of a value for each class: the key of the second of two classes, and that of the largest value."""

encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Profile)


def decode(blob: bytes | memoryview) -> Profile:
    """Read what ``encode`` wrote; empty bytes are the empty profile."""
    return _decoder.decode(blob) if len(blob) else Profile()


def columns_of(table: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Give the monitored columns of a piece of the log, by key.

    Probabilities per class become one column: ``out.probability`` of the second class when there
    are two, else ``out.confidence``, the largest; scores of a decision function likewise
    ``out.score`` or ``out.highest_score``. Other lists longer than 1, and of text, are left out.
    """
    for name in table.column_names:
        if not name.startswith(("in.", "out.")):
            continue
        column = table[name]
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type) or pa.types.is_large_list(column.type):
            yield from _of_lists(name, column)
        else:
            yield name, column


def _of_lists(name: str, column: pa.ChunkedArray) -> Iterator[tuple[str, pa.ChunkedArray]]:
    inner = column.type.value_type
    if not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
        return
    flat = np.asarray(pc.list_flatten(column).to_numpy(), dtype=np.float64)
    width = flat.size // len(column) if len(column) else 0
    if column.null_count or not width or flat.size != width * len(column):
        return
    matrix = flat.reshape(-1, width)
    if width == 1:
        yield name, pa.chunked_array([matrix[:, 0]])
    elif name in _ONE_FOR_ALL:
        of_second, largest = _ONE_FOR_ALL[name]
        yield (of_second, pa.chunked_array([matrix[:, 1]])) if width == 2 else (largest, pa.chunked_array([matrix.max(axis=1)]))


def kind_of(key: str, column: pa.ChunkedArray) -> Kind:
    """Text, booleans and labels are categories; everything else is a number."""
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_null(column.type)
    return "number" if numeric and key != "out.label" else "category"


def profile_of(table: pa.Table, bins: Mapping[str, Bins]) -> Profile:
    """Profile all rows of ``table``; a feature without bins gets everything but the counts."""
    features = {}
    for key, column in columns_of(table):
        wanted = bins.get(key) or Bins(kind_of(key, column))
        features[key] = _numbers(column, wanted) if wanted.kind == "number" else _categories(column)
    return Profile(n=table.num_rows, features=features)


def as_floats(column: pa.ChunkedArray) -> Floats:
    """Give the column as float64 [n], NaN where it is null or not a number."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.full(len(column), np.nan)
    values = column.cast(pa.float64(), safe=False).to_numpy()
    return np.asarray(values, dtype=np.float64)


def as_texts(column: pa.ChunkedArray) -> list[str | None]:
    """Give the column's categories as text, None where it is null: ``true``, ``3``, ``Fiber``."""
    if pa.types.is_null(column.type):
        return [None] * len(column)
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _numbers(column: pa.ChunkedArray, bins: Bins) -> FeatureProfile:
    values = as_floats(column)
    infinite = np.isinf(values)
    finite = values[np.isfinite(values)]
    made = FeatureProfile(kind="number", n=values.size, infinities=int(infinite.sum()), nulls=int(np.isnan(values).sum()), sketch=sketch.sketch_of(finite))
    if bins.edges:
        made.counts = counts_in(finite, np.array(bins.edges))
    if finite.size:
        with np.errstate(over="ignore"):
            made.total, made.squares = float(finite.sum()), float(np.square(finite).sum())
        made.minimum, made.maximum = float(finite.min()), float(finite.max())
    if bins.low is not None and bins.high is not None:
        made.below, made.above = int((finite < bins.low).sum()), int((finite > bins.high).sum())
    return made


def counts_in(values: Floats, edges: Floats) -> list[int]:
    """Count finite ``values`` [n] in the bins (e[i-1], e[i]], open at both ends: len(edges) + 1 counts."""
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=edges.size + 1)
    return [int(count) for count in counts]


def _categories(column: pa.ChunkedArray) -> FeatureProfile:
    counted = Counter(as_texts(column))
    nulls = counted.pop(None, 0)
    kept, other = _most_frequent({key: count for key, count in counted.items() if key is not None})
    return FeatureProfile(kind="category", n=len(column), nulls=nulls, categories=kept, other=other)


def _most_frequent(counts: dict[str, int]) -> tuple[dict[str, int], int]:
    """Keep the ``KEYS`` most frequent, ties by name, and sum up the rest."""
    if len(counts) <= KEYS:
        return counts, 0
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:KEYS]), sum(count for _, count in ordered[KEYS:])


def merge(one: Profile, other: Profile) -> Profile:
    """Give the profile of both sides' rows. Both must be counted in the same bins (``bins.rebin`` otherwise)."""
    features = dict(one.features)
    for key, profile in other.features.items():
        features[key] = merge_features(features[key], profile) if key in features else profile
    return Profile(n=one.n + other.n, features=features)


def uncounted(one: Profile) -> Profile:
    """Give the profile without its counts in bins, so that it merges with one counted in other bins."""
    features = {key: msgspec.structs.replace(value, counts=[], below=0, above=0) for key, value in one.features.items()}
    return Profile(n=one.n, features=features)


def unsketched(one: Profile) -> Profile:
    """Give the profile without its sketches, which cost most of a merge, for who wants the counts alone."""
    return Profile(n=one.n, features={key: msgspec.structs.replace(value, sketch=b"") for key, value in one.features.items()})


def merge_features(one: FeatureProfile, other: FeatureProfile) -> FeatureProfile:
    """Merge two profiles of one feature; where the kinds differ, the larger side's stays and the rest is missing."""
    if one.kind != other.kind:
        first, second = sorted((one, other), key=lambda side: (side.valid, side.kind), reverse=True)
        return msgspec.structs.replace(first, n=first.n + second.n, nulls=first.nulls + second.n)
    kept, cut = _most_frequent(_sum_of(one.categories, other.categories))
    return FeatureProfile(
        kind=one.kind,
        n=one.n + other.n,
        nulls=one.nulls + other.nulls,
        infinities=one.infinities + other.infinities,
        below=one.below + other.below,
        above=one.above + other.above,
        total=one.total + other.total,
        squares=one.squares + other.squares,
        minimum=_least([one.minimum, other.minimum]),
        maximum=_greatest([one.maximum, other.maximum]),
        counts=_added(one.counts, other.counts),
        sketch=sketch.merge(one.sketch, other.sketch),
        categories=kept,
        other=one.other + other.other + cut,
    )


def _sum_of(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def _added(one: list[int], other: list[int]) -> list[int]:
    if not one or not other:
        return one or other
    return [left + right for left, right in zip(one, other, strict=True)]


def _least(values: list[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _greatest(values: list[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
