"""The structural check of an ONNX file, a stranger's or our converter's: what the runtime itself does not refuse.

Array lengths, tree nodes and feature numbers are checked here because runtimes have read beyond
arrays for such files. Runs in the sandbox.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from registry.convert.operators import ALLOWED
from registry.convert.verdict import Refused

LARGEST_OPSET = {"": 26, "ai.onnx.ml": 5}
_LARGEST_IR = 13
_EXPORT_AGAIN = "Export the model again as one self-contained file with a current converter."
_BITS_PER_ITEM = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
_STRING = 8
_NODE_ARRAYS = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids")


def parse(data: bytes) -> Any:
    """Read and check; gives the ModelProto. Raises Refused."""
    model = read(data)
    check(model)
    return model


def read(data: bytes) -> Any:
    """Read without a check; gives the ModelProto. Raises Refused for what is broken."""
    import onnx

    try:
        return onnx.load_from_string(data)
    except Exception as error:  # protobuf's own error, which has no typed home
        raise Refused("The ONNX file is broken or cut short.", _EXPORT_AGAIN) from error


def check(model: Any) -> None:
    """Check all of a ModelProto. Raises Refused."""
    import onnx

    _check_frame(model)
    for tensor in model.graph.initializer:
        _check_tensor(tensor)
    for node in model.graph.node:
        _check_attributes(node)
    widths = _widths(model)
    for place, node in enumerate(model.graph.node):
        if node.op_type.startswith("TreeEnsemble") and node.input and node.input[0] not in widths:
            widths |= measured_width(model, place, node.input[0])
        _check_node(node, widths)
    try:
        onnx.checker.check_model(model, full_check=False)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise Refused(f"The ONNX file is not valid: {_first_line(error)}", _EXPORT_AGAIN) from error


def _check_frame(model: Any) -> None:
    if model.ir_version > _LARGEST_IR:
        raise Refused(f"The file has ONNX IR version {model.ir_version}; up to {_LARGEST_IR} is read here.", "Export it with a lower target.")
    if model.functions or model.training_info or model.graph.sparse_initializer:
        raise Refused("The ONNX file holds functions, training data or sparse tensors, which are not taken.", _EXPORT_AGAIN)
    for opset in model.opset_import:
        if opset.domain not in {"", "ai.onnx", "ai.onnx.ml"}:
            raise Refused(f"The ONNX file uses the operators of {opset.domain}, which are not in ONNX itself.", "Export it with standard operators only.")
        largest = LARGEST_OPSET["ai.onnx.ml" if opset.domain == "ai.onnx.ml" else ""]
        if opset.version > largest:
            raise Refused(f"The file has opset {opset.version}; up to {largest} is read here.", f"Export it with opset {largest} or lower.")


def _check_attributes(node: Any) -> None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    if (domain, node.op_type) == ("ai.onnx.ml", "ZipMap"):
        raise Refused(
            "The ONNX file has a ZipMap that does not make the second of its two outputs, label and probabilities.", "Export the model with zipmap=False."
        )
    if (domain, node.op_type) not in ALLOWED:
        raise Refused(
            f"The ONNX file uses the operator {node.op_type}, which a build may not hold.", "Export the model without loops, branches and custom operators."
        )
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise Refused(f"The operator {node.op_type} holds a graph of its own, which is not taken.", _EXPORT_AGAIN)
        for tensor in [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]:
            _check_tensor(tensor)


def _check_node(node: Any, widths: dict[str, int]) -> None:
    width = widths.get(node.input[0]) if node.input else None
    values = {attribute.name: _value(attribute) for attribute in node.attribute}
    if node.op_type in {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}:
        _check_trees(node, values, width)
    elif node.op_type == "TreeEnsemble":
        raise Refused("The ONNX file uses TreeEnsemble of ai.onnx.ml 5, which is not checked here yet.", "Export it with ai.onnx.ml opset 3.")
    elif node.op_type in {"LinearClassifier", "LinearRegressor"}:
        _check_linear(node, values, width)
    elif node.op_type in {"SVMClassifier", "SVMRegressor"}:
        _check_vectors(node, values, width)
    elif node.op_type in {"Scaler", "Imputer"}:
        _check_per_feature(node, values, width)
    elif node.op_type == "LabelEncoder":
        _check_pairs(node, values)


def _check_tensor(tensor: Any) -> None:
    """The bytes of a tensor are in the file and as many as its dimensions say."""
    name = tensor.name or "a constant"
    if tensor.data_location == 1 or tensor.external_data:
        raise Refused(f"The tensor {name} lies in another file.", "Export the model as one self-contained file, without external data.")
    if any(side < 0 for side in tensor.dims):
        raise Refused(f"The tensor {name} has a negative dimension.", _EXPORT_AGAIN)
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        bits = _BITS_PER_ITEM.get(tensor.data_type)
        right = bits is not None and len(tensor.raw_data) == count * bits // 8
    else:
        stored = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data, tensor.string_data)
        right = sum(len(values) for values in stored) == count and (tensor.data_type in _BITS_PER_ITEM or tensor.data_type == _STRING)
    if not right:
        raise Refused(f"The tensor {name} does not hold as many values as its shape says.", _EXPORT_AGAIN)


def _check_trees(node: Any, values: dict[str, Any], width: int | None) -> None:
    arrays = {name: values.get(name, ()) for name in _NODE_ARRAYS}
    count = len(arrays["nodes_treeids"])
    thresholds = values.get("nodes_values", ()) if "nodes_values" in values else values.get("nodes_values_as_tensor", ())
    if not count or len(thresholds) != count or any(len(array) != count for array in arrays.values()):
        raise Refused(f"{node.op_type}: its node arrays differ in length.", _EXPORT_AGAIN)
    features = np.asarray(arrays["nodes_featureids"])
    if features.min() < 0 or (width is not None and features.max() >= width):
        raise Refused(
            f"{node.op_type}: a tree asks for feature {features.min() if features.min() < 0 else features.max()}, which the input does not have.", _EXPORT_AGAIN
        )
    if width is None:
        raise Refused(
            f"{node.op_type}: the width of its input cannot be known, so its feature numbers cannot be checked.", "Export the model with fixed input widths."
        )
    _check_tree_shape(node, arrays)
    _check_leaves(node, values, arrays)


def _check_tree_shape(node: Any, arrays: dict[str, Any]) -> None:
    """Each node has at most one parent and no parent is below its child: no walk through a tree goes round."""
    ids = list(zip(arrays["nodes_treeids"], arrays["nodes_nodeids"], strict=True))
    known = set(ids)
    inner = [place for place, mode in enumerate(arrays["nodes_modes"]) if mode != b"LEAF"]
    children = [(ids[place][0], arrays[side][place]) for place in inner for side in ("nodes_truenodeids", "nodes_falsenodeids")]
    parents = Counter(children)
    roots = {tree: (tree, number) for tree, number in reversed(ids)}
    if len(known) != len(ids) or not known.issuperset(children) or (parents and max(parents.values()) > 1) or any(root in parents for root in roots.values()):
        raise Refused(f"{node.op_type}: its nodes do not form trees.", _EXPORT_AGAIN)


def _check_leaves(node: Any, values: dict[str, Any], arrays: dict[str, Any]) -> None:
    side = "class" if node.op_type.endswith("Classifier") else "target"
    plain, tensor = f"{side}_weights", f"{side}_weights_as_tensor"
    weights = values.get(plain, ()) if plain in values else values.get(tensor, ())
    lists = [values.get(f"{side}_{part}", ()) for part in ("treeids", "nodeids", "ids")]
    if any(len(one) != len(weights) for one in lists):
        raise Refused(f"{node.op_type}: its leaf arrays differ in length.", _EXPORT_AGAIN)
    known = set(zip(arrays["nodes_treeids"], arrays["nodes_nodeids"], strict=True))
    classes = max(len(values.get("classlabels_strings", ())), len(values.get("classlabels_int64s", ()))) or values.get("n_targets", 1)
    if (lists[2] and (min(lists[2]) < 0 or max(lists[2]) >= classes)) or not known.issuperset(zip(lists[0], lists[1], strict=True)):
        raise Refused(f"{node.op_type}: a leaf belongs to a node or class that does not exist.", _EXPORT_AGAIN)


def _check_linear(node: Any, values: dict[str, Any], width: int | None) -> None:
    coefficients, intercepts = values.get("coefficients", ()), values.get("intercepts", ())
    targets = len(intercepts) or int(values.get("targets", 1))
    if not coefficients or len(coefficients) % targets or (width is not None and len(coefficients) != targets * width):
        raise Refused(f"{node.op_type}: it has {len(coefficients)} coefficients, which is not {targets} for each input column.", _EXPORT_AGAIN)


def _check_vectors(node: Any, values: dict[str, Any], width: int | None) -> None:
    vectors = values.get("support_vectors", ())
    count = sum(values.get("vectors_per_class", ())) if node.op_type == "SVMClassifier" else values.get("n_supports", 0)
    if count < 0 or (count and width is not None and len(vectors) != count * width):
        raise Refused(f"{node.op_type}: its support vectors do not fit the input.", _EXPORT_AGAIN)
    classes = len(values.get("vectors_per_class", ()))
    needed = max(classes - 1, 1) * count if node.op_type == "SVMClassifier" else count
    if count and len(values.get("coefficients", ())) < needed:
        raise Refused(f"{node.op_type}: it has too few coefficients.", _EXPORT_AGAIN)


def _check_per_feature(node: Any, values: dict[str, Any], width: int | None) -> None:
    lengths = {len(values[name]) for name in ("offset", "scale", "imputed_value_floats", "imputed_value_int64s") if len(values.get(name, ()))}
    if len(lengths - {1}) > 1 or (width is not None and not lengths <= {1, width}):
        raise Refused(f"{node.op_type}: its arrays do not fit the input.", _EXPORT_AGAIN)


def _check_pairs(node: Any, values: dict[str, Any]) -> None:
    keys = [len(value) for name, value in values.items() if name.startswith("keys_") and len(value)]
    found = [len(value) for name, value in values.items() if name.startswith("values_") and len(value)]
    if keys and found and keys != found:
        raise Refused(f"{node.op_type}: it has {keys[0]} keys for {found[0]} values.", _EXPORT_AGAIN)


def _widths(model: Any) -> dict[str, int]:
    """Give the number of columns of each tensor where it can be known."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise Refused(f"The shapes of the ONNX file contradict each other: {_first_line(error)}", _EXPORT_AGAIN) from error
    known = dict(_columns([*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]))
    for node in model.graph.node:  # the operators of ai.onnx.ml that keep or set the width have no inference of their own
        source = known.get(node.input[0]) if node.input else None
        for name in node.output[:1]:
            width = _width_after(node, source)
            if name not in known and width is not None:
                known[name] = width
    return known


