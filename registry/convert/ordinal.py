"""A converter of our own for OrdinalEncoder on text columns: missing texts get the encoder's number for missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert.rewrite import NULL_TEXT


def register() -> None:
    """Put the converter in the place of skl2onnx's own, which still does encoders without texts."""
    from skl2onnx import update_registered_converter
    from skl2onnx.operator_converters.ordinal_encoder import convert_sklearn_ordinal_encoder
    from skl2onnx.shape_calculators.ordinal_encoder import calculate_sklearn_ordinal_encoder_output_shapes
    from sklearn.preprocessing import OrdinalEncoder

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import StringTensorType

        if all(isinstance(variable.type, StringTensorType) for variable in operator.inputs):
            _convert_texts(scope, operator, container)
        else:
            convert_sklearn_ordinal_encoder(scope, operator, container)

    update_registered_converter(OrdinalEncoder, "SklearnOrdinalEncoder", calculate_sklearn_ordinal_encoder_output_shapes, convert, overwrite=True)


def _convert_texts(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.common._apply_operation import apply_cast, apply_concat
    from skl2onnx.operator_converters.common import concatenate_variables

    encoder = operator.raw_operator
    if getattr(encoder, "_infrequent_enabled", False):
        raise NotImplementedError("OrdinalEncoder with infrequent categories has no ONNX form here.")
    joined = concatenate_variables(scope, operator.inputs, container)
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
