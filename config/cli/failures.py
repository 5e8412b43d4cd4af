"""How a command fails: what, why, and the next command, on stderr, with an exit code that scripts can use."""

from __future__ import annotations

import os
from typing import IO, Any

import click

FAILED = 1
REFUSED = 3


class Failure(click.ClickException):
    """Shown as ``Error: what`` and, where there is one, ``Next: command``. ``status`` is that of HTTP."""

    exit_code = FAILED

    def __init__(self, message: str, *, next_command: str = "", status: int = 0) -> None:
        super().__init__(message)
        self.next_command = next_command
        self.status = status

    def show(self, file: IO[Any] | None = None) -> None:
        click.secho(f"Error: {self.message}", fg="red", err=True, color=False if "NO_COLOR" in os.environ else None)
        if self.next_command:
            click.echo(f"Next:  {self.next_command}", err=True)


class Refused(Failure):
    """A check refused, and nothing was changed."""

    exit_code = REFUSED
