"""The first admin, the one-time link that signs in, and the key of this machine's command line."""

from __future__ import annotations

import os
from pathlib import Path

from django.db import transaction

from access.actors import system
from access.keys import actor_of_key, create_key
from access.models import Person, Role
from access.sign_in import create_link, link_path
from core.errors import SignalboxError

FIRST_ADMIN = "admin"


def first_admin() -> Person:
    """Give the oldest admin who may sign in; on a fresh database make ``admin``, who has no password."""
    with transaction.atomic():
        person = Person.objects.filter(role=Role.ADMIN, is_active=True).order_by("id").first()
        return person or Person.objects.create_user(username=FIRST_ADMIN, role=Role.ADMIN)


def sign_in_path() -> str:
    """Give the path of a fresh link that signs the first admin in once."""
    return link_path(create_link(first_admin()))


def keep_local_key(path: Path) -> str:
    """Give the key in ``path``; make a new one, readable by the owner alone, when there is none that works."""
    if path.exists() and _works(text := path.read_text().strip()):
        return text
    text = create_key(actor=system("up"), name="command line on this machine", scopes=["admin", "predict"]).text
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
    return text


def _works(text: str) -> bool:
    try:
        actor_of_key(text, "127.0.0.1")
    except SignalboxError:
        return False
    return True
