"""Small ONNX models with known answers, made on the spot, and the entries that publish them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.digests import artifact_path, digest_of
from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving.table import BuildEntry

_FLOAT, _INT64, _STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def _content(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], constants: dict[str, np.ndarray], version: int = 1
) -> bytes:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, model_version=version)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def store(artifacts: Path, content: bytes) -> str:
    """Put a file where the artifact store would, and give its digest."""
    digest = digest_of(content)
    path = artifact_path(artifacts, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest


def _entry(artifacts: Path, content: bytes, signature: Signature, model: str, version: int) -> BuildEntry:
    return BuildEntry(digest=store(artifacts, content), kind="onnx", size_bytes=len(content), model=model, version=version, signature=signature)


def regressor(artifacts: Path, *, version: int = 1, offset: float = 0.0, features: tuple[Feature, ...] | None = None, double: bool = False) -> BuildEntry:
    """A matrix model of three features: ``prediction = a + 10 b + 100 c + offset``, computed in ``double`` precision if told so."""
    kind, dtype, datatype = (TensorProto.DOUBLE, np.float64, "FP64") if double else (_FLOAT, np.float32, "FP32")
    nodes = [helper.make_node("MatMul", ["input", "w"], ["product"]), helper.make_node("Add", ["product", "offset"], ["prediction"])]
    content = _content(
        nodes,
        [helper.make_tensor_value_info("input", kind, [None, 3])],
        [helper.make_tensor_value_info("prediction", kind, [None, 1])],
        {"w": np.array([[1], [10], [100]], dtype), "offset": np.array([offset], dtype)},
        version,
    )
    signature = Signature(
        layout=Layout.MATRIX,
        features=features or tuple(Feature(name=name, kind=Kind.NUMBER, minimum=0, maximum=9, typical=5.0, example=1.0) for name in "abc"),
        inputs=(Tensor("input", datatype, (-1, 3)),),
        outputs=(Tensor("prediction", datatype, (-1, 1)),),
    )
    return _entry(artifacts, content, signature, "sum", version)


def large(artifacts: Path, *, version: int = 1, megabytes: int = 10) -> BuildEntry:
    """As ``regressor`` without an offset, and a constant of that size: ``prediction = a + version``."""
    nodes = [
        helper.make_node("Gather", ["ballast", "zero"], ["first"]),
        helper.make_node("Add", ["input", "first"], ["prediction"]),
    ]
    ballast = np.random.default_rng(version).standard_normal(megabytes * 2**18).astype(np.float32)
    ballast[0] = version
    content = _content(
        nodes,
        [helper.make_tensor_value_info("input", _FLOAT, [None, 1])],
        [helper.make_tensor_value_info("prediction", _FLOAT, [None, 1])],
        {"ballast": ballast, "zero": np.array([0], np.int64)},
        version,
    )
    signature = Signature(
        layout=Layout.MATRIX,
        features=(Feature(name="a", kind=Kind.NUMBER),),
        inputs=(Tensor("input", "FP32", (-1, 1)),),
        outputs=(Tensor("prediction", "FP32", (-1, 1)),),
    )
    return _entry(artifacts, content, signature, "large", version)


def forest(artifacts: Path, *, version: int = 1, megabytes: int = 2) -> BuildEntry:
    """Equal trees of one split: ``prediction = version`` where ``a`` is at most 0.5, else 0."""
    trees = megabytes * 2**20 // 120
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["input"],
        ["prediction"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=np.repeat(np.arange(trees), 3).tolist(),
        nodes_nodeids=[0, 1, 2] * trees,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * trees,
        nodes_featureids=[0, 0, 0] * trees,
        nodes_values=[0.5, 0.0, 0.0] * trees,
        nodes_truenodeids=[1, 0, 0] * trees,
        nodes_falsenodeids=[2, 0, 0] * trees,
        nodes_hitrates=[1.0, 1.0, 1.0] * trees,
        target_treeids=np.repeat(np.arange(trees), 2).tolist(),
        target_nodeids=[1, 2] * trees,
        target_ids=[0, 0] * trees,
        target_weights=[version / trees, 0.0] * trees,
    )
    inputs, outputs = [helper.make_tensor_value_info("input", _FLOAT, [None, 1])], [helper.make_tensor_value_info("prediction", _FLOAT, [None, 1])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    content = helper.make_model(helper.make_graph([ensemble], "forest", inputs, outputs), opset_imports=opsets, ir_version=9).SerializeToString()
    signature = Signature(
        layout=Layout.MATRIX,
        features=(Feature(name="a", kind=Kind.NUMBER),),
        inputs=(Tensor("input", "FP32", (-1, 1)),),
        outputs=(Tensor("prediction", "FP32", (-1, 1)),),
    )
    return _entry(artifacts, content, signature, "forest", version)


def classifier(artifacts: Path, *, version: int = 1) -> BuildEntry:
    """A column model: ``age`` (number, may be missing) and ``plan`` (text). Says "yes" with p = .75 where age > 30, else "no" with .75."""
    nodes = [
        helper.make_node("Greater", ["age", "limit"], ["older"]),
        helper.make_node("Where", ["older", "yes_row", "no_row"], ["probabilities"]),
        helper.make_node("Squeeze", ["older", "axis"], ["flat"]),
        helper.make_node("Where", ["flat", "yes", "no"], ["label"]),
        helper.make_node("Identity", ["plan"], ["echo"]),
    ]
    content = _content(
        nodes,
        [helper.make_tensor_value_info("age", _FLOAT, [None, 1]), helper.make_tensor_value_info("plan", _STRING, [None, 1])],
        [
            helper.make_tensor_value_info("label", _STRING, [None]),
            helper.make_tensor_value_info("probabilities", _FLOAT, [None, 2]),
            helper.make_tensor_value_info("echo", _STRING, [None, 1]),
        ],
        {
            "limit": np.array([30], np.float32),
            "axis": np.array([1], np.int64),
            "yes_row": np.array([[0.25, 0.75]], np.float32),
            "no_row": np.array([[0.75, 0.25]], np.float32),
            "yes": np.array(["yes"], dtype=object),
            "no": np.array(["no"], dtype=object),
        },
    )
    signature = Signature(
        layout=Layout.COLUMNS,
        features=(
            Feature(name="age", kind=Kind.NUMBER, missing=True, minimum=0, maximum=120, typical=40.0),
            Feature(name="plan", kind=Kind.TEXT, categories=("free", "gold"), typical="free"),
        ),
        inputs=(Tensor("age", "FP32", (-1, 1)), Tensor("plan", "BYTES", (-1, 1))),
        outputs=(Tensor("label", "BYTES", (-1,)), Tensor("probabilities", "FP32", (-1, 2)), Tensor("echo", "BYTES", (-1, 1))),
        labels=("no", "yes"),
        task="classification",
    )
    return _entry(artifacts, content, signature, "churn", version)


def shares(artifacts: Path) -> BuildEntry:
    """A matrix model of one feature and six classes, of which the share of ``c`` is no number: the shares, and a number, times ``a``."""
    content = _content(
        [helper.make_node("Mul", ["input", "of_each"], ["probabilities"]), helper.make_node("Mul", ["input", "large"], ["amounts"])],
        [helper.make_tensor_value_info("input", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, width]) for name, width in (("probabilities", 6), ("amounts", 2))],
        {"of_each": np.array([0.3, 0.2, np.nan, 0.1, 0.25, 0.15]), "large": np.array([999_999.7, np.nan])},
    )
    signature = Signature(
        layout=Layout.MATRIX,
        features=(Feature(name="a", kind=Kind.NUMBER),),
        inputs=(Tensor("input", "FP64", (-1, 1)),),
        outputs=(Tensor("probabilities", "FP64", (-1, 6)), Tensor("amounts", "FP64", (-1, 2))),
        labels=tuple("abcdef"),
        task="classification",
    )
    return _entry(artifacts, content, signature, "shares", 1)


def every_type(artifacts: Path) -> BuildEntry:
    """Echoes one tensor of each datatype, [-1, 2]."""
    types = {
        "BOOL": TensorProto.BOOL,
        "UINT8": TensorProto.UINT8,
        "UINT16": TensorProto.UINT16,
        "UINT32": TensorProto.UINT32,
        "UINT64": TensorProto.UINT64,
        "INT8": TensorProto.INT8,
        "INT16": TensorProto.INT16,
        "INT32": TensorProto.INT32,
        "INT64": _INT64,
        "FP16": TensorProto.FLOAT16,
        "FP32": _FLOAT,
        "FP64": TensorProto.DOUBLE,
        "BYTES": _STRING,
    }
    content = _content(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in types],
        [helper.make_tensor_value_info(f"in_{name}", kind, [None, 2]) for name, kind in types.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, [None, 2]) for name, kind in types.items()],
        {},
    )
    signature = Signature(
        layout=Layout.COLUMNS,
        features=(),
        inputs=tuple(Tensor(f"in_{name}", name, (-1, 2)) for name in types),
        outputs=tuple(Tensor(f"out_{name}", name, (-1, 2)) for name in types),
        task="transform",
    )
    return _entry(artifacts, content, signature, "echo", 1)


def customers(artifacts: Path) -> BuildEntry:
    """A column model that gives back its features, of every kind and none of which may be missing; all but ``note`` have a typical value."""
    tensors = {
        "age": ("INT64", _INT64),
        "member": ("BOOL", TensorProto.BOOL),
        "weight": ("FP32", _FLOAT),
        "plan": ("BYTES", _STRING),
        "note": ("BYTES", _STRING),
    }
    content = _content(
        [helper.make_node("Identity", [name], [f"out_{name}"]) for name in tensors],
        [helper.make_tensor_value_info(name, kind, [None, 1]) for name, (_, kind) in tensors.items()],
        [helper.make_tensor_value_info(f"out_{name}", kind, [None, 1]) for name, (_, kind) in tensors.items()],
        {},
    )
    signature = Signature(
        layout=Layout.COLUMNS,
        features=(
            Feature(name="age", kind=Kind.INTEGER, minimum=18, maximum=2**62, typical=40.5),
            Feature(name="member", kind=Kind.BOOLEAN, minimum=1, maximum=1, typical=1.0),
            Feature(name="weight", kind=Kind.NUMBER, minimum=40, maximum=160, typical=70.5),
            Feature(name="plan", kind=Kind.TEXT, categories=("free", "gold"), typical="free"),
            Feature(name="note", kind=Kind.TEXT),
        ),
        inputs=tuple(Tensor(name, datatype, (-1, 1)) for name, (datatype, _) in tensors.items()),
        outputs=tuple(Tensor(f"out_{name}", datatype, (-1, 1)) for name, (datatype, _) in tensors.items()),
        task="transform",
    )
    return _entry(artifacts, content, signature, "customers", 1)


def counter(artifacts: Path, *, version: int = 1, features: tuple[Feature, ...] | None = None) -> BuildEntry:
    """A matrix model of two whole numbers, of which ``a`` may be missing as far as the signature knows: ``prediction = a + b``."""
    content = _content(
        [helper.make_node("ReduceSum", ["input", "axis"], ["prediction"])],
        [helper.make_tensor_value_info("input", _INT64, [None, 2])],
        [helper.make_tensor_value_info("prediction", _INT64, [None, 1])],
        {"axis": np.array([1], np.int64)},
        version,
    )
    signature = Signature(
        layout=Layout.MATRIX,
        features=features or (Feature(name="a", kind=Kind.INTEGER, missing=True), Feature(name="b", kind=Kind.INTEGER)),
        inputs=(Tensor("input", "INT64", (-1, 2)),),
        outputs=(Tensor("prediction", "INT64", (-1, 1)),),
    )
    return _entry(artifacts, content, signature, "counts", version)


def slow(artifacts: Path, *, loops: int = 150_000) -> BuildEntry:
    """A matrix model of one feature that takes long: ``prediction = 2 a`` after ``loops`` turns of a Loop. It fails on 1000 and more."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep_in"], ["keep"]), helper.make_node("MatMul", ["square_in", "square_in"], ["square"])],
        "body",
        [
            helper.make_tensor_value_info("i", _INT64, []),
            helper.make_tensor_value_info("keep_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("square_in", _FLOAT, [16, 16]),
        ],
        [helper.make_tensor_value_info("keep", TensorProto.BOOL, []), helper.make_tensor_value_info("square", _FLOAT, [16, 16])],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "", "start"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["input", "nothing"], ["after"]),
        helper.make_node("Cast", ["after"], ["place"], to=_INT64),
        helper.make_node("Gather", ["zeros", "place"], ["none"]),
        helper.make_node("Mul", ["after", "two"], ["double"]),
        helper.make_node("Add", ["double", "none"], ["prediction"]),
    ]
    content = _content(
        nodes,
        [helper.make_tensor_value_info("input", _FLOAT, [None, 1])],
        [helper.make_tensor_value_info("prediction", _FLOAT, [None, 1])],
        {
            "turns": np.array(loops, np.int64),
            "start": np.zeros((16, 16), np.float32),
            "zero": np.array(0, np.float32),
            "two": np.array(2, np.float32),
            "zeros": np.zeros(1000, np.float32),
        },
    )
    signature = Signature(
        layout=Layout.MATRIX,
        features=(Feature(name="a", kind=Kind.NUMBER),),
        inputs=(Tensor("input", "FP32", (-1, 1)),),
        outputs=(Tensor("prediction", "FP32", (-1, 1)),),
    )
    return _entry(artifacts, content, signature, "slow", 1)


