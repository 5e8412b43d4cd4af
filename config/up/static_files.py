"""Collects the static files when they changed since the last time; compressing them takes seconds.

``python -m config.up.static_files`` does so while Signalbox is set up, so that no start waits for it. They lie
beside the code, not with the data: all that run from this folder share them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

import django
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command

# What Django apps bring along and no page of ours uses.
UNUSED = ["rest_framework", "django_htmx", "redoc", "swagger-ui-es-bundle*", "swagger-ui-standalone-preset*"]


def collect() -> bool:
    """Run collectstatic unless the stamp in STATIC_ROOT is that of the present files; True when it ran."""
    stamp = Path(settings.STATIC_ROOT) / ".stamp"
    present = _fingerprint()
    if _says(stamp, present):
        return False
    stamp.parent.mkdir(exist_ok=True)
    with (stamp.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _says(stamp, present):  # another has just done it
            return False
        # What is no more stays, since a console that runs may still be asked for it. All else is written anew:
        # a package's file may be older than what was collected of the package before it.
        for path in stamp.parent.rglob("*"):
            os.utime(path, (0, 0))
        call_command("collectstatic", interactive=False, ignore_patterns=UNUSED, verbosity=0)
        stamp.write_text(present)
    return True


def _says(stamp: Path, present: str) -> bool:
    return stamp.exists() and stamp.read_text() == present


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list(UNUSED):
            found = Path(storage.path(path)).stat()
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    collect()
