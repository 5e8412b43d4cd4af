"""Converter of histogram gradient boosting: the inverse link of its loss, and splits by sets of categories.

ONNX's trees compare numbers. Each set of categories that a tree asks for becomes a column of its own, looked up in a
table by the category: 0 where the row goes to the left, 1 where it goes to the right. Missing and unknown categories
have the table's last row, as scikit-learn sends both to the same side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert import encoders, graph
from registry.convert.verdict import NotServable


def boosting(own: Any, scope: Any, operator: Any, container: Any) -> None:
    """Convert the trees, and put behind them what the loss asks for."""
    from skl2onnx.common.data_types import FloatTensorType

    model = operator.raw_operator
    link = type(model._loss.link).__name__
    has_exp = link == "LogLink"
    if not has_exp and link not in {"IdentityLink", "LogitLink", "MultinomialLogit"}:
        raise NotServable(f"{type(model).__name__} with the loss {model.loss} has no ONNX form here.", "Train it with another loss.")
    outputs = list(operator.outputs)
    if has_exp:
        outputs[0] = scope.declare_local_variable("raw", type(outputs[0].type)(list(outputs[0].type.shape)))
    splits = _Splits(model) if model.is_categorical_ is not None else None
    inputs = list(operator.inputs)
    if splits is not None:
        inputs = [scope.declare_local_variable("rows", FloatTensorType([None, splits.width]))]
        _write_rows(scope, operator, container, splits, inputs[0].full_name)
    before = len(container.nodes)
    own(scope, graph.View(operator, inputs, outputs), container)
    if splits is not None:
        for node in container.nodes[before:]:
            if node.op_type.startswith("TreeEnsemble"):
                splits.put_into(node)
    if has_exp:
        container.add_node("Exp", [outputs[0].full_name], [operator.outputs[0].full_name])


def boosting_shape(own: Any, operator: Any) -> None:
    """Look at the rows as the trees see them: one tensor of numbers, whatever the columns are."""
    from skl2onnx.common._topology import Variable
    from skl2onnx.common.data_types import FloatTensorType

    if operator.raw_operator.is_categorical_ is None:
        own(operator)
    else:
        rows = Variable("rows", "rows", None, FloatTensorType([operator.inputs[0].get_first_dimension(), None]))
        own(graph.View(operator, [rows], operator.outputs))


class _Splits:
    """Where the trees of a model with categories look: the numbers come first, then a column for each set of categories."""

    def __init__(self, model: Any) -> None:
        self.encoder = model._preprocessor.named_transformers_["encoder"]
        self.categories = np.flatnonzero(model.is_categorical_)
        self.numbers = np.flatnonzero(~model.is_categorical_)
        self._trees = [tree for trees in model._predictors for tree in trees]
        self._sets: list[dict[bytes, int]] = [{} for _ in self.categories]
        self._gather()
        self.tables = [self._table(place) for place in range(len(self._sets))]
        self._first_columns = len(self.numbers) + np.cumsum([0, *(table.shape[1] for table in self.tables)])
        self.width = int(self._first_columns[-1])

    def codes_of(self, place: int) -> list[float]:
        """Give for each category of the encoder its row in the table."""
        numbers = encoders.numbers_of(self.encoder, place)
        return [len(numbers) if np.isnan(number) else number for number in numbers]

    def put_into(self, node: Any) -> None:
        """Point each split of a tree ensemble at its column."""
        attributes = {attribute.name: attribute for attribute in node.attribute}
        trees, places = attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints
        features, thresholds = attributes["nodes_featureids"].ints, attributes["nodes_values"].floats
        for number, (tree, place) in enumerate(zip(trees, places, strict=True)):
            split = self._trees[tree].nodes[place]
            if split["is_leaf"]:
                continue
            if split["is_categorical"]:
                features[number], thresholds[number] = self._column_of(self._trees[tree], split), 0.5
            else:
                features[number] = int(split["feature_idx"]) - len(self.tables)

    def _gather(self) -> None:
        for tree in self._trees:
            for split in tree.nodes[(tree.nodes["is_categorical"] != 0) & (tree.nodes["is_leaf"] == 0)]:
                found = self._sets[split["feature_idx"]]
                found.setdefault(self._sides(tree, split), len(found))

    def _table(self, place: int) -> Any:
        """Give the sides of each category [categories + 1, sets]; one column of zeros where no tree asks."""
        rows = len(self.encoder.categories_[place]) + 1
        columns = [np.frombuffer(sides, dtype=np.uint8) for sides in self._sets[place]] or [np.zeros(rows, dtype=np.uint8)]
        return np.stack(columns, axis=1).astype(np.float32)

    def _sides(self, tree: Any, split: Any) -> bytes:
        """Give for each category, and last for a missing one, 0 for the left side and 1 for the right one."""
        count = len(self.encoder.categories_[split["feature_idx"]])
        is_left = np.unpackbits(tree.raw_left_cat_bitsets[split["bitset_idx"]].view(np.uint8), bitorder="little")[:count]
        return bytes(1 - is_left) + bytes([1 - split["missing_go_to_left"]])

    def _column_of(self, tree: Any, split: Any) -> int:
        feature = int(split["feature_idx"])
        return int(self._first_columns[feature]) + self._sets[feature][self._sides(tree, split)]


def _write_rows(scope: Any, operator: Any, container: Any, splits: _Splits, name: str) -> None:
    """Put together what the trees look at."""
    from onnx import TensorProto

    parts = []
    if len(splits.numbers):
        numbers = graph.columns(scope, operator, container, splits.numbers.tolist())
        parts.append(graph.cast(scope, container, numbers, TensorProto.FLOAT))
    for place, table in enumerate(splits.tables):
        column, codes = graph.column(scope, operator, container, splits.categories[place]), splits.codes_of(place)
        code = graph.looked_up(scope, container, column, splits.encoder.categories_[place], codes, len(table) - 1, whole=True)
        known, found, side, flat = (scope.get_unique_variable_name(part) for part in ("table", "sides", "side", "flat"))
        container.add_initializer(known, TensorProto.FLOAT, list(table.shape), table.ravel())
        container.add_node("Gather", [known, code], [found], axis=0)
        container.add_initializer(side, TensorProto.INT64, [2], [-1, table.shape[1]])
        container.add_node("Reshape", [found, side], [flat])
        parts.append(str(flat))
    container.add_node("Concat", parts, [name], axis=1)
