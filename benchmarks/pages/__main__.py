"""Times every page and every GET of the REST API at the server, with 10,000 versions and 1,000,000 logged predictions, monitored for a week.

Fills an embedded database in a scratch folder, asks each address as a signed-in admin in this process, and writes the
section "Pages" of docs/benchmarks.md with ``--write``. ``PREDICTIONS`` makes it smaller. Run: ``python -m benchmarks.pages [--write]``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import put_section

SCRATCH = Path(tempfile.mkdtemp(prefix="signalbox-pages-"))
os.environ.update(SIGNALBOX_VAR_DIR=str(SCRATCH), DJANGO_SETTINGS_MODULE="config.settings", ORT_DISABLE_TELEMETRY="1")
os.environ.pop("DATABASE_URL", None)
os.environ.pop("REDIS_URL", None)

PREDICTIONS = int(os.environ.get("PREDICTIONS", "1000000"))
LIMIT_MS = 200
ROUNDS = 11
PAGE_FILE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
HEADING = "Pages"
_OK, _REDIRECT, _WRONG_METHOD = 200, 302, 405


class Row(NamedTuple):
    """``processor_ms`` is the median time on the processor in this process: it hardly depends on what else runs."""

    name: str
    queries: int
    median_ms: float
    fastest_ms: float
    processor_ms: float


@contextmanager
def database() -> Iterator[None]:
    """Run with Django on an empty database."""
    from core.embedded import postgres, redis

    servers = [postgres.start(var_dir=SCRATCH, run_dir=SCRATCH / "run", durable=False), redis.start(var_dir=SCRATCH, run_dir=SCRATCH / "run", durable=False)]
    try:
        import django
        from django.conf import settings

        django.setup()
        settings.STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
        settings.ALLOWED_HOSTS.append("testserver")
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        yield
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(SCRATCH, ignore_errors=True)


def filled() -> dict[str, Any]:
    """Write the rows; gives the parts of addresses that are known only now."""
    from django.db import connection

    from access.actors import system
    from access.keys import create_key
    from access.models import Person
    from benchmarks.pages import fill, watched
    from monitoring.models import Alert

    started = time.perf_counter()
    Person.objects.create_superuser("admin", password="benchmark of pages", role="admin")
    actor = system("benchmark")
    fill.versions()
    fill.endpoints(actor)
    rows = fill.predictions(PREDICTIONS)
    fill.traffic()
    fill.audit()
    watched.watch(actor, rows)
    key = create_key(actor=actor, name="benchmark", scopes=["predict"]).key
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    print(f"filled in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    prediction = rows[len(rows) // 2].prediction
    return {"identifier": prediction, "prediction_id": prediction, "key_id": key.id, "number": Alert.objects.order_by("number")[0].number}


def measure(parts: Mapping[str, object]) -> list[Row]:
    """Ask each address; gives what answers a GET, slowest first. Leaves with an error if one is not there or fails."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from access.models import Person
    from benchmarks.pages.addresses import addresses

    client = Client(raise_request_exception=False)
    client.force_login(Person.objects.get(username="admin"), backend="django.contrib.auth.backends.ModelBackend")
    rows, wrong = [], []
    for name, address in addresses(parts):
        status = client.get(address).status_code
        if status != _OK:
            wrong += [f"{status} from {address}"] if status not in (_REDIRECT, _WRONG_METHOD) else []
            continue
        with CaptureQueriesContext(connection) as captured:
            client.get(address)
            queries = len(captured)
        times, processor = [], []
        for _ in range(ROUNDS):
            begun, used = time.perf_counter(), time.process_time()
            client.get(address)
            times.append((time.perf_counter() - begun) * 1000)
            processor.append((time.process_time() - used) * 1000)
        rows.append(Row(name, queries, statistics.median(times), min(times), statistics.median(processor)))
    if wrong:
        sys.exit("\n".join(wrong))
    return sorted(rows, key=lambda row: -row.median_ms)


def section(rows: list[Row]) -> str:
    from benchmarks.pages import fill, watched
    from monitoring.models import DriftResult, Outcome, WindowProfile

    slowest = rows[0]
    what = f"{fill.VERSIONS:,} versions, {fill.ENDPOINTS} endpoints, {PREDICTIONS:,} logged predictions of {fill.FEATURES} features"
    seen = f"{WindowProfile.objects.count():,} profiles of windows, {DriftResult.objects.count():,} verdicts, {Outcome.objects.count():,} outcomes"
    lines = [
        f"`python -m benchmarks.pages --write`: {what}, {fill.AUDIT_ROWS:,} audit rows, a day of traffic;",
        f"{watched.DAYS} days monitored: {seen}, {watched.OLD_ALERTS:,} old alerts.",
        f"Time at the server, embedded PostgreSQL, {os.cpu_count()} cores, {ROUNDS} rounds. The slowest of {len(rows)} addresses is",
        f"`{slowest.name}` with a median of {slowest.median_ms:.0f} ms; the limit is {LIMIT_MS} ms.",
        f"Load average while it ran: {os.getloadavg()[0]:.1f}. The time on the processor is this process's own.",
        "",
        "| address | SQL queries | median ms | fastest ms | processor ms |",
        "|---|---|---|---|---|",
        *(f"| {row.name} | {row.queries} | {row.median_ms:.1f} | {row.fastest_ms:.1f} | {row.processor_ms:.1f} |" for row in rows),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    chosen = parser.parse_args()
    with database():
        rows = measure(filled())
        text = section(rows)
    print(text)
    if chosen.write:
        put_section(PAGE_FILE, HEADING, text)
    late = [row.name for row in rows if row.median_ms > LIMIT_MS]
    if late:
        sys.exit(f"slower than {LIMIT_MS} ms: {', '.join(late)}")


if __name__ == "__main__":
    main()
