"""``signalbox predict``, ``signalbox outcomes`` and ``signalbox export-predictions``."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from config.cli.failures import FAILED, REFUSED
from config.cli.session import Session, connected

_MOST_CLASSES, _LARGEST = 5, 3
_LARGE = 999_999.5
"""From here on six digits are no longer enough."""


@click.command()
@click.argument("endpoint")
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--row", "rows", multiple=True, metavar="JSON", help="One row, for example '{\"age\": 41}'; may be repeated.")
@connected
def predict(session: Session, endpoint: str, file: BinaryIO | None, rows: tuple[str, ...]) -> None:
    """Ask ENDPOINT for predictions.

    FILE is a JSON list of rows, or a CSV with a header; - is the standard input.
    """
    if bool(rows) == bool(file):
        raise click.UsageError("Give the rows: a FILE, or --row JSON.")
    content = file.read() if file else b""
    if file and not content.lstrip().startswith((b"[", b"{")):
        answer = session.api.predict(endpoint, None, {"Content-Type": "text/csv"}, content=content)
    else:
        answer = session.api.predict(endpoint, {"rows": _read_rows(content) if file else [_read_row(row) for row in rows]})
    if session.as_json:
        session.show(answer, "")
        return
    session.progress(f"{answer['model']} version {answer['version']} ({answer['slot']}), prediction {answer['prediction_id']}")
    lines = [_line(row, prediction) for row, prediction in enumerate(answer["predictions"])]
    # A path to a value may have no dot, and a class may: the columns are called by their place.
    titles = list(dict.fromkeys(title for line in lines for title in line))
    cells = [{str(place): line.get(title) for place, title in enumerate(titles)} for line in lines]
    session.table(cells, {str(place): title for place, title in enumerate(titles)}, "")


def _line(row: int, prediction: dict[str, Any]) -> dict[str, str]:
    """Give one row's answer by the titles of its columns: a share for each class, if they are few, else the largest."""
    line = {"ROW": str(row)}
    for name, value in prediction.items():
        if not isinstance(value, dict):
            line[name.upper()] = _shown(value)
            continue
        what = "P" if name == "probabilities" else name.upper()
        if len(value) <= _MOST_CLASSES:
            line |= {f"{what}({each})": _shown(part) for each, part in value.items()}
        else:
            largest = sorted(value.items(), key=lambda pair: -math.inf if pair[1] is None else pair[1], reverse=True)[:_LARGEST]
            line[name.upper()] = ", ".join(f"{each} {_shown(part)}" for each, part in largest) + f" and {len(value) - _LARGEST} more"
    return line


def _shown(value: Any) -> str:
    """Write a number with up to six digits and no exponent, as people read it, and what is none (null, for NaN and infinity) as other tables do."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return ", ".join(_shown(part) for part in value) if isinstance(value, list) else str(value)
    return f"{value:.0f}" if abs(value) >= _LARGE else f"{value:z.6f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:.6g}"


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--prediction", help="The id of one prediction.")
@click.option("--value", help="What turned out to be true.")
@connected
def outcomes(session: Session, file: Path | None, prediction: str | None, value: str | None) -> None:
    """Send what turned out to be true.

    A CSV FILE with the columns prediction_id, value and, for requests of many rows, row; or one --prediction with its --value.
    """
    if file is not None:
        sent = session.api.post("outcomes/", content=file.read_bytes(), headers={"Content-Type": "text/csv"})
    elif prediction and value is not None:
        sent = session.api.post("outcomes/", {"outcomes": [{"prediction_id": prediction, "value": _value(value)}]})
    else:
        raise click.UsageError("Give a FILE, or --prediction and --value.")
    session.show(sent, f"{sent['accepted']} accepted, {sent['parked']} wait for their prediction, {sent['refused']} refused")
    for error in sent["errors"]:
        session.progress(f"  outcome {error['index']}: {error['reason']}")
    if sent["refused"]:
        raise SystemExit(FAILED if sent["accepted"] or sent["parked"] else REFUSED)


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse what is no time here, where the option has its name; the API reads it."""
    try:
        _ = text and datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time: write it as 2026-11-22T14:05Z.") from error
    return text


@click.command()
@click.argument("endpoint")
@click.option("--format", "form", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True, help="The form of the file.")
@click.option("--from", "since", metavar="TIME", callback=_moment, help="The first moment, as 2026-11-22T14:05Z; by default 24 hours before the last.")
@click.option("--to", "until", metavar="TIME", callback=_moment, help="The last moment; by default now.")
@click.option("--slot", help="Only what this slot answered.")
@click.option("--version", type=int, help="Only what this version answered.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write; it must not exist.")
@connected
def export_predictions(session: Session, /, endpoint: str, form: str, output: Path, **filters: Any) -> None:
    """Write the logged predictions of ENDPOINT to a file.

    The oldest first, a million rows at most; the answer says where to go on.
    """
    partial = output.with_name(f"{output.name}.partial")
    if output.exists():
        raise click.UsageError(f"{output} exists already.")
    try:
        with partial.open("wb") as file:
            headers = session.api.download(f"endpoints/{endpoint}/predictions/export/", file, format=form, **filters)
        partial.rename(output)
    finally:
        partial.unlink(missing_ok=True)
    size = output.stat().st_size
    following, masked = headers.get("Signalbox-Next-Since"), int(headers.get("Signalbox-Masked", 0))
    more = f". There is more: go on with --from {following}" if following else ""
    session.show({"file": str(output), "size_bytes": size, "next_since": following, "masked": masked}, f"{output}: {size} bytes{more}")
    if masked:
        session.progress(f"Masked and empty: {masked} column{'s' if masked > 1 else ''} of inputs. Seeing the values needs the right predictions.unmask.")


def _read_row(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"--row is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise click.UsageError('--row must be an object, for example {"age": 41}.')
    return row


def _read_rows(content: bytes) -> list[Any]:
    try:
        rows = json.loads(content)
    except ValueError as error:
        raise click.UsageError(f"FILE is not JSON: {error}.") from error
    found: list[Any] = rows if isinstance(rows, list) else rows.get("rows", [rows])
    return found


def _value(text: str) -> str | float | int:
    """Read a number as a number; anything else is text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
