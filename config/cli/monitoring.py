"""``signalbox drift``, ``signalbox performance``, ``signalbox validation`` and ``signalbox alerts``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from config.cli.session import Session, connected, limit_option
from console.templatetags.formats import span
from serving.sealed_names import shown_name


@click.command()
@click.argument("endpoint")
@click.option("--hours", type=click.IntRange(1, 168), default=24, show_default=True, help="How far back.")
@click.option("--version", type=int, help="Of this version; by default the live one.")
@connected
def drift(session: Session, endpoint: str, hours: int, version: int | None) -> None:
    """Show how far the features of ENDPOINT have moved.

    From the reference, which is the sample of the version if nobody chose another. PSI says how far; LIMIT is the PSI from which on it is
    more than chance; IMPORTANCE is the feature's share in what the answers depend on.
    """
    grid = session.api.get(f"endpoints/{endpoint}/drift/", hours=hours, version=version)
    if session.as_json:
        session.show(grid, "")
        return
    columns = {"feature": "FEATURE", "verdict": "VERDICT", "psi": "PSI", "limit": "LIMIT", "n": "ROWS", "importance": "IMPORTANCE"}
    named = endpoint if version is None else f"{endpoint} version {version}"
    if grid["rows"]:
        session.progress(f"{grid['model']} version {grid['version']}: {grid['text']}")
    rows = [{**row, "verdict": row["verdict"].replace("_", " ")} for row in grid["rows"]]
    session.table(rows, columns, f"No drift of {named} is known yet: it needs traffic for some minutes.")


@click.command()
@click.argument("endpoint")
@click.option("--hours", type=click.IntRange(1, 8760), default=24, show_default=True, help="How far back.")
@connected
def performance(session: Session, endpoint: str, hours: int) -> None:
    """Show how right the answers of ENDPOINT were.

    One line per version, from the outcomes that came in. EXPECTED is what the version was registered with, else what its first windows reached.
    """
    found = session.api.get(f"endpoints/{endpoint}/performance/", hours=hours)
    if session.as_json:
        session.show(found, "")
        return
    columns = {"model": "MODEL", "version": "VERSION", "metric": "METRIC", "value": "VALUE", "baseline": "EXPECTED", "delay_s": "DELAY S", "text": "OUTCOMES"}
    session.table(found["summary"], columns, f"{endpoint} answered nothing in the last {hours} hours.")
    if found["summary"] and not any(row["n"] for row in found["summary"]):
        session.progress("Next:  signalbox outcomes FILE.csv")


@click.command()
@click.argument("endpoint")
@click.option("--hours", type=click.IntRange(1, 168), default=24, show_default=True, help="How far back.")
@click.option("--version", type=int, default=None, help="By default all versions that answer.")
@connected
def validation(session: Session, endpoint: str, hours: int, version: int | None) -> None:
    """Show what was done with odd values at ENDPOINT.

    Values outside the signature by what was done with them, SHARE of the rows, requests REFUSED.
    """
    found = session.api.get(f"endpoints/{endpoint}/validation/", hours=hours, version=version)
    if session.as_json:
        session.show(found, "")
        return
    columns = {"feature": "FEATURE", "policy": "POLICY", "clipped": "CLIPPED", "replaced": "REPLACED", "filled": "FILLED", "flagged": "FLAGGED"}
    columns |= {"share": "SHARE", "refused": "REFUSED"}
    session.table(found["features"], columns, f"Nothing outside the signature came to {endpoint} in the last {hours} h.")
    session.progress(f"{found['rows']:,} rows were checked.")


@click.command()
@click.option("--state", type=click.Choice(["open", "acknowledged", "resolved"]), default=None, help="Only those; by default all.")
@limit_option
@connected
def alerts(session: Session, state: str | None, limit: int) -> None:
    """List the alerts, newest first.

    FIRST WINDOW is the first stretch of time in which the limit was crossed.
    """
    columns = {"number": "ALERT", "state": "STATE", "severity": "SEVERITY", "endpoint": "ENDPOINT", "title": "WHAT", "window": "FIRST WINDOW"}
    rows = session.api.rows("alerts/", limit, state=state)
    session.table(rows if session.as_json else [_for_people(row) for row in rows], columns, "All quiet.")


def _for_people(alert: dict[str, Any]) -> dict[str, Any]:
    end = datetime.fromisoformat(alert["first_end_at"]) if alert["first_end_at"] else None
    return alert | {"endpoint": shown_name(alert["endpoint"]), "window": span(datetime.fromisoformat(alert["first_at"]), end)}
