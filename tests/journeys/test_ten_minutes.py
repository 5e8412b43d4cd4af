"""The first ten minutes of a user: register, deploy, predict, split, promote, shift, alert, outcomes, roll back.

What happens by itself is waited for, and nothing is set off by the test: the real beat calls the real workers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.journeys.wire import Wire, pipeline, rows_of, tumours, until

MODEL = "tumour"
ENDPOINT = "tumour-journey"


@pytest.fixture(scope="module")
def wire(product) -> Wire:
    return Wire(product.console_url, product.predict_url, product.admin_key)


def test_a_model_goes_online_drifts_and_is_rolled_back(wire):
    first = wire.register(MODEL, pipeline(1.0))
    assert first["state"] == "ready", first
    assert [step["state"] for step in first["steps"]] == ["passed"] * 7
    second = wire.register(MODEL, pipeline(0.001))
    assert (first["number"], second["number"]) == (1, 2)

    wire.call("POST", "endpoints/", json={"name": ENDPOINT})
    wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": MODEL, "version": 1})
    frame, truth = shuffled()
    answer = until(lambda: answered(wire, rows_of(frame[:100])), 20)
    agreeing = sum(prediction["label"] == right for prediction, right in zip(answer["predictions"], truth[:100], strict=True))
    assert agreeing >= 80
    assert answer["version"] in (1, "1")

    wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": MODEL, "version": 2})
    wire.change(ENDPOINT, "split", weights={"blue": 90, "green": 10})
    wire.change(ENDPOINT, "promote")
    until(lambda: answering(wire, rows_of(frame[:1])) == "2", 5)

    # One window decides, and a part of the rows is enough, in case that a window ends meanwhile.
    wire.call("PATCH", f"endpoints/{ENDPOINT}/rule/", json={"changes": {"windows_in_a_row": 1, "minimum_rows": 200}})
    shifted = frame.assign(**{"mean radius": frame["mean radius"] * 2.54})
    answers = [wire.predict(ENDPOINT, rows_of(shifted[start : start + 50])).json() for start in range(0, len(shifted), 50)]
    until(lambda: len(wire.call("GET", f"endpoints/{ENDPOINT}/predictions/")["results"]) >= 50, 20)
    sent = wire.call("POST", "outcomes/", json={"outcomes": outcomes_of(answers, truth)})
    assert (sent["accepted"] + sent["parked"], sent["errors"]) == (len(frame), [])

    (alert,) = until(lambda: open_alerts(wire, "drift"), 60)
    assert (alert["model"], alert["version"], alert["severity"]) == (MODEL, 2, "severe")
    assert [item["name"] for item in wire.call("GET", f"alerts/{alert['number']}/")["items"]] == ["mean radius"]
    labels = [prediction["label"] for answer in answers for prediction in answer["predictions"]]
    until(lambda: measured(wire, 2)["n"] == len(frame), 60)
    assert measured(wire, 2)["metrics"]["accuracy"] == pytest.approx(np.mean(labels == truth))

    wire.call("POST", f"endpoints/{ENDPOINT}/roll-back/", json={"reason": "the radius arrives in centimetres"})
    until(lambda: answering(wire, rows_of(frame[:1])) == "1", 5)
    verbs = [entry["verb"] for entry in wire.call("GET", f"endpoints/{ENDPOINT}/ledger/")["results"]]
    assert verbs == ["roll_back", "promote", "split", "deploy", "deploy", "create"]


def shuffled() -> tuple[pd.DataFrame, np.ndarray]:
    """The rows in no order, so that any part of them is a fair picture of them all."""
    frame, truth = tumours()
    order = np.random.default_rng(0).permutation(len(frame))
    return frame.iloc[order].reset_index(drop=True), truth[order]


def answered(wire: Wire, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    answer = wire.predict(ENDPOINT, rows)
    return answer.json() if answer.status_code == 200 else None


def answering(wire: Wire, rows: list[dict[str, Any]]) -> str:
    """The version that answers now."""
    return str(wire.predict(ENDPOINT, rows).json().get("version"))


def outcomes_of(answers: list[dict[str, Any]], truth: np.ndarray) -> list[dict[str, Any]]:
    """What came true of each row of each answer, in the order in which the rows were sent."""
    rows = [(answer["prediction_id"], row) for answer in answers for row in range(len(answer["predictions"]))]
    return [{"prediction_id": identifier, "row": row, "value": value} for (identifier, row), value in zip(rows, truth, strict=True)]


def open_alerts(wire: Wire, cause: str) -> list[dict[str, Any]]:
    found = wire.call("GET", "alerts/", params={"endpoint": ENDPOINT, "state": "open"})["results"]
    return [alert for alert in found if alert["cause"] == cause]


def measured(wire: Wire, version: int) -> dict[str, Any]:
    """What the outcomes that came say of the version."""
    found: list[dict[str, Any]] = wire.call("GET", f"endpoints/{ENDPOINT}/performance/")["summary"]
    return next((row for row in found if row["version"] == version), {"n": 0})
