"""Endpoints: ``endpoints``, ``create-endpoint``, ``configure``, ``deploy``, ``split``, ``promote``, ``rollback``, ``load``, ``unload``, ``ledger``."""

from __future__ import annotations

import json
from typing import Any

import click

from config.cli.session import Session, cell, connected, pairs

reason_option = click.option("--reason", default="", help="Why; it stands in the ledger.")


@click.command()
@connected
def endpoints(session: Session) -> None:
    """List the endpoints with their traffic."""
    rows = [{**row, "answers": traffic(row)} for row in session.api.rows("endpoints/", 200)]
    columns = {
        "name": "ENDPOINT",
        "answers": "ANSWERS",
        "traffic.rps": "REQ/S",
        "traffic.p99_ms": "P99 MS",
        "traffic.errors_percent": "ERRORS %",
        "standing": "STANDING",
    }
    session.table(rows, columns, "No endpoints yet. Next:  signalbox create-endpoint my-endpoint")


@click.command("create-endpoint")
@click.argument("name")
@click.option("--description", default="", help="What it answers.")
@click.option("--sticky-on", default="", metavar="FEATURE", help="Callers with the same value meet the same slot.")
@click.option("--log-policy", type=click.Choice(["durable", "fast", "sampled", "off"]), default="fast", show_default=True)
@connected
def create_endpoint(session: Session, name: str, description: str, sticky_on: str, log_policy: str) -> None:
    """Create the endpoint NAME, with two empty slots, blue and green."""
    made = session.api.post("endpoints/", {"name": name, "description": description, "sticky_on": sticky_on, "log_policy": log_policy})
    session.show(made, f"{name} is there, and empty.")
    session.progress(f"Next:  signalbox deploy {name} MODEL VERSION")


@click.command()
@click.argument("endpoint")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@reason_option
@connected
def configure(session: Session, endpoint: str, settings: tuple[str, ...], reason: str) -> None:
    """Change settings of ENDPOINT: signalbox configure churn-scorer log_policy=durable limits.max_rows=500 cache.ttl_s=60."""
    seen = session.api.get(f"endpoints/{endpoint}/")
    changes: dict[str, Any] = {}
    for name, text in pairs(settings, "NAME=VALUE").items():
        group, _, member = name.partition(".")
        if member:
            changes.setdefault(group, dict(seen.get(group) or {}))[member] = _value(text)
        else:
            changes[group] = _value(text)
    after = session.api.patch(f"endpoints/{endpoint}/", {**changes, "revision": seen["revision"], "reason": reason})
    session.show(after, f"{endpoint}: {', '.join(settings)}  (revision {after['revision']})")


def _value(text: str) -> Any:
    """Read a number, true, false or an object as JSON; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command()
@click.argument("endpoint")
@click.argument("model")
@click.argument("version", type=int)
@click.option("--slot", default=None, help="By default the one that has no traffic.")
@click.option("--build", "build_kind", default="onnx", show_default=True)
@reason_option
@connected
def deploy(session: Session, /, *, endpoint: str, model: str, version: int, slot: str | None, build_kind: str, reason: str) -> None:
    """Put VERSION of MODEL into a slot of ENDPOINT, warm, with no traffic (the very first gets all)."""
    body = {"model": model, "version": version, "slot": slot, "build_kind": build_kind}
    after = _change(session, endpoint, "deploy", body, reason)
    shares = {slot["name"]: slot["weight"] for slot in after["slots"] if slot.get("version")}
    if len(shares) == 1:
        session.progress(f"Next:  signalbox predict {endpoint} rows.json")
    elif after["loaded"]:
        live = after["live_slot"]
        other = next(name for name in shares if name != live)
        session.progress(f"Next:  signalbox split {endpoint} {live}=90 {other}=10   or   signalbox promote {endpoint}")


@click.command()
@click.argument("endpoint")
@click.argument("weights", nargs=-1, required=True, metavar="SLOT=PERCENT...")
@reason_option
@connected
def split(session: Session, endpoint: str, weights: tuple[str, ...], reason: str) -> None:
    """Share the traffic of ENDPOINT: signalbox split churn-scorer blue=90 green=10."""
    shares = pairs(weights, "SLOT=PERCENT")
    if not all(share.isdigit() for share in shares.values()):
        raise click.UsageError("Write whole percents, for example blue=90 green=10.")
    _change(session, endpoint, "split", {"weights": {slot: int(share) for slot, share in shares.items()}}, reason)


@click.command()
@click.argument("endpoint")
@click.option("--slot", default=None, help="By default the candidate.")
@reason_option
@connected
def promote(session: Session, endpoint: str, slot: str | None, reason: str) -> None:
    """Give all traffic of ENDPOINT to the candidate; the replaced version stays warm."""
    _change(session, endpoint, "promote", {"slot": slot}, reason)
    session.progress(f"Back:  signalbox rollback {endpoint}")


@click.command()
@click.argument("endpoint")
@click.option("--to-revision", type=int, default=None, help="By default the latest in which another version answered everything.")
@reason_option
@connected
def rollback(session: Session, endpoint: str, to_revision: int | None, reason: str) -> None:
    """Apply an earlier state of ENDPOINT, at once and without checks."""
    _apply(session, endpoint, "roll-back", {"to_revision": to_revision, "reason": reason})


@click.command()
@click.argument("endpoint")
@reason_option
@connected
def unload(session: Session, endpoint: str, reason: str) -> None:
    """Take ENDPOINT out of service: its callers get 503, its builds leave the memory."""
    _change(session, endpoint, "unload", {}, reason)
    session.progress(f"Back:  signalbox load {endpoint}")


@click.command()
@click.argument("endpoint")
@reason_option
@connected
def load(session: Session, endpoint: str, reason: str) -> None:
    """Put ENDPOINT back into service, with the slots and shares that it has."""
    _change(session, endpoint, "load", {}, reason)


@click.command()
@click.argument("endpoint")
@click.option("--limit", default=20, show_default=True)
@connected
def ledger(session: Session, endpoint: str, limit: int) -> None:
    """List what changed the answers of ENDPOINT, newest first."""
    columns = {"revision": "REVISION", "at": "AT", "actor_name": "BY", "verb": "VERB", "summary": "WHAT", "reason": "WHY"}
    session.table(session.api.rows(f"endpoints/{endpoint}/ledger/", limit), columns, f"Nothing was changed at {endpoint} yet.")


def traffic(endpoint: dict[str, Any]) -> str:
    """Write the slots of an endpoint as one line: ``blue 90 % churn 3, green 10 % churn 4``."""
    if not endpoint.get("loaded", True):
        return "out of service"
    full = [slot for slot in endpoint.get("slots", []) if slot.get("version")]
    return ", ".join(f"{slot['name']} {slot['weight']} % {cell(slot, 'model')} {cell(slot, 'version')}" for slot in full) or "empty"


def _change(session: Session, endpoint: str, verb: str, body: dict[str, Any], reason: str) -> Any:
    """Change the state that we see: whoever changed it in between wins, and we are told."""
    seen = session.api.get(f"endpoints/{endpoint}/")
    return _apply(session, endpoint, verb, {**body, "revision": seen["revision"], "reason": reason})


def _apply(session: Session, endpoint: str, verb: str, body: dict[str, Any]) -> Any:
    after = session.api.post(f"endpoints/{endpoint}/{verb}/", {name: value for name, value in body.items() if value is not None})
    session.show(after, f"{endpoint}: {traffic(after)}  (revision {after['revision']})")
    return after
