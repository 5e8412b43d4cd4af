"""``signalbox up`` on a PostgreSQL and a Redis of one's own, and on another address than 127.0.0.1."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from core.embedded import redis
from tests.product import FEW, processes_of, run_command, start_product

HOST = "127.0.0.2"


@pytest.fixture
def database_url() -> Iterator[str]:
    """An empty database in the server of the tests, which outlives the product."""
    base = os.environ["DATABASE_URL"]
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute("CREATE DATABASE own_servers")
        yield f"postgresql://signalbox@/own_servers?host={conninfo_to_dict(base)['host']}"
        connection.execute("DROP DATABASE own_servers WITH (FORCE)")


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    server = redis.start(var_dir=tmp_path / "redis", run_dir=tmp_path / "redis" / "run", durable=False)
    yield f"unix://{tmp_path}/redis/run/redis.sock"
    server.stop()


@pytest.mark.long
def test_runs_on_servers_of_ones_own_and_starts_none(database_url: str, redis_url: str, tmp_path: Path) -> None:
    product = start_product(tmp_path / "var", DATABASE_URL=database_url, REDIS_URL=redis_url, SIGNALBOX_HOST=HOST, **FEW)
    try:
        lines = product.block.splitlines()
        assert lines[0].endswith("  (PostgreSQL and Redis of your own)")
        assert re.fullmatch(rf"  console     ready  http://{HOST}:\d+", lines[2])
        assert not {"postgres", "redis"} & set(product.processes)
        assert not (tmp_path / "var" / "postgres").exists()
        link = product.command("sign-in", DATABASE_URL=database_url, REDIS_URL=redis_url).stdout.strip()
        assert link.startswith(f"{product.console_url}/sign-in/")
        assert httpx.get(link, trust_env=False).status_code == 200
        assert httpx.get(f"{product.predict_url}/v2/health/ready", trust_env=False).status_code == 200
    finally:
        assert product.stop() == 0
    with psycopg.connect(database_url) as connection:  # it is there still, and has what was written
        assert connection.execute("SELECT username FROM access_person").fetchall() == [("admin",)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"DATABASE_URL": "postgresql://signalbox:secret@127.0.0.1:1/signalbox"}, "The PostgreSQL of DATABASE_URL cannot be used: connection failed: "),
        ({"DATABASE_URL": "somewhere:secret"}, "DATABASE_URL is no address of a PostgreSQL: write postgresql://user:password@host/database"),
        ({"REDIS_URL": "redis://:secret@127.0.0.1:1/0"}, "The Redis of REDIS_URL cannot be used: "),
        ({"REDIS_URL": "somewhere:secret"}, "REDIS_URL is no address of a Redis: write redis://host:6379/0"),
    ],
)
def test_says_which_address_is_wrong_and_what_to_do(wrong: dict[str, str], said: str, tmp_path: Path) -> None:
    ended = run_command(tmp_path / "var", "up", **{"DATABASE_URL": os.environ["DATABASE_URL"], **wrong})
    assert (ended.returncode, ended.stdout) == (1, "")
    error = next(line for line in ended.stderr.splitlines() if line.startswith("Signalbox did not start. "))
    assert said in error
    assert error.endswith("or unset it for the embedded one.")
    assert "secret" not in ended.stderr
    assert not processes_of(tmp_path / "var")
