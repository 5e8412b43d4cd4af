"""Was the model saved by another scikit-learn than the one that reads it here, and does it still answer the same?

The agreement of original and build cannot tell: both are made by the libraries here. Answers that came with the
sample, from where the model was trained, can.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.convert.agreement import ENOUGH, TOLERANCE
from registry.convert.sample import Column, column_as
from registry.convert.verdict import NotServable, Refused
from registry.signature import Kind

EXPECTED = "expected"
"""The column of the sample that holds what the model answered where it was trained."""
_ADVICE = "Save the model with the scikit-learn that is here, or export it to ONNX where it was trained and register that file."


def refuse_newer(saved_with: str, here: str) -> None:
    """Raise NotServable for a model of a later scikit-learn: what it means by its fields is not known here."""
    if saved_with and _numbers(saved_with) > _numbers(here):
        raise NotServable(f"The model was saved by scikit-learn {saved_with}; here is {here}, which cannot know how to read it.", _ADVICE)


def note_of(saved_with: str, here: str, expected: int | None) -> str:
    """Say what another version means for trust; empty for the same one."""
    if not saved_with:
        return ""
    known = f"saved by scikit-learn {saved_with} and read by {here} here"
    if expected:
        return f"{known}; {expected:,} expected answers came out the same"
    return f"{known}: it may answer otherwise than where it was trained, and the agreement cannot tell. Send the answers of there as a column {EXPECTED!r}"


def check_expected(expected: Column, answers: dict[str, Any], saved_with: str) -> int:
    """Compare the answers given here with those of training; gives how many rows were compared. Raises NotServable when they differ."""
    values = answers["label"] if "label" in answers else answers["prediction"]
    rows = min(len(values), len(expected.values))
    same = _same_labels(expected, values, rows) if "label" in answers else _same_numbers(expected, values, rows)
    agreeing = int(same.sum())
    if agreeing < ENOUGH * rows:
        why = f" It was saved by scikit-learn {saved_with}." if saved_with else ""
        raise NotServable(f"The model gives here the expected answer for {agreeing:,} of {rows:,} rows only.{why}", _ADVICE)
    return rows


def _same_labels(expected: Column, labels: Any, rows: int) -> Any:
    wanted = column_as(expected, Kind.TEXT).values[:rows]
    return np.array([str(one) == str(other) for one, other in zip(wanted, labels[:rows], strict=True)], dtype=bool)


def _same_numbers(expected: Column, numbers: Any, rows: int) -> Any:
    if expected.kind is Kind.TEXT or numbers.reshape(len(numbers), -1).shape[1] != 1:
        raise Refused(f"The column {EXPECTED} does not hold one number for each row.", "Send what the model's predict method answered.")
    wanted, found = expected.values[:rows], numbers.reshape(-1)[:rows]
    scale = max(1.0, float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)))
    return np.abs(wanted - found) <= TOLERANCE * scale


def _numbers(version: str) -> tuple[int, int]:
    """Give the first two numbers of a version; whatever is no version counts as the latest."""
    parts = version.split(".")
    if version == "pre-0.18":
        return 0, 17
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdecimal() and parts[1].isdecimal() else (10**6, 0)
