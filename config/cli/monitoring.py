"""``signalbox drift`` and ``signalbox alerts``."""

from __future__ import annotations

import click

from config.cli.session import Session, connected


@click.command()
@click.argument("endpoint")
@click.option("--hours", default=24, show_default=True)
@connected
def drift(session: Session, endpoint: str, hours: int) -> None:
    """Show how far the features of ENDPOINT have moved from the reference. LIMIT is the PSI from which on it is more than chance."""
    grid = session.api.get(f"endpoints/{endpoint}/drift/", hours=hours)
    if session.as_json:
        session.show(grid, "")
        return
    columns = {"feature": "FEATURE", "verdict": "VERDICT", "psi": "PSI", "limit": "LIMIT", "n": "ROWS", "importance": "IMPORTANCE", "text": "WHY"}
    session.table(grid.get("rows", []), columns, f"No drift of {endpoint} is known yet: it needs traffic for some minutes.")


@click.command()
@click.option("--state", type=click.Choice(["open", "acknowledged", "resolved"]), default=None)
@click.option("--limit", default=50, show_default=True)
@connected
def alerts(session: Session, state: str | None, limit: int) -> None:
    """List the alerts, newest first."""
    columns = {"number": "ALERT", "state": "STATE", "severity": "SEVERITY", "endpoint": "ENDPOINT", "title": "WHAT", "first_at": "SINCE"}
    session.table(session.api.rows("alerts/", limit, state=state), columns, "All quiet.")
