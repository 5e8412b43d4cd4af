"""Codecs by property: whatever is written is read again, and no body whatever makes the engine fail."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.dataplane import binary, bodies, ids, tensors
from serving.dataplane.errors import BadRequest
from tests.dataplane.conftest import Plane

NUMBERS = [name for name in tensors.NUMPY_OF if name != "BYTES"]
TEXTS = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=6)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4)


def arrays(datatype: str) -> Any:
    kind = np.dtype(tensors.NUMPY_OF[datatype])
    elements = {"allow_nan": False, "allow_infinity": False} if kind.kind == "f" else None
    return hnp.arrays(kind, SHAPES, elements=elements)


@given(st.sampled_from(NUMBERS).flatmap(lambda name: st.tuples(st.just(name), arrays(name))))
def test_numbers_survive_json_flat_and_nested_and_binary(pair: tuple[str, Any]) -> None:
    datatype, array = pair
    flat = tensors.from_json(tensors.to_json(array), datatype, array.shape, "x")
    nested = tensors.from_json(json.dumps(array.tolist()).encode(), datatype, array.shape, "x")
    raw = binary.from_bytes(memoryview(binary.to_bytes(array)), datatype, array.shape, "x")
    for found in (flat, nested, raw):
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)


@given(TEXTS)
def test_texts_survive_json_and_binary(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    assert tensors.from_json(tensors.to_json(array), "BYTES", array.shape, "x").tolist() == texts
    assert binary.from_bytes(memoryview(binary.to_bytes(array)), "BYTES", array.shape, "x").tolist() == texts


@given(st.binary(max_size=200), st.sampled_from(list(tensors.NUMPY_OF)), st.lists(st.integers(0, 4), max_size=3))
def test_any_bytes_are_read_or_refused(data: bytes, datatype: str, shape: list[int]) -> None:
    for read in (lambda: binary.from_bytes(memoryview(data), datatype, shape, "x"), lambda: tensors.from_json(data, datatype, shape, "x")):
        with contextlib.suppress(BadRequest):
            assert read().shape == tuple(shape)


@pytest.mark.parametrize("datatype", ["FP32", "BOOL", "BYTES"])
def test_a_shape_that_no_array_can_have_is_refused(datatype: str) -> None:
    shape = [1, 0, 2**62, 8]
    for read in (lambda: binary.from_bytes(memoryview(b""), datatype, shape, "x"), lambda: tensors.from_json(b"[]", datatype, shape, "x")):
        with pytest.raises(BadRequest, match=r"^x: "):
            read()


@given(st.binary(max_size=5000), st.sampled_from([b"gzip", b"deflate"]))
def test_compression_survives(data: bytes, encoding: bytes) -> None:
    packed, name = bodies.pack(data, b"br;q=1, " + encoding)
    assert name == (encoding if len(data) >= bodies.COMPRESS_FROM_BYTES else b"")
    assert bodies.unpack(packed, name, 5000, "the endpoint's") == data


def test_an_encoding_that_is_refused_is_not_used() -> None:
    assert bodies.pack(bytes(5000), b"gzip;q=0, identity") == (bytes(5000), b"")


def test_ids_sort_by_time_and_are_uuid7() -> None:
    from uuid import UUID

    maker = ids.IdMaker()
    first_us = 1_790_000_000_000_000
    made = [maker.make(first_us + 400 * number) for number in range(3000)]
    assert len(set(made)) == 3000
    assert [int.from_bytes(identifier[:6], "big") for identifier in made] == [(first_us + 400 * number) // 1000 for number in range(3000)]
    for identifier in made:
        assert (UUID(bytes=identifier).version, UUID(bytes=identifier).variant) == (7, "specified in RFC 4122")
        assert ids.text_of(identifier) == str(UUID(bytes=identifier)).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["input", "FP32", "prediction"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "rows", "a", "b", "c"]), inner, max_size=5
        )
    ),
    max_leaves=15,
)
VALUE = st.one_of(JSON, st.just("input"), st.just([1, 3]), st.just("FP32"), st.just([1, 2, 3]), st.just({}))
TENSOR = st.fixed_dictionaries({"name": VALUE, "shape": VALUE, "datatype": VALUE, "data": VALUE})
BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"inputs": st.lists(TENSOR, max_size=2)}, optional={"id": VALUE, "parameters": VALUE, "outputs": VALUE}).map(
        lambda value: json.dumps(value).encode()
    ),
    st.fixed_dictionaries({"rows": st.lists(st.fixed_dictionaries({"a": VALUE, "b": VALUE, "c": VALUE}), max_size=2)}).map(
        lambda value: json.dumps(value).encode()
    ),
)


@pytest.mark.parametrize("form", ["infer", "predict", "invocations"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, length=st.none() | st.integers(-1, 80), encoding=st.sampled_from(["", "", "", "gzip", "br"]))
def test_no_body_gets_a_5xx(standing: Plane, form: str, body: bytes, length: int | None, encoding: str) -> None:
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    if encoding:
        headers["Content-Encoding"] = encoding
    answer: httpx.Response = standing.client.post(f"/v2/models/sum/{form}", content=body, headers=headers)
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"]
