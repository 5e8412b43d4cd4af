"""A report that a hostile file forged: whatever it says, it is refused with a reason or harmless to what comes after."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as arrays
import msgspec
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from registry.convert import check, structure, wire
from registry.signature import Feature, Kind, Layout, Signature, Tensor
from registry.storable import storable

GOOD = Signature(
    layout=Layout.COLUMNS,
    features=(
        Feature(name="age", kind=Kind.INTEGER, minimum=18.0, maximum=79.0, example=30, typical=41.0),
        Feature(name="city", kind=Kind.TEXT, missing=True, categories=("Bonn", "Ulm"), example="Ulm", typical="Bonn"),
    ),
    inputs=(Tensor("age", "FP32", (-1, 1)), Tensor("city", "BYTES", (-1, 1))),
    outputs=(Tensor("label", "BYTES", (-1,)), Tensor("probabilities", "FP32", (-1, 2))),
    labels=("no", "yes"),
    task="classification",
)
MATRIX = Signature(
    layout=Layout.MATRIX,
    features=(Feature(name="a", kind=Kind.NUMBER), Feature(name="b", kind=Kind.NUMBER)),
    inputs=(Tensor("input", "FP32", (-1, 2)),),
    outputs=(Tensor("prediction", "FP32", (-1, 1)),),
)


def _converted(signature: Signature, **other: Any) -> wire.Converted:
    given: dict[str, Any] = {"estimator": "SVC", "libraries": {"python": "3.12"}, "opset": 21, "ir_version": 10, "precision": "float32"}
    return wire.Converted(signature=signature, **(given | other))


def _with_feature(**changes: Any) -> Signature:
    return msgspec.structs.replace(GOOD, features=(msgspec.structs.replace(GOOD.features[0], **changes), GOOD.features[1]))


def _with_text(**changes: Any) -> Signature:
    return msgspec.structs.replace(GOOD, features=(GOOD.features[0], msgspec.structs.replace(GOOD.features[1], **changes)))


def _with(signature: Signature, **changes: Any) -> Signature:
    return msgspec.structs.replace(signature, **changes)


def test_takes_what_our_own_code_reports() -> None:
    for signature in (GOOD, MATRIX):
        structure.check_converted(_converted(signature))


FORGED: dict[str, tuple[Signature, str]] = {
    "no features": (_with(MATRIX, features=()), "takes 1 to 10,000 features"),
    "a name twice": (_with(MATRIX, features=(MATRIX.features[0],) * 2), "the feature 'a' stands twice"),
    "an empty name": (_with_feature(name=""), "a name of a feature is empty"),
    "a long name": (_with_feature(name="n" * 101), "is longer than 100 characters"),
    "a name of control characters": (_with_feature(name="a\x1b[2J"), "cannot be printed"),
    "a name with NUL": (_with_feature(name="a\0"), "cannot be printed"),
    "infinite bounds": (_with_feature(maximum=math.inf), "not finite and in order"),
    "bounds the wrong way round": (_with_feature(minimum=80.0), "not finite and in order"),
    "one bound": (_with_feature(minimum=None), "has one bound and not the other"),
    "bounds of a text": (_with_text(minimum=0.0, maximum=1.0), "the text 'city' has bounds"),
    "categories of a number": (_with_feature(categories=("a",)), "the number 'age' has categories"),
    "too many categories": (_with_text(categories=tuple(map(str, range(101)))), "more than 100 categories"),
    "a category twice": (_with_text(categories=("Ulm", "Ulm")), "a category twice"),
    "a long category": (_with_text(categories=("x" * 1001,)), "longer than 1,000 characters"),
    "a text as example of a number": (_with_feature(example="thirty"), "does not fit it"),
    "an example that is no number": (_with_feature(example=math.nan), "does not fit it"),
    "an unknown datatype": (_with(MATRIX, inputs=(Tensor("input", "FP8", (-1, 2)),)), "the datatype of 'input' is unknown"),
    "a matrix of another width": (_with(MATRIX, inputs=(Tensor("input", "FP32", (-1, 3)),)), "2 features do not fill a matrix"),
    "a matrix of two tensors": (_with(MATRIX, inputs=(MATRIX.inputs[0], Tensor("more", "FP32", (-1, 2)))), "a matrix is one input"),
    "columns that are not the features": (_with(GOOD, inputs=GOOD.inputs[::-1]), "the inputs are not the features"),
    "a text in a number's column": (_with(GOOD, inputs=(Tensor("age", "BYTES", (-1, 1)), GOOD.inputs[1])), "differ in kind"),
    "a wide column": (_with(GOOD, inputs=(Tensor("age", "FP32", (-1, 2)), GOOD.inputs[1])), "is no column"),
    "a shape without sides": (_with(MATRIX, outputs=(Tensor("prediction", "FP32", ()),)), "has 0 sides"),
    "a shape beyond all memory": (_with(MATRIX, outputs=(Tensor("prediction", "FP32", (-1, 10**12)),)), "is impossible"),
    "a shape of many sides": (_with(MATRIX, outputs=(Tensor("prediction", "FP32", (-1, 99_999, 99_999)),)), "is wider than"),
    "an unknown task": (_with(MATRIX, task="<script>"), "the task is unknown"),
    "labels of a regression": (_with(MATRIX, labels=("a", "b")), "does not classify"),
    "another number of labels": (_with(GOOD, labels=("no", "yes", "maybe")), "3 labels for 2 probabilities"),
    "a label twice": (_with(GOOD, labels=("no", "no")), "a label stands twice"),
    "a long label": (_with(GOOD, labels=("no", "y" * 101)), "is longer than 100 characters"),
    "no outputs": (_with(MATRIX, outputs=()), "gives 1 to 64 outputs"),
    "an output twice": (_with(MATRIX, outputs=MATRIX.outputs * 2), "the output 'prediction' stands twice"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_signature_is_unsound(name: str) -> None:
    signature, reason = FORGED[name]
    with pytest.raises(structure.Unsound, match=reason):
        structure.check_converted(_converted(signature))


@pytest.mark.parametrize("tensors", [{"inputs": MATRIX.outputs}, {"outputs": ()}, {"outputs": (Tensor("prediction", "FP32", (-1, 2)),)}])
def test_a_signature_of_other_tensors_than_the_build_has_is_unsound(tensors: dict[str, Any]) -> None:
    given: dict[str, Any] = {"rows": 1, "single_row_ms": 0.1, "inputs": MATRIX.inputs, "outputs": MATRIX.outputs}
    structure.check_answered(wire.Answered(**given), MATRIX)
    with pytest.raises(structure.Unsound, match="than the build has"):
        structure.check_answered(wire.Answered(**(given | tensors)), MATRIX)


def test_a_reason_is_cut_to_what_is_shown() -> None:
    cut = structure.bounded(wire.Halted("refused", "r" * 10**6, "a" * 10**6, "s" * 10**6))
    assert (len(cut.reason), len(cut.advice), len(cut.step)) == (1001, 1001, 100)


names = st.one_of(st.sampled_from(["age", "city", "input", "label", "probabilities", "prediction", ""]), st.text(max_size=110))
numbers = st.one_of(st.none(), st.floats(), st.integers(-3, 3).map(float))
features = st.builds(
    Feature,
    name=names,
    kind=st.sampled_from(Kind),
    missing=st.booleans(),
    minimum=numbers,
    maximum=numbers,
    categories=st.one_of(st.none(), st.lists(st.text(max_size=5), max_size=4).map(tuple)),
    example=st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=5), st.booleans()),
    typical=st.one_of(st.none(), st.floats(), st.text(max_size=5)),
)
tensors = st.builds(
    Tensor,
    name=names,
    datatype=st.sampled_from(["FP32", "FP64", "INT64", "INT32", "BOOL", "BYTES", "FP8", ""]),
    shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 10**6, 2**70]), max_size=3).map(tuple),
)
texts = st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=4).map(lambda found: np.array(found, dtype=object))
blobs = st.one_of(
    texts,
    st.binary(max_size=9),
    arrays.arrays(st.sampled_from(["<f4", "<f8", "<i8"]), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
)


PARTS: dict[str, st.SearchStrategy[Any]] = {
    "layout": st.sampled_from(Layout),
    "features": st.lists(features, max_size=3).map(tuple),
    "inputs": st.lists(tensors, max_size=3).map(tuple),
    "outputs": st.lists(tensors, max_size=3).map(tuple),
    "labels": st.one_of(st.none(), st.lists(st.text(max_size=3), max_size=3).map(tuple)),
    "task": st.sampled_from(["classification", "outliers", "transform", "x"]),
}
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "missing": st.booleans(),
    "minimum": numbers,
    "maximum": numbers,
    "categories": st.lists(st.text(max_size=5), max_size=4).map(tuple),
    "example": st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=5), st.booleans()),
    "typical": st.one_of(st.none(), st.floats(), st.text(max_size=5)),
}


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    """Give a good signature of which at most one part and one field of a feature are forged."""
    made = draw(st.sampled_from([GOOD, MATRIX]))
    for part in draw(st.sets(st.sampled_from(sorted(PARTS)), max_size=1)):
        made = _with(made, **{part: draw(PARTS[part])})
    for field in draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=1)):
        made = _with(made, features=tuple(msgspec.structs.replace(feature, **{field: draw(FIELDS[field])}) for feature in made.features))
    return made


def _found(draw: Callable[..., Any], signature: Signature, rows: int) -> dict[str, Any]:
    """Give the blobs that belong to the signature, at most one of them forged."""
    found: dict[str, Any] = {}
    for feature in signature.features:
        found[f"in.{feature.name}"] = np.array(["x"] * rows, dtype=object) if feature.kind is Kind.TEXT else np.arange(rows, dtype=np.float64)
    for tensor in signature.outputs:
        shape = (rows, *(2 if side < 1 or side > 9 else side for side in tensor.shape[1:]))
        good = np.full(shape, "a", dtype=object) if tensor.datatype == "BYTES" else np.ones(shape, dtype=np.float32)
        found |= {f"out.{tensor.name}": good, f"answer.{tensor.name}": good}
    forged = draw(st.sets(st.sampled_from(sorted(found)), max_size=1)) if found else set()
    return found | {name: draw(blobs) for name in forged}


@settings(max_examples=400)
@given(st.data())
def test_whatever_is_forged_is_refused_or_can_be_kept(data: st.DataObject) -> None:
    signature = data.draw(signatures())
    rows = data.draw(st.integers(1, 3))
    report = _converted(signature, original_ms=data.draw(st.one_of(st.none(), st.floats())), generated=data.draw(st.booleans()))
    found = _found(data.draw, signature, rows)
    answered = wire.Answered(rows=rows, single_row_ms=0.1, inputs=signature.inputs, outputs=signature.outputs)
    shown: list[check.Step] = []
    try:
        structure.check_converted(report)
        structure.check_answered(answered, signature)
        structure.check_found(found, signature, rows)
        checklist = check._Checklist(shown.append)
        agreement = check._agreed("pickle", found, found, report, checklist)
        kept = check._servable("pickle", report, b"onnx", answered, found, agreement, checklist)
    except (structure.Unsound, check._Stop):
        event("refused")
        return
    event("kept")
    assert kept.verdict == "servable"
    assert json.loads(json.dumps(storable(msgspec.to_builtins(kept.signature))))
    assert kept.reference is None or kept.reference.num_rows == rows


@settings(max_examples=300)
@given(st.data())
def test_a_garbled_report_is_garbled_and_nothing_else(data: st.DataObject) -> None:
    whole = wire.encode(_converted(data.draw(signatures()), original_ms=1.0), {"onnx": b"onnx", "answer.label": np.array(["a"], dtype=object)})
    place = data.draw(st.integers(0, len(whole)))
    forged = whole[:place] + data.draw(st.binary(max_size=20)) + whole[place + data.draw(st.integers(0, 20)) :]
    try:
        answer, _ = wire.decode(forged)
    except wire.Garbled:
        return
    assert isinstance(answer, wire.Halted | wire.Converted | wire.Answered)


@pytest.mark.parametrize("shape", ["[0,1000000000000000000000000000000]", "[0,-1]", "[0,9223372036854775807]", "[0,0,0,0,0]"])
def test_an_impossible_shape_is_garbled(shape: str) -> None:
    header = f'{{"answer":{{"type":"halted","verdict":"refused","reason":"x"}},"blobs":[["in.x","f8",{shape},0]]}}'.encode()
    with pytest.raises(wire.Garbled):
        wire.decode(len(header).to_bytes(8, "little") + header)
