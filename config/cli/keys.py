"""``signalbox keys``: list, create, revoke."""

from __future__ import annotations

import click

from config.cli.session import Session, connected

SCOPES = click.Choice(["predict", "read", "outcomes", "register", "operate", "admin"])


@click.group()
def keys() -> None:
    """API keys for programs."""


@keys.command("list")
@connected
def list_keys(session: Session) -> None:
    """List the keys; what they are is shown only once, when they are made."""
    columns = {"id": "KEY", "name": "NAME", "scopes": "SCOPES", "endpoints": "ENDPOINTS", "created_at": "CREATED", "revoked_at": "REVOKED"}
    session.table(session.api.rows("keys/", 500), columns, "No keys yet. Next:  signalbox keys create NAME --scope predict")


@keys.command("create")
@click.argument("name")
@click.option("--scope", "scopes", type=SCOPES, multiple=True, required=True, help="What it may do; may be repeated.")
@click.option("--endpoint", "endpoints", multiple=True, help="Only this endpoint; may be repeated.")
@click.option("--expires-at", default=None, metavar="TIME", help="For example 2030-01-01T00:00:00Z.")
@connected
def create_key(session: Session, name: str, scopes: tuple[str, ...], endpoints: tuple[str, ...], expires_at: str | None) -> None:
    """Make a key and show it this once."""
    made = session.api.post("keys/", {"name": name, "scopes": scopes, "endpoints": endpoints, "expires_at": expires_at})
    session.progress("This is shown only once:")
    session.show(made, made["key"])


@keys.command("revoke")
@click.argument("key_id")
@connected
def revoke_key(session: Session, key_id: str) -> None:
    """End a key at once."""
    session.api.delete(f"keys/{key_id}/")
    session.show({"id": key_id, "revoked": True}, f"{key_id} is revoked.")
