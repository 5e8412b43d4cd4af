"""Missing values over the protocol: filled in where the policy says replace, refused everywhere else."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from tests.dataplane.conftest import HEADERS, Plane

CUSTOMER = {"age": ("INT64", 50), "member": ("BOOL", False), "weight": ("FP32", 50.5), "plan": ("BYTES", "gold"), "note": ("BYTES", "tall")}
TYPICAL = {"age": 40, "member": True, "weight": 70.5, "plan": "free"}


def customer(*missing: str, nested: bool = False) -> dict[str, Any]:
    """A request of two customers, of whom the second lacks what is named."""
    inputs = []
    for name, (datatype, value) in CUSTOMER.items():
        data: list[Any] = [value, None if name in missing else value]
        inputs.append({"name": name, "shape": [2, 1], "datatype": datatype, "data": [[each] for each in data] if nested else data})
    return {"inputs": inputs}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("missing", [("age",), ("member",), ("weight",), ("plan",), tuple(TYPICAL)])
def test_null_is_filled_in_by_the_policy_replace_alone(standing: Plane, missing: tuple[str, ...], nested: bool) -> None:
    body = customer(*missing, nested=nested)
    filled = standing.client.post("/v2/models/filled/infer", json=body)
    assert filled.status_code == 200, filled.text
    outputs = {output["name"].removeprefix("out_"): output["data"] for output in filled.json()["outputs"]}
    assert outputs == {name: [value, TYPICAL[name] if name in missing else value] for name, (_, value) in CUSTOMER.items()}
    refused = standing.client.post("/v2/models/customers/infer", json=body)
    assert (refused.status_code, any(f"'{name}'" in refused.json()["error"] for name in missing)) == (400, True)


@pytest.mark.parametrize(
    ("text", "endpoint", "tensor"),
    [
        ("Input 'note', row 1: the text is missing", "filled", customer("note")["inputs"]),
        ("Input 'input', row 0, feature 'b': nan is refused: a number is missing", "filled-counts", [("INT64", [1, 2], [1, None])]),
        ("row 0, column 1 takes a whole number or null, not a fraction.", "filled-counts", [("INT64", [1, 2], [None, 1.5])]),
        ("Input 'age' of model 'customers', row 1 takes a whole number, not null. The endpoint's policy", "customers", customer("age")["inputs"]),
        ("a value does not fit INT64", "filled-counts", [("INT64", [1, 2], [None, 2**64])]),
        ("Input 'input', row 1, feature 'c': nan is refused: a number is missing", "filled-matrix", [("FP32", [2, 3], [1, None, 2, 1, 1, None])]),
    ],
)
def test_null_that_nothing_fills_in_is_refused(standing: Plane, text: str, endpoint: str, tensor: Any) -> None:
    inputs = [{"name": "input", "datatype": each[0], "shape": each[1], "data": each[2]} if isinstance(each, tuple) else each for each in tensor]
    answer = standing.client.post(f"/v2/models/{endpoint}/infer", json={"inputs": inputs})
    assert answer.status_code == 400
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("endpoint", "tensors", "row"),
    [
        ("customers", customer("note")["inputs"], {name: value for name, (_, value) in CUSTOMER.items()} | {"note": None}),
        ("counts", [{"name": "input", "datatype": "INT64", "shape": [1, 2], "data": [1, None]}], {"a": 1, "b": None}),
        ("whole", [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, None, 2]}], {"a": 1, "b": None, "c": 2}),
    ],
)
def test_no_policy_is_spoken_of_where_there_is_no_typical_value(standing: Plane, endpoint: str, tensors: Any, row: Any) -> None:
    for verb, body in (("infer", {"inputs": tensors}), ("predict", {"rows": [row]})):
        answer = standing.client.post(f"/v2/models/{endpoint}/{verb}", json=body)
        assert answer.status_code == 400
        assert ("null" in answer.json()["error"], "policy" in answer.json()["error"]) == (True, False), answer.text


def test_nan_in_binary_is_filled_in(standing: Plane) -> None:
    matrix = np.array([[1, np.nan, 0], [1, 2, 0]], np.float32)
    head = json.dumps({"inputs": [{"name": "input", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": 24}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = standing.client.post("/v2/models/filled-matrix/infer", content=head + matrix.tobytes(), headers=headers)
    assert answer.json()["outputs"][0]["data"] == [51.0, 21.0]
    matrix[1, 2] = np.nan
    refused = standing.client.post("/v2/models/filled-matrix/infer", content=head + matrix.tobytes(), headers=headers)
    assert (refused.status_code, "row 1, feature 'c': nan is refused" in refused.json()["error"]) == (400, True)


def test_a_call_with_gaps_does_not_touch_the_others_of_its_batch(standing: Plane) -> None:
    """They run together: as floats the large numbers of the others would lose their last digits."""
    large = 2**60 + 1
    whole = {"age": large, "member": False, "weight": 50.5, "plan": "gold", "note": "tall"}
    expected = [(whole, (200, large)), (whole | {"age": None}, (200, 40)), (whole | {"age": None, "note": None}, (400, None))] * 40

    def ask(row: dict[str, Any]) -> tuple[int, int | None]:
        answer = httpx.post(f"{standing.url}/v2/models/filled/predict", json={"rows": [row]}, headers=HEADERS)
        return answer.status_code, answer.json()["predictions"][0]["out_age"] if answer.status_code == 200 else None

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(ask, [row for row, _ in expected])) == [found for _, found in expected]
