"""``signalbox register``: send a model file, then watch the checklist tick."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from config.cli.failures import Failure, Refused
from config.cli.session import Session, connected, pairs

_POLL_S = 0.4
_MARKS = {"passed": "✓", "failed": "✗", "skipped": "-"}
_ENDED = {"ready", "refused"}

File = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=File)
@click.option("--name", required=True, help="The model's name; it is made on first use.")
@click.option("--sample", type=File, help="Rows of training data, CSV, JSON or Parquet: types, bounds and the reference of drift come from it.")
@click.option("--description", default="", help="What this version is.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME=NUMBER", help="For example accuracy=0.93; may be repeated.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="For example team=growth; may be repeated.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until the version is checked and ready.")
@click.option("--timeout", "timeout_s", default=900, show_default=True, metavar="SECONDS", help="How long to wait.")
@connected
def register(
    session: Session, /, *, file: Path, name: str, sample: Path | None, description: str, metrics: tuple[str, ...], tags: tuple[str, ...], **how: Any
) -> None:
    """Register FILE as the next version of a model.

    It is opened in the sandbox alone, converted, and its answers are compared with those of the original on the rows of the sample.
    """
    fields = {"description": description, "metrics": json.dumps(_numbers(metrics)), "tags": json.dumps(pairs(tags, "--tag"))}
    with ExitStack() as stack:
        files = {"file": (file.name, stack.enter_context(file.open("rb")))}
        if sample is not None:
            files["sample"] = (sample.name, stack.enter_context(sample.open("rb")))
        version = session.api.post(f"models/{name}/versions/", data=fields, files=files)
    if how["wait"]:
        session.progress(f"{name} version {version['number']}")
        version = watch(session, name, version["number"], how["timeout_s"])
    session.show(version, f"{name} version {version['number']} is {version['state']}.")
    session.progress(f"Next:  signalbox deploy ENDPOINT {name} {version['number']}   (a new address: signalbox create-endpoint NAME)")


def watch(session: Session, name: str, number: int, timeout_s: float) -> dict[str, Any]:
    """Print each step as it ends and give the version once it is ready; a Failure with exit code 3 when it was refused."""
    told: set[tuple[str, str]] = set()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        version: dict[str, Any] = session.api.get(f"models/{name}/versions/{number}/")
        for step in version["steps"]:
            if step["state"] in _MARKS and (step["key"], step["state"]) not in told:
                told.add((step["key"], step["state"]))
                session.progress(_line(step))
        if version["state"] in _ENDED:
            return _ready_or_failure(version, name)
        time.sleep(_POLL_S)
    raise Failure(f"{name} version {number} was not checked within {timeout_s:.0f} s; it goes on.", next_command=f"signalbox versions {name}")


def _ready_or_failure(version: dict[str, Any], name: str) -> dict[str, Any]:
    if version["state"] == "ready" and not version["not_servable_reason"]:
        return version
    failed: dict[str, Any] = next((step for step in version["steps"] if step["state"] == "failed"), {})
    why = version["refusal"] or version["not_servable_reason"]
    if failed.get("advice") and failed["advice"] not in why:
        why = f"{why.rstrip('.')}. {failed['advice']}"
    raise Refused(f"{name} version {version['number']} cannot be served. {why}")


def _line(step: dict[str, Any]) -> str:
    took = f"  {step['took_ms']:.0f} ms" if step.get("took_ms") else ""
    return f"  {_MARKS[step['state']]} {step.get('title') or step['key']:<24} {step.get('text') or ''}{took}"


def _numbers(values: tuple[str, ...]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in pairs(values, "--metric").items()}
    except ValueError as error:
        raise click.UsageError("--metric: write NAME=NUMBER, for example accuracy=0.93.") from error
