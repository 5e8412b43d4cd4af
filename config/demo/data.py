"""The demo's data: 569 biopsies and 442 diabetes patients, each cut in half: one to train on, one to send."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import train_test_split

SEED = 7
# Every twelfth blood glucose is left out, as if it had not been measured: real tables have holes.
_MISSING_EVERY = 12
_DIABETES_NAMES = {
    "bmi": "bmi",
    "bp": "blood_pressure",
    "s1": "total_cholesterol",
    "s2": "ldl",
    "s3": "hdl",
    "s4": "cholesterol_hdl_ratio",
    "s5": "log_triglycerides",
    "s6": "glucose",
}


@dataclass(frozen=True, slots=True)
class Halves:
    """Rows and truths, to train on and to send; the truths are text for a classifier, numbers for a regressor."""

    train: pd.DataFrame
    train_truth: pd.Series
    send: pd.DataFrame
    send_truth: pd.Series

    @property
    def known(self) -> pd.DataFrame:
        """Every row of the data set: the sample of each version, and so the reference of drift.

        Two halves of some hundred rows differ by chance, and traffic that repeats one of them for ever shows that
        difference ever more clearly. From the whole each half differs by half as much, a quarter in PSI.
        """
        return pd.concat([self.train, self.send], ignore_index=True)


def tumours() -> Halves:
    """Give the Wisconsin biopsies: 30 measures of cell nuclei, ``malignant`` or ``benign``."""
    bunch = load_breast_cancer(as_frame=True)
    rows = bunch.data.rename(columns=lambda name: name.replace(" ", "_"))
    truth = bunch.target.map(dict(enumerate(bunch.target_names))).astype(str)
    return _halves(rows, truth, stratify=True)


def diabetes() -> Halves:
    """Give Efron's patients in their own units: two columns of text, eight of numbers, one of them with holes."""
    bunch = load_diabetes(as_frame=True, scaled=False)
    raw = bunch.data
    rows = raw[list(_DIABETES_NAMES)].rename(columns=_DIABETES_NAMES).astype(float)
    ages = pd.cut(raw["age"], [0, 40, 60, 200], right=False, labels=["under 40", "40 to 59", "60 and over"])
    rows.insert(0, "age_group", ages.astype(str))
    rows.insert(1, "sex", raw["sex"].map({1: "sex 1", 2: "sex 2"}).astype(str))
    rows.loc[rows.index % _MISSING_EVERY == 0, "glucose"] = np.nan
    return _halves(rows, bunch.target.astype(float), stratify=False)


def _halves(rows: pd.DataFrame, truth: pd.Series, *, stratify: bool) -> Halves:
    parts = train_test_split(rows, truth, test_size=0.5, random_state=SEED, stratify=truth if stratify else None)
    train, send, train_truth, send_truth = (part.reset_index(drop=True) for part in parts)
    return Halves(train, train_truth, send, send_truth)
