"""Is the candidate ready to be promoted? Six checks, most against what is live. They advise; they never stand in the way. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from console.templatetags.formats import NOTHING, ms, number, percent
from serving.counts import Numbers

Verdict = Literal["pass", "wait", "fail"]
WANTED_REQUESTS = 1_000
WANTED_OUTCOMES = 100
SLOWER_AT_MOST = 1.25
LATENCY_SLACK_MS = 1.0
MORE_ERRORS_AT_MOST = 0.5
LESS_ACCURATE_AT_MOST = 0.01
DRIFT_AT_MOST = 0.2


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert that nobody resolved."""

    number: int
    title: str


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what is compared, the limit, both numbers, and the verdict; ``alarms`` are the alerts that make it fail."""

    label: str
    note: str
    live: str
    candidate: str
    verdict: Verdict
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True, slots=True)
class Quality:
    """What outcomes say about a version: ``metric`` is ``accuracy`` (0 to 1, more is better) or ``mae`` (less is better)."""

    metric: str = "accuracy"
    value: float | None = None
    n: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one of the two versions; ``prediction_psi`` is the drift of its answers against its reference, ``alarms`` those about it here."""

    traffic: Numbers | None = None
    quality: Quality = Quality()
    prediction_psi: float | None = None
    alarms: tuple[Alarm, ...] = ()


def checks(live: Side, candidate: Side) -> list[Check]:
    """Give the six checks; what has no numbers yet waits."""
    of_numbers = [_latency(live, candidate), _errors(live, candidate), _quality(live, candidate), _drift(live, candidate), _seen(live, candidate)]
    return [*of_numbers, _alarms(live, candidate)]


def passed(rows: list[Check]) -> int:
    """Count the checks that passed."""
    return sum(row.verdict == "pass" for row in rows)


def _latency(live: Side, candidate: Side) -> Check:
    old, new = (side.traffic.p99_ms if side.traffic else None for side in (live, candidate))
    verdict: Verdict = "wait"
    if old is not None and new is not None:
        verdict = "pass" if new <= max(old * SLOWER_AT_MOST, old + LATENCY_SLACK_MS) else "fail"
    note = "no requests yet" if verdict == "wait" else f"at most a quarter or {LATENCY_SLACK_MS:g} ms slower"
    return Check("p99 latency", note, ms(old), ms(new), verdict)


def _errors(live: Side, candidate: Side) -> Check:
    old, new = (side.traffic.errors_percent if side.traffic else None for side in (live, candidate))
    verdict: Verdict = "wait" if new is None else "pass" if new <= (old or 0.0) + MORE_ERRORS_AT_MOST else "fail"
    note = "no requests yet" if new is None else f"at most {MORE_ERRORS_AT_MOST} points more"
    return Check("Error rate", note, _percent(old), _percent(new), verdict)


def _quality(live: Side, candidate: Side) -> Check:
    old, new = live.quality, candidate.quality
    accuracy = new.metric == "accuracy"
    write = (lambda value: percent(value, 1)) if accuracy else number
    label = "Accuracy" if accuracy else "Mean absolute error"
    if old.value is None or new.value is None or min(old.n, new.n) < WANTED_OUTCOMES:
        note = f"{number(min(old.n, new.n))} of {WANTED_OUTCOMES} outcomes" if new.n or old.n else "no outcomes yet"
        return Check(label, note, write(old.value), write(new.value), "wait")
    good = new.value >= old.value - LESS_ACCURATE_AT_MOST if accuracy else new.value <= old.value * 1.05
    return Check(label, f"from {number(new.n)} outcomes", write(old.value), write(new.value), "pass" if good else "fail")


def _drift(live: Side, candidate: Side) -> Check:
    new = candidate.prediction_psi
    verdict: Verdict = "wait" if new is None else "pass" if new < DRIFT_AT_MOST else "fail"
    note = "not measured yet" if new is None else f"PSI, limit {DRIFT_AT_MOST}"
    return Check("Prediction drift", note, _psi(live.prediction_psi), _psi(new), verdict)


def _seen(live: Side, candidate: Side) -> Check:
    old, new = (side.traffic.requests if side.traffic else 0 for side in (live, candidate))
    return Check("Requests seen", f"{number(WANTED_REQUESTS)} wanted", number(old), number(new), "pass" if new >= WANTED_REQUESTS else "wait")


def _alarms(live: Side, candidate: Side) -> Check:
    old, new = live.alarms, candidate.alarms
    return Check("No open alert", "about the version, at this endpoint", number(len(old)), number(len(new)), "fail" if new else "pass", new)


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f} %"


def _psi(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
