"""Forests of any size as ONNX files, laid out as skl2onnx writes them, but made of random splits in a second instead of trained in minutes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from registry.signature import Feature, Kind, Layout, Signature, Tensor

FEATURES = 30
_DEPTH = 12
_INNER = 2**_DEPTH - 1
_NODES = 2 * _INNER + 1
TREE_BYTES = 327_000
"""About what one tree takes in the file."""

SIGNATURE = Signature(
    layout=Layout.MATRIX,
    features=tuple(Feature(name=f"x{number}", kind=Kind.NUMBER, minimum=0, maximum=1, example=0.5) for number in range(FEATURES)),
    inputs=(Tensor("X", "FP32", (-1, FEATURES)),),
    outputs=(Tensor("variable", "FP32", (-1, 1)),),
    task="regression",
)


def forest(size_bytes: int, seed: int) -> bytes:
    """Give a regression forest of complete trees of depth 12, of about ``size_bytes``."""
    trees = max(1, round(size_bytes / TREE_BYTES))
    random = np.random.default_rng(seed)
    node, inner = np.arange(_NODES), np.arange(_NODES) < _INNER
    leaves = node[~inner]
    zeros = [0] * (trees * _NODES)
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["variable"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=np.repeat(np.arange(trees), _NODES).tolist(),
        nodes_nodeids=np.tile(node, trees).tolist(),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist() * trees,
        nodes_featureids=(random.integers(0, FEATURES, (trees, _NODES)) * inner).ravel().tolist(),
        nodes_values=(random.random((trees, _NODES), dtype=np.float32) * inner).ravel().tolist(),
        nodes_truenodeids=np.tile(np.where(inner, 2 * node + 1, 0), trees).tolist(),
        nodes_falsenodeids=np.tile(np.where(inner, 2 * node + 2, 0), trees).tolist(),
        nodes_hitrates=[1.0] * (trees * _NODES),
        nodes_missing_value_tracks_true=zeros,
        target_treeids=np.repeat(np.arange(trees), len(leaves)).tolist(),
        target_nodeids=np.tile(leaves, trees).tolist(),
        target_ids=[0] * (trees * len(leaves)),
        target_weights=(random.random(trees * len(leaves), dtype=np.float32) / trees).tolist(),
    )
    graph = helper.make_graph(
        [ensemble],
        "forest",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, FEATURES])],
        [helper.make_tensor_value_info("variable", TensorProto.FLOAT, [None, 1])],
    )
    versions = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    content: bytes = helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString()
    return content
