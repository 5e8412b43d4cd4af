"""Models and versions: ``models``, ``versions``, ``check-again``, ``alias``, ``tag``."""

from __future__ import annotations

from typing import Any

import click

from config.cli.failures import Failure
from config.cli.register import watch
from config.cli.session import Session, connected, limit_option, pairs


@click.command()
@limit_option
@connected
def models(session: Session, limit: int) -> None:
    """List the models."""
    rows = [{**row, "standing": _standing(row, "latest_")} for row in session.api.rows("models/", limit)]
    columns = {"name": "MODEL", "versions": "VERSIONS", "latest_number": "LATEST", "standing": "STATE", "aliases": "ALIASES", "owner": "OWNER"}
    session.table(rows, columns, "No models yet. Next:  signalbox register model.joblib --name my-model --sample X.csv")


@click.command()
@click.argument("model")
@limit_option
@connected
def versions(session: Session, model: str, limit: int) -> None:
    """List the versions of MODEL, newest first."""
    rows = [{**row, "standing": _standing(row)} for row in session.api.rows(f"models/{model}/versions/", limit)]
    columns = {
        "number": "VERSION",
        "standing": "STATE",
        "metrics": "METRICS",
        "aliases": "ALIASES",
        "created_at": "REGISTERED",
        "created_by": "BY",
        "description": "DESCRIPTION",
    }
    session.table(rows, columns, f"{model} has no versions. Next:  signalbox register model.joblib --name {model} --sample X.csv")


def _standing(version: dict[str, Any], prefix: str = "") -> str:
    """Say of a version that is ready, and has no build that serves here, what its page says."""
    return "not servable" if version[f"{prefix}not_servable_reason"] else str(version[f"{prefix}state"])


@click.command("check-again")
@click.argument("model")
@click.argument("version", type=int)
@click.option("--wait/--no-wait", default=True, help="Wait until the version is checked.")
@click.option("--timeout", "timeout_s", default=900, show_default=True, help="Seconds to wait.")
@connected
def check_again(session: Session, model: str, version: int, wait: bool, timeout_s: float) -> None:
    """Check VERSION of MODEL anew.

    After an interruption, or when a later release can convert more.
    """
    after = session.api.post(f"models/{model}/versions/{version}/recheck/")
    if wait:
        after = watch(session, model, version, timeout_s)
    session.show(after, f"{model} version {version} is {after['state']}.")


@click.command()
@click.argument("model")
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option("--remove", is_flag=True, help="Take the alias off; the version stays.")
@click.option("--seen", type=click.IntRange(min=0), default=None, metavar="N", help="The version it was seen on, 0 for none: moved since, it stays there.")
@connected
def alias(session: Session, model: str, name: str, version: int | None, remove: bool, seen: int | None) -> None:
    """Put an alias on a version, or take it off.

    NAME is the alias, VERSION the version of MODEL. An alias routes nothing.
    """
    if (version is None) is not remove:
        raise click.UsageError("Name the version for the alias, or --remove.")
    path = f"models/{model}/aliases/{name}/"
    body = {} if seen is None else {"seen": seen}
    if remove:
        session.api.delete(path, **body)
        session.show({"name": name, "version": None}, f"{model}: {name} is on no version.")
    else:
        session.show(session.api.put(path, body | {"version": version}), f"{model}: {name} is on version {version}.")


@click.command()
@click.argument("model")
@click.argument("tags", nargs=-1, metavar="NAME=VALUE...")
@click.option("--version", type=int, default=None, metavar="N", help="Tag this version instead of the model.")
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="Take a tag off; may be repeated.")
@connected
def tag(session: Session, model: str, tags: tuple[str, ...], version: int | None, removed: tuple[str, ...]) -> None:
    """Set tags of MODEL, or of a version of it.

    Those that are not named stay.
    """
    if not tags and not removed:
        raise click.UsageError("Name a tag to set, or --remove one.")
    path, subject = (f"models/{model}/", model) if version is None else (f"models/{model}/versions/{version}/", f"{model} version {version}")
    seen = session.api.get(path)
    if lacking := [name for name in removed if name not in seen["tags"]]:
        raise Failure(f"{subject} has no tag {lacking[0]}. Nothing was changed.")
    wanted = {name: value for name, value in seen["tags"].items() if name not in removed} | pairs(tags, "NAME=VALUE")
    after = session.api.patch(path, {"tags": wanted, "revision": seen["revision"]})
    session.show(after, f"{subject}: {'  '.join(f'{name}={value}' for name, value in after['tags'].items()) or 'no tags'}")
