"""Times every page and every GET of the REST API at the server, with 10,000 versions and 1,000,000 logged predictions.

Fills an embedded database in a scratch folder, asks each address as a signed-in admin in this process, and writes the
section "Pages" of docs/benchmarks.md with ``--write``. Run: ``python -m benchmarks.pages [--write]``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import put_section

SCRATCH = Path(tempfile.mkdtemp(prefix="signalbox-pages-"))
os.environ.update(SIGNALBOX_VAR_DIR=str(SCRATCH), DJANGO_SETTINGS_MODULE="config.settings", ORT_DISABLE_TELEMETRY="1")
os.environ.pop("DATABASE_URL", None)
os.environ.pop("REDIS_URL", None)

VERSIONS, SEGMENT_ROWS, FEATURES = 10_000, 200, 30
PREDICTIONS = int(os.environ.get("PREDICTIONS", "1000000"))
MODEL, ENDPOINT = "churn", "churn-scorer"
LIMIT_MS = 200
ROUNDS = 11
PAGE_FILE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEADING = "Pages"


def fill() -> dict[str, Any]:
    """Write the rows; gives what addresses need: an id of a prediction, a username."""
    from access.actors import system
    from access.models import Person

    started = time.perf_counter()
    admin = Person.objects.create_superuser("admin", password="benchmark of pages", role="admin")
    _versions()
    _endpoints(system("benchmark"))
    identifier = _predictions()
    _traffic()
    _audit()
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    print(f"filled in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return {"admin": admin, "prediction": identifier}


def _versions() -> None:
    import msgspec

    from core.digests import digest_of
    from registry.models import Build, Model, Version
    from registry.signature import Feature, Kind, Layout, Signature, Tensor

    signature = msgspec.to_builtins(
        Signature(
            layout=Layout.MATRIX,
            features=tuple(Feature(name=f"feature_{number}", kind=Kind.NUMBER, minimum=0, maximum=1, example=0.5) for number in range(FEATURES)),
            inputs=(Tensor("input", "FP32", (-1, FEATURES)),),
            outputs=(Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, 2))),
            labels=("0", "1"),
            task="classification",
        )
    )
    models = [Model(name=MODEL if not number else f"model-{number:03}", owner_name="admin") for number in range(101)]
    Model.objects.bulk_create(models)
    numbers = [(models[0], number) for number in range(1, VERSIONS - 999)] + [(model, number) for model in models[1:] for number in range(1, 11)]
    versions = [
        Version(model=model, number=number, state="ready", format="skops", signature=signature, metrics={"auc": 0.8, "f1": 0.7}, created_by="admin")
        for model, number in numbers
    ]
    Version.objects.bulk_create(versions, batch_size=1000)
    Model.objects.filter(name=MODEL).update(latest_number=VERSIONS - 1000)
    Model.objects.exclude(name=MODEL).update(latest_number=10)
    builds = [
        Build(
            version=version, kind="onnx", digest=digest_of(str(version.id).encode()), size_bytes=4096, inputs=signature["inputs"], outputs=signature["outputs"]
        )
        for version in versions
    ]
    Build.objects.bulk_create(builds, batch_size=1000)


def _endpoints(actor: Any) -> None:
    from serving.create_endpoint import create_endpoint
    from serving.deploy import deploy
    from serving.split import split

    for name in [ENDPOINT, *(f"endpoint-{number:02}" for number in range(59))]:
        create_endpoint(actor=actor, name=name)
        deploy(actor=actor, endpoint=name, model=MODEL, version=12)
        deploy(actor=actor, endpoint=name, model=MODEL, version=13)
    for number in range(300):
        split(actor=actor, endpoint=ENDPOINT, weights={"blue": 90 - number % 2, "green": 10 + number % 2}, revision=3 + number)


def _predictions() -> Any:
    """A day of segments; one in ten rows is flagged."""
    import numpy as np
    import pyarrow as pa

    from core.clock import now
    from core.ids import uuid7
    from serving.models import PredictionSegment
    from serving.segments import encode, table_of

    random = np.random.default_rng(7)
    count = PREDICTIONS // SEGMENT_ROWS
    step = timedelta(days=1) / count
    first = now() - timedelta(days=1)
    segments, identifier = [], None
    for number in range(count):
        begin = first + step * number
        times = [begin + timedelta(milliseconds=row) for row in range(SEGMENT_ROWS)]
        ids = [uuid7(round(at.timestamp() * 1000)) for at in times]
        identifier = ids[100] if number == count // 2 else identifier
        fixed = {
            "prediction_id": [each.bytes for each in ids],
            "row": [0] * SEGMENT_ROWS,
            "received_at": times,
            "latency_us": random.integers(200, 9000, SEGMENT_ROWS),
            "request_id": [None] * SEGMENT_ROWS,
            "key_id": ["benchmark"] * SEGMENT_ROWS,
            "flags": (random.random(SEGMENT_ROWS) < 0.1).astype(np.int32),
        }
        inputs = {f"feature_{column}": random.random(SEGMENT_ROWS) for column in range(FEATURES)}
        scores = random.random((SEGMENT_ROWS, 2), dtype=np.float32)
        outputs = {"label": random.integers(0, 2, SEGMENT_ROWS), "probabilities": pa.array(list(scores), pa.list_(pa.float32()))}
        slot = "green" if number % 10 == 0 else "blue"
        segments.append(
            PredictionSegment(
                id=uuid7(round(begin.timestamp() * 1000)),
                endpoint=ENDPOINT,
                slot=slot,
                model=MODEL,
                version=13 if slot == "green" else 12,
                build_digest="d" * 64,
                table_revision=1,
                rows=SEGMENT_ROWS,
                first_at=times[0],
                last_at=times[-1],
                columns=encode(table_of(fixed, inputs, outputs)),
            )
        )
        if len(segments) == 250:
            PredictionSegment.objects.bulk_create(segments)
            segments = []
    PredictionSegment.objects.bulk_create(segments)
    return identifier


def _traffic() -> None:
    from datetime import UTC, datetime

    from core.clock import now
    from core.ids import uuid7
    from serving.latency import BUCKETS
    from serving.models import TrafficWindow

    latency = [0] * 15 + [40, 200, 500, 200, 50, 9, 1] + [0] * (BUCKETS - 22)
    processes = [uuid7(), uuid7()]
    end = int(now().timestamp()) // 300 * 300 + 300
    spans = [(10, 7200, processes), (300, 86_400, processes[:1])]
    rows = [
        TrafficWindow(
            level=level,
            start_at=datetime.fromtimestamp(at, UTC),
            endpoint=ENDPOINT,
            slot=slot,
            version=version,
            process=process,
            requests=1000,
            rows=1000,
            latency=latency,
        )
        for level, seconds, each in spans
        for at in range(end - seconds, end, level)
        for slot, version in (("blue", 12), ("green", 13))
        for process in each
    ]
    TrafficWindow.objects.bulk_create(rows, batch_size=2000)


def _audit() -> None:
    from access.models import AuditEntry

    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                actor_kind="person",
                actor_id="person:1",
                actor_name="admin",
                verb="edit",
                subject_kind="model",
                subject_name=f"model-{number % 100:03}",
                after={},
            )
            for number in range(10_000)
        ],
        batch_size=2000,
    )


def addresses(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Walk the named URL patterns whose parts are known: (name, address). Filters that read much are added."""
    from django.urls import URLPattern, URLResolver, get_resolver

    found: list[tuple[str, str]] = []

    def walk(patterns: list[URLPattern | URLResolver], before: str) -> None:
        for pattern in patterns:
            route = before + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                walk(pattern.url_patterns, route)
            elif pattern.name and (address := _filled(route, values)) is not None:
                found.append((pattern.name, address))

    walk(get_resolver().url_patterns, "/")
    log = f"/api/v1/endpoints/{ENDPOINT}/predictions/"
    found += [("api-endpoint-predictions, flagged", f"{log}?flagged=true"), ("api-endpoint-predictions, of nobody", f"{log}?key_id=nobody")]
    for window in ("1h", "6h", "24h"):
        found.append((f"api-endpoint-traffic, {window}", f"/api/v1/endpoints/{ENDPOINT}/traffic/?window={window}"))
    found.append(("compare, two versions", f"/models/{MODEL}/compare/?a=12&b=13"))
    return found


