"""What nearly every command takes: ``--url``, ``--key`` and ``--json``; and how results are shown."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import click

from config.cli.api import Address, Api

P = ParamSpec("P")
json_option = click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
limit_option = click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
_FRACTION_OF_A_SECOND = re.compile(r"(?<=\d\d:\d\d:\d\d)\.\d+Z$")


def show(result: Any, text: str, *, as_json: bool) -> None:
    """Print ``result`` as JSON when that is wanted, else ``text``."""
    click.echo(json.dumps(result, indent=2, default=str) if as_json else text)


@dataclass(frozen=True, slots=True)
class Session:
    """The API to ask and the way to answer."""

    api: Api
    as_json: bool

    def show(self, result: Any, text: str) -> None:
        """Print ``result`` as JSON when that is wanted, else ``text``."""
        show(result, text, as_json=self.as_json)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
        """Print rows: JSON, a drawn table on a terminal, else aligned text. ``columns`` maps a path to its title."""
        if self.as_json:
            click.echo(json.dumps(rows, indent=2, default=str))
        elif not rows:
            click.echo(empty, err=True)
        else:
            _print_table([[cell(row, path) for path in columns] for row in rows], list(columns.values()))

    def progress(self, text: str) -> None:
        """Say what goes on, on stderr; silent with ``--json``."""
        if not self.as_json:
            click.echo(text, err=True)


def connected(command: Callable[Concatenate[Session, P], None]) -> Callable[P, None]:
    """Give the command its Session, from the three options that it adds."""

    @click.option("--url", envvar="SIGNALBOX_URL", show_envvar=True, default="", help="The console's address; by default that of this machine.")
    @click.option(
        "--predict-url", envvar="SIGNALBOX_PREDICT_URL", show_envvar=True, default="", help="The data plane's address; by default the console tells it."
    )
    @click.option("--key", envvar="SIGNALBOX_KEY", show_envvar=True, default="", help="An API key; by default that of this machine.")
    @json_option
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        address = Address.find(str(kwargs.pop("url")), str(kwargs.pop("key")), str(kwargs.pop("predict_url")))
        command(Session(Api(address), as_json=bool(kwargs.pop("as_json"))), *args, **kwargs)

    return run


def cell(row: Mapping[str, Any], path: str) -> str:
    """Give the value at a dotted path as text."""
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "  ".join(f"{name} {_text(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value) or "-"
    return _FRACTION_OF_A_SECOND.sub("Z", str(value))


def pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """Read ``name=value`` arguments."""
    found = dict(value.partition("=")[::2] for value in values)
    wrong = [value for value in values if "=" not in value]
    if wrong:
        raise click.UsageError(f"{option}: write name=value, not {wrong[0]!r}.")
    return found


def _print_table(cells: list[list[str]], titles: list[str]) -> None:
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        from rich.console import Console
        from rich.table import Table

        table = Table(*titles, box=None, pad_edge=False, header_style="bold")
        for line in cells:
            table.add_row(*line)
        Console().print(table, markup=False)
        return
    widths = [max(len(line[place]) for line in [titles, *cells]) for place in range(len(titles))]
    for line in [titles, *cells]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
