"""Converter of ``FunctionTransformer`` where it calls one of numpy's functions of one number."""

from __future__ import annotations

import math
from typing import Any

from registry.convert import graph
from registry.convert.verdict import NotServable

_STEPS: dict[str, tuple[tuple[str, float | None], ...]] = {
    "absolute": (("Abs", None),),
    "arctan": (("Atan", None),),
    "ceil": (("Ceil", None),),
    "cos": (("Cos", None),),
    "exp": (("Exp", None),),
    "expm1": (("Exp", None), ("Sub", 1.0)),
    "fabs": (("Abs", None),),
    "floor": (("Floor", None),),
    "log": (("Log", None),),
    "log10": (("Log", None), ("Div", math.log(10))),
    "log1p": (("Add", 1.0), ("Log", None)),
    "log2": (("Log", None), ("Div", math.log(2))),
    "negative": (("Neg", None),),
    "positive": (("Identity", None),),
    "reciprocal": (("Reciprocal", None),),
    "rint": (("Round", None),),
    "sign": (("Sign", None),),
    "sin": (("Sin", None),),
    "sqrt": (("Sqrt", None),),
    "square": (("Pow", 2.0),),
    "tan": (("Tan", None),),
    "tanh": (("Tanh", None),),
}
"""Each function as ONNX operators and the number that is their second input."""


def function(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Apply the function to all columns. Raises NotServable for one that ONNX does not have."""
    from onnx import TensorProto
    from skl2onnx.common.data_types import DoubleTensorType

    transformer = operator.raw_operator
    if transformer.func is None:
        own(scope, operator, container)
        return
    kind = TensorProto.DOUBLE if isinstance(operator.inputs[0].type, DoubleTensorType) else TensorProto.FLOAT
    last = graph.joined_inputs(scope, operator, container)
    for op_type, number in _steps_of(transformer):
        inputs, last = [last], scope.get_unique_variable_name(op_type.lower())
        if number is not None:
            constant = scope.get_unique_variable_name("number")
            container.add_initializer(constant, kind, [1], [number])
            inputs.append(constant)
        container.add_node(op_type, inputs, [last])
    container.add_node("Identity", [last], operator.output_full_names)


def function_shape(own: Any, operator: Any) -> None:
    """As many columns come out as go in."""
    transformer = operator.raw_operator
    if transformer.func is None:
        own(operator)
    else:
        kind = operator.inputs[0].type
        operator.outputs[0].type = type(kind)([kind.shape[0], sum(variable.type.shape[1] for variable in operator.inputs)])


def _steps_of(transformer: Any) -> tuple[tuple[str, float | None], ...]:
    name = getattr(transformer.func, "__name__", type(transformer.func).__name__)
    if name in _STEPS and not transformer.kw_args:
        return _STEPS[name]
    how = " with arguments of its own" if transformer.kw_args else ""
    known = ", ".join(sorted(_STEPS))
    raise NotServable(f"FunctionTransformer calls {name}{how}, which has no ONNX form here.", f"Compute it before the model, or use one of numpy's {known}.")
