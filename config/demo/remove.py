"""Removes everything that the demo made, through the REST API."""

from __future__ import annotations

from typing import Any

from config.cli.api import Api
from config.cli.failures import Failure
from config.demo.names import ENDPOINTS, KEY_FILE, KEY_NAME, MODELS
from core.environment import environment


def remove_all(api: Api) -> list[str]:
    """Delete endpoints first, since a version that serves cannot be deleted; give the names of what went away."""
    removed = [name for name in ENDPOINTS if _endpoint_deleted(api, name)]
    for model in MODELS:
        removed += _remove_model(api, model)
    for row in api.rows("keys/", 500):
        if row["name"] == KEY_NAME and row["revoked_at"] is None:
            api.delete(f"keys/{row['id']}/")
            removed.append(f"key {row['id']}")
    for path in (environment().var_dir / KEY_FILE, environment().demo_began):
        path.unlink(missing_ok=True)
    return removed


def _remove_model(api: Api, model: str) -> list[str]:
    try:
        numbers = [row["number"] for row in api.rows(f"models/{model}/versions/", 1000)]
    except Failure as failure:
        if failure.status == 404:
            return []
        raise
    removed = [f"{model} version {number}" for number in numbers if _deleted(api, f"models/{model}/versions/{number}/")]
    return [*removed, *([model] if _deleted(api, f"models/{model}/") else [])]


def _endpoint_deleted(api: Api, name: str) -> bool:
    try:
        revision = api.get(f"endpoints/{name}/")["revision"]
    except Failure as failure:
        if failure.status == 404:
            return False
        raise
    return _deleted(api, f"endpoints/{name}/", revision=revision, reason="The demo is removed")


def _deleted(api: Api, path: str, **params: Any) -> bool:
    try:
        api.delete(path, **params)
    except Failure as failure:
        if failure.status == 404:
            return False
        raise
    return True
