"""``python -m config.up.prepare database|static``: what must be done before the console starts, in its own process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import django
from django.core.management import call_command


@click.command()
@click.argument("step", type=click.Choice(["database", "static"]))
@click.option("--answer-fd", type=int, required=True, help="Where the answer goes, as JSON.")
def main(step: str, answer_fd: int) -> None:
    """Do one step and answer what the supervisor wants to know."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    answer = _database() if step == "database" else _static()
    with os.fdopen(answer_fd, "w", encoding="utf-8") as out:
        json.dump(answer, out)


def _static() -> dict[str, Any]:
    from config.up.static_files import collect

    return {"collected": collect()}


def _database() -> dict[str, Any]:
    from config.up.people import keep_local_key, sign_in_path

    call_command("migrate", interactive=False, verbosity=0)
    from core.environment import environment

    keep_local_key(Path(environment().var_dir) / "cli.key")
    return {"sign_in_path": sign_in_path()}


if __name__ == "__main__":
    main()
