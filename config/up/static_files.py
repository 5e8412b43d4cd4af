"""Collects the static files when they changed since the last time; compressing them takes seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

# What Django apps bring along and no page of ours uses.
UNUSED = ["rest_framework", "django_htmx", "redoc", "swagger-ui-es-bundle*", "swagger-ui-standalone-preset*"]


def collect() -> bool:
    """Run collectstatic unless the stamp in STATIC_ROOT is that of the present files; True when it ran."""
    root = Path(settings.STATIC_ROOT)
    stamp = root / ".stamp"
    present = _fingerprint()
    if stamp.exists() and stamp.read_text() == present:
        return False
    call_command("collectstatic", interactive=False, clear=True, ignore_patterns=UNUSED, verbosity=0)
    stamp.write_text(present)
    return True


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list(UNUSED):
            found = Path(storage.path(path)).stat()
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
