"""How fast the log becomes profiles and verdicts: ``python -m benchmarks.profile_segments [--write]``. Starts a Postgres of its own."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
import pyarrow as pa

from benchmarks.tables import put_section
from core.embedded import postgres

PAGE_FILE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
FEATURES = 20
ENDPOINT, MODEL = "benchmark", "benchmark"


@contextmanager
def database() -> Iterator[None]:
    """Run with Django on an empty database."""
    with tempfile.TemporaryDirectory(prefix="signalbox-benchmark-") as folder:
        server = postgres.start(var_dir=Path(folder), run_dir=Path(folder) / "run", durable=False)
        os.environ["DATABASE_URL"] = f"postgresql://signalbox@/signalbox?host={folder}/run"
        os.environ["SIGNALBOX_VAR_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connection

        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connection.close()
            server.stop()


def inputs(n: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    numbers = {f"n{place}": random.normal(0, 1, n) for place in range(FEATURES - 4)}
    return numbers | {f"c{place}": random.choice(["a", "b", "c", "d"], n) for place in range(4)}


def prepare() -> None:
    """A version with a reference of 5,000 rows."""
    from monitoring import bins
    from monitoring.models import Reference
    from registry.models import Model, Version

    version = Version.objects.create(model=Model.objects.create(name=MODEL), number=1, state="ready")
    columns = {f"in.{name}": values for name, values in inputs(5000, 0).items()} | {"out.prediction": np.random.default_rng(1).normal(0, 1, 5000)}
    document = bins.reference_of(pa.table(columns))
    Reference.objects.create(version=version, source="training", rows=5000, document=bins.encode(document))


def log(segments_count: int, rows: int) -> None:
    """Write segments over one hour, as the data plane does."""
    from core.ids import uuid7
    from serving import segments
    from serving.models import PredictionSegment

    start = datetime.now(UTC) - timedelta(minutes=50)
    made = []
    for place in range(segments_count):
        at = start + timedelta(minutes=45) * place / segments_count
        fixed = {
            "prediction_id": [uuid7().bytes for _ in range(rows)],
            "row": [0] * rows,
            "received_at": [at] * rows,
            "latency_us": [500] * rows,
            "request_id": [None] * rows,
            "key_id": [None] * rows,
            "flags": [0] * rows,
        }
        table = segments.table_of(fixed, inputs(rows, place), {"prediction": np.zeros(rows)})
        made.append(
            PredictionSegment(
                id=uuid7(), endpoint=ENDPOINT, slot="blue", model=MODEL, version=1, build_digest="0" * 64, table_revision=1,
                rows=rows, first_at=at, last_at=at, columns=segments.encode(table),
            )
        )  # fmt: skip
    PredictionSegment.objects.bulk_create(made, batch_size=200)


def timed(segments_count: int, rows: int) -> str:
    """Profile and judge one load; give its row of the table."""
    from monitoring.evaluate import evaluate_endpoint
    from monitoring.profile_segments import profile_segments

    log(segments_count, rows)
    begin = time.perf_counter()
    while profile_segments():
        pass
    middle = time.perf_counter()
    evaluate_endpoint(ENDPOINT)
    end = time.perf_counter()
    rate = segments_count * rows / (middle - begin)
    return f"| {segments_count:,} pieces of {rows:,} rows | {middle - begin:.2f} s | {rate:,.0f} | {end - middle:.2f} s |"


def read_a_day() -> str:
    """Merge a day of five-minute windows, as a page over any range would; give its row of the table."""
    from monitoring.models import WindowProfile
    from monitoring.windows import merged

    rows = list(WindowProfile.objects.filter(level=300).order_by("id"))
    day = [rows[place % len(rows)] for place in range(288)]
    begin = time.perf_counter()
    merged(day, None)
    took = time.perf_counter() - begin
    size = sum(len(bytes(row.document)) for row in rows) / len(rows)
    return f"| a day of 288 five-minute windows ({size / 1000:.0f} kB each) read and merged | {took:.2f} s | | |"


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
def main(write: bool) -> None:
    """Measure, on an embedded Postgres without fsync, in one process."""
    with database():
        prepare()
        table = [timed(segments_count, rows) for segments_count, rows in ((2000, 1), (2000, 10), (500, 200), (100, 2000))]
        table.append(read_a_day())
    lines = [
        f"| {FEATURES + 1} monitored columns, one process | profiled in | rows/s | judged in |",
        "|---|---|---|---|",
        *table,
        "",
        "45 minutes of traffic at one endpoint, into windows of 5 minutes, 1 hour and 1 day; embedded PostgreSQL without fsync.",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}.",
        "Repeat: `python -m benchmarks.profile_segments --write`.",
    ]
    click.echo("\n".join(lines))
    if write:
        put_section(PAGE_FILE, "From the log to verdicts", "\n".join(lines))


if __name__ == "__main__":
    main()
