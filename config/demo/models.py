"""The demo's models: for each data set versions whose quality really differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, mean_absolute_error, r2_score, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from config.demo import data
from config.demo.data import SEED, Halves

_TEXT_COLUMNS = ["age_group", "sex"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version to register: what it is, the trained estimator, its metrics on the rows that it has not seen."""

    description: str
    estimator: Any
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One model with its endpoint, its rows and its versions, in the order in which they are registered."""

    model: str
    endpoint: str
    description: str
    halves: Halves
    candidates: list[Candidate]


def lines() -> list[Line]:
    """Train everything; a few seconds."""
    tumours, diabetes = data.tumours(), data.diabetes()
    return [
        Line(
            "breast-cancer",
            "tumour-screening",
            "Demo: malignant or benign, from 30 measures of a biopsy (Wisconsin, 1995)",
            tumours,
            [
                _classifier("A single threshold on one measure", DecisionTreeClassifier(max_depth=1, random_state=SEED), tumours),
                _classifier("Logistic regression on scaled measures", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), tumours),
                _classifier("Gradient boosted trees", HistGradientBoostingClassifier(max_iter=60, random_state=SEED), tumours),
            ],
        ),
        Line(
            "diabetes",
            "diabetes-progression",
            "Demo: progression of diabetes after a year, from text and numbers, some missing (Efron, 2004)",
            diabetes,
            [
                _regressor("A tree of depth one", DecisionTreeRegressor(max_depth=1, random_state=SEED), diabetes),
                _regressor("Ridge regression", Ridge(alpha=1.0), diabetes),
                _regressor("Gradient boosting", GradientBoostingRegressor(n_estimators=60, max_depth=2, random_state=SEED), diabetes),
            ],
        ),
    ]


def _classifier(description: str, estimator: Any, halves: Halves) -> Candidate:
    estimator.fit(halves.train, halves.train_truth)
    malignant = estimator.predict_proba(halves.send)[:, list(estimator.classes_).index("malignant")]
    metrics = {"accuracy": accuracy_score(halves.send_truth, estimator.predict(halves.send)), "auc": roc_auc_score(halves.send_truth == "malignant", malignant)}
    return Candidate(description, estimator, _rounded(metrics))


def _regressor(description: str, estimator: Any, halves: Halves) -> Candidate:
    pipeline = Pipeline([("columns", _columns(halves.train)), ("model", estimator)]).fit(halves.train, halves.train_truth)
    answers = pipeline.predict(halves.send)
    metrics = {"mae": mean_absolute_error(halves.send_truth, answers), "r2": r2_score(halves.send_truth, answers)}
    return Candidate(description, pipeline, _rounded(metrics))


def _columns(rows: pd.DataFrame) -> Any:
    """Text is one-hot encoded; numbers are filled with the median and scaled."""
    numbers = [name for name in rows.columns if name not in _TEXT_COLUMNS]
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), _TEXT_COLUMNS),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
    )


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in metrics.items()}
