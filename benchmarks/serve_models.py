"""The three models of the serving benchmark: trained, converted to ONNX, and ready to be published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
    """One model: its files, its signature, and a request of one row."""

    title: str
    onnx: bytes
    joblib: Path
    signature: Signature
    body: str


def make_models(folder: Path) -> list[BenchModel]:
    """Train all three; the files go to ``folder``."""
    cancer, digits, diabetes = load_breast_cancer(), load_digits(), load_diabetes()
    return [
        _make(folder, "logistic regression, 30 features", make_pipeline(StandardScaler(), LogisticRegression()), cancer.data, cancer.target),
        _make(folder, "forest of 200 trees, 64 features", RandomForestClassifier(200, random_state=0), digits.data, digits.target),
        _make(folder, "histogram gradient boosting, 10 features", HistGradientBoostingRegressor(random_state=0), diabetes.data, diabetes.target),
    ]


def _make(folder: Path, title: str, model: object, rows: np.ndarray, target: np.ndarray) -> BenchModel:
    rows = rows.astype(np.float32)
    model.fit(rows, target)  # type: ignore[attr-defined]  # any scikit-learn estimator
    name = title.split(",", maxsplit=1)[0].replace(" ", "-")
    path = folder / f"{name}.joblib"
    joblib.dump(model, path)
    classifies = hasattr(model, "predict_proba")
    content = _converted(model, rows.shape[1], classifies)
    features = tuple(
        Feature(name=f"x{index}", kind=Kind.NUMBER, minimum=float(column.min()), maximum=float(column.max()), example=float(column[0]))
        for index, column in enumerate(rows.T)
    )
    classes = sorted(set(target.tolist())) if classifies else []
    outputs = (Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, len(classes)))) if classifies else (Tensor("variable", "FP32", (-1, 1)),)
    signature = Signature(
        layout=Layout.MATRIX,
        features=features,
        inputs=(Tensor("X", "FP32", (-1, rows.shape[1])),),
        outputs=outputs,
        labels=tuple(map(str, classes)) or None,
        task="classification" if classifies else "regression",
    )
    row = [round(float(value), 4) for value in rows[0]]
    body = json.dumps({"inputs": [{"name": "X", "shape": [1, len(row)], "datatype": "FP32", "data": row}]})
    return BenchModel(title, content, path, signature, body)


def _converted(model: object, width: int, classifies: bool) -> bytes:
    if isinstance(model, HistGradientBoostingRegressor):
        _flatten_baseline(model)
    options = {"zipmap": False} if classifies else None
    converted = to_onnx(model, initial_types=[("X", FloatTensorType([None, width]))], options=options, target_opset=18)
    return bytes(converted.SerializeToString())


def _flatten_baseline(model: HistGradientBoostingRegressor) -> None:
    """skl2onnx wants the baseline as a flat array; scikit-learn keeps it as a column."""
    model._baseline_prediction = np.asarray(model._baseline_prediction).ravel()  # noqa: SLF001  # the converter reads it too
