"""ONNX Runtime: load a build, warm it, measure it, run it. One session per process and build, one thread each."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # later is too late: the import itself sends

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from core.errors import SignalboxError
from registry.signature import Kind, Layout, Signature, Tensor

RUNTIME: str = ort.__version__
Array = NDArray[Any]
Feed = dict[str, Array]

_NUMPY_OF_ORT: dict[str, Any] = {
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(string)": np.object_,
}
_DATATYPE_OF_ORT = {
    "tensor(bool)": "BOOL",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
} | {f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_BATCHES = (1, 4, 16, 64, 256, 1024)
_LONGEST_TRIAL_S = 0.03
_GAIN = 0.9
"""A larger batch must be at least this much cheaper per row to be worth its wait."""
LARGEST_BATCH = 4096
PREPARED_SUFFIX = ".ort"
"""ONNX Runtime knows its own format by it."""


class LoadFailed(SignalboxError):
    """The build cannot be served; the text says why."""


class RunFailed(SignalboxError):
    """The model failed on these rows."""

    code = "model_failed"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What warming a build up has shown; true on this machine until ONNX Runtime is another.

    ``single_us`` and ``row_us``: the time of one row, and of one more row in a batch of ``max_batch``.
    ``batchable``: the first axis of every input and output is the row. ``memory_bytes``: what it takes in memory, loaded from ``form``.
    """

    outputs: tuple[str, ...]
    batchable: bool
    single_us: float
    row_us: float
    max_batch: int
    memory_bytes: int = 0
    form: str = "onnx"
    runtime: str = RUNTIME

    @property
    def is_current(self) -> bool:
        return self.runtime == RUNTIME


class OnnxBuild:
    """A loaded, warm build. ``run`` is safe in several threads at once; the measured numbers are those of ``Facts``."""

    def __init__(self, content: bytes | Path, signature: Signature, facts: Facts | None = None) -> None:
        """Load ``content`` and warm it; with ``facts`` nothing is measured again. Raises LoadFailed.

        Give a large build as a file: bytes would be copied by a thread that holds the interpreter.
        """
        self.signature = signature
        self.mark = 0
        """What a process writes down while it runs this build, to be blamed if it dies."""
        self.form = "prepared" if isinstance(content, Path) and content.suffix == PREPARED_SUFFIX else "onnx"
        self._session = _session(content, _options())
        self.inputs = {node.name: _NUMPY_OF_ORT.get(node.type) for node in self._session.get_inputs()}
        self.outputs = [node.name for node in self._session.get_outputs()]
        self._check_names()
        self.single_us = self.row_us = 0.0
        self.max_batch = 1
        self.batchable = all(tensor.shape[:1] == (-1,) for tensor in signature.inputs)
        if facts is None or facts.outputs != tuple(self.outputs):
            self._warm()
        else:
            self.batchable, self.max_batch = facts.batchable, facts.max_batch
            self.single_us, self.row_us = facts.single_us, facts.row_us
            self.run(example_feed(signature, 1))

    def facts(self, memory_bytes: int) -> Facts:
        """Give what was measured, to be kept when the build leaves the memory."""
        return Facts(
            outputs=tuple(self.outputs),
            batchable=self.batchable,
            single_us=self.single_us,
            row_us=self.row_us,
            max_batch=self.max_batch,
            memory_bytes=memory_bytes,
            form=self.form,
        )

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        """Give the outputs in the order of ``outputs``; raises RunFailed."""
        try:
            outputs: list[Array] = self._session.run(self.outputs, feed)
        except Exception as error:  # ONNX Runtime raises many classes without a common base
            raise RunFailed(f"The model failed: {_first_line(error)}") from error
        return outputs

    def run_split(self, feed: Mapping[str, Array], rows: int) -> list[Array]:
        """Run in pieces of ``max_batch`` rows, which for tree ensembles is faster than all at once."""
        if rows <= self.max_batch or not self.batchable:
            return self.run(feed)
        starts = range(0, rows, self.max_batch)
        pieces = [self.run({name: array[start : start + self.max_batch] for name, array in feed.items()}) for start in starts]
        return [np.concatenate(columns) for columns in zip(*pieces, strict=True)]

    def estimate_us(self, rows: int) -> float:
        """Give the expected time of a run."""
        return self.single_us + self.row_us * (rows - 1)

    def _check_names(self) -> None:
        wanted = {tensor.name for tensor in self.signature.inputs}
        if wanted != set(self.inputs):
            raise LoadFailed(f"The file takes the inputs {sorted(self.inputs)}, the signature says {sorted(wanted)}.")
        for node in [*self._session.get_inputs(), *self._session.get_outputs()]:
            if node.type not in _DATATYPE_OF_ORT:
                raise LoadFailed(f"{node.name} is a {node.type}; only plain tensors can be served. Convert the classifier without ZipMap.")

    def _warm(self) -> None:
        """Run once per batch size: fill the arena, find out what a run costs and which batch is best."""
        feed = example_feed(self.signature, 1)
        if self.batchable:
            outputs = self.run(example_feed(self.signature, 2))
            self.batchable = all(np.ndim(output) > 0 and len(output) == 2 for output in outputs)
        else:
            self.run(feed)
        self.single_us = self._time(feed)
        self.row_us, self.max_batch = self.single_us, 1
        if self.batchable:
            self._find_best_batch()

    def _find_best_batch(self) -> None:
        best = self.single_us
        for rows in _BATCHES[1:]:
            feed = example_feed(self.signature, rows)
            taken = self._time(feed)
            if taken / rows < best * _GAIN:
                best, self.max_batch = taken / rows, rows
                self.row_us = max(0.0, (taken - self.single_us) / (rows - 1))
            if taken > _LONGEST_TRIAL_S * 1e6:
                break
        else:
            if self.max_batch == _BATCHES[-1]:
                self.max_batch = LARGEST_BATCH

    def _time(self, feed: Feed) -> float:
        """Give the shortest of a few runs in microseconds: the others were disturbed. One that takes long is run once."""
        times: list[float] = []
        until = time.perf_counter() + _LONGEST_TRIAL_S / 3
        while not times or (times[0] < _LONGEST_TRIAL_S and len(times) < 2) or (len(times) < 8 and time.perf_counter() < until):
            start = time.perf_counter()
            self.run(feed)
            times.append(time.perf_counter() - start)
        return min(times) * 1e6


