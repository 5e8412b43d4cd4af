"""``signalbox demo start|stop|remove``: the demo's process is started and ended by ``signalbox up``."""

from __future__ import annotations

import time

import click

from config.cli.failures import Failure
from config.cli.session import Session, connected, json_option, show
from core.environment import environment
from core.note import read_note

_STOPPED_WITHIN_S = 15


@click.group()
def demo() -> None:
    """Two real models, live traffic, and a drift to find."""


@demo.command()
@json_option
def start(*, as_json: bool) -> None:
    """Start the demo; it goes on until it is stopped."""
    environment().demo_stopped.unlink(missing_ok=True)
    note = read_note(environment().run_dir)
    if note and not note.get("demo", True):
        raise Failure("Signalbox runs without its demo (SIGNALBOX_DEMO=0). Stop it with Ctrl-C.", next_command="SIGNALBOX_DEMO=1 signalbox up")
    if note:
        show({"demo": "starts"}, "The demo starts within a second and has all of its traffic after a minute.", as_json=as_json)
    else:
        up = "signalbox up" if environment().demo else "SIGNALBOX_DEMO=1 signalbox up"
        show({"demo": "waits", "next": up}, f"The demo starts with: {up}", as_json=as_json)


@demo.command()
@json_option
def stop(*, as_json: bool) -> None:
    """Stop the demo's traffic.

    Its models, endpoints and predictions stay.
    """
    _stop()
    text = "The demo stops within a second. Again: signalbox demo start. Away with it: signalbox demo remove"
    show({"demo": "stops"}, text, as_json=as_json)


@demo.command()
@connected
def remove(session: Session) -> None:
    """Stop the demo and remove its endpoints, versions and key.

    What is not the demo's stays: an endpoint where something else is deployed, and other versions of its models.
    """
    from config.demo.remove import remove_all

    _stop()
    _wait_until_stopped()
    removed = remove_all(session.api)
    session.show(removed, "\n".join(f"removed {name}" for name in removed) or "There is nothing of the demo to remove.")


def _wait_until_stopped() -> None:
    """While its process lives it could still bring back what is removed."""
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    while "demo" in read_note(environment().run_dir).get("processes", {}):
        if time.monotonic() > deadline:
            raise Failure("The demo has not stopped yet; nothing was removed. Try again in a moment.", next_command="signalbox demo remove")
        time.sleep(0.1)


def _stop() -> None:
    environment().var_dir.mkdir(parents=True, exist_ok=True)
    environment().demo_stopped.touch()
