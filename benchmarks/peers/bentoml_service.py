"""A peer: BentoML with scikit-learn. ``MODEL=model.joblib WORKERS=2 bentoml serve bentoml_service:Bench``, in this folder."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Bench:
    def __init__(self) -> None:
        # The file was made by the benchmark itself a moment ago.
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        array = np.array(rows, np.float32)
        found = self.model.predict_proba(array) if hasattr(self.model, "predict_proba") else self.model.predict(array).reshape(-1, 1)
        return found.tolist()