def measured_width(model: Any, place: int, name: str) -> dict[str, int]:
    """Run what comes before node ``place``, all of it checked by then, on one empty row, to see how wide ``name`` is."""
    import onnx

    from registry.convert import onnx_run

    part = onnx.ModelProto()
    part.CopyFrom(model)
    wanted, kept = {name}, []
    for node in reversed(model.graph.node[:place]):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    del part.graph.node[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.node.extend(reversed(kept))
    part.graph.output.append(onnx.ValueInfoProto(name=name))
    try:
        (found,) = onnx_run.open_session(part.SerializeToString()).run(None, onnx_run.empty_row(part))
    except Exception:  # noqa: BLE001  # the runtime raises its own kinds; the caller refuses what stays unknown
        return {}
    return {name: int(found.shape[-1])} if found.ndim == 2 else {}


def _width_after(node: Any, source: int | None) -> int | None:
    if node.op_type in {"Scaler", "Imputer", "Normalizer", "Binarizer", "Cast", "Identity", "LabelEncoder"}:
        return source
    return None


def _columns(infos: list[Any]) -> Iterator[tuple[str, int]]:
    for info in infos:
        dims = info.type.tensor_type.shape.dim
        if len(dims) >= 2 and dims[-1].HasField("dim_value") and dims[-1].dim_value > 0:
            yield info.name, dims[-1].dim_value


def _value(attribute: Any) -> Any:
    import onnx

    if attribute.type == onnx.AttributeProto.TENSOR:
        return onnx.numpy_helper.to_array(attribute.t).ravel()
    return onnx.helper.get_attribute_value(attribute)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
