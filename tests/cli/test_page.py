"""``docs/reference/cli.md`` names every command, and no other; and ``--help`` says of each what it is, and of each option."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

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


def test_the_list_of_commands_has_a_whole_sentence_for_each() -> None:
    for group in ("", "demo", "keys"):
        lines = CliRunner().invoke(signalbox, [*group.split(), "--help"], terminal_width=80).output.partition("Commands:\n")[2].splitlines()
        assert lines
        assert [line for line in lines if line.endswith("...") or not line.endswith(".")] == []


def test_every_option_says_what_it_is_and_every_answer_comes_as_json_too() -> None:
    silent, without_json = [], []
    for path, command in every_command(signalbox, ""):
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        silent += [f"{path} {option.opts[0]}" for option in options if not option.help]
        without_json += [path] if "--json" not in {name for option in options for name in option.opts} else []
    assert silent == []
    assert without_json == ["up"]


@pytest.mark.parametrize(("environ", "colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(tmp_path: Path, environ: dict[str, str], colours: bool) -> None:
    ours, terminal = pty.openpty()
    try:
        command = [sys.executable, "-m", "config.cli.main", "models", "--url", "http://127.0.0.1:1"]
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        ended = subprocess.run(command, cwd=ROOT, env={**kept, **environ, "SIGNALBOX_VAR_DIR": str(tmp_path)}, stderr=terminal, check=False)
        said = os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(terminal)
    assert (ended.returncode, b"does not answer" in said, b"\x1b[31m" in said) == (1, True, colours)


def every_command(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from every_command(command, f"{path}{name} ")
            else:
                yield f"{path}{name}", command
