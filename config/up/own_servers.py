"""PostgreSQL and Redis of the operator's own: asked before anything is started that needs them."""

from __future__ import annotations

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from core.errors import Unavailable

OLDEST_POSTGRES = 14
_PATIENCE_S = 5
_INSTEAD = "or unset it for the embedded one"


def ask_postgres(url: str) -> None:
    """Connect once. Raises Unavailable that says what is wrong with ``DATABASE_URL``, and never its password."""
    try:
        if "@" in str(conninfo_to_dict(url).get("host") or ""):  # libpq would take a part of the password for the host, and name it
            raise Unavailable("DATABASE_URL has an @ in its password: write %40 for it.")
        with psycopg.connect(url, connect_timeout=_PATIENCE_S) as connection:
            version = connection.info.server_version // 10_000
    except psycopg.ProgrammingError as error:
        raise Unavailable(f"DATABASE_URL is no address of a PostgreSQL: write postgresql://user:password@host/database, {_INSTEAD}.") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"The PostgreSQL of DATABASE_URL cannot be used: {_one_line(error)}. Start it, correct DATABASE_URL, {_INSTEAD}.") from error
    if version < OLDEST_POSTGRES:
        raise Unavailable(f"The PostgreSQL of DATABASE_URL is of version {version}: {OLDEST_POSTGRES} or later is needed. Use another one, {_INSTEAD}.")


def ask_redis(url: str) -> None:
    """Ask it once. Raises Unavailable that says what is wrong with ``REDIS_URL``."""
    try:
        with redis.Redis.from_url(url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S, retry=Retry(NoBackoff(), 0)) as client:
            client.ping()
    except ValueError as error:
        raise Unavailable(f"REDIS_URL is no address of a Redis: write redis://host:6379/0, {_INSTEAD}.") from error
    except (RedisError, OSError) as error:
        raise Unavailable(f"The Redis of REDIS_URL cannot be used: {_one_line(error)}. Start it, correct REDIS_URL, {_INSTEAD}.") from error


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip()).rstrip(".")
