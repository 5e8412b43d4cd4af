"""Turns a ``postgresql://`` URL into Django's options, by libpq's own rules."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict


def postgres_options(url: str) -> dict[str, Any]:
    """Give NAME, USER, PASSWORD, HOST, PORT and whatever else the URL says, as OPTIONS."""
    parts = dict(conninfo_to_dict(url))
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    options = {django: parts.pop(libpq, "") or "" for django, libpq in names.items()}
    return {**options, "OPTIONS": {"connect_timeout": 5, **parts}}
