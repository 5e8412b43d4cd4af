"""Pieces of an ONNX graph that several of our converters are built of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class View:
    """An operator as another converter should see it: with other inputs or outputs, all else as it is."""

    def __init__(self, operator: Any, inputs: list[Any], outputs: list[Any]) -> None:
        self._operator = operator
        self.inputs = inputs
        self.outputs = outputs
        self.input_full_names = [variable.full_name for variable in inputs]
        self.output_full_names = [variable.full_name for variable in outputs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)


def joined(scope: Any, names: Sequence[str], container: Any) -> str:
    """Put tensors [n, *] of one type beside each other."""
    if len(names) == 1:
        return str(names[0])
    name = scope.get_unique_variable_name("joined")
    container.add_node("Concat", list(names), [name], axis=1)
    return str(name)


def joined_inputs(scope: Any, operator: Any, container: Any) -> str:
    """Give all inputs of an operator as one tensor."""
    return joined(scope, [variable.full_name for variable in operator.inputs], container)


def column(scope: Any, operator: Any, container: Any, place: int) -> tuple[str, Any]:
    """Give the name of the column [n, 1] at ``place`` of all inputs, and its type."""
    for variable in operator.inputs:
        width = variable.type.shape[1]
        if place < width:
            return (variable.full_name if width == 1 else picked(scope, container, variable.full_name, [place])), variable.type
        place -= width
    raise IndexError(f"there is no column {place}")


def columns(scope: Any, operator: Any, container: Any, places: Sequence[int]) -> str:
    """Give the columns at ``places`` of all inputs, which are of one type, as one tensor."""
    if len(operator.inputs) == 1:
        return picked(scope, container, operator.inputs[0].full_name, places)
    return joined(scope, [column(scope, operator, container, place)[0] for place in places], container)


def picked(scope: Any, container: Any, name: str, places: Sequence[int]) -> str:
    """Give the columns at ``places`` of a tensor [n, *]."""
    index, chosen = scope.get_unique_variable_name("index"), scope.get_unique_variable_name("picked")
    container.add_initializer(index, _INT64, [len(places)], list(places))
    container.add_node("Gather", [name, index], [chosen], axis=1)
    return str(chosen)


def cast(scope: Any, container: Any, name: str, to: int) -> str:
    """Give a tensor in another type of ``TensorProto``."""
    found = scope.get_unique_variable_name("cast")
    container.add_node("Cast", [name], [found], to=to)
    return str(found)


def looked_up(scope: Any, container: Any, column: tuple[str, Any], categories: Any, numbers: Sequence[float], unknown: float, *, whole: bool) -> str:
    """Give for each value of a column [n, 1] the number that stands for its category, as float32 or, if ``whole``, int64.

    A missing text is the empty string and a missing number NaN, here as in ``categories``.
    """
    from skl2onnx.common.data_types import StringTensorType

    name, kind = column
    is_text = isinstance(kind, StringTensorType)
    kept = [place for place, category in enumerate(categories) if is_text or not np.isnan(float(category))]
    keys: dict[str, Any] = (
        {"keys_strings": [str(categories[place]) for place in kept]} if is_text else {"keys_floats": [float(categories[place]) for place in kept]}
    )
    cast_to, values, default = (int, "values_int64s", "default_int64") if whole else (float, "values_floats", "default_float")
    found = scope.get_unique_variable_name("looked_up")
    source = name if is_text else cast(scope, container, name, _FLOAT)
    attributes = keys | {values: [cast_to(numbers[place]) for place in kept], default: cast_to(unknown)}
    container.add_node("LabelEncoder", [source], [found], op_domain="ai.onnx.ml", op_version=2, **attributes)
    missing = next((place for place in range(len(categories)) if place not in kept), None)
    return str(found) if missing is None else _where_missing(scope, container, source, str(found), numbers[missing], whole=whole)


def _where_missing(scope: Any, container: Any, source: str, otherwise: str, number: float, *, whole: bool) -> str:
    gaps, fill, found = (scope.get_unique_variable_name(name) for name in ("gaps", "fill", "filled"))
    container.add_node("IsNaN", [source], [gaps])
    container.add_initializer(fill, _INT64 if whole else _FLOAT, [1], [int(number) if whole else float(number)])
    container.add_node("Where", [gaps, fill, otherwise], [found])
    return str(found)


_FLOAT, _INT64 = 1, 7  # of TensorProto
