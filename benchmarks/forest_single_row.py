"""One row through a 200-tree forest: the ONNX build against scikit-learn, in one process and one run.

    python -m benchmarks.forest_single_row            prints the table
    python -m benchmarks.forest_single_row --write    puts it into docs/benchmarks.md

The forest is trained on scikit-learn's digits (1,797 rows, 64 columns), saved with joblib, and goes
through the same sandbox as a registered model. Ends with code 1 when the build is less than 50 times faster.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from benchmarks.tables import put_section
from registry.convert import onnx_run
from registry.convert.check import SandboxLimits, examine

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
TREES = 200
CALLS = 300
BLOCK = 20
WANTED_RATIO = 50
HEADING = "One row through a 200-tree forest"


def main() -> None:
    """Train, convert, time both in turns, print or write, and judge."""
    rows, classes = load_digits(return_X_y=True)
    forest = RandomForestClassifier(TREES, random_state=0).fit(rows, classes)
    session = session_of(forest)
    one = rows[:1]
    narrow = one.astype(np.float32)
    calls = (lambda: session.run(["probabilities"], {"input": narrow}), lambda: forest.predict_proba(one))
    ours, theirs = timed_in_turns(*calls, block=BLOCK)
    cold, _ = timed_in_turns(*calls, block=1)
    ratio = np.median(theirs) / np.median(ours)
    text = table(ours, theirs, cold)
    print(text)
    if "--write" in sys.argv:
        put_section(PAGE, HEADING, text)
    sys.exit(0 if ratio >= WANTED_RATIO else 1)


def session_of(forest: RandomForestClassifier) -> Any:
    """Send the forest through the sandbox, and open its build as a data-plane process does: one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "forest.joblib"
        joblib.dump(forest, path)
        found = examine(original=path, filename=path.name, sample=None, sample_filename="", limits=SandboxLimits(), on_step=lambda _: None)
    if found.onnx is None:
        sys.exit(f"not converted: {found.reason}")
    return onnx_run.open_session(found.onnx)


def timed_in_turns(ours: Callable[[], object], theirs: Callable[[], object], block: int) -> tuple[np.ndarray, np.ndarray]:
    """Call both in turns, ``block`` calls each, so that whatever else the machine does hits both; milliseconds."""
    ours(), theirs()
    times = np.empty((CALLS, 2))
    for start in range(0, CALLS, block):
        for side, call in enumerate((ours, theirs)):
            for place in range(start, start + block):
                begun = time.perf_counter()
                call()
                times[place, side] = (time.perf_counter() - begun) * 1000
    return times[:, 0], times[:, 1]


def table(ours: np.ndarray, theirs: np.ndarray, cold: np.ndarray) -> str:
    """Give the Markdown table and where it was measured."""
    lines = [
        "| single row, in process | median | p99 |",
        "|---|---|---|",
        f"| ONNX build, ONNX Runtime {version('onnxruntime')}, 1 thread | {np.median(ours):.4f} ms | {np.percentile(ours, 99):.4f} ms |",
        f"| scikit-learn {version('scikit-learn')}, `predict_proba` | {np.median(theirs):.2f} ms | {np.percentile(theirs, 99):.2f} ms |",
        f"| **ratio of the medians** | **{np.median(theirs) / np.median(ours):.0f}x** | |",
        f"| ONNX build, right after a call of scikit-learn each, with cold caches | {np.median(cold):.4f} ms | {np.percentile(cold, 99):.4f} ms |",
        "",
        f"RandomForestClassifier with {TREES} trees on scikit-learn's digits (64 columns, 10 classes); {CALLS} calls of each, {BLOCK} in turn, one run.",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}. Repeat: `python -m benchmarks.forest_single_row --write`.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
