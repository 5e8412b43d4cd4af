"""``signalbox keys``: list, create, limit, revoke, and what a key has used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from config.cli.session import Session, connected

SCOPES = click.Choice(["predict", "read", "outcomes", "register", "operate", "admin"])

_LIMITS = (
    ("--rate", "requests_per_s", click.FloatRange(min=0), "Requests per second."),
    ("--burst", "burst", click.IntRange(min=0), "Requests that may come at once before the rate holds; by default those of a second."),
    ("--rows-per-request", "max_rows", click.IntRange(min=0), "Rows per request."),
    ("--bytes-per-request", "max_body_bytes", click.IntRange(min=0), "Bytes of a request, also when unpacked."),
    ("--timeout-ms", "timeout_ms", click.IntRange(min=0), "Milliseconds for an answer."),
    ("--at-once", "max_concurrency", click.IntRange(min=0), "Requests at once, per process."),
    ("--rows-per-day", "rows_per_day", click.IntRange(min=0), "Rows a day; it ends at midnight UTC."),
    ("--rows-in-all", "rows_in_all", click.IntRange(min=0), "Rows from the key's first request on."),
)


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each limit of a key; it is None where it is not given."""
    for option, name, kind, text in reversed(_LIMITS):
        command = click.option(option, name, type=kind, default=None, metavar="N", help=text)(command)
    return command


def _id_of(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    """Take the id, also from the whole key."""
    start, *rest = text.split("_", 2)
    return rest[0] if start == "sbx" and rest else text


key_argument = click.argument("key_id", callback=_id_of)


@click.group()
def keys() -> None:
    """API keys for programs."""


@keys.command("list")
@connected
def list_keys(session: Session) -> None:
    """List the keys.

    The text of a key is shown only when it is made, never here.
    """
    columns = {"id": "KEY", "name": "NAME", "scopes": "SCOPES", "endpoints": "ENDPOINTS", "limits": "LIMITS", "created_at": "CREATED", "revoked_at": "REVOKED"}
    session.table(session.api.rows("keys/", 500), columns, "No keys yet. Next:  signalbox keys create NAME --scope predict")


@keys.command("create")
@click.argument("name")
@click.option("--scope", "scopes", type=SCOPES, multiple=True, required=True, help="What it may do; may be repeated.")
@click.option("--endpoint", "endpoints", multiple=True, help="Only this endpoint; may be repeated.")
@click.option("--expires-at", default=None, metavar="TIME", help="For example 2030-01-01T00:00:00Z.")
@limit_options
@connected
def create_key(session: Session, /, name: str, scopes: tuple[str, ...], endpoints: tuple[str, ...], expires_at: str | None, **limits: float | None) -> None:
    """Make a key and show it this once."""
    known = {row["name"] for row in session.api.rows("endpoints/", 10_000)} if endpoints else set()
    made = session.api.post("keys/", {"name": name, "scopes": scopes, "endpoints": endpoints, "expires_at": expires_at, "limits": _given(limits)})
    session.progress("This is shown only once:")
    session.show(made, made["key"])
    for missing in sorted(set(endpoints) - known):
        session.progress(f"There is no endpoint {missing} yet: the key is for it once it is there.")
    session.progress(f"Its id is {made['id']}. Next:  signalbox keys limit {made['id']} --rate 10   or   signalbox keys usage {made['id']}")


@keys.command("limit")
@key_argument
@limit_options
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@connected
def limit_key(session: Session, /, key_id: str, reason: str, **limits: float | None) -> None:
    """Set limits of a key.

    0 takes one away; those that are not named stay.
    """
    if not (given := _given(limits)):
        raise click.UsageError(f"Name a limit: {', '.join(option for option, *_ in _LIMITS)}.")
    after = session.api.patch(f"keys/{key_id}/", {"limits": given, "reason": reason})
    session.show(after, f"{key_id}: {_written(after['limits'])}")


@keys.command("usage")
@key_argument
@connected
def key_usage(session: Session, key_id: str) -> None:
    """Show what a key has used.

    Today, in all, and on the last 30 days, beside its budgets.
    """
    used = session.api.get(f"keys/{key_id}/usage/")
    lines = [{"when": "today", **used["today"]}, {"when": "in all", **used["in_all"]}, *({"when": day["day"], **day} for day in used["days"])]
    if session.as_json:
        session.show(used, "")
    else:
        session.table(lines, {"when": "WHEN", "requests": "REQUESTS", "rows": "ROWS", "budget_rows": "BUDGET"}, "")


@keys.command("revoke")
@key_argument
@connected
def revoke_key(session: Session, key_id: str) -> None:
    """End a key at once."""
    session.api.delete(f"keys/{key_id}/")
    session.show({"id": key_id, "revoked": True}, f"{key_id} is revoked.")


def _given(limits: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in limits.items() if value is not None}


def _written(limits: dict[str, Any]) -> str:
    """Write limits as the options that set them."""
    return (
        "  ".join(
            f"{option} {limits[name]:g}" if isinstance(limits[name], float) else f"{option} {limits[name]}" for option, name, *_ in _LIMITS if name in limits
        )
        or "no limits"
    )
