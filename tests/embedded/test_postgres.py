"""The embedded PostgreSQL as its own users see it."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from core.embedded import postgres
from core.embedded.server import Answer, Server
from tests import own_loop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def recover_slowly(folder: Path, command: str) -> None:
    """Let the next start do what it does after a crash, made long: before each file that it would read it runs ``command``."""
    (folder / "postgres" / "recovery.signal").touch()
    with (folder / "postgres" / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"restore_command = '{command}; false'\n")


def _connect(folder: Path) -> psycopg.Connection:
    return psycopg.connect(f"postgresql://signalbox@/signalbox?host={folder}/run", autocommit=True)


def _start(folder: Path) -> Server:
    return postgres.start(var_dir=folder, run_dir=folder / "run")


def test_keeps_what_was_committed_when_it_is_killed(folder: Path) -> None:
    server = _start(folder)
    with _connect(folder) as first:
        first.execute("CREATE TABLE kept (n int)")
        first.execute("INSERT INTO kept SELECT generate_series(1, 100)")
    server.process.kill()
    server.process.wait()

    server = _start(folder)
    with _connect(folder) as second:
        assert second.execute("SELECT count(*) FROM kept").fetchone() == (100,)
        assert second.execute("SHOW server_version").fetchone() == ("18.4",)
        assert second.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        assert second.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert second.execute("SHOW listen_addresses").fetchone() == ("",)
    server.stop()
    assert not server.is_running


def test_gets_all_the_time_that_its_recovery_takes_and_leaves_others_theirs(folder: Path) -> None:
    _start(folder).stop()
    recover_slowly(folder, "sleep 0.5")
    server = postgres.launch(var_dir=folder, run_dir=folder / "run")
    while server.ask() is Answer.SILENT:
        time.sleep(0.01)

    async def turns_until_it_is_ready() -> int:
        ready, turns = asyncio.create_task(server.settle(patience_s=0)), 0
        while not ready.done():
            await asyncio.sleep(0.01)
            turns += 1
        ready.result()
        return turns

    assert own_loop.run(turns_until_it_is_ready()) > 1
    with _connect(folder) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()


@pytest.mark.django_db
def test_is_the_database_of_the_tests() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version()")
        assert cursor.fetchone()[0].startswith("PostgreSQL 18")


def test_runs_when_its_programs_lie_in_a_folder_that_only_the_owner_enters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    installed = postgres.binary("postgres").parents[2]
    for package in (installed, installed.with_name(f"{installed.name}.libs")):
        shutil.copytree(package, closed / package.name, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    assert postgres.binary("postgres").is_relative_to(closed)

    server = _start(tmp_path)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    server.stop()
    assert "\nUid:\t0" not in status
