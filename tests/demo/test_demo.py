"""The demo: honest data, models of different quality, real requests, and nothing left when it is removed."""

from __future__ import annotations

import time

import pytest

from config.cli.api import Address, Api
from config.cli.failures import Failure
from config.demo.install import install
from config.demo.models import lines
from config.demo.names import ENDPOINTS, MODELS
from config.demo.remove import remove_all
from config.demo.traffic import SHIFT_FACTOR, SHIFTED_FEATURES, Caller, Traffic
from tests.product import Product


def test_has_text_and_missing_values_and_versions_that_differ() -> None:
    tumours, diabetes = lines()
    assert diabetes.halves.send.select_dtypes("str").columns.tolist() == ["age_group", "sex"]
    assert diabetes.halves.send["glucose"].isna().sum() > 0
    assert len(set(tumours.halves.train.index) | set(tumours.halves.send.index)) == 285
    accuracies = [candidate.metrics["accuracy"] for candidate in tumours.candidates]
    assert accuracies[0] + 0.03 < accuracies[1]


def test_the_shift_makes_the_texture_larger_and_leaves_the_rest() -> None:
    caller = Caller.of(lines()[0])
    for row, shifted in zip(caller.rows, caller.shifted, strict=True):
        changed = {name: shifted[name] / row[name] for name in row if shifted[name] != row[name]}
        assert changed == pytest.approx(dict.fromkeys(SHIFTED_FEATURES, SHIFT_FACTOR))


def test_comes_through_the_api_answers_and_goes_away_again(product: Product) -> None:
    api = Api(Address(product.console_url, product.predict_url, product.admin_key))
    made = lines()
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

    assert set(remove_all(api)) >= {*ENDPOINTS, *MODELS}
    assert not {row["name"] for row in api.rows("endpoints/", 100)} & set(ENDPOINTS)
    assert not {row["name"] for row in api.rows("models/", 100)} & set(MODELS)
    with pytest.raises(Failure, match="not valid"):
        own.get("me/")
    assert remove_all(api) == []


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