def _filled(route: str, values: dict[str, Any]) -> str | None:
    """Put values into a route; None where a part is not known."""
    import re

    name = MODEL if "models/" in route else ENDPOINT
    known = {"name": name, "number": 13, "identifier": values["prediction"], "prediction_id": values["prediction"], "username": "admin"}
    parts = re.findall(r"<(?:\w+:)?(\w+)>", route)
    if any(part not in known for part in parts) or "sign-" in route or "export" in route:
        return None
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda part: str(known[part[1]]), route)


class Row(NamedTuple):
    """``processor_ms`` is the median time on the processor in this process: it hardly depends on what else runs."""

    name: str
    queries: int
    median_ms: float
    fastest_ms: float
    processor_ms: float


def measure(values: dict[str, Any]) -> list[Row]:
    """Ask each address; gives what answers a GET, slowest first."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(raise_request_exception=False)
    client.force_login(values["admin"], backend="django.contrib.auth.backends.ModelBackend")
    rows = []
    for name, address in addresses(values):
        answer = client.get(address)
        if answer.status_code >= 300:
            if answer.status_code >= 500:
                print(f"{name} answers {answer.status_code}: {address}", file=sys.stderr)
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
    return sorted(rows, key=lambda row: -row.median_ms)


def section(rows: list[Row]) -> str:
    slowest = rows[0]
    what = f"{VERSIONS:,} versions, 60 endpoints, {PREDICTIONS:,} logged predictions of {FEATURES} features, {10_000:,} audit rows, a day of traffic"
    lines = [
        f"`python -m benchmarks.pages --write`: {what}; time at the server, embedded PostgreSQL, {os.cpu_count()} cores, {ROUNDS} rounds.",
        f"The slowest of {len(rows)} addresses is `{slowest.name}` with a median of {slowest.median_ms:.0f} ms; the limit is {LIMIT_MS} ms.",
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
        rows = measure(fill())
        text = section(rows)
        print(text)
        if chosen.write:
            put_section(PAGE_FILE, HEADING, text)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(SCRATCH, ignore_errors=True)
    late = [row.name for row in rows if row.median_ms > LIMIT_MS]
    if late:
        sys.exit(f"slower than {LIMIT_MS} ms: {', '.join(late)}")


if __name__ == "__main__":
    main()
