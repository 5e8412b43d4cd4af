"""Converters of our own, where skl2onnx has none or a less exact one: text ordinals, gaps and trees in double precision.

scikit-learn's trees read their input as float32 and everything before them in float64. In a build of
double precision the same happens: a cast stands before each tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert.rewrite import NULL_TEXT
from registry.convert.verdict import NotServable

_TREES = [
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
    "GradientBoostingClassifier",
    "GradientBoostingRegressor",
]
_registered: list[bool] = []


def register() -> None:
    """Put the converters in the place of skl2onnx's own, which still do every other case; once per process."""
    if _registered:
        return
    for kind in _TREES:
        _wrap(f"Sklearn{kind}", _with_float_trees)
    _wrap("SklearnOrdinalEncoder", _with_text_ordinals)
    _wrap("SklearnSimpleImputer", _with_double_gaps)
    _registered.append(True)


def _wrap(alias: str, around: Any) -> None:
    from skl2onnx.common._registration import get_converter, register_converter

    own = get_converter(alias)

    def convert(scope: Any, operator: Any, container: Any) -> None:
        around(own, scope, operator, container)

    register_converter(alias, convert, overwrite=True, options=own.get_allowed_options())


class _FloatView:
    """An operator as its converter should see it: inputs and outputs in float32, all else as it is."""

    def __init__(self, operator: Any, inputs: list[Any], outputs: list[Any]) -> None:
        self._operator = operator
        self.inputs = inputs
        self.outputs = outputs
        self.input_full_names = [variable.full_name for variable in inputs]
        self.output_full_names = [variable.full_name for variable in outputs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operator, name)


def _with_float_trees(own: Any, scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.common._apply_operation import apply_cast
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    def as_float(variable: Any, name: str) -> Any:
        is_double = isinstance(variable.type, DoubleTensorType)
        return scope.declare_local_variable(name, FloatTensorType(list(variable.type.shape))) if is_double else variable

    inputs = [as_float(variable, "rows") for variable in operator.inputs]
    outputs = [as_float(variable, "answers") for variable in operator.outputs]
    for whole, narrow in zip(operator.inputs, inputs, strict=True):
        if narrow is not whole:
            apply_cast(scope, whole.full_name, narrow.full_name, container, to=TensorProto.FLOAT)
    own(scope, _FloatView(operator, inputs, outputs), container)
    for whole, narrow in zip(operator.outputs, outputs, strict=True):
        if narrow is not whole:
            apply_cast(scope, narrow.full_name, whole.full_name, container, to=TensorProto.DOUBLE)


def _with_double_gaps(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Fill NaN in doubles; the runtime's Imputer knows float32 only."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType

    imputer = operator.raw_operator
    plain = isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)
    if not (plain and all(isinstance(variable.type, DoubleTensorType) for variable in operator.inputs)) or np.isnan(imputer.statistics_.astype(float)).any():
        own(scope, operator, container)
        return
    joined = _joined(scope, operator.inputs, container)
    fill, gaps = scope.get_unique_variable_name("fill"), scope.get_unique_variable_name("gaps")
    container.add_initializer(fill, TensorProto.DOUBLE, [1, len(imputer.statistics_)], imputer.statistics_.astype(np.float64))
    container.add_node("IsNaN", [joined], [gaps])
    container.add_node("Where", [gaps, fill, joined], [operator.outputs[0].full_name])


def _with_text_ordinals(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Give missing texts the encoder's number for missing."""
    from skl2onnx.common.data_types import StringTensorType

    if all(isinstance(variable.type, StringTensorType) for variable in operator.inputs):
        _convert_texts(scope, operator, container)
    else:
        own(scope, operator, container)


def _convert_texts(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.common._apply_operation import apply_cast, apply_concat

    encoder = operator.raw_operator
    if getattr(encoder, "_infrequent_enabled", False):
        raise NotServable(
            "OrdinalEncoder with infrequent categories has no ONNX form here.", "Leave out min_frequency and max_categories, or use OneHotEncoder."
        )
    joined = _joined(scope, operator.inputs, container)
    encoded = [_convert_column(scope, container, joined, place, encoder) for place in range(len(encoder.categories_))]
    together = scope.get_unique_variable_name("ordinals")
    apply_concat(scope, encoded, together, container, axis=1)
    kind = TensorProto.FLOAT if np.issubdtype(encoder.dtype, np.floating) else TensorProto.INT64
    apply_cast(scope, together, operator.output_full_names, container, to=kind)


def _convert_column(scope: Any, container: Any, joined: str, place: int, encoder: Any) -> str:
    from onnx import TensorProto

    index, column, encoded = (scope.get_unique_variable_name(name) for name in ("index", "column", "ordinal"))
    container.add_initializer(index, TensorProto.INT64, [1], [place])
    container.add_node("ArrayFeatureExtractor", [joined, index], [column], op_domain="ai.onnx.ml")
    texts = [str(text) for text in encoder.categories_[place]]
    numbers = [float(encoder.encoded_missing_value) if text == NULL_TEXT else float(number) for number, text in enumerate(texts)]
    unknown = float("nan") if encoder.handle_unknown == "error" else float(encoder.unknown_value)
    attributes = {"keys_strings": texts, "values_floats": numbers, "default_float": unknown}
    container.add_node("LabelEncoder", [column], [encoded], op_domain="ai.onnx.ml", op_version=2, **attributes)
    return str(encoded)


def _joined(scope: Any, variables: Any, container: Any) -> str:
    from skl2onnx.common._apply_operation import apply_concat

    if len(variables) == 1:
        return str(variables[0].full_name)
    joined = scope.get_unique_variable_name("joined")
    apply_concat(scope, [variable.full_name for variable in variables], joined, container, axis=1)
    return str(joined)
