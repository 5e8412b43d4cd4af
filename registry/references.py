"""Which blobs of the store are in use. A blob is only removed when no row names it and nobody is about to."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection, transaction

from registry import storage
from registry.models import Artifact, Build

_LOCK = 0x5169_6E61_6C00_0001  # any constant; Postgres keeps advisory locks by number


def hold() -> None:
    """For the rest of the transaction nothing is removed: call it before a row names a blob, then see that the blob is there."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_LOCK])


def unused(digests: Iterable[str]) -> set[str]:
    """Give those that no row names. Only under the lock of ``remove_unused`` does that stay so."""
    wanted = set(digests)
    used = set(Artifact.objects.filter(digest__in=wanted).values_list("digest", flat=True))
    return wanted - used - set(Build.objects.filter(digest__in=wanted).values_list("digest", flat=True))


def remove_unused(digests: Iterable[str]) -> list[str]:
    """Remove those blobs that no row names any more; gives what was removed."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        gone = unused(digests)
        for digest in gone:
            storage.remove(digest)
    return sorted(gone)
