"""Converts a fitted scikit-learn estimator to ONNX with skl2onnx; names its outputs as the data plane expects."""

from __future__ import annotations

from typing import Any

from registry.convert import converters, rewrite
from registry.convert.verdict import NotServable
from registry.signature import Feature, Kind, Layout

TARGET = {"": 21, "ai.onnx.ml": 3}
MATRIX_INPUT = "input"
OUTPUTS = {"classification": ("label", "probabilities"), "regression": ("prediction",), "outliers": ("label", "score")}
_EXPORT = "Replace that part of the model, or export it to ONNX with a converter of its own and register that file."


def convert(model: Any, *, features: tuple[Feature, ...], layout: Layout, precision: str, task: str) -> Any:
    """Give a ModelProto with the inputs of ``layout`` in ``precision`` (float32 or float64). Raises NotServable with the reason."""
    converters.register()
    prepared = rewrite.for_onnx(model)
    types = input_types(features, layout, precision)
    has_map = task == "classification"
    try:
        built = _built(prepared, types, has_map=has_map)
    except (MemoryError, NotServable):
        raise
    except Exception as error:  # converters raise every kind; each means that this model has no ONNX form
        raise NotServable(f"{type(model).__name__} could not be converted to ONNX: {_reason(error)}", _EXPORT) from error
    _name_inputs(built.graph, [name for name, _ in types])
    has_probabilities = hasattr(model, "predict_proba")
    _name_outputs(built.graph, OUTPUTS[task][:1] if task == "classification" and not has_probabilities else OUTPUTS[task])
    merge_opsets(built)
    _answer_in_float32(built.graph)
    return built


def _built(prepared: Any, types: list[tuple[str, Any]], *, has_map: bool) -> Any:
    """Convert without the ZipMap; a classifier whose converter never makes one does not take the option."""
    from skl2onnx import convert_sklearn

    if has_map:
        try:
            return convert_sklearn(prepared, "model", types, target_opset=TARGET, options={id(prepared): {"zipmap": False}})
        except NameError as error:
            if "zipmap" not in str(error):
                raise
    return convert_sklearn(prepared, "model", types, target_opset=TARGET)


def input_types(features: tuple[Feature, ...], layout: Layout, precision: str) -> list[tuple[str, Any]]:
    """Give skl2onnx's input types. Numbers of every kind are floats: null is NaN."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = DoubleTensorType if precision == "float64" else FloatTensorType
    if layout is Layout.MATRIX:
        return [(MATRIX_INPUT, number([None, len(features)]))]
    return [(feature.name, (StringTensorType if feature.kind is Kind.TEXT else number)([None, 1])) for feature in features]


def merge_opsets(model: Any) -> None:
    """Leave one entry for each operator domain: the highest."""
    highest: dict[str, int] = {}
    for opset in model.opset_import:
        highest[opset.domain] = max(highest.get(opset.domain, 0), opset.version)
    del model.opset_import[:]
    for domain, version in highest.items():
        model.opset_import.add(domain=domain, version=version)


def rename(graph: Any, old: str, new: str) -> None:
    """Call a tensor ``new`` wherever it occurs; whatever had that name before gets out of the way."""
    if old == new:
        return
    if any(new in (*node.input, *node.output) for node in graph.node):
        rename(graph, new, f"{new}.inner")
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.name == old:
            info.name = new


def _name_inputs(graph: Any, names: list[str]) -> None:
    """Give the inputs their columns' names back, which the converter has turned into identifiers."""
    if len(graph.input) != len(names):
        raise NotServable("The ONNX form does not take every column of the model.", _EXPORT)
    given = [info.name for info in graph.input]
    for place, (old, new) in enumerate(zip(given, names, strict=True)):
        if old != new:
            rename(graph, old, f"column {place} of {len(names)}")
    for place, (old, new) in enumerate(zip(given, names, strict=True)):
        if old != new:
            rename(graph, f"column {place} of {len(names)}", new)


def _name_outputs(graph: Any, names: tuple[str, ...]) -> None:
    del graph.output[len(names) :]
    taken = {info.name for info in graph.input}
    for place, name in enumerate(names):
        if name in taken:
            raise NotServable(f"The column {name} has the name of an output.", f"Call the column something else than {name} and train again.")
        rename(graph, graph.output[place].name, name)


def _answer_in_float32(graph: Any) -> None:
    """Whatever the precision inside, probabilities, predictions and scores leave as float32."""
    from onnx import TensorProto, helper

    for output in graph.output:
        if output.type.tensor_type.elem_type == TensorProto.DOUBLE:
            name = output.name
            rename(graph, name, f"{name}.double")
            graph.node.append(helper.make_node("Cast", [f"{name}.double"], [name], to=TensorProto.FLOAT))
            output.name = name
            output.type.tensor_type.elem_type = TensorProto.FLOAT


def _reason(error: Exception) -> str:
    text = " ".join((str(error).strip() or type(error).__name__).split())
    return text[:300].partition("You may raise an issue")[0].strip()
