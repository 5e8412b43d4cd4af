"""``python -m config.up.prepare``: what must be done before the rest starts, in a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click
import django
from django.core.management import call_command


@click.command()
@click.option("--answer-fd", type=int, required=True, help="Where the answer goes, as JSON.")
def main(answer_fd: int) -> None:
    """Collect the static files if they changed, make the tables, and answer what the supervisor wants to know."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from config.up.people import keep_local_key, sign_in_path
    from config.up.static_files import collect
    from core.environment import environment

    collect()
    call_command("migrate", interactive=False, verbosity=0)
    keep_local_key(Path(environment().var_dir) / "cli.key")
    with os.fdopen(answer_fd, "w", encoding="utf-8") as out:
        json.dump({"sign_in_path": sign_in_path()}, out)


if __name__ == "__main__":
    main()
