"""``docs/reference/cli.md`` names every command, and no other."""

from __future__ import annotations

import re

from config.cli.main import COMMANDS, signalbox
from core.environment import ROOT


def test_every_command_is_documented_and_explains_itself() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert {match[1] for match in re.finditer(r"^\| `signalbox ([a-z-]+)", page, re.MULTILINE)} == set(COMMANDS)
    with signalbox.make_context("signalbox", ["models"]) as context:
        for name in COMMANDS:
            command = signalbox.get_command(context, name)
            assert command is not None
            assert command.help
