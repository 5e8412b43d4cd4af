"""Asks the original estimator: its task, and its answers in the form that the build gives them. In the sandbox only."""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert import rewrite
from registry.convert.sample import Column, Sample
from registry.convert.signature_of import label_texts
from registry.convert.verdict import NotServable, Refused
from registry.signature import Kind


def task_of(model: Any) -> str:
    """Tell classification, regression or outliers. Raises NotServable for what is none of them."""
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

    if is_classifier(model):
        if isinstance(getattr(model, "classes_", None), list):
            raise NotServable("The classifier answers several questions at once.", "Train one classifier for each target.")
        return "classification"
    if is_outlier_detector(model):
        return "outliers"
    if is_regressor(model):
        return "regression"
    raise NotServable(f"{type(model).__name__} is no classifier, regressor or outlier detector.", "Register a pipeline that ends in one.")


def answers(model: Any, rows: Any, task: str) -> dict[str, Any]:
    """Give the original's answers. Raises Refused when it fails on its own sample."""
    try:
        predicted = np.asarray(model.predict(rows))
        if task == "classification":
            given = {"label": np.array(label_texts(predicted), dtype=object)}
            if hasattr(model, "predict_proba"):
                given["probabilities"] = np.asarray(model.predict_proba(rows), dtype=np.float64)
            return given
        if task == "outliers":
            return {"label": predicted.astype(np.int64), "score": np.asarray(model.decision_function(rows), dtype=np.float64)}
        return {"prediction": predicted.astype(np.float64).reshape(len(predicted), -1)}
    except MemoryError:
        raise
    except Exception as error:  # an estimator raises every kind of error for rows that do not fit
        text = " ".join(str(error).split())[:300]
        raise Refused(f"The model fails on the sample rows: {type(error).__name__}: {text}", "Send rows as they go into the model's predict method.") from error


def one_answer(model: Any, row: Any, task: str) -> Any:
    """Answer one row as a server would: with a single call."""
    return model.predict_proba(row) if task == "classification" and hasattr(model, "predict_proba") else model.predict(row)


def rows_for(model: Any, columns: Sample, rows: int) -> Any:
    """Put ``rows`` rows into the form that the estimator was fitted on: a data frame, or an array."""
    import pandas as pd

    null = None if rewrite.null_texts(model) == "none" else np.nan
    if not hasattr(model, "feature_names_in_"):
        plain = [_values(column.head(rows), null, whole=False) for column in columns.values()]
        return np.column_stack(plain) if all(column.kind is not Kind.TEXT for column in columns.values()) else np.array(plain, dtype=object).T
    values = {name: _values(column.head(rows), null, whole=True) for name, column in columns.items()}
    return pd.DataFrame({name: pd.Series(array, dtype=array.dtype) for name, array in values.items()})


def _values(column: Column, null: Any, *, whole: bool) -> Any:
    if column.kind is Kind.TEXT:
        return np.array([null if value is None else value for value in column.values], dtype=object)
    if whole and not np.isnan(column.values).any() and column.kind is not Kind.NUMBER:
        return column.values.astype(np.bool_ if column.kind is Kind.BOOLEAN else np.int64)
    return column.values
