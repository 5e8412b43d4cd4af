"""Converters of encoders: ordinals, and one-hot columns with infrequent categories, which skl2onnx has for some inputs only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from registry.convert import graph

_NONE = -1  # no group of a one-hot encoder


def ordinals(_own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Give each category its number; missing texts get the encoder's number for missing."""
    from onnx import TensorProto

    encoder = operator.raw_operator
    unknown = float("nan") if encoder.handle_unknown == "error" else float(encoder.unknown_value)
    encoded = []
    for place, categories in enumerate(encoder.categories_):
        column = graph.column(scope, operator, container, place)
        encoded.append(graph.looked_up(scope, container, column, categories, numbers_of(encoder, place), unknown, whole=False))
    kind = TensorProto.FLOAT if np.issubdtype(encoder.dtype, np.floating) else TensorProto.INT64
    container.add_node("Cast", [graph.joined(scope, encoded, container)], operator.output_full_names, to=kind)


def numbers_of(encoder: Any, place: int) -> list[float]:
    """Give the number of each category of the column at ``place``: infrequent ones share one, a missing value has its own."""
    count = len(encoder.categories_[place])
    numbers = [float(number) for number in _groups(encoder, place, count)]
    missing = getattr(encoder, "_missing_indices", {}).get(place)
    if missing is not None:
        numbers[missing:] = [float(encoder.encoded_missing_value)]
    return numbers


def one_hot(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Make the columns of a one-hot encoder; skl2onnx does it where each category is a text or a whole number of its own."""
    from onnx import TensorProto

    encoder = operator.raw_operator
    if not _is_beyond(encoder):
        own(scope, operator, container)
        return
    made = [_group_columns(scope, operator, container, place) for place in range(len(encoder.categories_))]
    joined = graph.joined(scope, [name for name in made if name], container)
    kind = TensorProto.INT64 if np.issubdtype(encoder.dtype, np.signedinteger) else TensorProto.FLOAT
    container.add_node("Cast", [joined], operator.output_full_names, to=kind)


def one_hot_shape(own: Any, operator: Any) -> None:
    """Count the columns that there are, after grouping and dropping."""
    own(operator)
    operator.outputs[0].type.shape = [operator.outputs[0].type.shape[0], int(sum(operator.raw_operator._n_features_outs))]


def _is_beyond(encoder: Any) -> bool:
    if getattr(encoder, "_infrequent_enabled", False) or encoder.handle_unknown not in {"error", "ignore"}:
        return True
    numbers = [categories for categories in encoder.categories_ if categories.dtype.kind == "f"]
    return any((categories != np.floor(categories)).any() for categories in numbers)  # a NaN differs, too


def _groups(encoder: Any, place: int, count: int) -> Sequence[int]:
    """Give the group of each category: itself, but for the infrequent ones."""
    groups = encoder._default_to_infrequent_mappings[place] if getattr(encoder, "_infrequent_enabled", False) else None
    return range(count) if groups is None else [int(group) for group in groups]


def _group_columns(scope: Any, operator: Any, container: Any, place: int) -> str:
    """Give one column of float32 for each group that is not dropped; empty if there is none."""
    from onnx import TensorProto

    encoder, column = operator.raw_operator, graph.column(scope, operator, container, place)
    categories = encoder.categories_[place]
    groups = _groups(encoder, place, len(categories))
    count = max(groups) + 1
    infrequent = encoder._infrequent_indices[place] if getattr(encoder, "_infrequent_enabled", False) else None
    unknown = groups[infrequent[0]] if infrequent is not None and encoder.handle_unknown in {"infrequent_if_exist", "warn"} else _NONE
    group = graph.looked_up(scope, container, column, categories, groups, unknown, whole=True)
    wide, flat, side = (scope.get_unique_variable_name(name) for name in ("wide", "flat", "side"))
    zeros = int(encoder.handle_unknown != "error")
    container.add_node("OneHotEncoder", [group], [wide], op_domain="ai.onnx.ml", cats_int64s=list(range(count)), zeros=zeros)
    container.add_initializer(side, TensorProto.INT64, [2], [-1, count])
    container.add_node("Reshape", [wide, side], [flat])
    dropped = encoder._drop_idx_after_grouping
    kept = [number for number in range(count) if dropped is None or number != dropped[place]]
    if len(kept) == count:
        return str(flat)
    return graph.picked(scope, container, flat, kept) if kept else ""
