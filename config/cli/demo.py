"""``signalbox demo start|stop|remove``: the demo's process is started and ended by ``signalbox up``."""

from __future__ import annotations

import click

from config.cli.session import Session, connected
from config.up.lock import read_note
from config.up.supervisor import DEMO_STOPPED
from core.environment import environment


@click.group()
def demo() -> None:
    """Two real models with live traffic and a drift to find."""


@demo.command()
def start() -> None:
    """Start the demo; it goes on until it is stopped."""
    (environment().var_dir / DEMO_STOPPED).unlink(missing_ok=True)
    if not environment().demo:
        click.echo("The demo starts with: SIGNALBOX_DEMO=1 signalbox up")
    elif read_note(environment().run_dir):
        click.echo("The demo starts within a second and has all of its traffic after a minute.")
    else:
        click.echo("The demo starts with: signalbox up")


@demo.command()
def stop() -> None:
    """Stop the demo's traffic; its models, endpoints and predictions stay."""
    _stop()
    click.echo("The demo stops within a second. Again: signalbox demo start. Away with it: signalbox demo remove")


@demo.command()
@connected
def remove(session: Session) -> None:
    """Stop the demo and remove its endpoints, models and key."""
    from config.demo.remove import remove_all

    _stop()
    removed = remove_all(session.api)
    session.show(removed, "\n".join(f"removed {name}" for name in removed) or "There is nothing of the demo to remove.")


def _stop() -> None:
    environment().var_dir.mkdir(parents=True, exist_ok=True)
    (environment().var_dir / DEMO_STOPPED).touch()
