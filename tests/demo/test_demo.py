"""The demo: honest data, models of different quality, real requests, and nothing left when it is removed."""

from __future__ import annotations

import time
from itertools import product as each_of
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from config.cli.api import Address, Api
from config.cli.failures import Failure
from config.demo.install import install
from config.demo.models import Candidate, Line, lines
from config.demo.names import ENDPOINTS, MODELS
from config.demo.remove import remove_all
from config.demo.traffic import SHIFT_FACTOR, SHIFTED_FEATURES, Caller, Traffic
from monitoring import bins, profile
from monitoring.evaluate import judge_profile
from monitoring.models import Reference, Rule
from tests.journeys.wire import until
from tests.product import Product


@pytest.fixture(scope="module")
def trained() -> list[Line]:
    return lines()


def test_has_text_and_missing_values_and_versions_that_differ(trained: list[Line]) -> None:
    tumours, diabetes = trained
    assert diabetes.halves.send.select_dtypes("str").columns.tolist() == ["age_group", "sex"]
    assert diabetes.halves.send["glucose"].isna().sum() > 0
    assert len(set(tumours.halves.train.index) | set(tumours.halves.send.index)) == 285
    accuracies = [candidate.metrics["accuracy"] for candidate in tumours.candidates]
    assert accuracies[0] + 0.03 < accuracies[1]
    errors = [candidate.metrics["mae"] for candidate in diabetes.candidates]
    assert errors[1] * 1.1 < errors[0]


def test_the_shift_makes_the_texture_larger_and_leaves_the_rest(trained: list[Line]) -> None:
    caller = Caller.of(trained[0])
    for row, shifted in zip(caller.rows, caller.shifted, strict=True):
        changed = {name: shifted[name] / row[name] for name in row if shifted[name] != row[name]}
        assert changed == pytest.approx(dict.fromkeys(SHIFTED_FEATURES, SHIFT_FACTOR))


@pytest.mark.parametrize("place", [0, 1])
def test_nothing_drifts_before_the_shift_whichever_version_answers(trained: list[Line], place: int) -> None:
    caller, random = Caller.of(trained[place]), np.random.default_rng(0)
    for candidate, size in each_of(caller.line.candidates, (500, 800, 2100, 6000)):
        assert _drifted(caller.line, candidate, _window(caller, caller.rows, size, random)) == set()


@pytest.mark.parametrize(("older", "seen"), [(0, set(SHIFTED_FEATURES)), (600, {"mean_texture", "worst_texture"})])
def test_what_was_shifted_drifts_and_nothing_else_does(trained: list[Line], older: int, seen: set[str]) -> None:
    caller, random = Caller.of(trained[0]), np.random.default_rng(0)
    for candidate in caller.line.candidates:
        window = [*_window(caller, caller.rows, older, random), *_window(caller, caller.shifted, 600, random)]
        drifted = _drifted(caller.line, candidate, window)
        assert {key for key in drifted if key.startswith("in.")} == {f"in.{name}" for name in seen}


def _window(caller: Caller, rows: list[dict[str, Any]], size: int, random: np.random.Generator) -> list[dict[str, Any]]:
    """The rows of a window as the traffic sends them."""
    return [rows[caller.next_place(random)] for _ in range(size)]


def _drifted(line: Line, candidate: Candidate, window: list[dict[str, Any]]) -> set[str]:
    """What the monitor finds to have drifted, by the rule that an endpoint has from the start."""
    document = bins.reference_of(_log(candidate, line.halves.known))
    seen = profile.profile_of(_log(candidate, pd.DataFrame(window)), document.bins)
    shifts = judge_profile(seen, Reference(document=bins.encode(document)), Rule(), {})
    return {key for key, shift in shifts.items() if shift.verdict != "stable"}


def _log(candidate: Candidate, frame: pd.DataFrame) -> pa.Table:
    """Rows with the answers, in the columns of the prediction log."""
    answers: dict[str, Any] = {"out.prediction": candidate.estimator.predict(frame)}
    if hasattr(candidate.estimator, "predict_proba"):
        probabilities = pa.array(candidate.estimator.predict_proba(frame).ravel())
        answers = {"out.label": answers["out.prediction"], "out.probabilities": pa.FixedSizeListArray.from_arrays(probabilities, 2)}
    return pa.table({f"in.{name}": pa.array(frame[name], from_pandas=True) for name in frame} | answers)


def test_comes_through_the_api_answers_and_goes_away_again(product: Product, trained: list[Line]) -> None:
    api = Api(Address(product.console_url, product.predict_url, product.admin_key))
    made = trained
    key = install(api, made, product.var_dir)
    assert install(api, made, product.var_dir) == key
    assert {row["name"] for row in api.rows("endpoints/", 100)} >= set(ENDPOINTS)
    callers = [Caller.of(line) for line in made]
    own = Api(Address(product.console_url, product.predict_url, key))
    for caller in callers:
        answer = _answer(own, caller)
        assert answer["model"] == caller.line.model
    traffic = Traffic(own, callers, shift_at=0.0)
    for _ in range(20):
        traffic.step()
    sent = until(lambda: [row for name in ENDPOINTS for row in api.get(f"endpoints/{name}/predictions/")["results"]], 20)
    assert all("demo" in row["flags"] for row in sent)

    mine = api.post("models/diabetes/versions/", files={"file": ("mine.joblib", b"not a model")})["number"]
    assert set(remove_all(api)) >= {*ENDPOINTS, MODELS[0]}
    assert not {row["name"] for row in api.rows("endpoints/", 100)} & set(ENDPOINTS)
    assert {row["name"] for row in api.rows("models/", 100)} & set(MODELS) == {"diabetes"}
    assert [row["number"] for row in api.rows("models/diabetes/versions/", 100)] == [mine]
    with pytest.raises(Failure, match="not valid"):
        own.get("me/")
    assert remove_all(api) == []
    _delete_once_looked_at(api, f"models/diabetes/versions/{mine}/")
    assert remove_all(api) == ["diabetes"]


def _delete_once_looked_at(api: Api, path: str) -> None:
    while api.get(path)["state"] not in {"ready", "refused"}:
        time.sleep(0.2)
    api.delete(path)


def _answer(api: Api, caller: Caller):
    """The routes reach every process within a second or two."""
    for _ in range(50):
        try:
            return api.predict(caller.line.endpoint, {"rows": [caller.rows[0]]}, {"Signalbox-Demo": "1"})
        except Failure as failure:
            if failure.status not in {401, 404}:
                raise
            time.sleep(0.2)
    raise AssertionError("the endpoint never answered")
