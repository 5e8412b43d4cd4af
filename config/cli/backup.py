"""``signalbox backup`` and ``restore``: the database and the model files in one tar file."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from config.cli.failures import Failure, Refused
from config.cli.session import json_option, show
from config.up import lock
from config.version import version
from core.clock import now
from core.embedded import postgres
from core.embedded.account import give, service_account
from core.environment import environment
from core.errors import Conflict

_MANIFEST, _DUMP, _ARTIFACTS = "manifest.json", "database.dump", "artifacts"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def backup(file: Path, *, as_json: bool) -> None:
    """Write everything that must be kept to FILE, a tar.

    The database and the model files; also while Signalbox runs. FILE must not exist.
    """
    if file.exists():
        raise Refused(f"{file} is there already and is not overwritten.", next_command=f"signalbox backup {file.with_suffix('')}-2.tar")
    with _private_file(file) as out, _database() as url, tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / _DUMP
        click.echo("Writing the database", err=True)
        _run("pg_dump", "--format=custom", "--no-owner", f"--file={dump}", url=url)
        click.echo("Writing the model files", err=True)
        with tarfile.open(fileobj=out, mode="w") as tar:
            _add_manifest(tar, Path(folder))
            tar.add(dump, _DUMP)
            if environment().artifacts_dir.exists():
                tar.add(environment().artifacts_dir, _ARTIFACTS, filter=_without_incoming)
    size = file.stat().st_size
    show({"file": str(file), "size_bytes": size}, f"{file}: {size / 1e6:.1f} MB. Bring it back with: signalbox restore {file}", as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def restore(file: Path, *, as_json: bool) -> None:
    """Bring back what `signalbox backup` wrote to FILE.

    Into an empty database and an empty data folder: nothing is ever overwritten.
    """
    _check(file)
    artifacts = environment().artifacts_dir
    if artifacts.exists() and any(artifacts.iterdir()):
        raise Refused(f"{artifacts} is not empty, and nothing is overwritten.", next_command=_elsewhere(file))
    with tempfile.TemporaryDirectory(dir=_made(environment().var_dir)) as folder, _database() as url:
        if _has_tables(url):
            raise Refused("The database is not empty, and nothing is overwritten.", next_command=_elsewhere(file))
        with tarfile.open(file) as tar:
            # The "data" filter refuses paths that lead out of the folder, links and devices.
            tar.extractall(folder, filter="data")
        click.echo("Restoring the database", err=True)
        _run("pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", str(Path(folder) / _DUMP), url=url)
        if (Path(folder) / _ARTIFACTS).exists():
            (Path(folder) / _ARTIFACTS).rename(artifacts)
    show({"restored": str(file)}, f"{file} is restored. Next: signalbox up", as_json=as_json)


def _check(file: Path) -> None:
    """Refuse what is no whole backup before anything is started or made for it."""
    try:
        with tarfile.open(file) as tar:
            whole = {_MANIFEST, _DUMP} <= set(tar.getnames())
    except PermissionError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}. Nothing was restored.") from error
    except (tarfile.TarError, EOFError, OSError):
        whole = False
    if not whole:
        raise Refused(f"{file} is not a whole backup that `signalbox backup` wrote. Nothing was restored.")


@contextlib.contextmanager
def _database() -> Iterator[str]:
    """Give the URL of the database: one's own, that of the running product, or the embedded one, started for this moment."""
    settings = environment()
    if settings.external_database_url:
        yield settings.database_url
        return
    give(settings.run_dir, service_account(settings.var_dir.resolve() / "postgres"))
    try:
        held = lock.take(settings.run_dir)
    except Conflict:
        yield settings.database_url
        return
    with held:
        server = postgres.start(var_dir=settings.var_dir, run_dir=settings.run_dir)
        try:
            yield settings.database_url
        finally:
            server.stop()


@contextlib.contextmanager
def _private_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that only its owner reads; it goes away again when writing fails."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}. Nothing was backed up.") from error
    with os.fdopen(opened, "wb") as out:
        try:
            yield out
        except BaseException:
            path.unlink()
            raise


def _add_manifest(tar: tarfile.TarFile, folder: Path) -> None:
    path = folder / _MANIFEST
    path.write_text(json.dumps({"signalbox": version(), "made_at": now().isoformat()}))
    tar.add(path, _MANIFEST)


def _without_incoming(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out the uploads that are just coming in: they go away while the tar is written."""
    return None if member.name == f"{_ARTIFACTS}/incoming" else member


def _has_tables(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public' LIMIT 1").fetchone() is not None


def _run(name: str, *arguments: str, url: str) -> None:
    """Run a program of PostgreSQL; the password goes through its environment, since everybody may read its arguments."""
    parts: dict[str, Any] = dict(conninfo_to_dict(url))
    password = parts.pop("password", None)
    environ = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    command = [str(postgres.binary(name)), f"--dbname={make_conninfo(**parts)}", *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)
    if ended.returncode != 0:
        raise Failure(f"{name} failed: {ended.stderr.strip()}", next_command="signalbox doctor")


def _elsewhere(file: Path) -> str:
    return f"SIGNALBOX_VAR_DIR=/an/empty/folder signalbox restore {file}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
