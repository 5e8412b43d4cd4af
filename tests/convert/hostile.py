"""Makes the hostile files of the tests. Nothing is downloaded; nothing here runs what it makes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import struct
import zipfile
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.pair = (function, arguments)

    def __reduce__(self) -> Any:
        return self.pair


def short_unicode(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global_call(module: str, name: str, argument: str, *, memoised: bool = False) -> bytes:
    """A protocol-4 call whose name comes from the stack, or back out of the memo."""
    first, second = short_unicode(module), short_unicode(name)
    names = first + b"\x940" + second + b"\x940" + b"h\x00h\x01" if memoised else first + second
    return b"\x80\x04" + names + b"\x93" + short_unicode(argument) + b"\x85R."


def global_call(module: str, name: str, argument: str) -> bytes:
    """A protocol-0 call."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def chained(path: str) -> bytes:
    """builtins.getattr(io, 'open')(path, 'w'): each link looks harmless to a scan for os.system."""
    return b"cbuiltins\ngetattr\n(cio\nopen_code\nV__call__\ntR(V" + path.encode() + b"\ntR."


def skops_with(module: str, name: str, loader: str, **more: Any) -> bytes:
    schema = {"__module__": module, "__class__": name, "__loader__": loader, "__id__": 1, "protocol": 2, "_skops_version": "0.16.0", **more}
    return zipped({"schema.json": json.dumps(schema).encode()})


def zipped(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as folder:
        for name, data in files.items():
            folder.writestr(name, data)
    return sink.getvalue()


def zip_of_directory(entries: int) -> bytes:
    """A zip whose directory names ``entries`` files, while its end says that there is one."""
    name = b"schema.json"
    entry = b"PK\x01\x02" + struct.pack("<4H4L5H2L", 20, 20, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    first = b"PK\x03\x04" + struct.pack("<5H3L2H", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    end = b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 1, 1, entries * len(entry), len(first), 0)
    return first + entry * entries + end


def gzip_bomb(unpacked: int) -> bytes:
    return gzip.compress(b"\x80\x04" + b"0" * unpacked, 9)


def bz2_bomb(unpacked: int) -> bytes:
    return bz2.compress(b"\x80\x04" + b"0" * unpacked, 9)


def memory_bomb() -> bytes:
    """An array of 2**45 bytes, made by numpy's own constructor."""
    return b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x06" + (2**45).to_bytes(6, "little") + b"\x85U\x01b\x87R."


def endless_hash() -> bytes:
    """A key of 2**60 nested tuples in a hundred bytes: hashing it never ends, and takes no memory."""
    return b"\x80\x02})" + b"2\x86" * 60 + b"Ns."


def tree_model(**changes: Any) -> bytes:
    """One tree of three nodes over two columns; ``changes`` replace its attributes."""
    attributes: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    } | changes
    return one_node("TreeEnsembleRegressor", "ai.onnx.ml", 2, **attributes)


def one_node(op_type: str, domain: str, width: int, *, initializers: tuple[Any, ...] = (), inputs: tuple[str, ...] = ("x",), **attributes: Any) -> bytes:
    node = helper.make_node(op_type, list(inputs), ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        initializer=list(initializers),
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    if domain not in {"", "ai.onnx.ml"}:
        domains.append(helper.make_opsetid(domain, 1))
    return bytes(helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString())


def zip_mapped(*, classes: tuple[int, ...] = (0, 1), after: str = "", nodes: tuple[Any, ...] = (), **changes: Any) -> bytes:
    """A linear classifier of two classes over two columns, a ZipMap, and ``after`` behind it; ``changes`` replace the classifier's attributes."""
    attributes: dict[str, Any] = {"classlabels_ints": [0, 1], "coefficients": [-1.0, 0.0, 1.0, 0.0], "intercepts": [0.0, 0.0]} | changes
    classifier = helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **attributes)
    labels: dict[str, Any] = {"classlabels_int64s": classes} if classes else {}
    mapped = helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", **labels)
    last = [helper.make_node(after, ["maps"], ["y"])] if after else []
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None)))
    graph = helper.make_graph(
        [*nodes, classifier, mapped, *last],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None]), helper.make_value_info("y" if after else "maps", kind)],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString())


def loop() -> Any:
    return helper.make_node("Loop", ["x"], ["looped"])


def external_data(path: str) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 1], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", path), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return one_node("MatMul", "", 2, initializers=(tensor,), inputs=("x", "w"))


def short_tensor() -> bytes:
    tensor = onnx.numpy_helper.from_array(np.zeros((2, 1), dtype=np.float32), "w")
    tensor.raw_data = b"\0" * 4
    return one_node("MatMul", "", 2, initializers=(tensor,), inputs=("x", "w"))


def pickled(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol)


def through_scorers(code: str) -> bytes:
    """Run ``code`` by allowed names alone: a scorer calls a method by a name that the file gives, and so finds ``eval`` among a function's globals."""

    def name(module: str, each: str) -> bytes:
        return f"c{module}\n{each}\n".encode()

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    def call(function: bytes, *arguments: bytes) -> bytes:
        return function + b"(" + b"".join(arguments) + b"tR"

    def items(**values: bytes) -> bytes:
        return b"}" + b"".join(text(key) + value + b"s" for key, value in values.items())

    def scorer(score: bytes, method: str) -> bytes:
        return call(name("sklearn.metrics._scorer", "_Scorer"), score, b"K\x01", b"}", text(method))

    def kept(value: bytes, place: int) -> bytes:
        return value + b"q" + bytes([place]) + b"0"

    def partial(function: bytes, keywords: bytes) -> bytes:
        return call(name("functools", "partial"), function) + b"(" + function + b")" + keywords + b"Ntb"

    bunch = name("sklearn.utils._bunch", "Bunch")
    tags = call(name("functools", "partial"), bunch) + b"(" + bunch + b")" + items(estimator_type=b"N") + b"Ntb"
    tagged = call(bunch) + text("__sklearn_tags__") + tags + b"s"
    nothing = call(name("functools", "partial"), call(name("functools", "partial"), name("sklearn.gaussian_process.kernels", "ConstantKernel")))
    function = name("sklearn.utils.validation", "check_array") + items(__sklearn_tags__=tags) + b"b"
    update = partial(b"h\x03", items(y_true=name("builtins", "object")))
    steps = [
        kept(tagged, 1),
        kept(tagged, 2),
        kept(scorer(nothing, "update"), 3),
        call(scorer(update, "__getattribute__"), function, text("__globals__"), b"h\x01") + b"0",
        call(scorer(update, "__getitem__"), b"h\x01", text("__builtins__"), b"h\x02") + b"0",
        call(scorer(nothing, "eval"), b"h\x02", text(code), name("builtins", "object")) + b"0",
    ]
    return b"\x80\x04" + b"".join(steps) + call(name("sklearn.linear_model._base", "LinearRegression")) + b"."
