"""What the journeys share: a client of the public interfaces, models that they train, processes that they kill."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ["mean radius", "mean texture", "mean smoothness"]
TEXTS = ["size"]


def tumours() -> tuple[pd.DataFrame, np.ndarray]:
    """Real rows with a text column and missing values: (569, 4), and the class names."""
    data = load_breast_cancer(as_frame=True)
    frame = data.data[NUMBERS].copy()
    frame["size"] = pd.cut(data.data["mean area"], [0, 420, 780, np.inf], labels=["small", "medium", "large"]).astype(str)
    frame.iloc[::17, 1] = np.nan
    return frame, data.target_names[data.target]


def pipeline(strength: float) -> bytes:
    """A fitted pipeline with a ColumnTransformer, as joblib bytes."""
    frame, truth = tumours()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("texts", OneHotEncoder(handle_unknown="ignore"), TEXTS)])
    file = BytesIO()
    joblib.dump(make_pipeline(columns, LogisticRegression(C=strength)).fit(frame, truth), file)
    return file.getvalue()


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON takes them: missing is null."""
    return [{key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()} for row in frame.to_dict("records")]


@dataclass
class Wire:
    """The public interfaces, as a user has them."""

    console_url: str
    predict_url: str
    key: str

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        self.api = httpx.Client(base_url=f"{self.console_url}/api/v1/", headers=headers, timeout=30)
        self.plane = httpx.Client(base_url=f"{self.predict_url}/v2/", headers=headers, timeout=30)

    def call(self, verb: str, path: str, **options: Any) -> Any:
        answer = self.api.request(verb, path, **options)
        assert answer.is_success, f"{verb} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def register(self, model: str, file: bytes) -> dict[str, Any]:
        frame, _ = tumours()
        files = {"file": ("model.joblib", file), "sample": ("sample.csv", frame.to_csv(index=False).encode())}
        version = self.call("POST", f"models/{model}/versions/", files=files)
        checked: dict[str, Any] = until(lambda: self.finished(model, version["number"]), 120)
        return checked

    def finished(self, model: str, number: int) -> dict[str, Any] | None:
        version: dict[str, Any] = self.call("GET", f"models/{model}/versions/{number}/")
        return version if version["state"] != "checking" else None

    def endpoint(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"endpoints/{name}/")
        return found

    def change(self, name: str, verb: str, **body: Any) -> dict[str, Any]:
        body = {"revision": self.endpoint(name)["revision"], "reason": "journey", **body}
        changed: dict[str, Any] = self.call("POST", f"endpoints/{name}/{verb}/", json=body)
        return changed

    def predict(self, name: str, rows: list[dict[str, Any]], **more: Any) -> httpx.Response:
        return self.plane.post(f"models/{name}/predict", json={"rows": rows, **more})


def until(answer: Callable[[], Any], seconds: float) -> Any:
    """Ask until there is an answer; an AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := answer():
            return found
        time.sleep(0.2)
    raise AssertionError(f"no answer within {seconds} s")


def processes(supervisor: int, word: str) -> list[int]:
    """The supervisor's descendants whose command line has ``word``."""
    parents = {int(entry.name): stat_parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}

    def descends(pid: int) -> bool:
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == supervisor:
                return True
        return False

    return [pid for pid in parents if descends(pid) and word in command_line(pid)]


def children(supervisor: int) -> dict[int, str]:
    """The processes that the supervisor itself has started, with their command lines; one that has just ended has none."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and stat_parent(entry) == supervisor]
    return {pid: command for pid in pids if (command := command_line(pid))}


def stat_parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def signal(pids: list[int], number: int) -> None:
    """Send a signal to processes of our own product."""
    assert pids
    for pid in pids:
        os.kill(pid, number)
