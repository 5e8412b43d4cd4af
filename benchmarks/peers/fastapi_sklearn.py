"""A peer: FastAPI and scikit-learn, as one writes it by hand.

Run in its own environment: ``MODEL=model.joblib uvicorn --app-dir benchmarks/peers fastapi_sklearn:app``.
"""

import os

import joblib
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

# The file was made by the benchmark itself a moment ago.
model = joblib.load(os.environ["MODEL"])
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Tensor]


@app.post("/v2/models/bench/infer")
def infer(request: Request) -> dict[str, object]:
    tensor = request.inputs[0]
    rows = np.array(tensor.data, np.float32).reshape(tensor.shape)
    found = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
    return {"model_name": "bench", "outputs": [{"name": "output", "shape": list(found.shape), "datatype": "FP64", "data": found.ravel().tolist()}]}
