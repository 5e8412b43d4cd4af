"""Brings the demo's models, endpoints and key into the product, through the REST API that everybody uses."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import joblib

from config.cli.api import Api
from config.cli.failures import Failure
from config.demo.models import Candidate, Line
from config.demo.names import ENDPOINTS, KEY_FILE, KEY_NAME

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 300
FIRST_SPLIT = {"blue": 80, "green": 20}


def install(api: Api, lines: list[Line], var_dir: Path) -> str:
    """Make what is missing and give the text of the traffic's key; what is there already stays as people left it."""
    key = _key(api, var_dir / KEY_FILE)
    for line in lines:
        _register_missing(api, line)
    for line in lines:
        if not _exists(api, f"endpoints/{line.endpoint}/"):
            _put_online(api, line)
    return key


def _register_missing(api: Api, line: Line) -> None:
    there = _numbers(api, line.model)
    for step, candidate in enumerate(line.candidates, start=1):
        if step not in there:
            _register(api, line, candidate, step)


def _numbers(api: Api, model: str) -> dict[int, int]:
    """Give the version number of each step of the demo: numbers are never used twice, so they may be higher than the steps."""
    if not _exists(api, f"models/{model}/"):
        return {}
    return {int(row["tags"]["demo"]): row["number"] for row in api.rows(f"models/{model}/versions/", 100) if row["tags"].get("demo", "").isdigit()}


def _register(api: Api, line: Line, candidate: Candidate, step: int) -> None:
    file = io.BytesIO()
    joblib.dump(candidate.estimator, file)
    sample = line.halves.known.to_csv(index=False).encode()
    fields = {"description": candidate.description, "metrics": json.dumps(candidate.metrics), "tags": json.dumps({"demo": str(step)})}
    files = {"file": (f"{line.model}.joblib", file.getvalue()), "sample": (f"{line.model}.csv", sample)}
    made = api.post(f"models/{line.model}/versions/", data=fields, files=files)
    logger.info("registered %s version %s", line.model, made["number"])


def _put_online(api: Api, line: Line) -> None:
    """The first version answers, the second gets a share, the third waits for whoever tries the product."""
    there = _numbers(api, line.model)
    numbers = [there[step] for step in (1, 2)]
    for number in numbers:
        _wait_until_ready(api, line.model, number)
    api.post("endpoints/", {"name": line.endpoint, "description": line.description})
    for number in numbers:
        _change(api, line.endpoint, "deploy", {"model": line.model, "version": number})
    _change(api, line.endpoint, "split", {"weights": FIRST_SPLIT})
    # One window decides, so that whoever looks for the first time sees the drift within minutes.
    api.patch(f"endpoints/{line.endpoint}/rule/", {"changes": {"windows_in_a_row": 1}, "reason": "The demo sets itself up"})
    logger.info("%s answers", line.endpoint)


def _change(api: Api, endpoint: str, verb: str, body: dict[str, Any]) -> None:
    revision = api.get(f"endpoints/{endpoint}/")["revision"]
    api.post(f"endpoints/{endpoint}/{verb}/", {**body, "revision": revision, "reason": "The demo sets itself up"})


def _wait_until_ready(api: Api, model: str, number: int) -> None:
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    while (version := api.get(f"models/{model}/versions/{number}/"))["state"] != "ready":
        if version["state"] == "refused" or time.monotonic() > deadline:
            raise Failure(f"The demo's model {model}, version {number}, is {version['state']}. {version['refusal']}")
        time.sleep(0.5)


def _key(api: Api, path: Path) -> str:
    """Give the key of the traffic, which may only predict and send outcomes at the demo's endpoints."""
    known = {row["id"] for row in api.rows("keys/", 500) if row["revoked_at"] is None}
    if path.exists() and (text := path.read_text()).split("_")[1] in known:
        return text
    made: str = api.post("keys/", {"name": KEY_NAME, "scopes": ["predict", "outcomes"], "endpoints": ENDPOINTS})["key"]
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(made)
    return made


def _exists(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except Failure as failure:
        if failure.status == 404:
            return False
        raise
    return True
