"""Brings an ONNX file that somebody exported into the form of our own builds: plain tensors with known names."""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert import onnx_run, to_onnx
from registry.convert.sample import Sample, column_as, feature_of, generated
from registry.convert.signature_of import tensors_of
from registry.convert.verdict import NotServable, Refused
from registry.signature import Feature, Kind, Layout, Signature, Tensor

_NUMERIC = {"FP32", "FP64", "INT64", "INT32", "BOOL"}
_CLASSIFIERS = {"TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"}
_ROUNDED = 1e-3
"""How far from 1 the sum of probabilities may be that were computed in float32."""
_COLUMNS = "Export the model so that it takes one [-1, F] matrix, or one [-1, 1] tensor for each column."


def normalized(model: Any, classes: tuple[str, ...] | None) -> tuple[Any, tuple[str, ...] | None, str]:
    """Name the outputs as our converter does. Gives the model, the labels (``classes`` where they are known) if it classifies, and the task."""
    labels = classes or _labels(model)
    kinds = [output.type.tensor_type.elem_type for output in model.graph.output]
    wide = [_last_side(output) for output in model.graph.output]
    task = "transform"
    names: tuple[str, ...] = ()
    if len(kinds) == 2 and kinds[0] in {7, 8} and kinds[1] in {1, 11}:
        is_outlier = wide[1] == 1 and labels is None
        task = "outliers" if is_outlier else "classification"
        names = to_onnx.OUTPUTS[task]
    elif len(kinds) == 1 and kinds[0] in {1, 11}:
        task, names = "regression", to_onnx.OUTPUTS["regression"]
    for output, name in zip(list(model.graph.output), names, strict=False):
        if name not in {info.name for info in model.graph.input}:
            to_onnx.rename(model.graph, output.name, name)
    if task == "classification" and labels is None and wide[1] > 1:
        labels = tuple(str(place) for place in range(wide[1]))
    return model, labels if task == "classification" else None, task


def signature_of(data: bytes, sample: Sample | None, labels: tuple[str, ...] | None, task: str) -> tuple[Signature, tuple[str, ...], bool]:
    """Give the signature, notes, and whether rows must be made up. Raises NotServable for inputs that are no rows."""
    try:
        session = onnx_run.open_session(data)
    except Exception as error:  # onnxruntime raises its own kinds
        raise Refused(f"The runtime does not load the ONNX file: {str(error)[:300]}", "Export the model again with a current converter.") from error
    inputs, outputs = tensors_of(session.get_inputs()), tensors_of(session.get_outputs())
    layout = _layout(inputs)
    width = inputs[0].shape[1] if layout is Layout.MATRIX else len(inputs)
    names = [tensor.name for tensor in inputs] if layout is Layout.COLUMNS else []
    features, notes = _features(sample, names, width, inputs)
    return Signature(layout=layout, features=features, inputs=inputs, outputs=outputs, labels=labels, task=task), notes, sample is None


def gives_probabilities(labels: tuple[str, ...] | None, values: Any) -> bool:
    """Whether ``values`` [n, C] are one probability for each label, which sum to 1 in each row."""
    if values.ndim != 2 or values.shape[1] < 2 or values.shape[1] != len(labels or ()):
        return False
    return bool(np.all((values >= -_ROUNDED) & (values <= 1 + _ROUNDED)) and np.all(np.abs(values.sum(axis=1) - 1) <= _ROUNDED))


def with_scores(model: Any) -> Any:
    """Call the second output of a classifier what it is: scores of its decision function, which are no probabilities."""
    if "scores" in {info.name for info in model.graph.input}:
        raise NotServable("The column scores has the name of an output.", "Call the column something else and export again.")
    to_onnx.rename(model.graph, model.graph.output[1].name, "scores")
    return model


def _features(sample: Sample | None, names: list[str], width: int, inputs: tuple[Tensor, ...]) -> tuple[tuple[Feature, ...], tuple[str, ...]]:
    kinds = [Kind.TEXT if tensor.datatype == "BYTES" else Kind.NUMBER for tensor in inputs] if names else [Kind.NUMBER] * width
    if sample is None:
        if Kind.TEXT in kinds:
            raise Refused("The model takes texts, and no sample rows came with it.", "Register it again with a sample of rows.")
        given = names or list(generated(width))
        return tuple(Feature(name=name, kind=Kind.NUMBER) for name in given), ("no sample rows: names and bounds are unknown",)
    if names and not set(names) <= set(sample):
        lacking = ", ".join(sorted(set(names) - set(sample))[:5])
        raise Refused(f"The sample lacks {lacking}, which the model takes.", "Send rows with a column for each input of the model.")
    chosen = {name: sample[name] for name in names} if names else dict(list(sample.items())[:width])
    if len(chosen) < width:
        raise Refused(f"The sample has {len(chosen)} columns and the model takes {width}.", "Send rows with the columns of the training data, in their order.")
    extra = [name for name in sample if name not in chosen]
    notes = (f"left out {', '.join(extra[:5])}, which the model does not take",) if extra else ()
    typed = {name: column_as(column, kind if kind is Kind.TEXT else column.kind) for (name, column), kind in zip(chosen.items(), kinds, strict=True)}
    for (name, column), kind in zip(typed.items(), kinds, strict=True):
        if kind is not Kind.TEXT and column.kind is Kind.TEXT:
            raise Refused(f"The column {name} holds texts in the sample; the model takes a number.", "Send rows of the kind that the model takes.")
    return tuple(feature_of(name, column) for name, column in typed.items()), notes


def _layout(inputs: tuple[Tensor, ...]) -> Layout:
    if len(inputs) == 1 and inputs[0].datatype in _NUMERIC and len(inputs[0].shape) == 2 and inputs[0].shape[1] > 0:
        return Layout.MATRIX
    if all(len(tensor.shape) == 2 and tensor.shape[1] == 1 for tensor in inputs):
        return Layout.COLUMNS
    raise NotServable("The model's inputs are not rows of columns.", _COLUMNS)


def _labels(model: Any) -> tuple[str, ...] | None:
    import onnx

    for node in reversed(model.graph.node):
        if node.op_type in _CLASSIFIERS:
            values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name.startswith("classlabels")}
            texts, numbers = values.get("classlabels_strings", ()), values.get("classlabels_int64s", values.get("classlabels_ints", ()))
            return tuple(text.decode("utf-8", "replace") for text in texts) or tuple(str(int(np.int64(number))) for number in numbers) or None
    return None


def _last_side(output: Any) -> int:
    sides = output.type.tensor_type.shape.dim
    return int(sides[-1].dim_value) if len(sides) > 1 else 0
