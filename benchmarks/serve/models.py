"""The three models of the serving benchmark: trained, converted to ONNX, and ready to be published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from registry.signature import Feature, Kind, Layout, Signature, Tensor


@dataclass(frozen=True, slots=True)
class BenchModel:
    """One model: its files, its signature, a row, and what scikit-learn answers to it: probabilities, or the value."""

    name: str
    title: str
    onnx: bytes
    joblib: Path
    signature: Signature
    row: list[float]
    expected: list[float]


_MODELS: dict[str, tuple[str, Callable[[], Any], Callable[..., Any]]] = {
    "logistic": ("Logistic regression, 30 features", lambda: make_pipeline(StandardScaler(), LogisticRegression()), load_breast_cancer),
    "forest": ("Forest of 200 trees, 64 features", lambda: RandomForestClassifier(200, random_state=0), load_digits),
    "boosting": ("Histogram gradient boosting, 10 features", lambda: HistGradientBoostingRegressor(random_state=0), load_diabetes),
}
NAMES = tuple(_MODELS)


def make_models(folder: Path) -> list[BenchModel]:
    """Train all three; the files go to ``folder``."""
    return [_make(folder, name, title, estimator(), *load(return_X_y=True)) for name, (title, estimator, load) in _MODELS.items()]


def _make(folder: Path, name: str, title: str, model: Any, rows: np.ndarray, target: np.ndarray) -> BenchModel:
    rows = rows.astype(np.float32)
    model.fit(rows, target)
    path = folder / f"{name}.joblib"
    joblib.dump(model, path)
    classifies = hasattr(model, "predict_proba")
    row = [_short(float(value), column) for value, column in zip(rows[0], rows.T, strict=True)]
    asked = np.array([row], np.float32)
    expected = (model.predict_proba(asked) if classifies else model.predict(asked)).ravel().tolist()
    content = _converted(model, rows.shape[1], classifies)
    return BenchModel(name, title, content, path, _signature(rows, sorted(set(target.tolist())) if classifies else []), row, expected)


def _short(value: float, column: np.ndarray) -> float:
    """Round as people write numbers, but not beyond the bounds of the signature."""
    short = round(value, 4)
    return short if column.min() <= np.float32(short) <= column.max() else value


def _signature(rows: np.ndarray, classes: list[int]) -> Signature:
    features = tuple(
        Feature(name=f"x{index}", kind=Kind.NUMBER, minimum=float(column.min()), maximum=float(column.max()), example=float(column[0]))
        for index, column in enumerate(rows.T)
    )
    outputs = (Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, len(classes)))) if classes else (Tensor("variable", "FP32", (-1, 1)),)
    return Signature(
        layout=Layout.MATRIX,
        features=features,
        inputs=(Tensor("X", "FP32", (-1, rows.shape[1])),),
        outputs=outputs,
        labels=tuple(map(str, classes)) or None,
        task="classification" if classes else "regression",
    )


def _converted(model: Any, width: int, classifies: bool) -> bytes:
    if isinstance(model, HistGradientBoostingRegressor):
        _flatten_baseline(model)
    options = {"zipmap": False} if classifies else None
    converted = to_onnx(model, initial_types=[("X", FloatTensorType([None, width]))], options=options, target_opset=18)
    return bytes(converted.SerializeToString())


def _flatten_baseline(model: HistGradientBoostingRegressor) -> None:
    """skl2onnx wants the baseline as a flat array; scikit-learn keeps it as a column."""
    model._baseline_prediction = np.asarray(model._baseline_prediction).ravel()  # noqa: SLF001  # the converter reads it too
