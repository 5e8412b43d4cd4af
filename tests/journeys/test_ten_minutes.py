"""The first ten minutes of a user: register, deploy, predict, split, promote, shift, alert, roll back."""

from __future__ import annotations

from typing import Any

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
    frame, truth = tumours()
    answer = until(lambda: answered(wire, rows_of(frame[:100])), 20)
    agreeing = sum(prediction["label"] == right for prediction, right in zip(answer["predictions"], truth[:100], strict=True))
    assert agreeing >= 80
    assert answer["version"] in (1, "1")

    wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": MODEL, "version": 2})
    wire.change(ENDPOINT, "split", weights={"blue": 90, "green": 10})
    wire.change(ENDPOINT, "promote")
    until(lambda: answering(wire, rows_of(frame[:1])) == "2", 5)

    shifted = frame.assign(**{"mean radius": frame["mean radius"] * 2.54})
    for start in range(0, len(shifted), 50):
        assert wire.predict(ENDPOINT, rows_of(shifted[start : start + 50])).status_code == 200
    logged = until(lambda: len(wire.call("GET", f"endpoints/{ENDPOINT}/predictions/")["results"]) >= 50, 20)
    assert logged
    grid = until(lambda: drifted(wire), 90)
    assert "mean radius" in grid

    wire.call("POST", f"endpoints/{ENDPOINT}/roll-back/", json={"reason": "the radius arrives in centimetres"})
    until(lambda: answering(wire, rows_of(frame[:1])) == "1", 5)
    verbs = [entry["verb"] for entry in wire.call("GET", f"endpoints/{ENDPOINT}/ledger/")["results"]]
    assert verbs == ["roll_back", "promote", "split", "deploy", "deploy", "create"]


def answered(wire: Wire, rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    answer = wire.predict(ENDPOINT, rows)
    return answer.json() if answer.status_code == 200 else None


def answering(wire: Wire, rows: list[dict[str, Any]]) -> str:
    """The version that answers now."""
    return str(wire.predict(ENDPOINT, rows).json().get("version"))


def drifted(wire: Wire) -> list[str]:
    wire.call("POST", f"endpoints/{ENDPOINT}/evaluate/")
    grid = wire.call("GET", f"endpoints/{ENDPOINT}/drift/")
    return [row["feature"] for row in grid["rows"] if row["verdict"] in ("drifting", "severe")]
