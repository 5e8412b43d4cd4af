"""What people usually put into a model: each converts, and answers as the original does, also rows that training never saw."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingClassifier, HistGradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from registry.convert import agreement, original, sample
from registry.convert.check import Examined
from tests.convert.conftest import Examination

Examine = Callable[..., Examination]
ROWS = 300
random = np.random.default_rng(11)
ROWS_OF_TRAINING = pd.DataFrame(
    {
        "town": random.choice(np.array([*"aaaabbbbccdefgh", None], dtype=object), ROWS),
        "age": random.integers(18, 80, ROWS).astype(float),
        "shop": random.integers(0, 40, ROWS),
        "income": np.where(random.random(ROWS) < 0.2, np.nan, random.normal(50.0, 9.0, ROWS)),
    }
)
OTHER_ROWS = pd.DataFrame(
    {
        "town": random.choice(np.array(["a", "e", "Oz", None], dtype=object), ROWS),
        "age": np.where(random.random(ROWS) < 0.2, np.nan, random.integers(18, 80, ROWS)),
        "shop": random.choice([3, 17, 99, -1], ROWS),
        "income": np.where(random.random(ROWS) < 0.2, np.nan, random.normal(50.0, 9.0, ROWS)),
    }
)
NUMBERS = ["age", "shop", "income"]
ANSWERS = np.where((ROWS_OF_TRAINING["age"] > 50) ^ ROWS_OF_TRAINING["town"].isin(list("ach")), "yes", "no")
POSITIVE = ROWS_OF_TRAINING["age"] + 1


def by_joblib(model: Any) -> bytes:
    sink = io.BytesIO()
    joblib.dump(model, sink)
    return sink.getvalue()


def category(*names: str) -> pd.DataFrame:
    return ROWS_OF_TRAINING.astype(dict.fromkeys(names, "category"))


def over_towns(encoder: Any, model: Any) -> Any:
    """Fit a pipeline that encodes the town and fills the gaps of the rest."""
    columns = make_column_transformer((encoder, ["town"]), (SimpleImputer(), NUMBERS))
    return make_pipeline(columns, model).fit(ROWS_OF_TRAINING, ANSWERS)


def over_numbers(*steps: Any, truth: Any = ANSWERS) -> Any:
    return make_pipeline(*steps).fit(ROWS_OF_TRAINING[NUMBERS], truth)


UNKNOWN = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
USUAL: dict[str, Callable[[], Any]] = {
    "columns chosen by their type": lambda: make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include=np.number)),
            (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude=[np.number, "category"])),
        ),
        LogisticRegression(),
    ).fit(ROWS_OF_TRAINING, ANSWERS),
    "search by a named score": lambda: GridSearchCV(
        over_numbers(SimpleImputer(), LogisticRegression()), {"simpleimputer__strategy": ["mean"]}, scoring="roc_auc"
    ).fit(ROWS_OF_TRAINING[NUMBERS], ANSWERS == "yes"),
    "tree over gaps": lambda: over_numbers(DecisionTreeClassifier(max_depth=6)),
    "forest over gaps": lambda: over_numbers(RandomForestClassifier(9, random_state=0)),
    "extra trees over gaps": lambda: over_numbers(ExtraTreesRegressor(5, random_state=0), truth=POSITIVE),
    "isolation forest over gaps": lambda: IsolationForest(n_estimators=5, random_state=0).fit(ROWS_OF_TRAINING[NUMBERS]),
    "one-hot with infrequent categories": lambda: over_towns(
        OneHotEncoder(min_frequency=30, handle_unknown="infrequent_if_exist", drop="first"), LogisticRegression()
    ),
    "one-hot with few categories": lambda: over_towns(OneHotEncoder(max_categories=3, handle_unknown="ignore", sparse_output=False), LogisticRegression()),
    "one-hot of fractions": lambda: over_numbers(
        FunctionTransformer(np.floor), OneHotEncoder(min_frequency=0.05, handle_unknown="ignore"), LogisticRegression()
    ),
    "ordinals with infrequent categories": lambda: over_towns(OrdinalEncoder(min_frequency=30, encoded_missing_value=-2, **UNKNOWN), RandomForestClassifier(5)),
    "imputer with indicator": lambda: over_numbers(SimpleImputer(add_indicator=True), LogisticRegression()),
    "logarithm": lambda: over_numbers(SimpleImputer(), FunctionTransformer(np.abs), FunctionTransformer(np.log1p), LogisticRegression()),
    "square root of a column": lambda: make_pipeline(
        make_column_transformer((make_pipeline(SimpleImputer(), FunctionTransformer(np.sqrt)), ["age"]), (OneHotEncoder(handle_unknown="ignore"), ["town"])),
        RandomForestClassifier(5),
    ).fit(ROWS_OF_TRAINING, ANSWERS),
    "boosting of counts": lambda: over_numbers(HistGradientBoostingRegressor(loss="poisson", max_iter=20), truth=POSITIVE),
    "boosting of amounts": lambda: over_numbers(HistGradientBoostingRegressor(loss="gamma", max_iter=20), truth=POSITIVE),
    "boosting over pandas categories": lambda: HistGradientBoostingClassifier(max_iter=20).fit(category("town", "shop"), ANSWERS),
    "boosting over one category": lambda: HistGradientBoostingClassifier(max_iter=20).fit(category("town")[["town"]], ANSWERS),
    "boosting over a column by number": lambda: HistGradientBoostingRegressor(max_iter=20, categorical_features=[1], loss="poisson").fit(
        ROWS_OF_TRAINING[NUMBERS].to_numpy(), POSITIVE
    ),
    "boosting over ordinals as categories": lambda: make_pipeline(
        make_column_transformer((OrdinalEncoder(**UNKNOWN), ["town"]), remainder="passthrough"),
        HistGradientBoostingClassifier(max_iter=20, categorical_features=[0]),
    ).fit(ROWS_OF_TRAINING, ANSWERS),
    "calibrated boosting over categories": lambda: CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=5, categorical_features=[1]), cv=2).fit(
        ROWS_OF_TRAINING[NUMBERS].to_numpy(), ANSWERS
    ),
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_pipelines_agree_on_the_sample_and_on_rows_that_training_never_saw(examined: Examine, name: str) -> None:
    model = USUAL[name]()
    columns = list(getattr(model, "feature_names_in_", NUMBERS))
    dump = by_joblib if list(USUAL).index(name) % 2 else skops.io.dumps
    found = examined(dump(model), sample=ROWS_OF_TRAINING[columns].to_csv(index=False).encode())
    assert found.result.verdict == "servable", found.result.reason
    assert found.texts["agreement"].startswith("answers agree 300 of 300")
    assert agreeing_on(found.result, model, OTHER_ROWS[columns]) == ROWS


def test_a_child_needs_nothing_from_the_folder_of_the_code(examined: Examine, own_template: Callable[[str], Path]) -> None:
    """Below root's own folder the template may read the packages, and nobody, whom its children become, may not."""
    own_template("""
        import importlib, sysconfig
        from registry.convert import confine
        importlib.reload(warm)
        everything, readable = warm.up, confine.readable_paths
        closed = [Path(sys.argv[1]), Path(sysconfig.get_path("purelib"))]
        def up():
            everything()
            confine.readable_paths = lambda code: [path for path in readable(code) if not any(path.is_relative_to(folder) for folder in closed)]
        warm.up, do = up, jobs.do
    """)
    for name in list(USUAL)[::3]:
        model = USUAL[name]()
        columns = list(getattr(model, "feature_names_in_", NUMBERS))
        saved_by_numpy_1 = pickle.dumps(model, 2).replace(b"cnumpy._core.", b"cnumpy.core.")
        for data in (skops.io.dumps(model), saved_by_numpy_1):
            found = examined(data, sample=ROWS_OF_TRAINING[columns].to_csv(index=False).encode())
            assert found.result.verdict == "servable", f"{name}: {found.result.reason}"


