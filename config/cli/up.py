"""``signalbox up`` and ``signalbox restart``."""

from __future__ import annotations

import os
import sys
import time

import click

from config.cli.failures import Failure
from config.cli.session import json_option, show
from config.up.supervisor import RESTART, run
from core.environment import environment
from core.note import read_note

_RESTARTED_WITHIN_S = 600


@click.command()
@click.option("--unless-running", is_flag=True, help="Do nothing if it runs already.")
def up(*, unless_running: bool) -> None:
    """Start everything on this machine.

    Ctrl-C stops it; the data stays. SIGNALBOX_CONSOLE_PORT, SIGNALBOX_PREDICT_PORT and SIGNALBOX_VAR_DIR choose other ports and another folder;
    docs/reference/settings.md has all settings.
    """
    if not (unless_running and read_note(environment().run_dir)):
        sys.exit(run(environment()))


@click.command()
@json_option
def restart(*, as_json: bool) -> None:
    """Restart the processes one by one.

    Say after an upgrade. No prediction is lost; PostgreSQL and Redis stay.
    """
    run_dir = environment().run_dir
    note = read_note(run_dir)
    if not note:
        raise Failure("Signalbox is not running on this machine, so there is nothing to restart.", next_command="signalbox up")
    if not as_json:
        click.echo("Replacing the processes one by one; predictions go on.", err=True)
    os.kill(note["pid"], RESTART)
    until = time.monotonic() + _RESTARTED_WITHIN_S
    while time.monotonic() < until:
        now = read_note(run_dir)
        if now.get("restarts", 0) > note.get("restarts", 0):
            if now["restart_failure"]:
                raise Failure(now["restart_failure"], next_command="signalbox doctor")
            names = [name for name, pid in now["processes"].items() if note["processes"].get(name) != pid]
            show({"restarted": names}, f"Restarted: {', '.join(names)}", as_json=as_json)
            return
        time.sleep(0.2)
    raise Failure("The restart takes longer than ten minutes; look at the logs.", next_command="signalbox doctor")
