"""The version of this Signalbox, from the one place where it is written."""

from __future__ import annotations

import tomllib

from core.environment import ROOT


def version() -> str:
    """Give the version, as in ``0.1.0``."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        number: str = tomllib.load(file)["project"]["version"]
    return number
