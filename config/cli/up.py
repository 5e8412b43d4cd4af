"""``signalbox up``."""

from __future__ import annotations

import sys

import click

from config.up.supervisor import run
from core.environment import environment


@click.command()
def up() -> None:
    """Start everything on this machine; Ctrl-C stops it, the data stays."""
    sys.exit(run(environment()))