def write_prepared(source: Path, target: Path) -> None:
    """Write ``source`` in ONNX Runtime's own format; raises LoadFailed."""
    options = _options()
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    # No further: what comes after this is for the very processor, and would be wrong on another.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    _session(source, options)


def _options() -> ort.SessionOptions:
    """Give those of every session: one thread, and no warnings."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(content: bytes | Path, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in run
        raise LoadFailed(f"ONNX Runtime cannot load the file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__


def example_feed(signature: Signature, rows: int) -> Feed:
    """Make ``rows`` equal rows from the examples of the features, zeros where there are none."""
    if signature.layout == Layout.MATRIX and len(signature.inputs) == 1 and signature.features:
        tensor = signature.inputs[0]
        values = [_example(feature.typical if feature.example is None else feature.example, tensor.datatype) for feature in signature.features]
        if tensor.shape[1:] == (len(values),):
            return {tensor.name: np.array([values] * rows, dtype=_dtype(tensor.datatype))}
    examples = {feature.name: feature for feature in signature.features}
    return {tensor.name: _filled(tensor, examples.get(tensor.name), rows) for tensor in signature.inputs}


def _filled(tensor: Tensor, feature: Any, rows: int) -> Array:
    shape = tuple(rows if index == 0 and size == -1 else max(size, 1) for index, size in enumerate(tensor.shape))
    value = None
    if feature is not None:
        value = feature.typical if feature.example is None else feature.example
        if value is None and feature.kind == Kind.TEXT and feature.categories:
            value = feature.categories[0]
    return np.full(shape, _example(value, tensor.datatype), dtype=_dtype(tensor.datatype))


def _example(value: Any, datatype: str) -> Any:
    if datatype == "BYTES":
        return "" if value is None else str(value)
    return 0 if value is None or isinstance(value, str) else value


def _dtype(datatype: str) -> Any:
    return next(_NUMPY_OF_ORT[ort_type] for ort_type, name in _DATATYPE_OF_ORT.items() if name == datatype)