def agreeing_on(examined: Examined, model: Any, rows: pd.DataFrame) -> int:
    """Count the rows to which the build gives the original's answer."""
    assert examined.signature is not None
    assert examined.onnx is not None
    read = sample.parse(rows.to_csv(index=False).encode(), max_rows=ROWS)
    typed = {feature.name: sample.column_as(column, feature.kind) for feature, column in zip(examined.signature.features, read.values(), strict=True)}
    session = onnxruntime.InferenceSession(examined.onnx)
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(names, sample.tensors(examined.signature, typed)), strict=True))
    task = examined.signature.task
    wanted = original.answers(getattr(model, "best_estimator_", model), original.rows_for(model, typed, ROWS), task)
    return agreement.compare(wanted, answers).agreeing


NOT_SERVABLE = {
    "a function that ONNX lacks": (lambda: over_numbers(SimpleImputer(), FunctionTransformer(np.cbrt), LogisticRegression()), "FunctionTransformer calls cbrt"),
    "a function with arguments": (
        lambda: over_numbers(SimpleImputer(), FunctionTransformer(np.log1p, kw_args={"casting": "same_kind"}), LogisticRegression()),
        "FunctionTransformer calls log1p with arguments of its own",
    ),
    "an indicator beside texts": (
        lambda: make_pipeline(
            make_column_transformer(
                (make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), OneHotEncoder(handle_unknown="ignore")), ["town"])
            ),
            LogisticRegression(),
        ).fit(ROWS_OF_TRAINING, ANSWERS),
        "SimpleImputer with add_indicator over texts",
    ),
}


@pytest.mark.parametrize("name", NOT_SERVABLE)
def test_a_good_model_with_a_step_that_onnx_lacks_is_kept_with_the_reason(examined: Examine, name: str) -> None:
    make, reason = NOT_SERVABLE[name]
    model = make()
    found = examined(by_joblib(model), sample=ROWS_OF_TRAINING[list(model.feature_names_in_)].to_csv(index=False).encode())
    assert found.result.verdict == "not_servable"
    assert found.result.reason.startswith(reason)
    assert found.result.advice
