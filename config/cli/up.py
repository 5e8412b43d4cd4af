"""``signalbox up`` and ``signalbox restart``."""

from __future__ import annotations

import os
import sys
import time

import click

from config.cli.failures import Failure
from config.up.lock import read_note
from config.up.supervisor import RESTART, run
from core.environment import environment

_RESTARTED_WITHIN_S = 600


@click.command()
def up() -> None:
    """Start everything on this machine; Ctrl-C stops it, the data stays."""
    sys.exit(run(environment()))


@click.command()
def restart() -> None:
    """Restart the processes one by one, say after an upgrade; no prediction is lost, the data servers stay."""
    run_dir = environment().run_dir
    note = read_note(run_dir)
    if not note:
        raise Failure("Signalbox is not running on this machine, so there is nothing to restart.", next_command="signalbox up")
    os.kill(note["pid"], RESTART)
    until = time.monotonic() + _RESTARTED_WITHIN_S
    while time.monotonic() < until:
        now = read_note(run_dir)
        if now.get("restarts", 0) > note.get("restarts", 0):
            if now["restart_failure"]:
                raise Failure(now["restart_failure"], next_command="signalbox doctor")
            click.echo("Restarted: " + ", ".join(name for name, pid in now["processes"].items() if note["processes"].get(name) != pid))
            return
        time.sleep(0.2)
    raise Failure("The restart takes longer than ten minutes; look at the logs.", next_command="signalbox doctor")
