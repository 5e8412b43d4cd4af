"""Hundreds of changes of what answers, under load: no caller sees a failure, and every answer is from a state that held.

``SIGNALBOX_CHANGES=1000`` makes as many as the product promises; it takes a few minutes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.journeys.load import Answer, Load
from tests.journeys.wire import Wire, pipeline, rows_of, tumours, until

MODEL = "tumour-changes"
ENDPOINT = "tumour-changing"
CHANGES = int(os.environ.get("SIGNALBOX_CHANGES", "300"))
REQUESTS = 10 * CHANGES
AGREE_WITHIN_S = 2.0
SAMPLED = 300


@dataclass(frozen=True)
class Change:
    """One change as its caller saw it: when it was acknowledged, and which slots had traffic from then on, with their versions."""

    done: float
    answering: dict[str, str]


@pytest.fixture(scope="module")
def wire(product) -> Wire:
    wire = Wire(product.console_url, product.predict_url, product.admin_key)
    for strength in (1.0, 0.01):
        assert wire.register(MODEL, pipeline(strength))["state"] == "ready"
    wire.call("POST", "endpoints/", json={"name": ENDPOINT})
    for version in (1, 2):
        wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": MODEL, "version": version})
    until(lambda: wire.predict(ENDPOINT, rows_of(tumours()[0][:1])).status_code == 200, 20)
    return wire


def test_changes_under_load_fail_nobody_and_every_process_follows_within_two_seconds(wire):
    load = Load(wire.predict_url, wire.key, ENDPOINT, rows_of(tumours()[0][:1])[0])
    first = system(wire)["table_revision"]
    revision = wire.endpoint(ENDPOINT)["revision"]
    changes: list[Change] = []
    with load:
        load.wait_for(20)
        for turn in range(CHANGES):
            state = change(wire, turn, revision)
            revision = state["revision"]
            changes.append(Change(time.time(), {slot["name"]: str(slot["version"]) for slot in state["slots"] if slot["weight"]}))
        load.wait_for(max(50, REQUESTS - len(load.answers)), 240)
    assert load.failures == []
    assert system(wire)["table_revision"] == first + CHANGES
    assert wrong(wire, load.answers, changes, first) == []
    assert {answer.version for answer in load.answers} == {"1", "2"}


def change(wire: Wire, turn: int, revision: int) -> dict[str, Any]:
    """Split, promote what has the smaller share, roll that back, and so on; gives the endpoint as it is then."""
    body: dict[str, Any] = {"revision": revision, "reason": f"turn {turn}"}
    match turn % 4:
        case 0 | 2:
            share = 10 + turn % 80
            verb, body = "split", body | {"weights": {"blue": share, "green": 100 - share}}
        case 1:
            verb = "promote"
        case _:
            verb = "roll-back"
    state: dict[str, Any] = wire.call("POST", f"endpoints/{ENDPOINT}/{verb}/", json=body)
    return state


def wrong(wire: Wire, answers: list[Answer], changes: list[Change], first: int) -> list[str]:
    """Say of a sample of the answers which were from no state that held: the log names the table that each was answered from."""
    found = []
    for answer in answers[:: max(1, len(answers) // SAMPLED)]:
        logged = until(partial(log_of, wire, answer.prediction_id), 10)
        at = logged["table_revision"] - first - 1
        if at >= 0 and changes[at].answering.get(logged["slot"]) != answer.version:
            found.append(f"{answer} from r{logged['table_revision']}, in which {changes[at].answering} answered")
        if at + 1 < len(changes) and answer.sent > changes[at + 1].done + AGREE_WITHIN_S:
            found.append(f"{answer} from r{logged['table_revision']}, {answer.sent - changes[at + 1].done:.2f} s after the next")
    return found


def log_of(wire: Wire, prediction_id: str) -> dict[str, Any] | None:
    answer = wire.api.get(f"endpoints/{ENDPOINT}/predictions/{prediction_id}/")
    return answer.json() if answer.status_code == 200 else None


def system(wire: Wire) -> dict[str, Any]:
    found: dict[str, Any] = wire.call("GET", "system/")
    return found
