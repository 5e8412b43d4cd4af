"""Endpoints: ``endpoints``, ``create-endpoint``, ``configure``, ``deploy``, ``split``, ``promote``, ``rollback``, ``load``, ``unload``, ``ledger``."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from config.cli.failures import Failure
from config.cli.session import Session, cell, connected, limit_option, pairs
from console import snippets
from registry.signature import Feature

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
@click.option(
    "--log-policy",
    type=click.Choice(["durable", "fast", "sampled", "off"]),
    default="fast",
    show_default=True,
    help="How predictions are logged: before the answer, within 50 ms, a share of them, or not at all.",
)
@connected
def create_endpoint(session: Session, name: str, description: str, sticky_on: str, log_policy: str) -> None:
    """Create the endpoint NAME, with two empty slots.

    An endpoint is an address that stays while versions change. Its slots are called blue and green.
    """
    made = session.api.post("endpoints/", {"name": name, "description": description, "sticky_on": sticky_on, "log_policy": log_policy})
    session.show(made, f"{name} is there, and empty.")
    session.progress(f"Next:  signalbox deploy {name} MODEL VERSION")


@click.command()
@click.argument("endpoint")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@reason_option
@connected
def configure(session: Session, endpoint: str, settings: tuple[str, ...], reason: str) -> None:
    """Change settings of ENDPOINT.

    For example: signalbox configure churn-scorer log_policy=durable limits.max_rows=500 cache.ttl_s=60 masked_inputs=age,income
    """
    seen = session.api.get(f"endpoints/{endpoint}/")
    changes: dict[str, Any] = {}
    for name, text in pairs(settings, "NAME=VALUE").items():
        group, _, member = name.partition(".")
        if member:
            changes.setdefault(group, dict(seen.get(group) or {}))[member] = _value(text)
        else:
            changes[group] = _values(text) if isinstance(seen.get(group), list) else _value(text)
    after = session.api.patch(f"endpoints/{endpoint}/", {**changes, "revision": seen["revision"], "reason": reason})
    session.show(after, f"{endpoint}: {', '.join(settings)}  (revision {after['revision']})")


def _values(text: str) -> list[Any]:
    """Read a JSON list, or names with commas between them; nothing is none."""
    value = _value(text)
    return value if isinstance(value, list) else [part for part in text.split(",") if part]


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
@click.option("--build", "build_kind", default="onnx", show_default=True, help="The form of the version that is to answer.")
@reason_option
@connected
def deploy(session: Session, /, *, endpoint: str, model: str, version: int, slot: str | None, build_kind: str, reason: str) -> None:
    """Put VERSION of MODEL into a slot of ENDPOINT, warm.

    Without traffic, but for the very first, which gets all of it.
    """
    body = {"model": model, "version": version, "slot": slot, "build_kind": build_kind}
    after = _change(session, endpoint, "deploy", body, reason)
    shares = {slot["name"]: slot["weight"] for slot in after["slots"] if slot.get("version")}
    if session.as_json:
        return
    if len(shares) == 1:
        session.progress(f"Next:  signalbox predict {endpoint} rows.json{_curl(session, endpoint, model, version)}")
    elif after["loaded"]:
        live = after["live_slot"]
        other = next(name for name in shares if name != live)
        session.progress(f"Next:  signalbox split {endpoint} {live}=90 {other}=10   or   signalbox promote {endpoint}")


def _curl(session: Session, endpoint: str, model: str, version: int) -> str:
    """A request to paste, with a row of the version's sample; nothing with a key that may not see the version."""
    try:
        signature = session.api.get(f"models/{model}/versions/{version}/")["signature"]
        url = session.api.predict_url()
    except Failure:
        return ""
    row = snippets.example(msgspec.convert(signature["features"], tuple[Feature, ...]))
    return f"   or paste\n{snippets.curl(url, endpoint, row, session.api.address.key_in_shell)}"


@click.command()
@click.argument("endpoint")
@click.argument("weights", nargs=-1, required=True, metavar="SLOT=PERCENT...")
@reason_option
@connected
def split(session: Session, endpoint: str, weights: tuple[str, ...], reason: str) -> None:
    """Share the traffic of ENDPOINT among its slots.

    In whole percent, 100 in sum: signalbox split churn-scorer blue=90 green=10
    """
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
    """Give all traffic of ENDPOINT to the candidate.

    The candidate is the slot with a version that is not live. The replaced version stays warm.
    """
    _change(session, endpoint, "promote", {"slot": slot}, reason)
    session.progress(f"Back:  signalbox rollback {endpoint}")


@click.command()
@click.argument("endpoint")
@click.option("--to-revision", type=int, default=None, help="By default the latest in which another version answered everything.")
@reason_option
@connected
def rollback(session: Session, endpoint: str, to_revision: int | None, reason: str) -> None:
    """Apply an earlier state of ENDPOINT, at once.

    Nothing is checked. `signalbox ledger ENDPOINT` lists the states.
    """
    _apply(session, endpoint, "roll-back", {"to_revision": to_revision, "reason": reason})


@click.command()
@click.argument("endpoint")
@reason_option
@connected
def unload(session: Session, endpoint: str, reason: str) -> None:
    """Take ENDPOINT out of service.

    Its callers get 503, and its builds leave the memory.
    """
    _change(session, endpoint, "unload", {}, reason)
    session.progress(f"Back:  signalbox load {endpoint}")


@click.command()
@click.argument("endpoint")
@reason_option
@connected
def load(session: Session, endpoint: str, reason: str) -> None:
    """Put ENDPOINT back into service.

    With the slots and shares that it has.
    """
    _change(session, endpoint, "load", {}, reason)


@click.command()
@click.argument("endpoint")
@limit_option
@connected
def ledger(session: Session, endpoint: str, limit: int) -> None:
    """List what changed the answers of ENDPOINT.

    The newest first.
    """
    session.api.get(f"endpoints/{endpoint}/")  # says so when there is none; the ledger of none is just empty
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
