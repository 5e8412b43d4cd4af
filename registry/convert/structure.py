"""Does what a sandbox process reported hold together? The file may have forged all of it, so nothing is taken as it is.

Pure checks in the parent, before a word of the report is kept: sizes, names, bounds, datatypes, shapes, and that
the third process, which never saw the original, read the same tensors from the build.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from registry.convert import wire
from registry.signature import Feature, Kind, Layout, Signature, Tensor

LONGEST_NAME = 100
LONGEST_TEXT = 1000
MOST_FEATURES = 10_000
MOST_CATEGORIES = 100
MOST_LABELS = 10_000
MOST_OUTPUTS = 64
LARGEST_SIDE = 100_000
_DATATYPES = {"FP32", "FP64", "INT64", "INT32", "BOOL", "BYTES"}
_TASKS = {"classification", "regression", "outliers", "transform"}
_PRECISIONS = {"float32", "float64"}


class Unsound(ValueError):
    """A report that does not hold together; the text says what, and is shown to the person who uploaded the file."""


def check_looked(report: wire.Looked) -> None:
    """Raise Unsound unless the name of the format can be shown."""
    _name("format", report.text)


def check_converted(report: wire.Converted) -> None:
    """Raise Unsound unless the report of a conversion is one that our own code can have made."""
    _need(0 < len(report.estimator) <= LONGEST_TEXT and report.estimator.isprintable(), "the estimator has no printable name")
    _need(len(report.libraries) <= 20, "it names too many libraries")
    for name in (*report.libraries, *report.libraries.values()):
        _name("library", name)
    _need(0 <= report.opset <= 1000 and 0 <= report.ir_version <= 1000, "the opset or IR version is no such number")
    _need(report.precision in _PRECISIONS, "the precision is unknown")
    _need(len(report.notes) <= 20 and all(len(note) <= 2 * LONGEST_TEXT for note in report.notes), "the notes are too long")
    _need(0 <= report.rows <= 10**9, "the number of rows is out of range")
    if report.saved_with:
        _name("version that saved it", report.saved_with)
    _need(report.expected is None or 0 < report.expected <= 10**9, "the number of expected answers is out of range")
    _durations(report.signature_ms, report.convert_ms, report.original_ms or 0.0)
    check_signature(report.signature)


def check_answered(report: wire.Answered, signature: Signature) -> None:
    """Raise Unsound unless the third process read from the build the tensors that ``signature`` names."""
    _need(0 < report.rows <= 10**9, "the number of rows is out of range")
    _durations(report.single_row_ms)
    _need(report.inputs == signature.inputs, "the signature names other inputs than the build has")
    _need(report.outputs == signature.outputs, "the signature names other outputs than the build has")


def check_signature(signature: Signature) -> None:
    """Raise Unsound for names, bounds, categories, tensors or labels that no model has."""
    _need(0 < len(signature.features) <= MOST_FEATURES, f"a model takes 1 to {MOST_FEATURES:,} features, not {len(signature.features):,}")
    _names("feature", [feature.name for feature in signature.features])
    for feature in signature.features:
        _feature(feature)
    _need(0 < len(signature.outputs) <= MOST_OUTPUTS, f"a model gives 1 to {MOST_OUTPUTS} outputs, not {len(signature.outputs):,}")
    _names("input", [tensor.name for tensor in signature.inputs])
    _names("output", [tensor.name for tensor in signature.outputs])
    for tensor in (*signature.inputs, *signature.outputs):
        _tensor(tensor)
    if signature.layout is Layout.MATRIX:
        _matrix(signature)
    else:
        _columns(signature)
    _need(signature.task in _TASKS, "the task is unknown")
    _labels(signature)


def check_answers(answers: Mapping[str, Any], *, rows: int | None = None) -> None:
    """Raise Unsound unless each is an array of rows (``rows`` of them), numbers everywhere but in ``label``."""
    for name, values in answers.items():
        _need(not isinstance(values, bytes) and values.ndim > 0 and len(values) > 0, f"the answers {name!r} are no rows")
        _need(rows is None or len(values) == rows, f"the answers {name!r} are not one for each row")
        _need(name == "label" or values.dtype.kind != "O", f"the answers {name!r} are no numbers")
    _need(len({len(values) for values in answers.values()}) <= 1, "the answers differ in their number of rows")


def check_found(found: Mapping[str, Any], signature: Signature, rows: int) -> None:
    """Raise Unsound unless the blobs of the third process are the columns and answers that ``signature`` tells of."""
    for feature in signature.features:
        values = _rows(found, f"in.{feature.name}", rows)
        _need(values.ndim == 1, f"the column {feature.name!r} is no column")
        _need((values.dtype.kind == "O") == (feature.kind is Kind.TEXT), f"the column {feature.name!r} is of another kind")
    for tensor in signature.outputs:
        values = _rows(found, f"out.{tensor.name}", rows)
        _need((values.dtype.kind == "O") == (tensor.datatype == "BYTES"), f"the output {tensor.name!r} is of another kind")
        _need(values.size <= LARGEST_SIDE * rows, f"the output {tensor.name!r} is wider than {LARGEST_SIDE:,}")
    probabilities = found.get("out.probabilities") if signature.task == "classification" else None
    if probabilities is not None and signature.labels is not None:
        _need(probabilities.shape[1:] == (len(signature.labels),), f"there are {len(signature.labels)} labels for other than as many probabilities")


def _rows(found: Mapping[str, Any], name: str, rows: int) -> Any:
    values = found.get(name)
    if values is None or isinstance(values, bytes) or not values.ndim or len(values) != rows:
        raise Unsound(f"{name!r} is missing or has another number of rows")
    return values


def bounded(halted: wire.Halted) -> wire.Halted:
    """Cut the texts of a reason to what is shown."""
    return wire.Halted(halted.verdict, _cut(halted.reason), _cut(halted.advice), halted.step[:LONGEST_NAME])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _feature(feature: Feature) -> None:
    name, is_text = feature.name, feature.kind is Kind.TEXT
    low, high = feature.minimum, feature.maximum
    _need((low is None) == (high is None), f"the feature {name!r} has one bound and not the other")
    if low is not None and high is not None:
        _need(not is_text, f"the text {name!r} has bounds")
        _need(math.isfinite(low) and math.isfinite(high) and low <= high, f"the bounds of {name!r} are not finite and in order")
    _need(feature.categories is None or is_text, f"the number {name!r} has categories")
    if feature.categories is not None:
        _need(len(feature.categories) <= MOST_CATEGORIES, f"the feature {name!r} has more than {MOST_CATEGORIES} categories")
        _need(len(set(feature.categories)) == len(feature.categories), f"the feature {name!r} has a category twice")
        _need(all(len(text) <= LONGEST_TEXT for text in feature.categories), f"a category of {name!r} is longer than {LONGEST_TEXT:,} characters")
    for value in (feature.example, feature.typical):
        if isinstance(value, str):
            _need(is_text and len(value) <= LONGEST_TEXT, f"the example of {name!r} does not fit it")
        elif value is not None:
            _need(not is_text and abs(value) < 1e308, f"the example of {name!r} does not fit it")


def _tensor(tensor: Tensor) -> None:
    _need(tensor.datatype in _DATATYPES, f"the datatype of {tensor.name!r} is unknown")
    _need(0 < len(tensor.shape) <= 4, f"the shape of {tensor.name!r} has {len(tensor.shape)} sides")
    _need(all(side == -1 or 0 < side <= LARGEST_SIDE for side in tensor.shape), f"the shape of {tensor.name!r} is impossible")
    _need(math.prod(abs(side) for side in tensor.shape) <= LARGEST_SIDE, f"{tensor.name!r} is wider than {LARGEST_SIDE:,}")


def _matrix(signature: Signature) -> None:
    _need(len(signature.inputs) == 1, "a matrix is one input")
    tensor, width = signature.inputs[0], len(signature.features)
    _need(tensor.datatype != "BYTES" and all(feature.kind is not Kind.TEXT for feature in signature.features), "a matrix holds texts")
    _need(len(tensor.shape) == 2 and tensor.shape[1] == width, f"{width:,} features do not fill a matrix of the shape {list(tensor.shape)}")


def _columns(signature: Signature) -> None:
    _need([tensor.name for tensor in signature.inputs] == [feature.name for feature in signature.features], "the inputs are not the features")
    for tensor, feature in zip(signature.inputs, signature.features, strict=True):
        _need(tensor.shape[1:] == (1,), f"the input {tensor.name!r} is no column")
        _need((tensor.datatype == "BYTES") == (feature.kind is Kind.TEXT), f"the feature {feature.name!r} and its input differ in kind")


def _labels(signature: Signature) -> None:
    labels = signature.labels
    if labels is None:
        return
    _need(signature.task == "classification", "it names labels and does not classify")
    _need(0 < len(labels) <= MOST_LABELS, f"a classifier has 1 to {MOST_LABELS:,} labels, not {len(labels):,}")
    _need(len(set(labels)) == len(labels), "a label stands twice")
    for label in labels:
        _need(len(label) <= LONGEST_NAME, f"the label {label[:40]!r} is longer than {LONGEST_NAME} characters")
    for tensor in signature.outputs:
        if tensor.name == "probabilities":
            _need(tensor.shape[-1] in {-1, len(labels)}, f"there are {len(labels)} labels for {tensor.shape[-1]} probabilities")


def _names(what: str, names: list[str]) -> None:
    for name in names:
        _name(what, name)
    twice = next(iter(name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    _need(twice is None, f"the {what} {twice!r} stands twice")


def _name(what: str, name: str) -> None:
    _need(bool(name), f"a name of a {what} is empty")
    _need(len(name) <= LONGEST_NAME, f"the name of the {what} {name[:40]!r} is longer than {LONGEST_NAME} characters")
    _need(name.isprintable(), f"the name of the {what} {name!r} cannot be printed")


def _durations(*durations: float) -> None:
    _need(all(0 <= duration < 1e9 for duration in durations), "a duration is out of range")


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Unsound(otherwise)
