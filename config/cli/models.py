"""``signalbox models`` and ``signalbox versions``."""

from __future__ import annotations

import click

from config.cli.session import Session, connected, limit_option


@click.command()
@limit_option
@connected
def models(session: Session, limit: int) -> None:
    """List the models."""
    rows = session.api.rows("models/", limit)
    columns = {"name": "MODEL", "versions": "VERSIONS", "latest_number": "LATEST", "latest_state": "STATE", "aliases": "ALIASES", "owner": "OWNER"}
    session.table(rows, columns, "No models yet. Next:  signalbox register model.joblib --name my-model --sample X.csv")


@click.command()
@click.argument("model")
@limit_option
@connected
def versions(session: Session, model: str, limit: int) -> None:
    """List the versions of MODEL, newest first."""
    rows = session.api.rows(f"models/{model}/versions/", limit)
    columns = {
        "number": "VERSION",
        "state": "STATE",
        "metrics": "METRICS",
        "aliases": "ALIASES",
        "created_at": "REGISTERED",
        "created_by": "BY",
        "description": "DESCRIPTION",
    }
    session.table(rows, columns, f"{model} has no versions. Next:  signalbox register model.joblib --name {model} --sample X.csv")
