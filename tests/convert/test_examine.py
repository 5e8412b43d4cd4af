"""Real models from file to verdict: what converts, what the signature says, what is refused with advice."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import joblib
import msgspec
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skops.io
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, IsolationForest, RandomForestClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from monitoring.profile import columns_of
from registry.signature import Kind, Layout, Signature
from tests.convert.conftest import Examination

Examine = Callable[..., Examination]
ROWS = 300
random = np.random.default_rng(7)
PEOPLE = pd.DataFrame(
    {
        "age": random.integers(18, 80, ROWS),
        "income": np.where(random.random(ROWS) < 0.1, np.nan, random.normal(50_000, 9_000, ROWS)),
        "city": random.choice(np.array(["Ulm", "Köln", "Bonn", None], dtype=object), ROWS),
        "hours per week": random.integers(1, 60, ROWS),
        "vip": random.random(ROWS) < 0.3,
    }
)
CHURN = np.where((PEOPLE["age"] > 50) | (PEOPLE["city"] == "Ulm"), "yes", "no")
NUMBERS = pd.DataFrame(random.normal(size=(ROWS, 4)), columns=["a", "b", "c", "d"])
CLASSES = (NUMBERS["a"] > 0).astype(int).to_numpy()


def dumped(model: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    joblib.dump(model, sink, **options)
    return sink.getvalue()


def csv(frame: pd.DataFrame) -> bytes:
    return bytes(frame.to_csv(index=False), "utf-8")


def mixed_pipeline(model: Any) -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return make_pipeline(make_column_transformer((numbers, ["age", "income"]), (texts, ["city"]), remainder="passthrough"), model)


def test_a_pipeline_of_texts_and_missing_values_becomes_columns_and_agrees_on_every_row(examined: Examine) -> None:
    model = mixed_pipeline(RandomForestClassifier(20, random_state=0)).fit(PEOPLE, CHURN)
    found = examined(dumped(model), sample=csv(PEOPLE.assign(churn=CHURN)))
    assert found.states == {"format": "passed", "signature": "passed", "converted": "passed", "agreement": "passed", "speed": "passed"}
    assert "left out churn" in found.texts["signature"]
    assert found.texts["agreement"].startswith("answers agree 300 of 300")
    signature = found.result.signature
    assert signature is not None
    assert signature.layout is Layout.COLUMNS
    assert [tensor.name for tensor in signature.inputs] == list(PEOPLE.columns)
    assert [feature.kind for feature in signature.features] == [Kind.INTEGER, Kind.NUMBER, Kind.TEXT, Kind.INTEGER, Kind.BOOLEAN]
    assert [feature.missing for feature in signature.features] == [False, True, True, False, False]
    assert signature.features[2].categories == ("Bonn", "Köln", "Ulm")
    assert (signature.features[0].minimum, signature.features[0].maximum) == (PEOPLE["age"].min(), PEOPLE["age"].max())
    assert [feature.example for feature in signature.features[:3]] == [PEOPLE["age"][0], PEOPLE["income"].dropna().iloc[0], PEOPLE["city"].dropna().iloc[0]]
    assert signature.labels == ("no", "yes")
    assert [(tensor.name, tensor.datatype) for tensor in signature.outputs] == [("label", "BYTES"), ("probabilities", "FP32")]
    reference = found.result.reference
    assert reference is not None
    assert reference.num_rows == ROWS
    assert reference.column("in.city").null_count == int(PEOPLE["city"].isna().sum())
    assert reference.column("out.label").to_pylist() == list(model.predict(PEOPLE))
    assert msgspec.json.decode(msgspec.json.encode(signature), type=Signature) == signature


def test_a_missing_text_is_the_empty_string_to_the_build(examined: Examine) -> None:
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="drop")
    model = make_pipeline(encode, LogisticRegression()).fit(PEOPLE[["city"]], CHURN)
    found = examined(dumped(model), sample=csv(PEOPLE[["city"]].assign(row=1)))
    assert found.result.onnx is not None
    build = onnxruntime.InferenceSession(found.result.onnx)
    given = build.run(["probabilities"], {"city": np.array([[""], ["Ulm"]], dtype=object)})[0]
    wanted = model.predict_proba(pd.DataFrame({"city": np.array([np.nan, "Ulm"], dtype=object)}))
    np.testing.assert_allclose(given, wanted, atol=1e-6)


def test_a_model_without_a_sample_is_compared_on_rows_that_are_made_up(examined: Examine) -> None:
    model = RandomForestClassifier(10, random_state=0).fit(NUMBERS.to_numpy(), CLASSES)
    found = examined(skops.io.dumps(model))
    assert found.result.verdict == "servable", found.result.reason
    assert found.result.format == "skops"
    assert found.result.signature is not None
    assert [feature.name for feature in found.result.signature.features] == ["x0", "x1", "x2", "x3"]
    assert found.texts["agreement"].startswith("answers agree 256 of 256")
    assert found.result.reference is None


MODELS: dict[str, tuple[Any, str, Callable[[Any], bytes]]] = {
    "logistic regression, by joblib": (LogisticRegression(), "classification", dumped),
    "linear regression, by pickle 2": (LinearRegression(), "regression", lambda model: pickle.dumps(model, protocol=2)),
    "scaled forest, by joblib with zlib": (
        make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)),
        "classification",
        lambda model: dumped(model, compress=3),
    ),
    "gradient boosting classifier, by joblib with xz": (
        HistGradientBoostingClassifier(max_iter=10),
        "classification",
        lambda model: dumped(model, compress=("xz", 3)),
    ),
    "gradient boosting regressor, by pickle 5": (HistGradientBoostingRegressor(max_iter=10), "regression", pickle.dumps),
    "isolation forest, by skops": (IsolationForest(n_estimators=20, random_state=0), "outliers", skops.io.dumps),
    "soft vote, by pickle 4": (
        VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(5, random_state=0))], voting="soft"),
        "classification",
        lambda model: pickle.dumps(model, protocol=4),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_numeric_models_become_a_matrix_and_agree_from_each_way_of_saving_them(examined: Examine, name: str) -> None:
    model, task, dump = MODELS[name]
    frame = NUMBERS.copy()
    if "gradient" in name:
        frame.loc[::9, "b"] = np.nan
    found = examined(dump(model.fit(frame, CLASSES)), sample=csv(frame))
    assert found.result.verdict == "servable", found.result.reason
    assert found.result.format == ("skops" if "skops" in name else "pickle")
    assert found.texts["agreement"].startswith("answers agree 300 of 300")
    signature = found.result.signature
    assert signature is not None
    assert (signature.layout, signature.task) == (Layout.MATRIX, task)
    names = {"classification": ["label", "probabilities"], "regression": ["prediction"], "outliers": ["label", "score"]}
    assert [tensor.name for tensor in signature.outputs] == names[task]


def test_boosting_over_ordinal_texts_agrees(examined: Examine) -> None:
    encode = make_column_transformer((OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["city"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=10)).fit(PEOPLE, CHURN)
    assert examined(dumped(model), sample=csv(PEOPLE)).texts["agreement"].startswith("answers agree 300 of 300")


def test_an_onnx_file_is_taken_with_the_names_of_the_sample(examined: Examine) -> None:
    model = LogisticRegression().fit(NUMBERS.to_numpy(), CLASSES)
    data = to_onnx(model, NUMBERS.to_numpy()[:1].astype(np.float32), options={"zipmap": False}, target_opset=17).SerializeToString()
    found = examined(data, sample=csv(NUMBERS))
    assert found.result.verdict == "servable", found.result.reason
    assert found.states["agreement"] == "skipped"
    assert found.result.signature is not None
    assert [feature.name for feature in found.result.signature.features] == list(NUMBERS.columns)
    assert found.result.signature.labels == ("0", "1")


@pytest.mark.parametrize(("classes", "labels", "datatype"), [(CLASSES + 3, ("3", "4"), "INT64"), (np.where(CLASSES, "yes", "no"), ("no", "yes"), "BYTES")])
def test_the_default_export_of_skl2onnx_is_taken_without_its_zip_map(examined: Examine, classes: Any, labels: tuple[str, ...], datatype: str) -> None:
    model = LogisticRegression().fit(NUMBERS.to_numpy(), classes)
    exported = to_onnx(model, NUMBERS.to_numpy()[:1].astype(np.float32))
    assert exported.graph.node[-1].op_type == "ZipMap"
    found = examined(exported.SerializeToString(), sample=csv(NUMBERS))
    assert found.result.verdict == "servable", found.result.reason
    assert found.texts["converted"].startswith("its ZipMap taken out so that the probabilities are one tensor, checked")
    signature = found.result.signature
    assert signature is not None
    assert (signature.task, signature.labels) == ("classification", labels)
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in signature.outputs] == [("label", datatype, (-1,)), ("probabilities", "FP32", (-1, 2))]
    assert found.result.onnx is not None
    assert b"ZipMap" not in found.result.onnx
    given = onnxruntime.InferenceSession(found.result.onnx).run(None, {"X": NUMBERS.to_numpy().astype(np.float32)})
    assert list(given[0]) == list(model.predict(NUMBERS.to_numpy()))
    np.testing.assert_allclose(given[1], model.predict_proba(NUMBERS.to_numpy()), atol=1e-5)
    assert found.result.reference is not None
    assert found.result.reference.num_rows == ROWS


def test_a_model_without_an_onnx_form_is_kept_but_not_servable(examined: Examine) -> None:
    model = LocalOutlierFactor(novelty=True).fit(NUMBERS, CLASSES)
    found = examined(dumped(model), sample=csv(NUMBERS))
    assert found.result.verdict == "not_servable"
    assert "LocalOutlierFactor" in found.result.reason
    assert found.states["converted"] == "failed"
    assert found.result.advice


def test_a_sample_without_a_column_of_the_model_is_refused_by_name(examined: Examine) -> None:
    found = examined(dumped(LogisticRegression().fit(NUMBERS, CLASSES)), sample=csv(NUMBERS.drop(columns="c")))
    assert found.result.verdict == "refused"
    assert found.result.reason == "The sample lacks c, which the model was trained on."
    assert found.states["signature"] == "failed"


def test_a_sample_in_parquet_or_json_says_the_same(examined: Examine) -> None:
    model = to_onnx(LogisticRegression().fit(NUMBERS.to_numpy(), CLASSES), NUMBERS.to_numpy()[:1].astype(np.float32)).SerializeToString()
    sink = io.BytesIO()
    NUMBERS.to_parquet(sink)
    signatures = [examined(model, sample=data).result.signature for data in (sink.getvalue(), NUMBERS.to_json(orient="records", double_precision=15).encode())]
    assert signatures[0] is not None
    assert signatures[1] is not None
    assert [feature.name for feature in signatures[0].features] == [feature.name for feature in signatures[1].features]


@pytest.mark.parametrize("classes", [2, 3])
def test_an_onnx_file_that_gives_decision_scores_calls_them_scores(examined: Examine, classes: int) -> None:
    truth = np.digitize(NUMBERS["a"], np.linspace(-0.5, 0.5, classes - 1))
    model = SVC().fit(NUMBERS.to_numpy(), truth)
    exported = to_onnx(model, NUMBERS.to_numpy(np.float32)[:1], options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3})
    found = examined(exported.SerializeToString(), sample=csv(NUMBERS))
    assert found.result.verdict == "servable", found.result.reason
    assert found.result.signature is not None
    assert [tensor.name for tensor in found.result.signature.outputs] == ["label", "scores"]
    assert found.result.signature.labels == tuple("012")[:classes]
    assert found.result.reference is not None
    assert ("out.score" if classes == 2 else "out.highest_score") in dict(columns_of(found.result.reference))


def test_an_onnx_file_that_gives_probabilities_keeps_their_name(examined: Examine) -> None:
    model = LogisticRegression().fit(NUMBERS.to_numpy(), CLASSES)
    exported = to_onnx(model, NUMBERS.to_numpy(np.float32)[:1], options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3})
    found = examined(exported.SerializeToString())
    assert found.result.signature is not None
    assert [tensor.name for tensor in found.result.signature.outputs] == ["label", "probabilities"]


def test_prose_in_a_column_of_text_is_no_category(examined: Examine) -> None:
    people = PEOPLE.assign(city=np.where(PEOPLE["age"] > 50, "Ulm " * 400, "Bonn"))
    model = mixed_pipeline(RandomForestClassifier(5, random_state=0)).fit(people, CHURN)
    found = examined(dumped(model), sample=csv(people))
    assert found.result.verdict == "servable", found.result.reason
    assert found.result.signature is not None
    assert found.result.signature.features[2].categories is None


def test_a_column_with_a_name_that_is_too_long_is_refused_by_name(examined: Examine) -> None:
    frame = NUMBERS.rename(columns={"a": "a" * 101})
    found = examined(dumped(LogisticRegression().fit(frame, CLASSES)), sample=csv(frame))
    assert (found.result.verdict, found.result.onnx) == ("refused", None)
    assert "is longer than 100 characters" in found.result.reason


def saved_by(version: str, model: Any) -> bytes:
    """Save a model as another scikit-learn would have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.base.__version__", version)
        return pickle.dumps(model)


