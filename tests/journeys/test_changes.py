"""Hundreds of changes of what answers, under load: no caller sees a failure, and every answer is from a state that the ledger shows for its moment.

``SIGNALBOX_CHANGES=1000`` makes as many as the product promises; by default half of 400 are promotions and roll backs.
"""

from __future__ import annotations

import io
import os
import time
from bisect import bisect
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.journeys.load import Answer, Load
from tests.journeys.wire import Wire, pipeline, rows_of, tumours, until

MODEL = "tumour-changes"
ENDPOINT = "tumour-changing"
CHANGES = int(os.environ.get("SIGNALBOX_CHANGES", "400"))
REQUESTS = 10_000
AGREE_WITHIN_S = 2.0


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
    load = Load(wire.predict_url, wire.key, ENDPOINT, rows_of(tumours()[0][:1])[0], pause_s=0)
    published = wire.call("GET", "system/")["table_revision"]
    revision = wire.endpoint(ENDPOINT)["revision"]
    with load:
        load.wait_for(20)
        for turn in range(CHANGES):
            revision = change(wire, turn, revision)
        until(partial(have_followed, wire, published + CHANGES, time.time()), 10)
        load.wait_for(max(50, REQUESTS - len(load.answers)), 240)
    assert load.failures == []
    logged = until(partial(log_of, wire, load.answers), 20)
    assert wrong(load.answers, logged, ledger(wire)) == []
    assert {answer.version for answer in load.answers} == {"1", "2"}


def change(wire: Wire, turn: int, revision: int) -> int:
    """Split, promote what has the smaller share, split anew, roll that back, and so on; gives the endpoint's revision after it."""
    body: dict[str, Any] = {"revision": revision, "reason": f"turn {turn}"}
    match turn % 4:
        case 0 | 2:
            share = 10 + turn % 80
            verb, body = "split", body | {"weights": {"blue": share, "green": 100 - share}}
        case 1:
            verb = "promote"
        case _:
            verb = "roll-back"
    changed: int = wire.call("POST", f"endpoints/{ENDPOINT}/{verb}/", json=body)["revision"]
    return changed


def have_followed(wire: Wire, revision: int, changed_at: float) -> bool:
    """Tell whether every process has the table ``revision``; fail if one says two seconds after the change that it has an older one."""
    living = [process for process in wire.call("GET", "system/")["processes"] if not process["stale"]]
    behind = [process for process in living if process["table_revision"] < revision]
    late = [process for process in behind if datetime.fromisoformat(process["seen_at"]).timestamp() > changed_at + AGREE_WITHIN_S]
    assert late == []
    return len(living) >= 2 and not behind


def log_of(wire: Wire, answers: list[Answer]) -> dict[str, dict[str, Any]] | None:
    """Give the logged rows of the answers by their ids, or None while one is missing."""
    since = datetime.fromtimestamp(answers[0].sent - 1, UTC).isoformat()
    file = wire.api.get(f"endpoints/{ENDPOINT}/predictions/export/", params={"format": "parquet", "since": since})
    rows = pq.read_table(io.BytesIO(file.content), columns=["prediction_id", "slot", "version", "table_revision"]).to_pylist()
    logged = {row["prediction_id"]: row for row in rows}
    return logged if all(answer.prediction_id in logged for answer in answers) else None


def ledger(wire: Wire) -> list[dict[str, Any]]:
    """Give every change of the endpoint, oldest first."""
    rows: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 200}
    while True:
        page = wire.call("GET", f"endpoints/{ENDPOINT}/ledger/", params=params)
        rows += page["results"]
        if page["next"] is None:
            return rows[::-1]
        params["cursor"] = page["next"]


def wrong(answers: list[Answer], logged: dict[str, dict[str, Any]], changes: list[dict[str, Any]]) -> list[str]:
    """Say which answers are from no state that the ledger shows for their moment: the log names the table that each was answered from."""
    revisions = [row["table_revision"] for row in changes]
    times = [datetime.fromisoformat(row["at"]).timestamp() for row in changes]
    states = [{slot["name"]: str(slot["version"]) for slot in row["after"]["slots"] if slot["weight"]} for row in changes]
    found = []
    for answer in answers:
        row = logged[answer.prediction_id]
        at = bisect(revisions, row["table_revision"]) - 1
        if states[at].get(row["slot"]) != answer.version:
            found.append(f"{answer} from {row}, when {states[at]} answered")
        if answer.done < times[at]:
            found.append(f"{answer} from {row}, {times[at] - answer.done:.2f} s before its change")
        if at + 1 < len(times) and answer.sent > times[at + 1] + AGREE_WITHIN_S:
            found.append(f"{answer} from {row}, {answer.sent - times[at + 1]:.2f} s after the next change")
    return found
