"""Changes a copy of a fitted estimator so that the converter takes it, without changing its answers.

Missing texts are NaN or None to scikit-learn and the empty string to a build; this is where the two meet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

NULL_TEXT = ""


def for_onnx(model: Any) -> Any:
    """Give a copy of ``model`` that reads a missing text as the empty string."""
    changed = copy.deepcopy(model)
    for part in parts(changed):
        kind = type(part).__name__
        if kind == "SimpleImputer" and hasattr(part, "statistics_") and part.statistics_.dtype.kind in "OU" and not isinstance(part.missing_values, str):
            part.missing_values = NULL_TEXT
        elif kind in {"OneHotEncoder", "OrdinalEncoder"} and hasattr(part, "categories_"):
            part.categories_ = [_without_null(categories) for categories in part.categories_]
        elif kind == "VotingClassifier":
            part.flatten_transform = False
    return changed


def parts(model: Any) -> Iterator[Any]:
    """Give each estimator inside ``model``, itself first, each once."""
    from sklearn.base import BaseEstimator

    seen: set[int] = set()
    pending = [model]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseEstimator):
            yield one
            pending += vars(one).values()
        elif isinstance(one, (list, tuple)) and len(one) < 100_000:
            pending += one
        elif isinstance(one, dict):
            pending += one.values()


def text_columns(model: Any) -> dict[Any, bool]:
    """Give, for the columns that an encoder reads first, whether it knows them as texts; keys as the model names them."""
    found: dict[Any, bool] = {}
    for part in parts(model):
        if type(part).__name__ == "ColumnTransformer" and hasattr(part, "transformers_"):
            for _, step, chosen in part.transformers_:
                first, columns = _first_with_categories(step), _listed(chosen, getattr(part, "feature_names_in_", None))
                if first is not None and isinstance(columns, (list, np.ndarray)) and len(columns) == len(first.categories_):
                    found |= {column: categories.dtype.kind in "OUT" for column, categories in zip(columns, first.categories_, strict=True)}
    return found


def null_texts(model: Any) -> str:
    """Tell how the model was trained to see a missing text: ``nan`` or ``none``."""
    for part in parts(model):
        if type(part).__name__ == "SimpleImputer" and part.missing_values is None:
            return "none"
        for categories in getattr(part, "categories_", ()) if isinstance(getattr(part, "categories_", ()), list) else ():
            if categories.dtype == object and any(value is None for value in categories):
                return "none"
    return "nan"


def _listed(columns: Any, names: Any) -> Any:
    """Give columns that are chosen by a mask, as histogram gradient boosting does within, by name, or else by place."""
    if not (isinstance(columns, np.ndarray) and columns.dtype == np.bool_):
        return columns
    return np.flatnonzero(columns) if names is None else names[columns]


def _first_with_categories(step: Any) -> Any:
    for one in parts(step):
        if type(one).__name__ in {"OneHotEncoder", "OrdinalEncoder"} and hasattr(one, "categories_"):
            return one
    return None


def _without_null(categories: Any) -> Any:
    if categories.dtype.kind not in "OUT" or not any(isinstance(value, str) for value in categories):
        return categories
    return np.array([NULL_TEXT if value is None or value != value else value for value in categories], dtype=object)  # noqa: PLR0124  # NaN alone differs from itself
