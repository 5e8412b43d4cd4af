"""Answered batches as segments: whatever the log's thread writes, ``decode`` gives rows of the features' kinds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving import segments
from serving.dataplane import columns
from serving.dataplane.batch import Batch, Logged
from serving.dataplane.spec import Spec

_AT_US = 1_700_000_000_000_000


def _slot(features: list[Feature], inputs: list[Tensor], outputs: list[Tensor], layout: Layout = Layout.MATRIX) -> Any:
    """What ``segment_of`` reads of a slot."""
    signature = Signature(layout=layout, features=tuple(features), inputs=tuple(inputs), outputs=tuple(outputs))
    entry = SimpleNamespace(model="m", version=3, digest="d" * 64, signature=signature)
    build = SimpleNamespace(outputs=tuple(tensor.name for tensor in outputs))
    return SimpleNamespace(endpoint_name="e", name="blue", entry=entry, table_revision=7, spec=Spec(signature), build=build)


def _call(number: int, rows: int = 1, request_id: str | None = None, key_id: str | None = "key") -> Logged:
    return (bytes([number]) * 16, rows, _AT_US + number, 100 + number, request_id, key_id)


def _matrix_slot(*kinds: Kind, datatype: str = "FP32") -> Any:
    features = [Feature(name=f"f{place}", kind=kind, missing=True) for place, kind in enumerate(kinds)]
    return _slot(features, [Tensor("input", datatype, (-1, len(kinds)))], [Tensor("prediction", "FP32", (-1, 1)), Tensor("probabilities", "FP32", (-1, 2))])


def _batch(matrix: list[list[float]], *calls: Logged, flags: list[int] | None = None, dtype: Any = np.float32) -> Batch:
    given = np.array(matrix, dtype)
    outputs = [np.arange(len(given), dtype=np.float32).reshape(-1, 1), np.tile(np.array([[0.25, 0.75]], np.float32), (len(given), 1))]
    return Batch({"input": given}, outputs, None if flags is None else np.array(flags, np.int32), list(calls))


def _table(slot: Any, *batches: Batch) -> pa.Table:
    return segments.decode(columns.segment_of(slot, list(batches)).columns)


def test_a_segment_carries_its_slot_and_the_first_and_last_time() -> None:
    segment = columns.segment_of(_matrix_slot(Kind.NUMBER), [_batch([[1]], _call(2)), _batch([[1], [2]], _call(1), _call(3))])
    assert (segment.endpoint, segment.slot, segment.model, segment.version, segment.build_digest, segment.table_revision) == ("e", "blue", "m", 3, "d" * 64, 7)
    assert segment.rows == 3
    assert (segment.first_at.timestamp(), segment.last_at.timestamp()) == ((_AT_US + 1) / 1e6, (_AT_US + 3) / 1e6)


def test_a_matrix_becomes_a_column_per_feature_in_its_kind() -> None:
    slot = _matrix_slot(Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN, Kind.INTEGER)
    nan = float("nan")
    table = _table(slot, _batch([[1.5, 2, 1, 2]], _call(1)), _batch([[nan, 4, 0, 2.5], [3, nan, nan, 7]], _call(2), _call(3)))
    assert table["in.f0"].to_pylist() == [1.5, None, 3.0]
    assert table["in.f1"].to_pylist() == [2, 4, None]
    assert table["in.f2"].to_pylist() == [True, False, None]
    assert table["in.f3"].to_pylist() == [2.0, 2.5, 7.0]  # a fraction makes the whole column one of numbers
    assert [str(table.schema.field(f"in.f{place}").type) for place in range(4)] == ["double", "int64", "bool", "double"]
    assert table["out.prediction"].to_pylist() == [0.0, 0.0, 1.0]
    assert table["out.probabilities"].to_pylist() == [[0.25, 0.75]] * 3


def test_whole_numbers_and_truths_stay_exact() -> None:
    large = 2**53 + 1
    table = _table(_matrix_slot(Kind.INTEGER, Kind.NUMBER, datatype="INT64"), _batch([[large, -3]], _call(1), dtype=np.int64))
    assert (table["in.f0"].to_pylist(), table["in.f1"].to_pylist()) == ([large], [-3])
    table = _table(_matrix_slot(Kind.BOOLEAN, Kind.INTEGER, datatype="BOOL"), _batch([[True, True]], _call(1), dtype=np.bool_))
    assert (table["in.f0"].to_pylist(), table["in.f1"].to_pylist()) == ([True], [1])


def test_calls_of_several_rows_repeat_their_id_and_count_their_rows() -> None:
    table = _table(_matrix_slot(Kind.NUMBER), _batch([[1], [2], [3]], _call(1, 2, "a"), _call(2, 1, None, "other")), _batch([[4]], _call(3)))
    assert [UUID(bytes=each).bytes[0] for each in table["prediction_id"].to_pylist()] == [1, 1, 2, 3]
    assert table["row"].to_pylist() == [0, 1, 0, 0]
    assert table["request_id"].to_pylist() == ["a", "a", None, None]
    assert table["key_id"].to_pylist() == ["key", "key", "other", "key"]
    assert table["latency_us"].to_pylist() == [101, 101, 102, 103]
    assert [int(at.timestamp() * 1e6) - _AT_US for at in table["received_at"].to_pylist()] == [1, 1, 2, 3]
    assert table.schema.names[:7] == segments.FIXED.names
    assert table.schema.types[:7] == segments.FIXED.types


def test_texts_that_are_all_the_same_come_back_in_every_row() -> None:
    table = _table(_matrix_slot(Kind.NUMBER), _batch([[1], [2], [3]], _call(1, 2), _call(2)))
    assert table["key_id"].to_pylist() == ["key"] * 3
    assert table["request_id"].to_pylist() == [None] * 3
    assert table.schema.types[:7] == segments.FIXED.types


def test_flags_of_some_batches_stand_at_their_rows() -> None:
    slot = _matrix_slot(Kind.NUMBER)
    table = _table(slot, _batch([[1], [2]], _call(1), _call(2)), _batch([[3], [4]], _call(3), _call(4), flags=[0, 5]))
    assert table["flags"].to_pylist() == [0, 0, 0, 5]


def test_columns_of_texts_and_numbers_and_views_with_gaps() -> None:
    features = [Feature(name="age", kind=Kind.INTEGER, missing=True), Feature(name="plan", kind=Kind.TEXT, missing=True)]
    inputs = [Tensor("age", "FP32", (-1, 1)), Tensor("plan", "BYTES", (-1, 1))]
    slot = _slot(features, inputs, [Tensor("label", "BYTES", (-1,)), Tensor("count", "INT64", (-1, 1))], Layout.COLUMNS)
    wide = np.array([[1, 9], [float("nan"), 9]], np.float32)
    plans = np.array([["gold"], [None]], object)
    batch = Batch({"age": wide[:, :1], "plan": plans}, [np.array(["yes", b"no"], object), np.array([[1], [2]])], None, [_call(1), _call(2)])
    table = _table(slot, batch, batch)
    assert table["in.age"].to_pylist() == [1, None, 1, None]
    assert table["in.plan"].to_pylist() == ["gold", None, "gold", None]
    assert table["out.label"].to_pylist() == ["yes", "no", "yes", "no"]
    assert table["out.count"].to_pylist() == [1, 2, 1, 2]


def test_whole_numbers_and_truths_that_are_missing_stay_exact_beside_others() -> None:
    large, nan = 2**53 + 1, float("nan")
    gaps = [np.array([[large, nan], [nan, 3]], object), np.array([[7, large]])]
    batches = [Batch({"input": given}, [np.zeros((len(given), 1), np.float32)], None, [_call(1, len(given))]) for given in gaps]
    slot = _slot([Feature(name=name, kind=Kind.INTEGER) for name in "ab"], [Tensor("input", "INT64", (-1, 2))], [Tensor("y", "FP32", (-1, 1))])
    for order in (batches, batches[::-1]):
        table = _table(slot, *order)
        rows = {(a, b) for a, b in zip(table["in.a"].to_pylist(), table["in.b"].to_pylist(), strict=True)}
        assert rows == {(large, None), (None, 3), (7, large)}
        assert [str(table.schema.field(name).type) for name in ("in.a", "in.b")] == ["int64", "int64"]
    slot = _slot([Feature(name=name, kind=Kind.BOOLEAN) for name in "ab"], [Tensor("input", "BOOL", (-1, 2))], [Tensor("y", "FP32", (-1, 1))])
    table = _table(slot, Batch({"input": np.array([[True, nan]], object)}, [np.zeros((1, 1), np.float32)], None, [_call(1)]))
    assert (table["in.a"].to_pylist(), table["in.b"].to_pylist()) == ([True], [None])


def test_a_matrix_of_texts_has_a_column_per_feature() -> None:
    slot = _slot([Feature(name=name, kind=Kind.TEXT) for name in "ab"], [Tensor("input", "BYTES", (-1, 2))], [Tensor("y", "FP32", (-1,))])
    table = _table(slot, Batch({"input": np.array([["x", None]], object)}, [np.array([1], np.float32)], None, [_call(1)]))
    assert (table["in.a"].to_pylist(), table["in.b"].to_pylist()) == (["x"], [None])


def test_rows_of_different_shapes_are_logged_without_their_values() -> None:
    slot = _slot([], [Tensor("image", "FP32", (-1, -1))], [Tensor("y", "FP32", (-1,))])
    batches = [Batch({"image": np.zeros((1, width), np.float32)}, [np.array([width], np.float32)], None, [_call(width)]) for width in (2, 4)]
    table = _table(slot, *batches)
    assert table.schema.names == [*segments.FIXED.names, "out.y"]
    assert table["out.y"].to_pylist() == [2.0, 4.0]


def test_an_output_of_varying_width_is_a_list_also_where_it_is_one_value_wide() -> None:
    slot = _slot([], [Tensor("x", "FP32", (-1, 1))], [Tensor("y", "FP32", (-1, -1))])
    tables = [_table(slot, Batch({"x": np.zeros((1, 1))}, [np.ones((1, width), np.float32)], None, [_call(1)])) for width in (0, 1, 2)]
    assert [table["out.y"].to_pylist() for table in tables] == [[[]], [[1.0]], [[1.0, 1.0]]]
    assert len({table.schema.field("out.y").type for table in tables}) == 1


def test_flags_beside_none_where_the_first_axis_is_no_row() -> None:
    slot = _slot([], [Tensor("image", "FP32", (2, 2))], [Tensor("y", "FP32", (3,))])
    image, y = np.zeros((2, 2), np.float32), np.zeros(3, np.float32)
    batches = [Batch({"image": image}, [y], flags, [_call(1)]) for flags in (None, np.array([4], np.int32))]
    assert _table(slot, *batches)["flags"].to_pylist() == [0, 4]


def test_a_build_whose_first_axis_is_no_row_logs_one_row_per_call() -> None:
    slot = _slot([], [Tensor("image", "FP32", (2, 2))], [Tensor("y", "FP32", (2,))])
    batch = Batch({"image": np.arange(4, dtype=np.float32).reshape(2, 2)}, [np.array([1, 2], np.float32)], None, [_call(1)])
    table = _table(slot, batch, batch)
    assert table["in.image"].to_pylist() == [[0.0, 1.0, 2.0, 3.0]] * 2
    assert table["out.y"].to_pylist() == [[1.0, 2.0]] * 2