def test_a_model_that_an_older_version_saved_is_served_with_a_warning(examined: Examine) -> None:
    found = examined(saved_by("1.2.2", LogisticRegression().fit(NUMBERS, CLASSES)), sample=csv(NUMBERS))
    assert found.result.verdict == "servable", found.result.reason
    assert "saved by scikit-learn 1.2.2 and read by" in found.texts["signature"]
    assert "the agreement cannot tell" in found.texts["signature"]
    assert found.result.report["saved_with"] == "1.2.2"


def test_a_model_that_a_newer_version_saved_is_kept_but_not_servable(examined: Examine) -> None:
    found = examined(saved_by("99.1.0", LogisticRegression().fit(NUMBERS, CLASSES)), sample=csv(NUMBERS))
    assert (found.result.verdict, found.result.onnx) == ("not_servable", None)
    assert "saved by scikit-learn 99.1.0" in found.result.reason


@pytest.mark.parametrize(("model", "truth"), [(LogisticRegression(), CLASSES), (LinearRegression(), NUMBERS["b"] * 3)])
def test_expected_answers_of_training_are_compared_with_those_given_here(examined: Examine, model: Any, truth: Any) -> None:
    fitted = model.fit(NUMBERS.to_numpy(), truth)
    answers = fitted.predict(NUMBERS.to_numpy())
    same = examined(saved_by("1.2.2", fitted), sample=csv(NUMBERS.assign(expected=answers)[["expected", *NUMBERS]]))
    assert same.result.verdict == "servable", same.result.reason
    assert "300 expected answers came out the same" in same.texts["signature"]
    assert same.result.signature is not None
    assert [feature.name for feature in same.result.signature.features] == list(NUMBERS)
    other = examined(saved_by("1.2.2", fitted), sample=csv(NUMBERS.assign(expected=np.where(np.arange(ROWS) < 30, answers + 1, answers))))
    assert (other.result.verdict, other.result.onnx) == ("not_servable", None)
    assert "the expected answer for 270 of 300 rows only. It was saved by scikit-learn 1.2.2." in other.result.reason


def test_a_model_of_the_version_here_has_no_warning(examined: Examine) -> None:
    found = examined(pickle.dumps(LogisticRegression().fit(NUMBERS, CLASSES)), sample=csv(NUMBERS))
    assert (found.result.report["saved_with"], "saved by" in found.texts["signature"]) == ("", False)


@pytest.mark.parametrize("kind", [LinearSVC, RidgeClassifier, SVC])
def test_a_classifier_without_probabilities_answers_its_label(examined: Examine, kind: Any) -> None:
    found = examined(dumped(kind().fit(NUMBERS, CLASSES)), sample=csv(NUMBERS))
    assert found.result.verdict == "servable", found.result.reason
    assert found.result.signature is not None
    assert [tensor.name for tensor in found.result.signature.outputs] == ["label"]
    assert found.texts["agreement"].startswith("answers agree 300 of 300")
