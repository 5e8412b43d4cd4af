"""Removes everything that the demo made, through the REST API."""

from __future__ import annotations

from typing import Any

from config.cli.api import Api
from config.cli.failures import Failure
from config.demo.names import ENDPOINTS, KEY_FILE, KEY_NAME, MODELS
from core.environment import environment

Version = tuple[str, int]


def remove_all(api: Api) -> list[str]:
    """Delete endpoints first, since a version that serves cannot be deleted; give the names of what went away.

    Only what the demo has marked goes: somebody may have a model or an endpoint of that name.
    """
    versions = [(model, number) for model in MODELS for number in _numbers(api, model)]
    removed = [name for name in ENDPOINTS if _endpoint_deleted(api, name, versions)]
    removed += [f"{model} version {number}" for model, number in versions if _deleted(api, f"models/{model}/versions/{number}/")]
    removed += [model for model in MODELS if _is_empty(api, model) and _deleted(api, f"models/{model}/")]
    for row in api.rows("keys/", 500):
        if row["name"] == KEY_NAME and row["revoked_at"] is None:
            api.delete(f"keys/{row['id']}/")
            removed.append(f"key {row['id']}")
    for path in (environment().var_dir / KEY_FILE, environment().demo_began):
        path.unlink(missing_ok=True)
    return removed


def _numbers(api: Api, model: str) -> list[int]:
    return [row["number"] for row in _versions(api, model) or () if row["tags"].get("demo")]


def _is_empty(api: Api, model: str) -> bool:
    return _versions(api, model) == []


def _versions(api: Api, model: str) -> list[Any] | None:
    """Give the versions of a model, None if there is no such model."""
    try:
        return [row for archived in ("false", "true") for row in api.rows(f"models/{model}/versions/", 1000, archived=archived)]
    except Failure as failure:
        if failure.status == 404:
            return None
        raise


def _endpoint_deleted(api: Api, name: str, versions: list[Version]) -> bool:
    try:
        endpoint = api.get(f"endpoints/{name}/")
    except Failure as failure:
        if failure.status == 404:
            return False
        raise
    filled = [slot for slot in endpoint["slots"] if slot["model"]]
    if not filled or any((slot["model"], slot["version"]) not in versions for slot in filled):
        return False
    return _deleted(api, f"endpoints/{name}/", revision=endpoint["revision"], reason="The demo is removed")


def _deleted(api: Api, path: str, **params: Any) -> bool:
    try:
        api.delete(path, **params)
    except Failure as failure:
        if failure.status == 404:
            return False
        raise
    return True
