"""A peer: FastAPI and ONNX Runtime, as one writes it by hand. No keys, no log, no validation beyond pydantic.

Run in its own environment: ``MODEL=model.onnx uvicorn --app-dir benchmarks/peers fastapi_onnx:app``.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    inputs: list[Tensor]


@app.post("/v2/models/bench/infer")
async def infer(request: Request) -> dict[str, object]:
    tensor = request.inputs[0]
    outputs = session.run(None, {name: np.array(tensor.data, np.float32).reshape(tensor.shape)})
    return {
        "model_name": "bench",
        "outputs": [
            {"name": node.name, "shape": list(output.shape), "datatype": "FP32", "data": output.ravel().tolist()}
            for node, output in zip(session.get_outputs(), outputs, strict=True)
        ],
    }
