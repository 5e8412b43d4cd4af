"""The checklist of a version: seven steps, each with a state, a text and what to do. Pure values, kept as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TITLES = {
    "received": "Received",
    "format": "Format known",
    "signature": "Signature read",
    "converted": "Converted in the sandbox",
    "agreement": "Answers agree",
    "speed": "Size and speed",
    "ready": "Ready",
}
Step = dict[str, Any]


def step(key: str, state: str, text: str = "", *, advice: str = "", took_ms: float | None = None) -> Step:
    """Make one step; ``state`` is waiting, running, passed, failed or skipped."""
    return {"key": key, "title": TITLES[key], "state": state, "text": text, "advice": advice, "took_ms": took_ms}


def at_first(received: str) -> list[Step]:
    """Give the checklist of a version that has just come in."""
    return [step("received", "passed", received), *(step(key, "waiting") for key in TITLES if key != "received")]


def put(steps: Sequence[Step], changed: Step) -> list[Step]:
    """Give the checklist with ``changed`` in its place."""
    return [{**old, **changed} if old["key"] == changed["key"] else old for old in steps]


def ended(steps: Sequence[Step], last: Step) -> list[Step]:
    """Give the checklist with ``last`` as its end: what had not begun is skipped, what still ran has failed."""
    closed = {"waiting": "skipped", "running": "failed"}
    return put([{**old, "state": closed.get(old["state"], old["state"])} for old in steps], last)
