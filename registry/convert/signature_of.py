"""Infers a version's signature from the model and the sample rows: which columns, of what kind, within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.convert import rewrite
from registry.convert.sample import Column, Sample, column_as, feature_of, generated
from registry.convert.verdict import NotServable, Refused
from registry.signature import Feature, Kind, Layout, Tensor

_DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
}
_TARGETS = ("target", "label", "y", "class", "outcome", "output")


@dataclass(frozen=True)
class Inputs:
    """The columns that the model takes, in its order, and what was left out or made up on the way."""

    columns: Sample
    features: tuple[Feature, ...]
    notes: tuple[str, ...]
    is_generated: bool

    @property
    def has_text(self) -> bool:
        return any(feature.kind is Kind.TEXT for feature in self.features)


def inputs_of(model: Any, sample: Sample | None) -> Inputs:
    """Match the sample to what the estimator was fitted on. Raises Refused with the columns that are missing."""
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    width = getattr(model, "n_features_in_", len(names) or None)
    as_text = rewrite.text_columns(model)
    if sample is None:
        return _without_sample(names, width, as_text)
    columns, notes = _chosen(sample, names, width)
    kinds = {str(name): is_text for name, is_text in as_text.items()} if names else {name: as_text.get(place, None) for place, name in enumerate(columns)}
    columns = {name: _with_kind(name, column, kinds.get(name)) for name, column in columns.items()}
    return Inputs(columns, tuple(feature_of(name, column) for name, column in columns.items()), notes, is_generated=False)


def tensors_of(infos: Any) -> tuple[Tensor, ...]:
    """Give the tensors of an onnxruntime session's inputs or outputs. Raises NotServable for what is no plain tensor."""
    found = []
    for info in infos:
        if info.type not in _DATATYPES:
            raise NotServable(f"{info.name} is a {info.type}, which cannot be sent over the protocol.", "Export the model with plain tensors (zipmap=False).")
        found.append(Tensor(info.name, _DATATYPES[info.type], tuple(side if isinstance(side, int) else -1 for side in info.shape)))
    return tuple(found)


def label_texts(classes: Any) -> tuple[str, ...]:
    """Give classes as a build's label tensor shows them: whole numbers without a decimal point, True as 1."""
    return tuple(label_text(value) for value in classes)


def label_text(value: Any) -> str:
    """Give one class as text."""
    if isinstance(value, (str, bytes)):
        return str(value)
    return str(int(value)) if float(value).is_integer() else str(value)


def layouts(inputs: Inputs, *, has_names: bool) -> tuple[Layout, ...]:
    """Give the layouts worth trying, the better one first."""
    if inputs.has_text:
        return (Layout.COLUMNS,)
    return (Layout.MATRIX, Layout.COLUMNS) if has_names else (Layout.MATRIX,)


def _without_sample(names: list[str], width: int | None, as_text: Mapping[Any, bool]) -> Inputs:
    if width is None or any(as_text.values()):
        raise Refused("The model takes texts or an unknown number of columns, and no sample rows came with it.", "Register it again with a sample of rows.")
    made = generated(width)
    columns = dict(zip(names or made, made.values(), strict=True))
    features = tuple(Feature(name=name, kind=Kind.NUMBER) for name in columns)
    return Inputs(columns, features, ("no sample rows: names and bounds are unknown",), is_generated=True)


def _chosen(sample: Sample, names: list[str], width: int | None) -> tuple[Sample, tuple[str, ...]]:
    if names:
        lacking = [name for name in names if name not in sample]
        if lacking:
            raise Refused(f"The sample lacks {_listed(lacking)}, which the model was trained on.", "Send rows with the columns of the training data.")
        extra = [name for name in sample if name not in names]
        return {name: sample[name] for name in names}, (f"left out {_listed(extra)}, which the model does not take",) if extra else ()
    if width is None or len(sample) == width:
        return sample, ()
    if len(sample) == width + 1:
        target = next((name for name in sample if name.lower() in _TARGETS), list(sample)[-1])
        return {name: column for name, column in sample.items() if name != target}, (f"left out the column {target}, taken for the target",)
    raise Refused(f"The sample has {len(sample)} columns and the model takes {width}.", "Send rows with the columns of the training data, in their order.")


def _with_kind(name: str, column: Column, is_text: bool | None) -> Column:
    if is_text is None:
        return column
    try:
        return column_as(column, Kind.TEXT if is_text else column.kind if column.kind is not Kind.TEXT else Kind.NUMBER)
    except Refused as refused:
        raise Refused(f"{name}: {refused.reason}", refused.advice) from None


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
