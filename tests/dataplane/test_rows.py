"""Named rows, MLflow's forms, and what the policies make of values outside the signature."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving.dataplane.spec import Spec
from serving.dataplane.validate import Checks
from serving.table import ValidationPolicy
from tests.dataplane.conftest import Plane


def predict(plane: Plane, rows: Any, endpoint: str = "churn", **more: Any) -> httpx.Response:
    return plane.client.post(f"/v2/models/{endpoint}/predict", json={"rows": rows} | more)


def test_answers_named_rows_with_labels_and_probabilities(standing: Plane) -> None:
    answer = predict(standing, [{"age": 41, "plan": "gold"}, {"plan": "free"}], id="mine")
    document = answer.json()
    assert document.pop("prediction_id") == answer.headers["signalbox-prediction-id"]
    assert document == {
        "endpoint": "churn",
        "model": "churn",
        "version": 1,
        "slot": "blue",
        "predictions": [
            {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "echo": "gold"},
            {"label": "no", "probabilities": {"no": 0.75, "yes": 0.25}, "echo": "free"},
        ],
        "id": "mine",
    }


def test_answers_a_regression_with_a_number(standing: Plane) -> None:
    assert predict(standing, [{"c": 3, "b": 2, "a": 1}], "sum").json()["predictions"] == [{"prediction": 321.0}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("There are no rows", []),
        ("Row 1: the feature 'plan' is missing. The features are age, plan.", [{"plan": "free"}, {"age": 1}]),
        ("Row 0: there is no feature 'colour'. The features are age, plan.", [{"plan": "free", "colour": "red"}]),
        ("Row 0, feature 'age' takes a number or null, not a text.", [{"plan": "free", "age": "40"}]),
        ("Row 0, feature 'plan' takes a text, not null. The endpoint's policy for missing values can replace it.", [{"plan": None}]),
        ("Row 0, feature 'plan' takes a text, not a whole number.", [{"plan": 1}]),
        ("Row 1 takes an object, not an array. The features are age, plan.", [{"plan": "free"}, []]),
    ],
)
def test_refuses_rows_by_row_and_feature(standing: Plane, text: str, rows: Any) -> None:
    answer = predict(standing, rows)
    assert answer.status_code == 400
    assert text in answer.json()["error"]


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("comes twice", b'{"rows":[{"plan":"free","plan":"gold"}]}'),
        ("comes twice", b'{"rows":[{"age":1,"plan":"free"}],"rows":[{"age":1,"plan":"free"}]}'),
        ("not a valid request: there is no field `row`.", b'{"row":[]}'),
        ("not a valid request: the field `rows` is missing.", b"{}"),
        ("not valid JSON", b"{"),
        ("not UTF-8", b'{"rows":[{"plan":"\xff"}]}'),
    ],
)
def test_refuses_bodies_that_are_no_rows(standing: Plane, text: str, body: bytes) -> None:
    answer = standing.client.post("/v2/models/churn/predict", content=body)
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_a_colon_in_a_text_is_no_second_key(standing: Plane) -> None:
    assert predict(standing, [{"plan": "a:b:c"}]).json()["predictions"][0]["echo"] == "a:b:c"


def test_a_model_without_named_features_says_so(standing: Plane) -> None:
    assert "has no named features" in predict(standing, [{}], "echo").json()["error"]


@pytest.mark.parametrize(
    ("status", "rows"),
    [(400, [{"age": 121, "plan": "free"}]), (400, [{"age": 1, "plan": "silver"}]), (200, [{"age": 120, "plan": "gold"}]), (200, [{"plan": "gold"}])],
)
def test_the_policy_refuse_takes_only_what_the_sample_had(standing: Plane, status: int, rows: Any) -> None:
    answer = predict(standing, rows, "strict")
    assert answer.status_code == status
    if status == 400:
        assert any(text in answer.json()["error"] for text in ("outside the bounds 0 to 120", "the categories are free, gold"))


def test_clip_and_replace_change_what_is_run(standing: Plane) -> None:
    assert predict(standing, [{"a": 99, "b": 99, "c": 0}, {"a": -1, "b": 1, "c": 0}], "clipped").json()["predictions"] == [
        {"prediction": 9 + 50.0},
        {"prediction": 10.0},
    ]
    assert "row 0, feature 'c': 99.0 is refused: outside the bounds 0 to 9" in predict(standing, [{"a": 1, "b": 1, "c": 99}], "clipped").json()["error"]


CUSTOMER = {"age": 2**60 + 1, "member": False, "weight": 50.5, "plan": "gold", "note": "tall"}
FILLED = {"age": 40, "member": True, "weight": 70.5, "plan": "free"}


def _given_back(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [{name.removeprefix("out_"): value for name, value in row.items()} for row in answer.json()["predictions"]]


@pytest.mark.parametrize("feature", FILLED)
def test_replace_fills_in_what_is_missing_of_every_kind(standing: Plane, feature: str) -> None:
    rows = [CUSTOMER, CUSTOMER | {feature: None}]
    assert _given_back(predict(standing, rows, "filled")) == [CUSTOMER, CUSTOMER | {feature: FILLED[feature]}]
    assert _given_back(predict(standing, [CUSTOMER | dict.fromkeys(FILLED)], "filled")) == [CUSTOMER | FILLED]


@pytest.mark.parametrize("feature", FILLED)
def test_without_replace_what_is_missing_is_refused(standing: Plane, feature: str) -> None:
    answer = predict(standing, [CUSTOMER, CUSTOMER | {feature: None}], "customers")
    assert (answer.status_code, answer.json()["error"].startswith(f"Row 1, feature '{feature}' takes ")) == (400, True)
    assert answer.json()["error"].endswith(", not null. The endpoint's policy for missing values can replace it.")


def test_replace_needs_a_typical_value_and_the_name(standing: Plane) -> None:
    no_value = predict(standing, [CUSTOMER | {"note": None}], "filled")
    assert (no_value.status_code, no_value.json()["error"]) == (400, "Input 'note', row 0: the text is missing (null), and the model takes none missing.")
    absent = predict(standing, [{name: value for name, value in CUSTOMER.items() if name != "age"}], "filled")
    assert (absent.status_code, "Row 0: the feature 'age' is missing" in absent.json()["error"]) == (400, True)


def test_replace_fills_in_matrices(standing: Plane) -> None:
    assert predict(standing, [{"a": 1, "b": None, "c": 0}, {"a": 1, "b": 2, "c": 0}], "filled-matrix").json()["predictions"] == [
        {"prediction": 51.0},
        {"prediction": 21.0},
    ]
    rows = [{"a": None, "b": 100}, {"a": 1, "b": 200}]
    assert predict(standing, rows, "filled-counts").json()["predictions"] == [{"prediction": 107}, {"prediction": 201}]
    for name, row in (("filled-matrix", {"a": None, "b": 1, "c": 0}), ("filled-counts", {"a": 1, "b": None})):
        assert ", not null. The endpoint's policy" in predict(standing, [row], name).json()["error"]
    assert "too large, which INT64 cannot hold" in predict(standing, [{"a": None, "b": 1}, {"a": 2**64, "b": 1}], "filled-counts").json()["error"]
    assert predict(standing, [{"a": None, "b": 1, "c": 0}], "filled-shadowed").json()["predictions"] == [{"prediction": 15.0}]


def test_replace_fills_in_csv(standing: Plane) -> None:
    text = "age,member,weight,plan,note\r\n,true,,,tall\r\n"
    answer = standing.client.post("/v2/models/filled/predict", content=text, headers={"Content-Type": "text/csv"})
    assert _given_back(answer) == [FILLED | {"note": "tall"}]


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_split": {"columns": ["plan", "age"], "data": [["free", 40], ["gold", None]]}},
        {"dataframe_records": [{"age": 40, "plan": "free"}, {"plan": "gold"}]},
        {"instances": [{"age": 40, "plan": "free"}, {"age": None, "plan": "gold"}]},
        {"instances": [[40, "free"], [None, "gold"]]},
        {"inputs": {"age": [40, None], "plan": ["free", "gold"]}},
    ],
)
def test_answers_the_forms_of_mlflow(standing: Plane, document: Any) -> None:
    assert standing.client.post("/v2/models/churn/invocations", json=document).json() == {"predictions": ["yes", "no"]}


def test_answers_csv(standing: Plane) -> None:
    answer = standing.client.post("/v2/models/churn/invocations", content="plan,age\r\nfree,40\r\ngold,\r\n", headers={"Content-Type": "text/csv"})
    assert answer.json() == {"predictions": ["yes", "no"]}


def test_answers_csv_with_labels_and_probabilities_at_predict(standing: Plane) -> None:
    rows = [{"age": 40, "plan": "free"}, {"age": None, "plan": "gold"}]
    answer = standing.client.post("/v2/models/churn/predict", content="plan,age\r\nfree,40\r\ngold,\r\n", headers={"Content-Type": "text/csv"})
    assert answer.json()["predictions"] == standing.client.post("/v2/models/churn/predict", json={"rows": rows}).json()["predictions"]
    wrong = standing.client.post("/v2/models/churn/predict", content="plan,age\r\nfree,old\r\n", headers={"Content-Type": "text/csv"})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "Row 0, feature 'age' takes a number or null, not a text.")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"instances":3}', b'{"inputs":{"age":[1,2],"plan":["a"]}}', b'{"dataframe_split":{"columns":["a","a"],"data":[]}}']
)
def test_refuses_what_is_no_form_of_mlflow(standing: Plane, body: bytes) -> None:
    answer = standing.client.post("/v2/models/churn/invocations", content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_a_sticky_key_keeps_its_slot_in_every_form(standing: Plane) -> None:
    slots = {}
    for number in range(40):
        key = f"customer {number}"
        row = {"a": 1, "b": 2, "c": 3}
        tensor = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
        answers = [
            predict(standing, [row], "split", sticky_key=key),
            standing.client.post("/v2/models/split/predict", json={"rows": [row]}, headers={"Signalbox-Sticky-Key": key}),
            standing.client.post("/v2/models/split/infer", json={"inputs": [tensor], "parameters": {"sticky_key": key}}),
            standing.client.post("/v2/models/split/infer", json={"inputs": [tensor], "id": key}),
        ]
        found = {answer.headers["signalbox-slot"] for answer in answers}
        assert len(found) == 1
        slots[key] = found.pop()
    assert 4 <= list(slots.values()).count("green") <= 22


def test_the_sticky_feature_keeps_a_caller_on_one_slot(standing: Plane) -> None:
    for value in (0, 1, 2.5, 7):
        tensor = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [value, 2, 3]}
        found = {predict(standing, [{"a": value, "b": other, "c": 1}], "by-feature").headers["signalbox-slot"] for other in range(4)}
        found.add(standing.client.post("/v2/models/by-feature/infer", json={"inputs": [tensor]}).headers["signalbox-slot"])
        assert len(found) == 1


def test_a_version_in_the_path_chooses_its_slot(standing: Plane) -> None:
    for version, slot, answer in (("1", "blue", 321.0), ("2", "green", 321.5)):
        document = standing.client.post(f"/v2/models/shadowed/versions/{version}/predict", content=json.dumps({"rows": [{"a": 1, "b": 2, "c": 3}]})).json()
        assert (document["slot"], document["predictions"]) == (slot, [{"prediction": answer}])


def test_a_shadow_never_answers(standing: Plane) -> None:
    found = {predict(standing, [{"a": 1, "b": 2, "c": 3}], "shadowed", sticky_key=str(number)).json()["version"] for number in range(30)}
    assert found == {1}


def test_a_name_that_json_escapes_is_a_name_like_any_other(standing: Plane) -> None:
    row = {'screen 15"': 1, "b": 2, "c\\d": 3}
    assert predict(standing, [row], "inches").json()["predictions"] == [{"prediction": 321.75}]
    invoked = standing.client.post("/v2/models/inches/invocations", json={"dataframe_records": [row]})
    assert invoked.json() == {"predictions": [321.75]}
    refused = {
        "Row 1, feature 'screen 15\"' takes a number, not a text.": [row, row | {'screen 15"': "x"}],
        "Row 0: the feature 'c\\d' is missing. The features are screen 15\", b, c\\d.": [{'screen 15"': 1, "b": 2}],
        "Row 0: there is no feature 'f0'. The features are screen 15\", b, c\\d.": [row | {"f0": 1}],
    }
    assert [predict(standing, rows, "inches").json()["error"] for rows in refused.values()] == list(refused)


def test_a_row_with_a_feature_left_out_is_answered_by_slots_of_both_types(standing: Plane) -> None:
    answers = [predict(standing, [{"b": 1, "c": 2}], "two-types", sticky_key=f"k{number}") for number in range(40)]
    assert {(answer.status_code, answer.json().get("slot")) for answer in answers} == {(200, "blue"), (200, "green")}


def test_a_clipped_number_changes_no_other_caller_s() -> None:
    features = (Feature(name="n", kind=Kind.INTEGER, maximum=2.0**53 + 10),)
    signature = Signature(layout=Layout.MATRIX, features=features, inputs=(Tensor("input", "INT64", (-1, 1)),), outputs=())
    checked, _ = Checks(Spec(signature), ValidationPolicy(default="clip")).apply({"input": np.array([[2**53 + 1], [2**60]])}, 2)
    assert checked["input"].tolist() == [[2**53 + 1], [2**53 + 10]]
