"""The reference's bins: where a feature is counted, and the counts that the test compares. Pure.

Numbers are counted in fine bins whose edges are the deciles and the 32-quantiles together; the test
adds them up to deciles, exactly. Few distinct numbers get a bin each, with one open bin on both
sides, so that a constant column that moves is seen. Categories with at least 1 % of the reference
get a bin each, the rest (with whatever was never seen) shares one. Missing is a bin of its own.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitoring import association, profile, sketch
from monitoring.profile import Bins, FeatureProfile, Profile

FEW = 12
RARE = 0.01
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class FeatureReference(msgspec.Struct, kw_only=True):
    """One feature of the reference: its bins, its own profile, and how much it has to do with the output."""

    key: str
    bins: Bins
    groups: tuple[int, ...] = ()
    """For each fine bin the bin of the test it belongs to."""
    known: tuple[str, ...] = ()
    """The categories with a bin of their own."""
    profile: FeatureProfile
    importance: float | None = None
    """Share, 0 to 1, of the association with the output; None for outputs."""

    @property
    def name(self) -> str:
        return self.key.partition(".")[2]

    @property
    def role(self) -> str:
        return "input" if self.key.startswith("in.") else "output"


class ReferenceDocument(msgspec.Struct, kw_only=True):
    """The whole reference: ``rows`` and its features by key. ``importance_of`` names the output associated with."""

    rows: int
    features: dict[str, FeatureReference]
    importance_of: str = ""

    @property
    def bins(self) -> dict[str, Bins]:
        return {key: feature.bins for key, feature in self.features.items()}


encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(ReferenceDocument)


def decode(blob: bytes | memoryview) -> ReferenceDocument:
    """Read what ``encode`` wrote."""
    return _decoder.decode(blob)


def edges_of(values: Floats) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Give the interior edges of the fine bins, and the test's bin of each fine bin, for finite ``values`` [n].

    Edges are values of the sample (inverted CDF), so ties stay together; an edge at the maximum
    would bound an empty bin and is left out. No values: no edges, one bin.
    """
    distinct = np.unique(values)
    if not distinct.size:
        return (), (0,)
    if distinct.size <= FEW:
        between = (distinct[:-1] + distinct[1:]) / 2
        few = np.unique(np.concatenate([[np.nextafter(distinct[0], -np.inf)], between, [distinct[-1]]]))
        return tuple(few.tolist()), tuple(range(few.size + 1))
    deciles = _quantile_edges(values, 10)
    fine = np.union1d(deciles, _quantile_edges(values, 32))
    groups = np.searchsorted(deciles, np.append(fine, np.inf), side="left")
    return tuple(fine.tolist()), tuple(groups.tolist())


def _quantile_edges(values: Floats, parts: int) -> Floats:
    edges = np.unique(np.quantile(values, np.arange(1, parts) / parts, method="inverted_cdf"))
    return np.asarray(edges[edges < values.max()], dtype=np.float64)


def reference_of(table: pa.Table) -> ReferenceDocument:
    """Make the reference of a table with columns ``in.*`` and ``out.*``; any number of rows, also none."""
    columns = dict(profile.columns_of(table))
    features = {key: _feature(key, column) for key, column in columns.items()}
    codes = {key: codes_of(feature, columns[key]) for key, feature in features.items() if feature.role == "input"}
    target = association.target_of(columns)
    if target:
        for key, share in association.shares(codes, columns[target], profile.kind_of(target, columns[target])).items():
            features[key].importance = share
    return ReferenceDocument(rows=table.num_rows, features=features, importance_of=target)


def _feature(key: str, column: pa.ChunkedArray) -> FeatureReference:
    kind = profile.kind_of(key, column)
    if kind == "category":
        made = profile.profile_of(pa.table({key: column}), {key: Bins(kind)}).features[key]
        known = [name for name, count in sorted(made.categories.items()) if count >= RARE * max(1, made.valid)]
        return FeatureReference(key=key, bins=Bins(kind), known=tuple(known), profile=made)
    values = profile.as_floats(column)
    finite = values[np.isfinite(values)]
    edges, groups = edges_of(finite)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    bins = Bins(kind, edges, low, high)
    flat = pa.table({key: pa.chunked_array([values])}) if not pa.types.is_floating(column.type) else pa.table({key: column})
    return FeatureReference(key=key, bins=bins, groups=groups, profile=profile.profile_of(flat, {key: bins}).features[key])


