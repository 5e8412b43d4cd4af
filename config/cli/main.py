"""``signalbox``: the group of all commands. Each is imported only when it is called, so that help is quick."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from config.cli.failures import FAILED, Failure
from config.version import version
from core.errors import SignalboxError

COMMANDS = {
    "up": "up",
    "restart": "up",
    "sign-in": "machine",
    "doctor": "doctor",
    "backup": "backup",
    "restore": "backup",
    "demo": "demo",
    "register": "register",
    "models": "models",
    "versions": "models",
    "check-again": "models",
    "alias": "models",
    "tag": "models",
    "endpoints": "endpoints",
    "create-endpoint": "endpoints",
    "configure": "endpoints",
    "deploy": "endpoints",
    "split": "endpoints",
    "promote": "endpoints",
    "rollback": "endpoints",
    "unload": "endpoints",
    "load": "endpoints",
    "ledger": "endpoints",
    "predict": "predictions",
    "outcomes": "predictions",
    "export-predictions": "predictions",
    "drift": "monitoring",
    "performance": "monitoring",
    "validation": "monitoring",
    "alerts": "monitoring",
    "keys": "keys",
}


class Commands(click.Group):
    """Finds a command's module by the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"config.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(version(), prog_name="signalbox")
def signalbox() -> None:
    """Register models, route traffic to them, and see what they do.

    The first steps: up, and in another terminal register, create-endpoint, deploy, predict. Each command says what comes next, and
    `signalbox COMMAND --help` what it takes.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by a check (nothing was changed).
    """


def main() -> None:
    """Run the command line; an error of ours is shown as text, never as a traceback."""
    try:
        signalbox.main(prog_name="signalbox", color=False if "NO_COLOR" in os.environ else None)
    except SignalboxError as error:
        Failure(error.message).show()
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
