"""Opens and runs an ONNX file with one thread. In the sandbox only; the data plane has its own runtime."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import, for whoever starts this by hand

_EMPTY = {1: np.float32, 7: np.int64, 11: np.float64, 6: np.int32, 9: np.bool_, 8: object}
_TIMING_S = 0.2


def open_session(data: bytes) -> Any:
    """Load the file; what onnxruntime refuses comes as its own exception."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, sess_options=options, providers=["CPUExecutionProvider"])


def run(session: Any, feed: dict[str, Any]) -> dict[str, Any]:
    """Give the outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def empty_row(model: Any) -> dict[str, Any]:
    """One row of zeros and empty texts for each input of a ModelProto."""
    feed = {}
    initialized = {tensor.name for tensor in model.graph.initializer}
    for info in model.graph.input:
        if info.name not in initialized:
            kind = info.type.tensor_type
            sides = [1, *(side.dim_value or 1 for side in kind.shape.dim[1:])]
            dtype = _EMPTY[kind.elem_type]
            feed[info.name] = np.full(sides, "", dtype=object) if dtype is object else np.zeros(sides, dtype=dtype)
    return feed


def single_row_ms(call: Any) -> float:
    """Give the median of repeated calls in milliseconds, within about a fifth of a second."""
    call()
    times: list[float] = []
    end = time.perf_counter() + _TIMING_S
    while len(times) < 500 and (time.perf_counter() < end or len(times) < 3):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return float(np.median(times)) * 1000