def reference_from_profile(merged: Profile, old: ReferenceDocument | None) -> ReferenceDocument:
    """Make a reference of live traffic: new edges from the sketches, categories as counted, importance as it was, if it was known."""
    features = {}
    for key, current in merged.features.items():
        before = old.features.get(key) if old else None
        features[key] = _from_profile(key, current, before.importance if before else None)
    return ReferenceDocument(rows=merged.n, features=features, importance_of=old.importance_of if old else "")


def _from_profile(key: str, current: FeatureProfile, importance: float | None) -> FeatureReference:
    if current.kind == "category":
        known = tuple(name for name, count in sorted(current.categories.items()) if count >= RARE * max(1, current.valid))
        return FeatureReference(key=key, bins=Bins("category"), known=known, profile=current, importance=importance)
    grid = sketch.quantiles(current.sketch, tuple((np.arange(1000) + 0.5) / 1000))
    edges, groups = edges_of(np.array([value for value in grid if value is not None], dtype=np.float64))
    bins = Bins("number", edges, current.minimum, current.maximum)
    return FeatureReference(key=key, bins=bins, groups=groups, profile=rebinned(current, bins), importance=importance)


def rebinned(current: FeatureProfile, bins: Bins) -> FeatureProfile:
    """Give the profile with its counts in other bins, from its sketch: within its tolerance, not exact."""
    if current.kind != "number":
        return current
    counts = sketch.counts_between(current.sketch, np.array(bins.edges), current.valid) if bins.edges else []
    below = above = 0
    if bins.low is not None and bins.high is not None and current.valid:
        low, high = np.array([np.nextafter(bins.low, -np.inf)]), np.array([bins.high])
        below = round(float(sketch.cdf(current.sketch, low)[0]) * current.valid)
        above = current.valid - round(float(sketch.cdf(current.sketch, high)[0]) * current.valid)
    return msgspec.structs.replace(current, counts=counts, below=below, above=above)


def rebin(current: Profile, reference: ReferenceDocument) -> Profile:
    """Give a window's profile with its counts in the bins of ``reference``."""
    bins = reference.bins
    features = {key: rebinned(value, bins[key]) if key in bins else value for key, value in current.features.items()}
    return Profile(n=current.n, features=features)


def counts_for_test(reference: FeatureReference, current: FeatureProfile) -> Counts:
    """Give the counts that PSI compares: the reference's test bins, then missing (null or infinite). int64 [b + 1]."""
    missing = current.nulls + current.infinities
    if reference.bins.kind == "category":
        known = [current.categories.get(name, 0) for name in reference.known]
        return np.array([*known, max(0, current.valid - sum(known)), missing], dtype=np.int64)
    if not reference.bins.edges:
        return np.array([current.valid, missing], dtype=np.int64)
    counts = current.counts or rebinned(current, reference.bins).counts or [0] * len(reference.groups)
    grouped = np.bincount(np.array(reference.groups), weights=np.array(counts, dtype=np.float64))
    return np.append(grouped, missing).astype(np.int64)


def unseen_in(reference: FeatureReference, current: FeatureProfile) -> int:
    """Count the rows whose category the reference never had."""
    if reference.profile.other:
        return 0
    return sum(count for name, count in current.categories.items() if name not in reference.profile.categories)


def codes_of(reference: FeatureReference, column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Give the test's bin of each row: int64 [n]; the last code is missing."""
    if reference.bins.kind == "category":
        codes = {name: code for code, name in enumerate(reference.known)}
        rest = len(codes)
        return np.array([rest + 1 if text is None else codes.get(text, rest) for text in profile.as_texts(column)], dtype=np.int64)
    values = profile.as_floats(column)
    groups = np.array(reference.groups)
    found = groups[np.searchsorted(np.array(reference.bins.edges, dtype=np.float64), np.nan_to_num(values), side="left")]
    return np.where(np.isfinite(values), found, groups.max() + 1).astype(np.int64)