def fixed(artifacts: Path) -> BuildEntry:
    """Gives back its input of [2, 3]: its first axis is no row."""
    content = _content(
        [helper.make_node("Identity", ["input"], ["same"])],
        [helper.make_tensor_value_info("input", _FLOAT, [2, 3])],
        [helper.make_tensor_value_info("same", _FLOAT, [2, 3])],
        {},
    )
    signature = Signature(layout=Layout.COLUMNS, features=(), inputs=(Tensor("input", "FP32", (2, 3)),), outputs=(Tensor("same", "FP32", (2, 3)),))
    return _entry(artifacts, content, signature, "fixed", 1)


def sums_of_two(artifacts: Path) -> BuildEntry:
    """Two inputs of varying width: ``sum`` of all values of x and y in a row."""
    nodes = [helper.make_node("Concat", ["x", "y"], ["both"], axis=1), helper.make_node("ReduceSum", ["both", "axis"], ["sum"])]
    content = _content(
        nodes,
        [helper.make_tensor_value_info(name, _FLOAT, [None, None]) for name in "xy"],
        [helper.make_tensor_value_info("sum", _FLOAT, [None, 1])],
        {"axis": np.array([1], np.int64)},
    )
    inputs = tuple(Tensor(name, "FP32", (-1, -1)) for name in "xy")
    signature = Signature(layout=Layout.COLUMNS, features=(), inputs=inputs, outputs=(Tensor("sum", "FP32", (-1, 1)),))
    return _entry(artifacts, content, signature, "sums", 1)
