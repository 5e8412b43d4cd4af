"""``signalbox doctor``: looks at this machine and says what is wrong and what to do."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import click
import httpx
import psycopg
import redis
from redis.exceptions import RedisError

from config.cli.api import Address
from config.cli.failures import FAILED
from config.cli.session import json_option
from core.embedded import postgres
from core.embedded import redis as embedded_redis
from core.environment import ROOT, environment
from core.errors import SignalboxError
from core.note import read_note

FREE_BYTES_WANTED = 2 * 2**30
_NOT_DURABLE = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off' ORDER BY name"
_FAULTS = "SELECT endpoint, model, version, text FROM monitoring_fault ORDER BY since_at LIMIT 5"
_USED = "SELECT digest FROM registry_artifact WHERE digest = ANY(%(digests)s) UNION SELECT digest FROM registry_build WHERE digest = ANY(%(digests)s)"
_MARKS = {"good": "✓", "warning": "!", "bad": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``text`` says what was seen and, if it is not good, what to do."""

    name: str
    state: Literal["good", "warning", "bad"]
    text: str


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check this machine, and say what to do.

    Looks at Python, disk, telemetry, sandbox, database, Redis and the running processes. Ends with 1 when something is bad.
    """
    findings = list(examine())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.state]} {finding.name:<12} {finding.text}")
    if any(finding.state == "bad" for finding in findings):
        sys.exit(FAILED)


def examine() -> Iterator[Finding]:
    """Do every check; none of them changes anything."""
    running = bool(read_note(environment().run_dir))
    checks: list[Callable[[], Finding]] = [_python, _disk, _telemetry, _sandbox]
    checks += [_database, _redis, _monitoring, _leftovers] if running or environment().external_database_url else [_binaries]
    yield from (check() for check in checks)
    if running:
        yield from (_console(), _data_plane())
        if environment().grpc_port:
            yield _grpc()
    else:
        yield Finding("processes", "warning", "Signalbox is not running here. Start it: signalbox up")


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    text = f"{platform.python_version()} on {platform.machine()}"
    return Finding("python", "good" if good else "bad", text if good else f"{text}: 3.11 or later is needed.")


def _disk() -> Finding:
    folder = environment().var_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free in {folder}"
    return (
        Finding("disk", "good", text) if free >= FREE_BYTES_WANTED else Finding("disk", "warning", f"{text}: make room, or lower SIGNALBOX_LOG_RETENTION_DAYS.")
    )


def _telemetry() -> Finding:
    """Load ONNX Runtime as the data plane does, with an empty home: one that sends telemetry first writes down who it is."""
    with tempfile.TemporaryDirectory() as home:
        environ = {**os.environ, "HOME": home, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", "import serving.runtimes.onnx"], env=environ, cwd=home, capture_output=True, timeout=60, check=False)
        written = any(Path(home).iterdir())
    name = f"ONNX Runtime {metadata.version('onnxruntime')}"
    if done.returncode:
        return Finding("telemetry", "bad", f"{name} cannot be loaded. Install the packages again: make clean && make setup")
    text = f"{name} sends telemetry although it is told not to. Install the version of requirements/runtime.txt: make clean && make setup"
    return Finding("telemetry", "bad", text) if written else Finding("telemetry", "good", f"off ({name} wrote nothing when it was loaded)")


def _sandbox() -> Finding:
    from registry.convert.confine import probe

    missing = [name for name, works in probe().items() if works is False]
    if not missing:
        return Finding("sandbox", "good", "Landlock and seccomp work: model files are opened in confinement")
    text = f"{', '.join(missing)} missing in this kernel or container: pickle, joblib and skops files are refused; register ONNX, or use Linux 5.13 or later."
    return Finding("sandbox", "warning", text)


def _binaries() -> Finding:
    try:
        postgres.binary("postgres")
        embedded_redis.binary()
    except SignalboxError as error:
        return Finding("database", "bad", error.message)
    return Finding("database", "good", "embedded PostgreSQL 18 and Redis are installed")


def _database() -> Finding:
    try:
        with psycopg.connect(environment().database_url, connect_timeout=3) as connection:
            version = str(connection.info.parameter_status("server_version"))
            revision = connection.execute("SELECT coalesce(max(revision), 0) FROM serving_publishedtable").fetchone()
            off = [name for (name,) in connection.execute(_NOT_DURABLE).fetchall()]
    except psycopg.Error as error:
        return Finding("database", "bad", f"{str(error).strip()}. See var/log/postgres.log, or correct DATABASE_URL.")
    text = f"PostgreSQL {version}, route table revision {revision[0] if revision else 0}"
    if off:
        return Finding("database", "warning", f"{text}; {' and '.join(off)} off: what was acknowledged can be lost when the server is killed. Turn it on.")
    return Finding("database", "good", text)


def _monitoring() -> Finding:
    try:
        with psycopg.connect(environment().database_url, connect_timeout=3) as connection:
            found = connection.execute(_FAULTS).fetchall()
    except psycopg.Error as error:
        return Finding("monitoring", "warning", f"cannot be asked: {str(error).strip()}")
    if not found:
        return Finding("monitoring", "good", "all logged traffic can be profiled and judged")
    text = "; ".join(f"{endpoint or 'sample'} {model} v{version}: {error}" for endpoint, model, version, error in found)
    return Finding("monitoring", "warning", f"some traffic waits, because of an error. Set another reference, or see var/log/workers.log. {text}")


def _leftovers() -> Finding:
    """Count the files that nothing refers to, over the whole store."""
    from registry import leftovers

    settings = environment()
    sizes = [file.size_bytes for file in leftovers.half_written([settings.artifacts_dir / "incoming", settings.uploads_dir])]
    try:
        with psycopg.connect(settings.database_url, connect_timeout=3) as connection:
            for part in range(leftovers.PARTS):
                blobs = dict(leftovers.old_blobs(settings.artifacts_dir, part))
                used = {digest for (digest,) in connection.execute(_USED, {"digests": list(blobs)})} if blobs else set()
                sizes += [file.size_bytes for digest, file in blobs.items() if digest not in used]
    except psycopg.Error as error:
        return Finding("leftovers", "warning", f"cannot be counted: {str(error).strip()}")
    if not sizes:
        return Finding("leftovers", "good", "no files of killed processes")
    text = f"{len(sizes):,} files, {sum(sizes) / 2**20:.1f} MiB, of killed processes: the workers remove them within a day."
    return Finding("leftovers", "good", text)


def _redis() -> Finding:
    try:
        info = redis.Redis.from_url(environment().redis_url, socket_timeout=3).info()
    except (RedisError, OSError) as error:
        return Finding("redis", "bad", f"{error}. See var/log/redis.log, or correct REDIS_URL.")
    policy = str(info.get("maxmemory_policy"))
    good = policy == "noeviction"
    text = f"Redis {info.get('redis_version')}, {policy}"
    return Finding("redis", "good" if good else "warning", text if good else f"{text}: set maxmemory-policy noeviction, or queued work can be lost.")


def _console() -> Finding:
    return _answers("console", f"{Address.find().console_url}/sign-in/")


def _data_plane() -> Finding:
    return _answers("predictions", f"{Address.find().predict_url}/v2/health/ready")


def _grpc() -> Finding:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    where = str(read_note(environment().run_dir).get("grpc_address") or environment().grpc_address)
    with grpc.insecure_channel(where, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError as error:
            return Finding("gRPC", "bad", f"{where} does not answer ({error.code().name}). See var/log/grpc-1.log, or turn it off: SIGNALBOX_GRPC_PORT=0.")
    good = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Finding("gRPC", "good" if good else "bad", f"{where} answers" if good else f"{where} is not ready. See var/log/grpc-1.log.")


def _answers(name: str, url: str) -> Finding:
    try:
        answer = httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError as error:
        return Finding(name, "bad", f"{url} does not answer ({type(error).__name__}). See var/log/.")
    good = answer.status_code < 400
    return Finding(name, "good" if good else "bad", f"{url} answers" if good else f"{url} answers {answer.status_code}. See var/log/.")
