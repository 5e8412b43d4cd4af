"""Converters of our own, where skl2onnx has none or a less exact one: trees and imputers here, others in modules of their own.

scikit-learn's trees read their input as float32 and everything before them in float64. In a build of
double precision the same happens: a cast stands before each tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert import arithmetic, boosting, encoders, graph
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
_BOOSTING = ["HistGradientBoostingClassifier", "HistGradientBoostingRegressor"]
_registered: list[bool] = []


def register() -> None:
    """Put the converters in the place of skl2onnx's own, which still do every other case; once per process."""
    if _registered:
        return
    for kind in [*_TREES, "IsolationForest"]:
        _wrap(f"Sklearn{kind}", _with_missing_values)
    for kind in [*_TREES, *_BOOSTING]:
        _wrap(f"Sklearn{kind}", _with_float_trees)
    for kind in _BOOSTING:
        _wrap(f"Sklearn{kind}", boosting.boosting, boosting.boosting_shape)
    _wrap("SklearnFunctionTransformer", arithmetic.function, arithmetic.function_shape)
    _wrap("SklearnOneHotEncoder", encoders.one_hot, encoders.one_hot_shape)
    _wrap("SklearnOrdinalEncoder", encoders.ordinals)
    _wrap("SklearnSimpleImputer", _with_double_gaps)
    _wrap("SklearnSimpleImputer", _with_indicator, _indicator_shape)
    _registered.append(True)


def _wrap(alias: str, around: Any, around_shape: Any = None) -> None:
    from skl2onnx.common._registration import get_converter, get_shape_calculator, register_converter, register_shape_calculator

    own = get_converter(alias)

    def convert(scope: Any, operator: Any, container: Any) -> None:
        around(own, scope, operator, container)

    register_converter(alias, convert, overwrite=True, options=own.get_allowed_options())
    if around_shape is not None:
        own_shape = get_shape_calculator(alias)

        def shape(operator: Any) -> None:
            around_shape(own_shape, operator)

        register_shape_calculator(alias, shape, overwrite=True)


def _with_missing_values(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Send missing numbers where training sent them; skl2onnx sends all to the right."""
    before = len(container.nodes)
    own(scope, operator, container)
    model = operator.raw_operator
    trees = [one.tree_ for one in np.ravel(getattr(model, "estimators_", model))]
    nodes = [node for node in container.nodes[before:] if node.op_type.startswith("TreeEnsemble")]
    for place, node in enumerate(nodes):
        _follow_missing(node, trees if len(nodes) == 1 else [trees[place]])


def _follow_missing(node: Any, trees: list[Any]) -> None:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    splits = list(zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints, strict=True))
    left = [tree.children_left.clip(min=0).tolist() for tree in trees]
    missing = [tree.missing_go_to_left.tolist() for tree in trees]
    if list(attributes["nodes_truenodeids"].ints) != [left[tree][place] for tree, place in splits]:
        raise NotServable("The trees were converted in another order than they have.", "Export the model to ONNX yourself.")
    attributes["nodes_missing_value_tracks_true"].ints[:] = [missing[tree][place] for tree, place in splits]


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
    own(scope, graph.View(operator, inputs, outputs), container)
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
    joined = graph.joined_inputs(scope, operator, container)
    fill, gaps = scope.get_unique_variable_name("fill"), scope.get_unique_variable_name("gaps")
    container.add_initializer(fill, TensorProto.DOUBLE, [1, len(imputer.statistics_)], imputer.statistics_.astype(np.float64))
    container.add_node("IsNaN", [joined], [gaps])
    container.add_node("Where", [gaps, fill, joined], [operator.outputs[0].full_name])


def _with_indicator(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Put beside the filled columns those that say where something was missing, if the imputer makes them."""
    from skl2onnx.common.data_types import StringTensorType

    indicator = getattr(operator.raw_operator, "indicator_", None)
    if indicator is None or not len(indicator.features_):
        own(scope, operator, container)
        return
    kind = operator.outputs[0].type
    if isinstance(kind, StringTensorType):
        raise NotServable("SimpleImputer with add_indicator over texts has no ONNX form here.", "Leave add_indicator out, or use it for numbers only.")
    filled = scope.declare_local_variable("filled", type(kind)([kind.shape[0], kind.shape[1] - len(indicator.features_)]))
    own(scope, graph.View(operator, list(operator.inputs), [filled]), container)
    watched = graph.columns(scope, operator, container, indicator.features_.tolist())
    gaps = scope.get_unique_variable_name("gaps")
    if isinstance(indicator.missing_values, float) and np.isnan(indicator.missing_values):
        container.add_node("IsNaN", [watched], [gaps])
    else:
        mark = scope.get_unique_variable_name("mark")
        container.add_initializer(mark, _type_of(kind), [1], [indicator.missing_values])
        container.add_node("Equal", [watched, mark], [gaps])
    container.add_node("Concat", [filled.full_name, graph.cast(scope, container, gaps, _type_of(kind))], operator.output_full_names, axis=1)


def _type_of(kind: Any) -> int:
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType

    names = {DoubleTensorType: TensorProto.DOUBLE, Int64TensorType: TensorProto.INT64}
    return int(names.get(type(kind), TensorProto.FLOAT))


def _indicator_shape(own: Any, operator: Any) -> None:
    """Count the columns of the indicator, too."""
    own(operator)
    indicator = getattr(operator.raw_operator, "indicator_", None)
    if indicator is not None and operator.outputs[0].type.shape[1] is not None:
        operator.outputs[0].type.shape[1] += len(indicator.features_)
