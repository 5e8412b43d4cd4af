"""``signalbox sign-in``: for whoever holds the machine; needs no password and no key."""

from __future__ import annotations

import os

import click

from config.cli.api import Address
from config.cli.failures import Failure
from config.cli.session import json_option, show
from core.environment import environment
from core.note import read_note


@click.command("sign-in")
@json_option
def sign_in(*, as_json: bool) -> None:
    """Print a link that signs the first admin in, once.

    It is good for 15 minutes. Only on the machine where Signalbox runs.
    """
    if not read_note(environment().run_dir) and not environment().external_database_url:
        raise Failure("Signalbox is not running on this machine, so there is nothing to sign in to.", next_command="signalbox up")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from config.up.people import sign_in_path

    url = Address.find().console_url + sign_in_path()
    show({"url": url}, url, as_json=as_json)
