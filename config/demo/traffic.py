"""The demo's callers: real rows that no model was trained on, round after round; their outcomes come late."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from config.cli.api import Api
from config.cli.failures import Failure
from config.demo.data import SEED
from config.demo.models import Line

logger = logging.getLogger(__name__)

REQUESTS_PER_S = 10.0
# So many at full speed when the demo is new: the charts and the first windows have something to show.
FIRST_REQUESTS = 600
SHIFT_AFTER_S = 45.0
# Most requests go to the first endpoint, so that its drift is seen soon.
CHANCES = (0.7, 0.3)
# What the shift is: a new scanner reads the texture a quarter higher. Every other measure stays.
SHIFTED_FEATURES = ("mean_texture", "texture_error", "worst_texture")
SHIFT_FACTOR = 1.25
OUTCOME_DELAY_S = (20.0, 60.0)
OUTCOMES_EVERY_S = 5.0
_AWAY_S = 2.0
_HEADERS = {"Signalbox-Demo": "1"}


@dataclass(slots=True)
class Caller:
    """One endpoint's caller: the rows that it sends before and after the shift, and what came true of each."""

    line: Line
    rows: list[dict[str, Any]]
    shifted: list[dict[str, Any]]
    truths: list[Any]
    _left: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, line: Line) -> Caller:
        """Prepare the rows as JSON: a missing value is null."""
        send = line.halves.send
        touched = [name for name in SHIFTED_FEATURES if name in send]
        shifted = send.assign(**{name: send[name] * SHIFT_FACTOR for name in touched})
        return cls(line, _records(send), _records(shifted), line.halves.send_truth.tolist())

    def next_place(self, random: np.random.Generator) -> int:
        """Give the place of a row: each comes once before any comes again, so that also a short window is a fair picture of them all."""
        if not self._left:
            self._left = random.permutation(len(self.rows)).tolist()
        return self._left.pop()


@dataclass(slots=True)
class Traffic:
    """Sends requests at a steady rate until the process is ended."""

    api: Api
    callers: list[Caller]
    shift_at: float
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))
    _due: deque[tuple[float, dict[str, Any]]] = field(default_factory=deque)
    _outcomes_at: float = 0.0

    def run(self, first_requests: int) -> None:
        """Send ``first_requests`` at full speed, then go on steadily, for ever."""
        for _ in range(first_requests):
            self.step()
        next_at = time.monotonic()
        while True:
            self.step()
            next_at = max(next_at + self._random.exponential(1 / REQUESTS_PER_S), time.monotonic() - 1)
            time.sleep(max(0.0, next_at - time.monotonic()))

    def step(self) -> None:
        """One request, and the outcomes that are due; when the product is away, wait a moment."""
        try:
            self._predict(self.callers[int(self._random.choice(len(self.callers), p=CHANCES))])
            if time.time() >= self._outcomes_at:
                self._send_outcomes()
        except Failure as failure:
            logger.warning("%s", failure.message)
            time.sleep(_AWAY_S)

    def _predict(self, caller: Caller) -> None:
        rows = caller.shifted if time.time() >= self.shift_at else caller.rows
        place = caller.next_place(self._random)
        answer = self.api.predict(caller.line.endpoint, {"rows": [rows[place]]}, _HEADERS)
        due = time.time() + self._random.uniform(*OUTCOME_DELAY_S)
        self._due.append((due, {"prediction_id": answer["prediction_id"], "value": caller.truths[place]}))

    def _send_outcomes(self) -> None:
        """Send what is due, whichever order it came in; what is not accepted now is not sent again."""
        self._outcomes_at = time.time() + OUTCOMES_EVERY_S
        due = [outcome for at, outcome in self._due if at <= time.time()]
        self._due = deque((at, outcome) for at, outcome in self._due if at > time.time())
        if due:
            self.api.post("outcomes/", {"outcomes": due})


def begun(path: Path) -> tuple[bool, float]:
    """Tell whether the demo is new, and when it began: a restart goes on where it was."""
    if path.exists():
        return False, float(json.loads(path.read_text())["began"])
    began = time.time()
    path.write_text(json.dumps({"began": began}))
    return True, began


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON takes them: a missing value is null."""
    records: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return records
