"""How much each feature has to do with the output, in the training sample. Pure, and no substitute for causes.

For a numeric output the correlation ratio: the share of the output's variance between the feature's
bins (Kelley 1935, corrected for the number of bins); for labels Cramer's V squared, with the bias
correction of Bergsma 2013. Interactions and redundancy between features are not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitoring import profile

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
TARGETS = ("out.probability", "out.prediction", "out.score", "out.label", "out.confidence", "out.highest_score")


def target_of(columns: Mapping[str, pa.ChunkedArray]) -> str:
    """Name the output to associate with: a probability or number before a label; empty without outputs."""
    named = next((key for key in TARGETS if key in columns), "")
    return named or next((key for key in columns if key.startswith("out.")), "")


def shares(codes: Mapping[str, Codes], output: pa.ChunkedArray, kind: str) -> dict[str, float]:
    """Give each feature's share, 0 to 1, of the sum of the associations; equal shares when nothing is associated."""
    if kind == "number":
        values = profile.as_floats(output)
        found = {key: correlation_ratio(code, values) for key, code in codes.items()}
    else:
        texts = np.array([text or "" for text in profile.as_texts(output)])
        labels = np.unique(texts, return_inverse=True)[1] if texts.size else np.array([], dtype=np.int64)
        found = {key: cramers_v_squared(code, labels) for key, code in codes.items()}
    total = sum(found.values())
    return {key: value / total if total else 1 / len(found) for key, value in found.items()}


def correlation_ratio(codes: Codes, values: Floats) -> float:
    """Give epsilon squared, 0 to 1, of ``values`` [n] between the groups ``codes`` [n]; 0 when nothing varies."""
    finite = np.isfinite(values)
    codes, values = codes[finite], values[finite]
    sizes = np.bincount(codes) if codes.size else np.zeros(1, dtype=np.int64)
    groups = int((sizes > 0).sum())
    around = float(np.square(values - values.mean()).sum()) if values.size else 0.0
    if groups < 2 or values.size <= groups or not np.isfinite(around) or around <= 0:
        return 0.0
    sums = np.bincount(codes, weights=values)[sizes > 0]
    between = float((sums**2 / sizes[sizes > 0]).sum() - values.sum() ** 2 / values.size)
    eta = min(1.0, max(0.0, between / around))
    return max(0.0, 1 - (1 - eta) * (values.size - 1) / (values.size - groups))


def cramers_v_squared(codes: Codes, labels: Codes) -> float:
    """Give the bias-corrected Cramer's V squared, 0 to 1, of two codings [n]; 0 when either is constant."""
    if not codes.size:
        return 0.0
    n = codes.size
    table = np.zeros((int(codes.max()) + 1, int(labels.max()) + 1))
    np.add.at(table, (codes, labels), 1)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    rows, columns = table.shape
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / n
    phi = float((np.square(table - expected) / expected).sum()) / n
    corrected = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    side = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return min(1.0, corrected / side) if side > 0 else 0.0
