"""How fast the log becomes profiles and verdicts: `python benchmarks/profile_segments.py`. Starts a Postgres of its own."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click  # noqa: E402  # the path comes first, so that it runs from anywhere
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402

from core.embedded import postgres  # noqa: E402

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


def timed(segments_count: int, rows: int) -> None:
    """Profile and judge one load and say how long it took."""
    from monitoring.evaluate import evaluate_endpoint
    from monitoring.profile_segments import profile_segments

    log(segments_count, rows)
    begin = time.perf_counter()
    while profile_segments():
        pass
    middle = time.perf_counter()
    evaluate_endpoint(ENDPOINT)
    end = time.perf_counter()
    total = segments_count * rows
    click.echo(
        f"{segments_count:>6,} segments of {rows:>5,} rows: profiled in {middle - begin:6.2f} s"
        f" ({total / (middle - begin):>9,.0f} rows/s, {segments_count / (middle - begin):>6,.0f} segments/s), judged in {end - middle:5.2f} s"
    )


def read_a_day() -> None:
    """Merge a day of five-minute windows, as a page over any range would."""
    from monitoring.models import WindowProfile
    from monitoring.windows import merged

    rows = list(WindowProfile.objects.filter(level=300).order_by("id"))
    day = [rows[place % len(rows)] for place in range(288)]
    begin = time.perf_counter()
    total = merged(day, None)
    size = sum(len(bytes(row.document)) for row in rows) / len(rows)
    click.echo(f"288 windows of {FEATURES + 1} columns ({size / 1000:.0f} kB each) merged in {time.perf_counter() - begin:.2f} s, {total.n:,} rows")


@click.command()
def main() -> None:
    """Measure, on an embedded Postgres without fsync, in one process."""
    with database():
        prepare()
        for segments_count, rows in ((2000, 1), (2000, 10), (500, 200), (100, 2000)):
            timed(segments_count, rows)
        read_a_day()


if __name__ == "__main__":
    main()
